//! Who may do what, and what a server refuses to start with.

use std::io::{BufReader, Write};

use serde_json::json as value;
use testkit::http::{self, Response};
use testkit::until;

use crate::harness::{BACKENDS, Backend, ITEMS, Updater, json};

const TOKEN: &str = "s3cret-of-16-or-more";

/// Tokens of each kind, whose text is their name and `-token-0123456789`.
const TOKENS: &str = r#"
    [[tokens]]
    name = "reader"
    sha256 = "b3057e05d75e8cdca4bd6ddd527af736913e8464a7a3d47d7a09389eaa8e1eb4"
    role = "read"
    [[tokens]]
    name = "sender"
    sha256 = "7344b796ca9cbfc584fca769abd46a9c081e2a744ad49066a498383e280f7ccb"
    role = "upload"
    datasets = ["items"]
    [[tokens]]
    name = "other"
    sha256 = "b7aeb17ffd1d7d375a5dc155ae0512dc888e526e27e231cec474bf1c6953c07f"
    role = "operate"
    datasets = ["others"]
    [[tokens]]
    name = "ops"
    sha256 = "d51a4891ede9d7c8a89088e5f255d5852a7154ab4b92ad562614e8d0824bfc2b"
    role = "operate""#;

fn with_token() -> Updater {
    let token = serde_json::from_value(value!(TOKEN)).unwrap();
    Updater::with(Backend::Embedded, ITEMS, |settings| settings.token = Some(token))
}

fn with_tokens(backend: Backend) -> Updater {
    Updater::with(backend, ITEMS, |settings| {
        let path = settings.datasets.as_ref().unwrap().with_file_name("tokens.toml");
        std::fs::write(&path, TOKENS).unwrap();
        settings.tokens_file = Some(path);
    })
}

/// Sends a request as the holder of a token of [`TOKENS`].
fn send_as(updater: &Updater, name: &str, method: &str, path: &str, body: &[u8]) -> Response {
    let token = format!("Bearer {name}-token-0123456789");
    http::send(method, updater.port, path, &[("authorization", &token), ("user-agent", "a test/1")], body)
}

#[test]
fn a_write_needs_the_token_where_there_is_one() {
    let updater = with_token();
    let put = |headers: &[(&str, &str)]| http::put(updater.port, "/datasets/items", headers, b"a,1,\n");
    let refused = put(&[]);
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(put(&[("authorization", "Bearer wrong")]).status, 401);
    assert_eq!(put(&[("authorization", &format!("Basic {TOKEN}"))]).status, 401);
    let twice = format!("Bearer {TOKEN}");
    assert_eq!(put(&[("authorization", &twice), ("authorization", &twice)]).status, 401);
    let activate = http::post(updater.port, "/datasets/items/versions/1/activate", &[], b"");
    assert_eq!(activate.status, 401);
    for scheme in ["Bearer", "bearer", "BEARER"] {
        assert_eq!(put(&[("authorization", &format!("{scheme} {TOKEN}"))]).status, 200, "{scheme}");
    }
}

#[test]
fn without_the_token_nothing_is_told_but_health_and_metrics() {
    let updater = with_token();
    let bearer = format!("Bearer {TOKEN}");
    let authorized = [("authorization", bearer.as_str())];
    let rejected = http::put(updater.port, "/datasets/items", &authorized, b"secret,x,\n");
    let report = json(&rejected)["report"].as_str().unwrap().to_owned();
    let load = report.trim_end_matches("/rejects.csv").to_owned();
    let events = format!("{load}/events");
    let paths = [&*report, &*load, &*events, "/loads", "/datasets", "/datasets/items/versions"];
    for path in paths {
        let refused = http::get(updater.port, path);
        assert_eq!(refused.status, 401, "{path}");
        assert!(!refused.text().contains("secret"), "{path}");
        assert_eq!(http::send("GET", updater.port, path, &authorized, b"").status, 200, "{path}");
    }
    // What is not there is not told either, nor what is wrong with a request.
    for path in ["/loads/0", "/datasets/none/versions", "/none", "/upload?what=ever"] {
        assert_eq!(http::get(updater.port, path).status, 401, "{path}");
    }
    assert_eq!(http::put(updater.port, "/datasets/none?what=ever", &[], b"").status, 401);
    for path in ["/healthz", "/readyz", "/prometheus"] {
        assert_eq!(http::get(updater.port, path).status, 200, "{path}");
    }
}

