//! No version yet, no database, and metrics that a real Prometheus takes.

use std::time::Duration;

use testkit::{Fault, FaultProxy, MariaDb, until};

use crate::harness::{Api, BACKENDS, ITEMS};

#[test]
fn readiness_waits_for_a_version_and_health_does_not() {
    for backend in BACKENDS {
        let api = Api::start(backend);
        assert_eq!(api.get("/healthz").status, 200);
        assert_eq!(api.get("/readyz").status, 503);
        api.publish(ITEMS, &["a;1"]);
        assert_eq!(api.get("/readyz").text(), r#"{"status":"ready"}"#);
    }
}

#[test]
fn p9_a_database_that_is_away_gives_a_quick_503_and_is_found_again() {
    let database = MariaDb::shared().database();
    let proxy = FaultProxy::start(MariaDb::shared().port());
    proxy.set(Fault::Refuse);
    let api = Api::on(Some(&database), Some(database.reader_url_via(proxy.port())));
    api.publish(ITEMS, &["a;1"]);
    let away = api.get("/items/a");
    assert_eq!((away.status, away.header("retry-after")), (503, Some("1")), "{}", away.text());
    assert!(
        !away.text().contains("127.0.0.1") && !away.text().contains(testkit::PASSWORD),
        "{}",
        away.text()
    );
    assert_eq!((api.get("/readyz").status, api.get("/healthz").status), (503, 200));
    proxy.set(Fault::None);
    until(|| api.get("/readyz").status == 200);
    assert_eq!(api.get("/items/a").status, 200);
    proxy.set(Fault::Refuse);
    proxy.close_connections();
    // What is in memory is answered for a tenth of a second more.
    until(|| api.get("/items/a").status == 503);
    proxy.set(Fault::None);
    until(|| api.get("/items/a").status == 200);
}

#[test]
fn a_connection_that_the_database_closed_is_not_seen_by_a_request() {
    let database = MariaDb::shared().database();
    let proxy = FaultProxy::start(MariaDb::shared().port());
    let api = Api::on(Some(&database), Some(database.reader_url_via(proxy.port())));
    api.publish(ITEMS, &["a;1"]);
    for _ in 0..8 {
        assert_eq!(api.get("/items/a").status, 200);
        // One that is just being opened is not meant, so there is time to open them again.
        std::thread::sleep(Duration::from_millis(300));
        proxy.close_connections();
    }
}

#[test]
fn the_metrics_are_what_prometheus_expects() {
    for backend in BACKENDS {
        let api = Api::start(backend);
        api.publish(ITEMS, &["a;1"]);
        api.get("/items/a");
        api.get("/items/secret-key");
        let metrics = api.get("/prometheus");
        assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let text = metrics.text();
        for line in [
            r#"http_requests_total{code="404",handler="/{dataset}/{key}",method="GET"} 1"#,
            r#"http_request_duration_seconds_bucket{handler="/{dataset}/{key}",method="GET",le="0.0001"}"#,
            r#"tableswap_live_version{dataset="items"} 1"#,
            "process_resident_memory_bytes",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("secret-key"));
        testkit::check_metrics(&text);
    }
}
