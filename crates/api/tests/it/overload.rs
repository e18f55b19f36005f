//! More requests than can be answered, and a store that does not answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use api::Settings;
use testkit::http::{self, Response};
use testkit::{Fault, FaultProxy, MariaDb, until};

use crate::harness::{Api, ITEMS};

/// An api on MariaDB behind a bad network.
fn behind_a_proxy(requests_max: usize) -> (Api, FaultProxy) {
    let database = MariaDb::shared().database();
    let proxy = FaultProxy::start(MariaDb::shared().port());
    let settings = Settings { requests_max, ..Settings::default() };
    let api = Api::with(Some(&database), Some(database.reader_url_via(proxy.port())), settings);
    api.publish(ITEMS, &["a;1", "b;2"]);
    until(|| api.get("/items/a").status == 200);
    (api, proxy)
}

/// Asks for a key that is not in memory.
fn ask(port: u16, number: usize) -> Response {
    http::get(port, &format!("/items/n{number}"))
}

#[test]
fn above_the_bound_requests_are_refused_at_once_and_those_below_are_answered() {
    let (api, proxy) = behind_a_proxy(20);
    proxy.set(Fault::Delay(Duration::from_millis(300)));
    let (refused, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for number in 0..100 {
            let (refused, answered, port) = (&refused, &answered, api.port);
            scope.spawn(move || {
                let answer = ask(port, number);
                match answer.status {
                    503 => {
                        assert_eq!(answer.header("retry-after"), Some("1"));
                        assert!(answer.text().contains("too many requests are waiting"), "{}", answer.text());
                        refused.fetch_add(1, Ordering::Relaxed)
                    }
                    404 => answered.fetch_add(1, Ordering::Relaxed),
                    status => panic!("{status}: {}", answer.text()),
                };
            });
        }
    });
    let (refused, answered) = (refused.into_inner(), answered.into_inner());
    assert!(refused > 0 && answered >= 20, "{refused} refused, {answered} answered");
    // Who asks whether it is alive is always answered.
    assert_eq!(api.get("/healthz").status, 200);
    proxy.set(Fault::None);
    until(|| ask(api.port, 1000).status == 404);
}

#[test]
fn p9_a_database_that_hangs_gives_clear_answers_soon_and_full_service_once_it_is_back() {
    let (api, proxy) = behind_a_proxy(10_000);
    proxy.set(Fault::Hang);
    thread::scope(|scope| {
        for number in 0..50 {
            let port = api.port;
            scope.spawn(move || {
                let answer = ask(port, number);
                assert_eq!(answer.status, 503, "{}", answer.text());
            });
        }
    });
    // It is known by now, so nobody waits any more.
    let start = Instant::now();
    for number in 0..200 {
        let answer = ask(api.port, number);
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.text());
    }
    assert!(start.elapsed() < Duration::from_mins(1), "{:?} for 200 refusals", start.elapsed());
    assert_eq!(api.get("/readyz").status, 503);
    proxy.set(Fault::None);
    until(|| api.get("/readyz").status == 200);
    for number in 0..200 {
        assert_eq!(ask(api.port, number).status, 404);
    }
}

#[test]
fn two_thousand_connections_at_once_are_all_answered() {
    let (api, _proxy) = behind_a_proxy(10_000);
    let mut streams: Vec<_> = (0..2000).map(|_| http::connect(api.port).unwrap()).collect();
    for _ in 0..3 {
        for (number, stream) in streams.iter_mut().enumerate() {
            let raw = format!("GET /items/n{number} HTTP/1.1\r\nhost: localhost\r\n\r\n");
            std::io::Write::write_all(stream, raw.as_bytes()).unwrap();
        }
        for stream in &mut streams {
            let answer = http::read_response(&mut std::io::BufReader::new(stream), false).unwrap();
            assert_eq!(answer.status, 404);
        }
    }
    let gauge = "http_requests_in_flight 1";
    until(|| api.get("/prometheus").text().lines().any(|line| line == gauge));
}
