//! Look-ups as the contract says them, on both stores.

use testkit::http;

use crate::harness::{Api, BACKENDS, Backend, ITEMS};

#[test]
fn a_row_is_answered_with_its_version_and_its_etag() {
    for backend in BACKENDS {
        let api = Api::start(backend);
        api.publish(ITEMS, &["000017;5", "a b/c;7"]);
        let answer = api.get("/items/000017");
        assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"code":"000017","stock":5}"#));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("x-dataset-version"), Some("1"));
        let etag = answer.header("etag").unwrap();
        assert!(etag.starts_with("\"items-1-") && etag.len() == 26, "{etag}");
        assert_eq!(api.get("/items/a%20b%2Fc").text(), r#"{"code":"a b/c","stock":7}"#);
        let head = http::send("HEAD", api.port, "/items/000017", &[], b"");
        assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("27"), 0));
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    for backend in BACKENDS {
        let api = Api::start(backend);
        api.publish(ITEMS, &["000017;5"]);
        let answer = api.get("/items/17");
        assert_eq!(answer.status, 404);
        assert_eq!(
            answer.text(),
            r#"{"type":"urn:tableswap:problem:not-found","title":"Not Found","status":404,"detail":"`items` has no such key","version":1}"#
        );
        assert!(api.get("/others/17").text().contains("there is no dataset `others`"));
        for path in ["/", "/items/", "/items/000017/", "/items//000017", "/nothing/at/all"] {
            assert_eq!(api.get(path).status, 404, "{path}");
        }
    }
}

