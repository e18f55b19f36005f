//! What a client cannot take from an api: memory, time, and rows that are not for it.

use std::io::{BufReader, Read, Write};
use std::time::Instant;

use api::Settings;
use testkit::http::{self, Response};
use testkit::{MariaDb, until};

use crate::harness::{Api, BACKENDS, Backend, ITEMS};

const WIDE: &str = r#"
    [items]
    key = "code"
    columns = [{ name = "code", type = "text", max = 12 }, { name = "text", type = "text", max = 65535 }]"#;

/// An api with so many rows of 60,000 bytes.
fn wide(backend: Backend, rows: usize, settings: Settings) -> Api {
    let api = match backend {
        Backend::Embedded => Api::with(None, None, settings),
        Backend::Mariadb => {
            let database = MariaDb::shared().database();
            Api::with(Some(&database), Some(database.reader_url()), settings)
        }
    };
    let rows: Vec<_> = (0..rows).map(|number| format!("k{number:03};{}", "x".repeat(60_000))).collect();
    api.publish(WIDE, &rows.iter().map(String::as_str).collect::<Vec<_>>());
    until(|| api.get("/items/k000").status == 200);
    api
}

fn many(keys: std::ops::Range<usize>) -> String {
    let keys: Vec<_> = keys.map(|number| format!("id=k{number:03}")).collect();
    format!("/items?{}", keys.join("&"))
}

#[test]
fn p10_an_answer_for_many_keys_has_no_more_bytes_than_the_limit() {
    for backend in BACKENDS {
        let api = wide(backend, 10, Settings { response_bytes_max: 200_000, ..Settings::default() });
        let answer = api.get(&many(0..3));
        assert_eq!((answer.status, answer.text().matches("\"code\"").count()), (200, 3), "{backend:?}");
        let refused = api.get(&many(0..10));
        assert_eq!(refused.status, 413, "{backend:?}");
        let says = "the rows have more than 200000 bytes: ask for fewer keys at once";
        assert!(refused.text().contains(says), "{}", refused.text());
        // What was refused holds nothing, and the connection to the database goes on.
        assert_eq!(api.get(&many(0..3)).status, 200, "{backend:?}");
    }
}

