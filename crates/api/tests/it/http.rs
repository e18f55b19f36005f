//! What HTTP offers beyond one question and one answer.

use std::io::{BufReader, Write};

use api::Settings;
use testkit::http::{self, Response, read_response};
use testkit::{Fault, FaultProxy, MariaDb, until};

use crate::harness::{Api, BACKENDS, Backend, ITEMS};

#[test]
fn requests_on_one_connection_are_answered_in_their_order() {
    for backend in BACKENDS {
        let api = Api::start(backend);
        api.publish(ITEMS, &["a;1", "b;2", "c;3"]);
        let mut stream = http::connect(api.port).unwrap();
        let paths = ["/items/a", "/items/x", "/items/c", "/items?id=b", "/items/b", "/healthz"];
        let asked: String =
            paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).collect();
        // All at once, and once more on the same connection when all were answered.
        for _ in 0..2 {
            stream.write_all(asked.as_bytes()).unwrap();
            let mut answers = BufReader::new(&stream);
            let texts: Vec<String> =
                paths.iter().map(|_| read_response(&mut answers, false).unwrap().text()).collect();
            for (text, part) in texts.iter().zip(["\"a\"", "no such key", "\"c\"", "found", "\"b\"", "ok"]) {
                assert!(text.contains(part), "{part} is not in {text}");
            }
        }
    }
}

#[test]
fn head_says_what_get_would_say_without_a_body() {
    for backend in BACKENDS {
        let api = Api::start(backend);
        api.publish(ITEMS, &["a;1"]);
        for path in ["/items/a", "/items/x", "/others/a", "/items?id=a", "/healthz"] {
            let (get, head) = (api.get(path), http::send("HEAD", api.port, path, &[], b""));
            assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
            for header in ["content-length", "content-type", "etag", "x-dataset-version"] {
                assert_eq!(head.header(header), get.header(header), "{header} of {path}");
            }
        }
    }
}

#[test]
fn who_has_the_answer_is_told_so_without_a_look_at_the_store() {
    let database = MariaDb::shared().database();
    let proxy = FaultProxy::start(MariaDb::shared().port());
    let api = Api::on(Some(&database), Some(database.reader_url_via(proxy.port())));
    api.publish(ITEMS, &["a;1"]);
    until(|| api.get("/items/a").status == 200);
    let asked = "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'COM_STMT_EXECUTE'";
    let etag = format!("\"{}\"", api.etag());
    let ask = || api.get_with("/items/b", &[("if-none-match", &etag)]);
    let statements = || -> u64 { database.execute(asked).parse().unwrap() };
    // Other tests use the server too; but not a hundred statements in one request.
    let before = statements();
    let known = (0..1000).filter(|_| ask().status == 304).count();
    assert!(known > 900, "{known} of 1000");
    assert!(statements() - before < 900);
    // Where nobody knows what is live, nobody is told that it has not changed.
    proxy.set(Fault::Hang);
    until(|| ask().status == 503);
}

#[test]
fn a_malformed_if_none_match_is_passed_over() {
    for backend in BACKENDS {
        let api = Api::start(backend);
        api.publish(ITEMS, &["a;1"]);
        let tag = api.etag();
        let broken =
            [&tag, &format!("\"{tag}"), "W/", "\"\"", ",,,", &format!("\"{tag}\"x"), &"\"x\",".repeat(1000)];
        for value in broken {
            let answer = api.get_with("/items/a", &[("if-none-match", value)]);
            assert_eq!(answer.status, 200, "{value:.40}");
        }
        for value in [format!("\"{tag}\""), format!("W/\"{tag}\""), format!("\"x\", \"{tag}\""), "*".into()] {
            assert_eq!(api.get_with("/items/a", &[("if-none-match", &value)]).status, 304, "{value}");
        }
        assert_eq!(api.get_with("/items/x", &[("if-none-match", "*")]).status, 404);
        let raw = b"GET /items/a HTTP/1.1\r\nhost: localhost\r\nif-none-match: \xff\xfe\r\nconnection: close\r\n\r\n";
        assert_eq!(http::request(api.port, raw).status, 200);
    }
}

#[test]
fn how_long_an_answer_may_be_kept_is_a_setting() {
    let cache_control = Some(String::from("public, max-age=5").try_into().unwrap());
    let api = Api::with(None, None, Settings { cache_control, ..Settings::default() });
    api.publish(ITEMS, &["a;1"]);
    let header = |answer: &Response| answer.header("cache-control").map(str::to_owned);
    assert_eq!(header(&api.get("/items/a")).as_deref(), Some("public, max-age=5"));
    let known = api.get_with("/items/a", &[("if-none-match", &format!("\"{}\"", api.etag()))]);
    assert_eq!((known.status, header(&known).as_deref()), (304, Some("public, max-age=5")));
    assert_eq!(header(&api.get("/items/x")).as_deref(), Some("no-store"));
    let silent = Api::start(Backend::Embedded);
    silent.publish(ITEMS, &["a;1"]);
    assert_eq!(header(&silent.get("/items/a")), None);
    assert!(api::CacheControl::try_from("a\nb".to_owned()).is_err());
}