#[test]
fn p10_hostile_paths_are_not_found_and_harm_nothing() {
    for backend in BACKENDS {
        let api = Api::start(backend);
        api.publish(ITEMS, &["000017;5", "\u{fffd};6", "\u{fffd}\u{fffd};7"]);
        let long = "7".repeat(60_000);
        for key in [
            "%00",
            "000017%00",
            "..",
            "../healthz",
            "..%2f..%2fetc%2fpasswd",
            "%2530%2530%2530%2530%2531%2537",
            "%ff%fe",
            "%",
            "%zz",
            "000017'%20OR%201=1",
            "%F0%9F%98%80",
            long.as_str(),
        ] {
            let answer = api.get(&format!("/items/{key}"));
            assert_eq!(answer.status, 404, "{key:.60}: {}", answer.text());
        }
        assert!(
            http::request(api.port, b"GET /items/\xff\x00 HTTP/1.1\r\nhost: localhost\r\n\r\n").status >= 400
        );
        let endless = format!("GET /items/{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "7".repeat(1 << 20));
        // A server that stops to read may close before it is asked to.
        let answer = http::try_request(api.port, endless.as_bytes());
        assert!(answer.as_ref().map_or(true, |answer| answer.status >= 400), "{answer:?}");
        assert_eq!(api.get("/items/000017").status, 200);
    }
}

#[test]
fn an_answer_that_the_client_has_is_not_sent_again() {
    for backend in BACKENDS {
        let api = Api::start(backend);
        api.publish(ITEMS, &["a;1"]);
        let ask = |etag: &str| api.get_with("/items/a", &[("if-none-match", etag)]);
        let etag = format!("\"{}\"", api.etag());
        let answer = ask(&etag);
        assert_eq!((answer.status, answer.body.len(), answer.header("etag")), (304, 0, Some(&*etag)));
        for other in ["\"items-1\"", "\"items-2-0000000000000000\"", etag.trim_matches('"'), "\""] {
            assert_ne!(ask(other).status, 304, "{other:?}");
        }
        let raw =
            b"GET /items/a HTTP/1.1\r\nhost: localhost\r\nif-none-match: \x01\r\nconnection: close\r\n\r\n";
        assert_ne!(http::request(api.port, raw).status, 304);
        api.publish(ITEMS, &["a;2"]);
        assert_eq!(ask(&etag).text(), r#"{"code":"a","stock":2}"#);
        api.activate(ITEMS, 1);
        assert_eq!(ask(&etag).status, 304);
    }
}

#[test]
fn many_keys_are_answered_from_one_version() {
    for backend in BACKENDS {
        let api = Api::start(backend);
        api.publish(ITEMS, &["a;1", "b;2", "c;3"]);
        let expected =
            r#"{"version":1,"found":[{"code":"c","stock":3},{"code":"a","stock":1}],"missing":["x\"y"]}"#;
        let answer = api.get("/items?id=c&id=x%22y&id=a");
        assert_eq!((answer.status, answer.text().as_str()), (200, expected));
        assert_eq!(answer.header("x-dataset-version"), Some("1"));
        assert_eq!(api.post("/items/lookup", r#"["c", "x\"y", "a"]"#).text(), expected);
        let same = vec!["\"b\",\"x\""; 500].join(",");
        let once = r#"{"version":1,"found":[{"code":"b","stock":2}],"missing":["x"]}"#;
        assert_eq!(api.post("/items/lookup", &format!("[{same}]")).text(), once);
    }
}

#[test]
fn a_malformed_question_for_many_keys_is_refused() {
    let api = Api::start(Backend::Embedded);
    api.publish(ITEMS, &["a;1", "lookup;2"]);
    let many = vec!["\"b\""; 10_000].join(",");
    for (answer, status) in [
        (api.get("/items"), 400),
        (api.get("/items?key=a"), 400),
        (api.get("/items?id=%ff"), 400),
        (api.get("/items?id=a&id=b%c3"), 400),
        (api.get("/others?id=a"), 404),
        (api.get("/others"), 404),
        (api.get("/favicon.ico"), 404),
        (api.post("/items/lookup", &format!("[\"{}\"]", "x".repeat(3 << 20))), 413),
        (api.post("/items/lookup", "[]"), 400),
        (api.post("/items/lookup", "{}"), 400),
        (api.post("/items/lookup", "[null]"), 400),
        (api.post("/items/lookup", "[\"a\""), 400),
        (api.post("/items/lookup", &format!("[{many}]")), 413),
        (api.post("/items/a", "[]"), 405),
        (api.post("/others/lookup", "[\"a\"]"), 404),
    ] {
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    assert_eq!(api.post("/items/a", "[]").header("allow"), Some("GET, HEAD"));
    let allow = http::send("DELETE", api.port, "/items/lookup", &[], b"");
    assert_eq!((allow.status, allow.header("allow")), (405, Some("GET, HEAD, POST")));
    assert_eq!(http::send("HEAD", api.port, "/healthz", &[], b"").status, 200);
    assert_eq!(http::post(api.port, "/items/lookup", &[], b"[\"a\"]").status, 200);
    assert_eq!(api.get("/items/lookup").text(), r#"{"code":"lookup","stock":2}"#);
}

#[test]
fn a_version_with_other_columns_and_another_key_is_followed() {
    let other = r#"
        [items]
        key = "number"
        columns = [{ name = "number", type = "integer" }, { name = "open", type = "boolean" }]"#;
    for backend in BACKENDS {
        let api = Api::start(backend);
        api.publish(ITEMS, &["a;1"]);
        assert_eq!(api.get("/items/a").status, 200);
        api.publish(other, &["7;true"]);
        assert_eq!(api.get("/items/7").text(), r#"{"number":7,"open":true}"#);
        assert_eq!(api.get("/items/a").status, 404);
        assert_eq!(
            api.post("/items/lookup", "[7]").text(),
            r#"{"version":2,"found":[{"number":7,"open":true}],"missing":[]}"#
        );
    }
}

#[test]
fn no_request_fails_while_versions_with_other_columns_are_published() {
    let layouts = [
        (ITEMS, "a;1", r#"{"code":"a","stock":1}"#),
        (
            r#"
            [items]
            key = "code"
            columns = [{ name = "price", type = "decimal", precision = 4, scale = 2 }, { name = "code", type = "text", max = 5 }]"#,
            "1.5;a",
            r#"{"price":1.5,"code":"a"}"#,
        ),
        (
            r#"
            [items]
            key = "code"
            columns = [{ name = "code", type = "text", max = 12 }, { name = "stock", type = "boolean" }]"#,
            "a;true",
            r#"{"code":"a","stock":true}"#,
        ),
    ];
    for backend in BACKENDS {
        let api = Api::start(backend);
        api.publish(layouts[0].0, &[layouts[0].1]);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let port = api.port;
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut answers = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let answer = http::get(port, "/items/a");
                    assert_eq!(answer.status, 200, "{backend:?}: {}", answer.text());
                    let version: usize = answer.header("x-dataset-version").unwrap().parse().unwrap();
                    assert_eq!(answer.text(), layouts[(version - 1) % 3].2, "{backend:?}, version {version}");
                    answers += 1;
                }
                answers
            });
            for (toml, row, _) in layouts.iter().cycle().skip(1).take(12) {
                api.publish(toml, &[row]);
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(reader.join().unwrap() > 50);
        });
    }
}

#[test]
fn a_number_as_a_key_keeps_all_its_digits() {
    let toml = r#"
        [exact]
        key = "n"
        columns = [{ name = "n", type = "decimal", precision = 38, scale = 6 }]"#;
    for backend in BACKENDS {
        let api = Api::start(backend);
        api.publish(toml, &["12345678901234567.123456", "12345678901234568"]);
        let answer = api.post("/exact/lookup", "[12345678901234567.123456, 98765432109876543210.5]").text();
        let expected =
            r#"{"version":1,"found":[{"n":12345678901234567.123456}],"missing":["98765432109876543210.5"]}"#;
        assert_eq!(answer, expected);
    }
}
