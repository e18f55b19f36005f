//! Who may write, and what a server refuses to start with.

use testkit::http;

use crate::harness::{Backend, ITEMS, Updater, json};

#[test]
fn a_write_needs_the_token_where_there_is_one() {
    let token = serde_json::from_value(serde_json::json!("s3cret")).unwrap();
    let updater = Updater::with(Backend::Embedded, ITEMS, |settings| settings.token = Some(token));
    let put = |headers: &[(&str, &str)]| http::put(updater.port, "/datasets/items", headers, b"a,1,\n");
    let refused = put(&[]);
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(put(&[("authorization", "Bearer wrong")]).status, 401);
    assert_eq!(put(&[("authorization", "Basic s3cret")]).status, 401);
    let activate = http::post(updater.port, "/datasets/items/versions/1/activate", &[], b"");
    assert_eq!((activate.status, updater.versions().as_str()), (401, ""));
    assert_eq!(put(&[("authorization", "Bearer s3cret")]).status, 200);
}

#[test]
fn a_page_of_another_origin_cannot_write() {
    let updater = Updater::start(Backend::Embedded);
    let put = |origin: &str| http::put(updater.port, "/datasets/items", &[("origin", origin)], b"a,1,\n");
    let refused = put("https://evil.example");
    assert_eq!(refused.status, 403);
    assert_eq!(json(&refused)["detail"], "writes from pages of https://evil.example are refused");
    assert_eq!(updater.versions(), "");
}

#[test]
fn an_address_that_others_reach_needs_a_token_or_a_word() {
    let start = |env: &[(&str, &str)]| {
        let dir = tempfile::tempdir().unwrap();
        let store = format!("embedded:{}", dir.path().join("store").display());
        let mut all =
            vec![("TABLESWAP_STORE_URL", store.as_str()), ("TABLESWAP_UPDATER_LISTEN", "0.0.0.0:0")];
        all.extend(env);
        testkit::Server::spawn(env!("CARGO_BIN_EXE_updater"), &[], &all)
    };
    let refused = start(&[]);
    assert_eq!(refused.wait(std::time::Duration::from_secs(20)).code(), Some(1));
    insta::assert_snapshot!(refused.log().trim(), @"updater: TABLESWAP_UPDATER_LISTEN is 0.0.0.0:0, which others can reach: set TABLESWAP_UPDATER_TOKEN, or TABLESWAP_UPDATER_ANONYMOUS_WRITES=true if anybody may replace the data");
    for env in [("TABLESWAP_UPDATER_TOKEN", "s3cret"), ("TABLESWAP_UPDATER_ANONYMOUS_WRITES", "true")] {
        let server = start(&[env]);
        crate::harness::until(|| server.log().contains("updater started"));
        assert!(!server.log().contains("s3cret"));
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