#[test]
fn reads_can_be_left_open_and_writes_not() {
    let token = serde_json::from_value(value!(TOKEN)).unwrap();
    let updater = Updater::with(Backend::Embedded, ITEMS, |settings| {
        settings.token = Some(token);
        settings.allow_anonymous_reads = true;
    });
    assert_eq!(http::get(updater.port, "/loads").status, 200);
    assert_eq!(updater.put("a,1,\n").status, 401);
    let wrong = [("authorization", "Bearer wrong-token-0123456789")];
    assert_eq!(http::send("GET", updater.port, "/loads", &wrong, b"").status, 401);
}

#[test]
fn a_token_may_do_what_its_role_and_its_datasets_say() {
    let updater = with_tokens(Backend::Embedded);
    let send = |name: &str, method: &str, path: &str, body: &[u8]| {
        send_as(&updater, name, method, path, body).status
    };
    assert_eq!(send("sender", "PUT", "/datasets/items", b"a,1,\n"), 200);
    assert_eq!(send("ops", "PUT", "/datasets/items", b"a,2,\n"), 200);
    assert_eq!(send("reader", "PUT", "/datasets/items", b"a,3,\n"), 403);
    assert_eq!(send("other", "PUT", "/datasets/items", b"a,3,\n"), 403);
    assert_eq!(send("sender", "PUT", "/datasets/items?force=true", b"a,3,\n"), 403);
    let activate = "/datasets/items/versions/1/activate";
    for name in ["reader", "sender", "other"] {
        assert_eq!(send(name, "POST", activate, b""), 403, "{name}");
    }
    assert_eq!(send("ops", "POST", activate, b""), 200);
    let loads = send_as(&updater, "reader", "GET", "/loads", b"");
    let load = format!("/loads/{}", json(&loads)["loads"][0]["id"].as_str().unwrap());
    for (name, read, cancel) in
        [("reader", 200, 403), ("sender", 200, 403), ("other", 403, 403), ("ops", 200, 409)]
    {
        assert_eq!(
            (send(name, "GET", &load, b""), send(name, "DELETE", &load, b"")),
            (read, cancel),
            "{name}"
        );
    }
    let others = send_as(&updater, "other", "GET", "/loads", b"");
    assert_eq!(json(&others)["loads"], value!([]));
    assert_eq!(json(&send_as(&updater, "other", "GET", "/datasets", b""))["datasets"], value!([]));
    assert_eq!(send("other", "GET", "/datasets/items/versions", b""), 403);
    let refused = send_as(&updater, "reader", "PUT", "/datasets/items", b"a,3,\n");
    let says = "the token `reader` does not have the role `upload` for `items`";
    assert_eq!(json(&refused)["detail"], says);
}

#[test]
fn who_did_it_is_remembered_with_the_load_and_in_the_ledger() {
    for backend in BACKENDS {
        let updater = with_tokens(backend);
        let actor = |name: &str| value!({"token": name, "address": "127.0.0.1", "user_agent": "a test/1"});
        let send = |name: &str, method: &str, path: &str, body: &[u8]| {
            json(&send_as(&updater, name, method, path, body))
        };
        assert_eq!(send("sender", "PUT", "/datasets/items", b"a,1,\n")["version"], 1);
        assert_eq!(send("ops", "PUT", "/datasets/items?force=true", b"a,2,\n")["version"], 2);
        assert_eq!(send("reader", "GET", "/loads", b"")["loads"][1]["actor"], actor("sender"));
        assert_eq!(send("ops", "POST", "/datasets/items/versions/1/activate", b"")["version"], 1);
        let listed = send("reader", "GET", "/datasets/items/versions", b"");
        let (second, first) = (&listed["versions"][0], &listed["versions"][1]);
        assert_eq!((&first["actor"], &first["activated_by"]), (&actor("sender"), &actor("ops")));
        assert_eq!((&second["actor"], &second["forced"]), (&actor("ops"), &true.into()));
        assert_eq!(second["reason"], "rolled back to version 1 by ops (127.0.0.1, a test/1)");
    }
}

#[test]
fn who_cancelled_a_load_is_remembered_with_it_and_in_the_ledger() {
    for backend in BACKENDS {
        let updater = with_tokens(backend);
        let mut slow = http::connect(updater.port).unwrap();
        let head = "PUT /datasets/items HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\
                    authorization: Bearer sender-token-0123456789\r\n\r\na,1,\n";
        slow.write_all(head.as_bytes()).unwrap();
        let loads = || json(&send_as(&updater, "reader", "GET", "/loads", b""))["loads"].clone();
        until(|| loads()[0]["bytes"] == 5);
        let load = format!("/loads/{}", loads()[0]["id"].as_str().unwrap());
        assert_eq!(send_as(&updater, "ops", "DELETE", &load, b"").status, 200);
        assert_eq!(http::read_response(&mut BufReader::new(&slow), false).unwrap().status, 409);
        assert_eq!(loads()[0]["cancelled_by"]["token"], "ops");
        let versions = json(&send_as(&updater, "reader", "GET", "/datasets/items/versions", b""));
        let entry = &versions["versions"][0];
        assert_eq!((&entry["state"], &entry["actor"]["token"]), (&"failed".into(), &"sender".into()));
        assert_eq!(entry["reason"], "the load was cancelled by ops (127.0.0.1, a test/1)");
    }
}