#[test]
fn keys_that_are_equal_are_answered_once_however_they_are_written() {
    const UUIDS: &str = r#"
        [items]
        key = "id"
        columns = [{ name = "id", type = "uuid" }, { name = "text", type = "text", max = 65535 }]"#;
    let id = "84bd5481-ace4-4d45-806e-8365980105d9";
    for backend in BACKENDS {
        let api = Api::start(backend);
        api.publish(UUIDS, &[&format!("{id};x")]);
        until(|| api.get(&format!("/items/{id}")).status == 200);
        let spellings = [id.to_owned(), id.to_uppercase(), id.replace('-', ""), id.to_owned()];
        let query = spellings.map(|spelling| format!("id={spelling}")).join("&");
        let expected = format!(r#"{{"version":1,"found":[{{"id":"{id}","text":"x"}}],"missing":[]}}"#);
        assert_eq!(api.get(&format!("/items?{query}")).text(), expected, "{backend:?}");
    }
}

/// Asks for many rows and reads nothing of the answer.
fn ask_and_read_nothing(api: &Api, path: &str) -> std::net::TcpStream {
    let mut stream = http::connect(api.port).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    stream
}

#[test]
fn p10_all_answers_together_have_no_more_bytes_than_the_limit_until_they_are_read() {
    let settings = Settings { all_responses_bytes_max: 15_500_000, ..Settings::default() };
    let api = wide(Backend::Embedded, 250, settings);
    let unread = ask_and_read_nothing(&api, &many(0..250));
    until(|| api.get(&many(0..10)).status == 503);
    let refused = api.get(&many(0..10));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(refused.text().contains("too many large answers are being sent"), "{}", refused.text());
    assert_eq!(api.get("/items/k001").status, 200);
    let answer = http::read_response(&mut BufReader::new(&unread), false).unwrap();
    assert_eq!((answer.status, answer.text().matches("\"code\"").count()), (200, 250));
    until(|| api.get(&many(0..10)).status == 200);
}

#[test]
fn p10_an_answer_that_its_client_does_not_read_is_given_up() {
    let settings =
        Settings { all_responses_bytes_max: 15_500_000, send_timeout_seconds: 1, ..Settings::default() };
    let api = wide(Backend::Embedded, 250, settings);
    let mut unread = ask_and_read_nothing(&api, &many(0..250));
    until(|| api.get(&many(0..10)).status == 503);
    until(|| api.get(&many(0..10)).status == 200);
    let mut all = Vec::new();
    // Whether the kernel or the api closed it first, the answer is not whole.
    let ended = unread.read_to_end(&mut all);
    assert!(all.len() < 15_000_000, "{ended:?}");
}

#[test]
fn p10_a_list_of_keys_that_does_not_come_is_given_up_after_five_seconds() {
    let api = Api::start(Backend::Embedded);
    api.publish(ITEMS, &["a;1"]);
    let mut silent = http::connect(api.port).unwrap();
    let start = Instant::now();
    write!(silent, "POST /items/lookup HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n[").unwrap();
    let answer = http::read_response(&mut BufReader::new(&silent), false).unwrap();
    assert_eq!((answer.status, start.elapsed().as_secs()), (408, 5));
    assert!(answer.text().contains("the body came too slowly"), "{}", answer.text());
}

#[test]
fn a_list_of_keys_has_no_more_bytes_than_the_limit() {
    let api = Api::start(Backend::Embedded);
    api.publish(ITEMS, &["a;1"]);
    let list = |bytes: usize| format!("[\"a\"{}]", " ".repeat(bytes - 5));
    assert_eq!(api.post("/items/lookup", &list(256 << 10)).status, 200);
    let refused = api.post("/items/lookup", &list((256 << 10) + 1));
    assert_eq!(refused.status, 413);
    assert!(refused.text().contains("a list of keys may have 262144 bytes"), "{}", refused.text());
}

fn named(api: &Api, path: &str, host: &str) -> u16 {
    http::get_with(api.port, path, &[("host", host)]).status
}

#[test]
fn a_page_whose_name_was_pointed_at_this_machine_gets_no_answer() {
    let allowed_hosts = String::from("api.example").try_into().unwrap();
    let api = Api::with(None, None, Settings { allowed_hosts, ..Settings::default() });
    api.publish(ITEMS, &["a;1"]);
    for path in ["/items/a", "/items?id=a", "/prometheus", "/nothing/at/all"] {
        assert_eq!(named(&api, path, "evil.example:1321"), 403, "{path}");
    }
    for host in ["localhost:1321", "127.0.0.1:1321", "[::1]:1321", "api.example", "10.1.2.3:1321"] {
        assert_eq!(named(&api, "/items/a", host), 200, "{host}");
    }
    // What HAProxy asks names no host.
    assert_eq!(http::request(api.port, b"GET /items/a HTTP/1.0\r\n\r\n").status, 200);
}

#[test]
fn an_address_that_others_reach_answers_to_every_name() {
    let api = Api::with(None, None, Settings { listen: ([0, 0, 0, 0], 0).into(), ..Settings::default() });
    api.publish(ITEMS, &["a;1"]);
    assert_eq!(named(&api, "/items/a", "api.internal:1321"), 200);
}

/// Of `reader-token-0123456`.
const READER_SHA256: &str = "05be458e06b462cad13dc2ee39689415a7ab9cada1751421feb535936a4e5931";

/// Of `other-token-01234567`.
const OTHER_SHA256: &str = "5a68f90a3c9fb9471baf51e31a39851cacd10cef673f8ff2639eb3d6563de36f";

/// Of `next-token-012345678`.
const NEXT_SHA256: &str = "b716e98d0d812d0b02c389ac210941179db377036d3a1147a9743caf8eda5157";

fn tokens(entries: &[(&str, &str, &str)]) -> String {
    entries
        .iter()
        .map(|(name, hash, more)| format!("[[tokens]]\nname = \"{name}\"\nsha256 = \"{hash}\"\n{more}\n"))
        .collect()
}

#[test]
fn with_tokens_a_read_needs_one_and_a_changed_file_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens.toml");
    let other = "role = \"read\"\ndatasets = [\"others\"]";
    let list = tokens(&[("reader", READER_SHA256, "role = \"read\""), ("other", OTHER_SHA256, other)]);
    std::fs::write(&path, list).unwrap();
    let api = Api::with(None, None, Settings { tokens_file: Some(path.clone()), ..Settings::default() });
    api.publish(ITEMS, &["a;1"]);
    let ask = |path: &str, token: &str| -> Response {
        api.get_with(path, &[("authorization", &format!("bEARER {token}"))])
    };
    for path in ["/items/a", "/items?id=a", "/items/x", "/others/a", "/nothing/at/all", "/items"] {
        assert_eq!(api.get(path).status, 401, "{path}");
        assert_eq!(ask(path, "wrong-token-01234567").status, 401, "{path}");
    }
    assert_eq!(api.post("/items/lookup", "[\"a\"]").status, 401);
    assert_eq!(ask("/items/a", "reader-token-0123456").status, 200);
    assert_eq!(ask("/items?id=a", "reader-token-0123456").status, 200);
    assert_eq!(ask("/items/a", "other-token-01234567").status, 403);
    assert_eq!(ask("/others/a", "other-token-01234567").status, 404);
    for open in ["/healthz", "/readyz", "/prometheus"] {
        assert_eq!(api.get(open).status, 200, "{open}");
    }
    std::fs::write(&path, tokens(&[("next", NEXT_SHA256, "role = \"read\"")])).unwrap();
    until(|| ask("/items/a", "reader-token-0123456").status == 401);
    assert_eq!(ask("/items/a", "next-token-012345678").status, 200);
    assert!(
        api.get("/prometheus").text().lines().any(|line| line.starts_with("tableswap_wrong_tokens_total "))
    );
}
