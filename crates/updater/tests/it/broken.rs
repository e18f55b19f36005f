//! Uploads that do not arrive as they were sent: each is told its cause, and none is published.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use testkit::http::{self, Response};

use crate::harness::{Backend, ITEMS, Updater, json};

const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=XyZ");
const HEAD: &str = "--XyZ\r\ncontent-disposition: form-data; name=\"data\"; filename=\"a.csv\"\r\n";

/// What a refused upload is told; the first version is still live, and the only one.
#[track_caller]
fn told(updater: &Updater, answer: &Response, status: u16) -> String {
    assert_eq!((answer.status, updater.versions().as_str()), (status, "1:live "), "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    json(answer)["detail"].as_str().unwrap().to_owned()
}

fn updater() -> Updater {
    updater_with(|_| {})
}

fn updater_with(set: impl FnOnce(&mut updater::Settings)) -> Updater {
    let updater = Updater::with(Backend::Embedded, ITEMS, set);
    assert_eq!(updater.put("a,1,\n").status, 200);
    updater
}

/// Sends a request with these headers and these bytes, and nothing more.
fn send(updater: &Updater, method: &str, headers: &[(&str, &str)], body: &[u8]) -> (TcpStream, Response) {
    let path = if method == "PUT" { "/datasets/items" } else { "/upload" };
    let mut stream = http::connect(updater.port).unwrap();
    stream.write_all(http::head(method, path, updater.port, headers).as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let answer = http::read_response(&mut BufReader::new(stream.try_clone().unwrap()), false).unwrap();
    (stream, answer)
}

fn post(updater: &Updater, body: &str) -> Response {
    http::post(updater.port, "/upload", &[FORM], body.as_bytes())
}

#[test]
fn p6_a_form_whose_part_states_too_few_bytes_is_refused_and_names_the_header() {
    let updater = updater();
    let form =
        |length: usize| format!("{HEAD}Content-Length: {length}\r\n\r\nä,1,\nb,2,\nc,3,\n\r\n--XyZ--\r\n");
    let answer = post(&updater, &form("ä,1,\nb,2,\nc,3,\n".chars().count()));
    insta::assert_snapshot!(told(&updater, &answer, 400), @"the file did not arrive whole: the part `data` of the form has the header Content-Length: 15, but 16 bytes stand before the next boundary; leave the header out or count bytes, not characters");
    let answer = post(&updater, &form(17));
    assert!(told(&updater, &answer, 400).contains("Content-Length: 17, but 16 bytes"), "{}", answer.text());
    assert_eq!(json(&post(&updater, &form(16)))["rows"], 3);
}

#[test]
fn p10_each_cause_of_a_broken_form_is_named() {
    let updater = updater();
    let told = |body: &str| told(&updater, &post(&updater, body), 400);
    let file = format!("{HEAD}\r\nb,2,\n\r\n--XyZ");
    let other = "\r\ncontent-disposition: form-data; name=\"note\"\r\n\r\nx\r\n--XyZ--\r\n";
    insta::assert_snapshot!(told(&format!("{file}{other}")), @"the file did not arrive whole: the form has the field `note`; send the file as the field `data` and nothing else, behind the file");
    insta::assert_snapshot!(told(&format!("--XyZ{other}")), @"the form has the field `note`; send the file as the field `data` and nothing else");
    insta::assert_snapshot!(told(&format!("{file}\r\n{}\r\n\r\nb,3,\n\r\n--XyZ--\r\n", HEAD.split_once("\r\n").unwrap().1.trim_end())), @"the file did not arrive whole: the form has the field `data` twice");
    insta::assert_snapshot!(told(&format!("{HEAD}\r\nb,2,\n")), @"the file did not arrive whole: the form ends without its closing boundary");
    insta::assert_snapshot!(told(&format!("{file}\r\n")), @"the file did not arrive whole: the form ends without its closing boundary");
    insta::assert_snapshot!(told(&format!("{file}abc")), @"the file did not arrive whole: the form has other text behind its boundary");
    insta::assert_snapshot!(told("b,2,\n"), @"the body does not begin with the boundary that the header Content-Type names");
    insta::assert_snapshot!(told("--XyZ--\r\n"), @"the form has no field `data` with the file");
}

#[test]
fn p10_each_cause_of_a_body_that_does_not_come_is_named() {
    let updater = updater_with(|settings| settings.idle_seconds = 1);
    let (_open, answer) = send(&updater, "PUT", &[("content-length", "100")], b"b,2,\n");
    insta::assert_snapshot!(told(&updater, &answer, 400), @"the file did not arrive whole: the client sent nothing for 1 s");
    let mut stream = http::connect(updater.port).unwrap();
    let head = http::head("PUT", "/datasets/items", updater.port, &[("content-length", "100")]);
    stream.write_all(format!("{head}b,2,\n").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let answer = http::read_response(&mut BufReader::new(stream), false).unwrap();
    insta::assert_snapshot!(told(&updater, &answer, 400), @"the file did not arrive whole: the connection ended after 5 of the 100 bytes that the header Content-Length states");
}

#[test]
fn a_body_that_takes_too_long_in_all_is_told_so() {
    let updater = updater_with(|settings| settings.upload_seconds_max = 1);
    let (_open, answer) = send(&updater, "PUT", &[("content-length", "100")], b"b,2,\n");
    insta::assert_snapshot!(told(&updater, &answer, 400), @"the file did not arrive whole: the file did not arrive within 1 s");
}

/// The HTTP library closes such a connection without an answer; the load remembers the cause.
#[test]
fn p6_a_body_with_broken_chunks_is_not_published() {
    let updater = updater();
    for (at, body) in ["5\r\nb,2,\n\r\nzz\r\n", "5\r\nb,2,\nXX", "\r\n", "-1\r\n"].into_iter().enumerate() {
        let mut stream = http::connect(updater.port).unwrap();
        let head = http::head("PUT", "/datasets/items", updater.port, &[("transfer-encoding", "chunked")]);
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let loads = || updater.get("/loads")["loads"].as_array().unwrap().clone();
        crate::harness::until(|| loads().len() == at + 2 && loads()[0]["outcome"] == "broken_off");
        let detail = loads()[0]["answer"]["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(" bytes, before the end of the body"), "{detail}");
        assert_eq!(updater.versions(), "1:live ");
    }
}

#[test]
fn p6_a_wish_to_upgrade_does_not_void_the_length() {
    let updater = updater();
    let upgrade = [("upgrade", "websocket"), ("connection", "upgrade")];
    let headers = [&upgrade[..], &[("content-length", "5")]].concat();
    let (_open, answer) = send(&updater, "PUT", &headers, b"b,2,\nc,3,\n");
    assert_eq!((answer.status, json(&answer)["bytes"].as_u64()), (200, Some(5)), "{}", answer.text());
    let (_open, answer) = send(&updater, "PUT", &upgrade, b"c,3,\n");
    assert_eq!((answer.status, updater.versions().as_str()), (422, "2:live 1:kept "), "{}", answer.text());
}

#[test]
fn p10_what_will_be_refused_is_answered_before_a_byte_of_it_is_read() {
    let token = serde_json::from_value(serde_json::json!("s3cret-of-16-or-more")).unwrap();
    let updater = Updater::with(Backend::Embedded, ITEMS, |settings| {
        settings.token = Some(token);
        settings.allow_anonymous_reads = true;
        settings.upload_bytes_max = 1 << 20;
    });
    let auth = ("authorization", "Bearer s3cret-of-16-or-more");
    let mut slow = http::connect(updater.port).unwrap();
    let head = http::head("PUT", "/datasets/items", updater.port, &[auth, ("content-length", "1000")]);
    slow.write_all(format!("{head}a,1,\n").as_bytes()).unwrap();
    crate::harness::until(|| updater.get("/loads")["loads"][0]["bytes"] == 5);
    let (length, large) = (("content-length", "100000"), ("content-length", "10000000"));
    for expect in [&[][..], &[("expect", "100-continue")]] {
        for (headers, status) in [
            (&[length][..], 401),
            (&[length, auth, ("origin", "https://evil.example")], 403),
            (&[length, auth], 409),
            (&[large, auth], 413),
            (&[length, auth, ("content-encoding", "br")], 415),
        ] {
            let start = Instant::now();
            let (_open, answer) = send(&updater, "PUT", &[headers, expect].concat(), b"");
            assert_eq!(answer.status, status, "{headers:?}: {}", answer.text());
            assert!(start.elapsed() < Duration::from_secs(5), "{headers:?}");
        }
        let form = [&[FORM, length, auth][..], expect].concat();
        assert_eq!(send(&updater, "POST", &form, b"").1.status, 409);
    }
    assert_eq!(updater.versions(), "1:loading ");
}

#[test]
fn a_client_that_reads_only_when_all_is_sent_sees_why_it_was_refused() {
    let updater = updater();
    let body = vec![b'x'; 40 << 20];
    let answer = http::put(updater.port, "/datasets/others", &[], &body);
    assert_eq!(answer.status, 404, "{}", answer.text());
    let (mut stream, length) = (http::connect(updater.port).unwrap(), body.len().to_string());
    let head = http::head("PUT", "/datasets/others", updater.port, &[("content-length", &length)]);
    stream.write_all(head.as_bytes()).unwrap();
    for piece in body.chunks(1 << 20) {
        stream.write_all(piece).unwrap();
    }
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 404"), "{text}");
}