#[test]
fn wrong_tokens_are_limited_for_each_address_and_a_right_one_still_passes() {
    let updater = Updater::with(Backend::Embedded, ITEMS, |settings| {
        settings.token = Some(serde_json::from_value(value!(TOKEN)).unwrap());
        settings.trusted_proxies = String::from("127.0.0.1").try_into().unwrap();
    });
    let ask = |client: &str, token: &str| {
        let token = format!("Bearer {token}");
        let headers = [("authorization", token.as_str()), ("x-forwarded-for", client)];
        http::send("GET", updater.port, "/loads", &headers, b"")
    };
    let refused: Vec<_> = (0..12).map(|_| ask("192.0.2.1", "wrong-token-0123456789").status).collect();
    assert_eq!(refused, [401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 429, 429]);
    assert_eq!(ask("192.0.2.1", "wrong-token-0123456789").header("retry-after"), Some("6"));
    assert_eq!(ask("192.0.2.2", "wrong-token-0123456789").status, 401);
    assert_eq!(ask("192.0.2.1", TOKEN).status, 200);
    let metrics = http::get(updater.port, "/prometheus").text();
    assert!(metrics.lines().any(|line| line == "tableswap_wrong_tokens_total 14"), "{metrics}");
}

#[test]
fn a_page_of_another_origin_cannot_write() {
    let updater = Updater::start(Backend::Embedded);
    let put = |headers: &[(&str, &str)]| http::put(updater.port, "/datasets/items", headers, b"a,1,\n");
    let refused = put(&[("origin", "https://evil.example")]);
    assert_eq!(refused.status, 403);
    assert_eq!(json(&refused)["detail"], "writes from pages of https://evil.example are refused");
    let own = format!("http://127.0.0.1:{}", updater.port);
    assert_eq!(put(&[("origin", &own), ("origin", &own)]).status, 403);
    assert_eq!(put(&[("sec-fetch-site", "cross-site")]).status, 403);
    assert_eq!(updater.versions(), "");
    assert_eq!(put(&[("origin", &own), ("sec-fetch-site", "same-origin")]).status, 200);
}

#[test]
fn a_page_whose_name_was_pointed_at_this_machine_can_neither_write_nor_read() {
    let updater = Updater::start(Backend::Embedded);
    let send = |method: &str, path: &str| {
        let headers = [("host", "evil.example:1322"), ("origin", "http://evil.example:1322")];
        http::send(method, updater.port, path, &headers, b"a,1,\n").status
    };
    assert_eq!(send("PUT", "/datasets/items"), 403);
    assert_eq!((send("GET", "/loads"), send("GET", "/prometheus")), (403, 403));
    assert_eq!(updater.versions(), "");
}

#[test]
fn with_a_token_every_host_name_is_answered_to() {
    let updater = with_token();
    let token = format!("Bearer {TOKEN}");
    let headers = [("host", "updater.internal"), ("authorization", &*token)];
    assert_eq!(http::get_with(updater.port, "/loads", &headers).status, 200);
}

#[test]
fn a_report_carries_no_formula_unless_the_very_bytes_are_asked_for() {
    let updater = Updater::start(Backend::Embedded);
    let refused = updater.put("=1+1,=HYPERLINK(),\n");
    let report = json(&refused)["report"].as_str().unwrap().to_owned();
    let guarded = http::get(updater.port, &report);
    assert!(guarded.text().contains("price,'=HYPERLINK(),not_decimal"), "{}", guarded.text());
    assert!(guarded.text().contains("\"'=1+1,=HYPERLINK(),\""), "{}", guarded.text());
    assert_eq!(guarded.header("cache-control"), Some("no-store"));
    let raw = http::get(updater.port, &format!("{report}?raw=true")).text();
    assert!(raw.contains("price,=HYPERLINK(),not_decimal") && raw.contains("\"=1+1,"), "{raw}");
    assert_eq!(http::get(updater.port, &format!("{report}?row=true")).status, 400);
}

