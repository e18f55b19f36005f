//! What is answered, counted and logged around every request.

use std::time::Duration;

use testkit::http::{self, Response};

use crate::site::{Site, log};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

fn problem(answer: &Response) -> String {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    answer.text()
}

#[test]
fn what_actix_refuses_is_answered_as_a_problem() {
    let site = Site::start(Duration::ZERO);
    let post = |path, headers, body: &[u8]| problem(&http::post(site.port, path, headers, body));
    insta::assert_snapshot!(problem(&site.get("/nothing")), @r#"{"type":"urn:tableswap:problem:not-found","title":"Not Found","status":404,"detail":"nothing is at /nothing"}"#);
    insta::assert_snapshot!(problem(&site.get("/number/x")), @r#"{"type":"urn:tableswap:problem:not-found","title":"Not Found","status":404,"detail":"nothing is at /number/x: can not parse \"x\" to a u32"}"#);
    insta::assert_snapshot!(post("/json", JSON, b"[1]"), @r#"{"type":"urn:tableswap:problem:malformed-request","title":"Bad Request","status":400,"detail":"the body is not the JSON that is expected here: invalid type: integer `1`, expected a string at line 1 column 2"}"#);
    insta::assert_snapshot!(post("/bytes", &[], b"more than 8 bytes"), @r#"{"type":"urn:tableswap:problem:too-large","title":"Payload Too Large","status":413,"detail":"the body is larger than is taken here"}"#);
    let large = [b"[\"", "x".repeat(3_000_000).as_bytes(), b"\"]"].concat();
    insta::assert_snapshot!(post("/json", JSON, &large), @r#"{"type":"urn:tableswap:problem:too-large","title":"Payload Too Large","status":413,"detail":"the body is larger than 2097152 bytes"}"#);
}

#[test]
fn a_query_that_is_not_taken_is_named() {
    let site = Site::start(Duration::ZERO);
    let answer = problem(&site.get("/query?count=many"));
    insta::assert_snapshot!(answer, @r#"{"type":"urn:tableswap:problem:malformed-request","title":"Bad Request","status":400,"detail":"behind the question mark: invalid digit found in string"}"#);
}

#[test]
fn a_wrong_method_is_told_the_right_ones() {
    let site = Site::start(Duration::ZERO);
    let answer = http::send("DELETE", site.port, "/healthz", &[], b"");
    assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    insta::assert_snapshot!(problem(&answer), @r#"{"type":"urn:tableswap:problem:method-not-allowed","title":"Method Not Allowed","status":405,"detail":"/healthz does not take DELETE"}"#);
}

#[test]
fn health_can_be_asked_with_head() {
    let site = Site::start(Duration::ZERO);
    assert_eq!(site.get("/healthz").text(), r#"{"status":"ok"}"#);
    assert_eq!(site.get("/readyz").text(), r#"{"status":"ready"}"#);
    for path in ["/number/7", "/number/x", "/nothing", "/broken/logged"] {
        assert_eq!(site.get(path).header("x-content-type-options"), Some("nosniff"), "{path}");
    }
    assert_eq!(site.get("/nothing").header("cache-control"), Some("no-store"));
    for path in ["/healthz", "/readyz", "/prometheus"] {
        let answer = http::send("HEAD", site.port, path, &[], b"");
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
    }
}

#[test]
fn what_clients_make_up_is_no_label() {
    let site = Site::start(Duration::ZERO);
    site.get("/made-up");
    site.get("/number/77777");
    http::send("MAKEUP", site.port, "/slow", &[], b"");
    let answer = site.get("/prometheus");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    for line in [
        r#"http_requests_total{code="404",handler="unmatched",method="GET"} 1"#,
        r#"http_requests_total{code="200",handler="/number/{number}",method="GET"} 1"#,
        r#"http_requests_total{code="405",handler="/slow",method="other"} 1"#,
        r#"http_request_duration_seconds_count{handler="/slow",method="other"} 1"#,
        "http_requests_in_flight 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("made-up") && !text.contains("77777") && !text.contains("MAKEUP"));
}

#[test]
fn a_failure_is_logged_once_with_its_cause_and_a_success_is_not() {
    let site = Site::start(Duration::ZERO);
    let answer = site.get("/broken/a");
    assert!(!answer.text().contains("10.0.0.1"), "{}", answer.text());
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    site.get("/broken/logged");
    site.get("/slow");
    insta::assert_snapshot!(log().about("/broken/{id}").join("\n"), @r#""level":"ERROR","message":"request failed","handler":"/broken/{id}","method":"GET","code":503,"error":"the store is not available: 10.0.0.1 is away","target":"service::requests"}"#);
    assert!(log().about("/slow").is_empty());
}