#[test]
fn no_answer_is_guessed_at_or_kept() {
    let updater = Updater::start(Backend::Embedded);
    updater.put("a,1,\n");
    for path in ["/loads", "/datasets", "/datasets/items/versions", "/none", "/loads/0", "/healthz"] {
        let answer = http::get(updater.port, path);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
}

#[test]
fn a_dataset_that_mariadb_cannot_store_stops_the_start() {
    let database = testkit::MariaDb::shared().database();
    let dir = tempfile::tempdir().unwrap();
    let datasets = dir.path().join("datasets.toml");
    std::fs::write(&datasets, ITEMS.replace("price", "db_trx_id")).unwrap();
    let (url, work) = (database.url(), dir.path().join("work"));
    let env = [
        ("TABLESWAP_STORE_URL", url.as_str()),
        ("TABLESWAP_UPDATER_LISTEN", "127.0.0.1:0"),
        ("TABLESWAP_UPDATER_DATASETS", datasets.to_str().unwrap()),
        ("TABLESWAP_UPDATER_WORK_DIR", work.to_str().unwrap()),
    ];
    let refused = testkit::Server::spawn(env!("CARGO_BIN_EXE_updater"), &[], &env);
    assert_eq!(refused.wait(std::time::Duration::from_secs(20)).code(), Some(1));
    insta::assert_snapshot!(refused.log().trim(), @"updater: TABLESWAP_UPDATER_DATASETS: dataset `items`: column `db_trx_id`: InnoDB has a column of that name of its own");
}

#[test]
fn how_a_store_is_set_up_is_for_the_log_and_not_for_clients() {
    let updater = Updater::start(Backend::Embedded);
    updater.put("a,1,\n");
    std::fs::write(updater.dir.join("store/items/catalog.json"), "{\"format\":99}").unwrap();
    let refused = http::get(updater.port, "/datasets/items/versions");
    assert_eq!((refused.status, refused.text().contains("catalog.json")), (503, false));
    assert_eq!(json(&refused)["detail"], "the store is not set up as it must be; the log says why");
}

/// Starts an updater that only has to say something.
fn start(env: &[(&str, &str)]) -> testkit::Server {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("embedded:{}", dir.path().join("store").display());
    let mut all = vec![("TABLESWAP_STORE_URL", store.as_str()), ("TABLESWAP_UPDATER_LISTEN", "0.0.0.0:0")];
    all.extend(env);
    testkit::Server::spawn(env!("CARGO_BIN_EXE_updater"), &[], &all)
}

fn refusal(env: &[(&str, &str)]) -> String {
    let refused = start(env);
    assert_eq!(refused.wait(std::time::Duration::from_secs(20)).code(), Some(1), "{}", refused.log());
    refused.log().trim().to_owned()
}

#[test]
fn an_address_that_others_reach_needs_a_token_or_a_word() {
    insta::assert_snapshot!(refusal(&[]), @"updater: TABLESWAP_UPDATER_LISTEN is 0.0.0.0:0, which others can reach: set TABLESWAP_UPDATER_TOKEN or TABLESWAP_UPDATER_TOKENS_FILE, or TABLESWAP_UPDATER_ANONYMOUS_WRITES=true if anybody may replace the data");
    for env in [("TABLESWAP_UPDATER_TOKEN", TOKEN), ("TABLESWAP_UPDATER_ANONYMOUS_WRITES", "true")] {
        let server = start(&[env]);
        until(|| server.log().contains("updater started"));
        assert!(!server.log().contains("s3cret"));
        let warns = server
            .log()
            .contains("tokens are sent over plain HTTP: set TABLESWAP_UPDATER_TLS_CERTIFICATE_PATH");
        assert_eq!(warns, env.1 == TOKEN, "{}", server.log());
    }
}

#[test]
fn a_token_that_can_be_guessed_or_not_be_sent_stops_the_start() {
    for token in ["fifteen-chars-x", "with a space in the middle", "with-an-umlaut-ä-in-it"] {
        let says = refusal(&[("TABLESWAP_UPDATER_TOKEN", token)]);
        assert_eq!(
            says,
            "updater: TABLESWAP_UPDATER_TOKEN: a token needs at least 16 characters, all of them visible ASCII"
        );
    }
    let says = refusal(&[("TABLESWAP_UPDATER_TOKENS_FILE", "/no/such/file")]);
    assert_eq!(
        says,
        "updater: TABLESWAP_UPDATER_TOKENS_FILE: cannot read /no/such/file: No such file or directory (os error 2)"
    );
}

#[test]
fn plain_http_can_be_refused() {
    let says = refusal(&[("TABLESWAP_UPDATER_TOKEN", TOKEN), ("TABLESWAP_UPDATER_REQUIRE_TLS", "true")]);
    insta::assert_snapshot!(says, @"updater: TABLESWAP_UPDATER_REQUIRE_TLS is true: set TABLESWAP_UPDATER_TLS_CERTIFICATE_PATH and TABLESWAP_UPDATER_TLS_KEY_PATH");
}
