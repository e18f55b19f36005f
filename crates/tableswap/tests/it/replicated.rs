//! An api that reads from replicas which are behind: what it answers right after an upload was answered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use testkit::rows::{edition, promotion_id, promotion_json};
use testkit::{Fault, FaultProxy, Replication, Server};
use testkit::{http, until};

use crate::freshness::{Client, SEED, upload};
use crate::harness::{Site, printed};

/// An updater on the primary, and an api that reads from two replicas.
struct Replicated {
    servers: Replication,
    site: Site,
    _updater: Server,
}

impl Replicated {
    fn start() -> Self {
        let servers = Replication::start(2);
        let site = Site::on(servers.database());
        let updater = site.updater();
        upload(&site, 1);
        servers.wait_until_caught_up();
        Self { servers, site, _updater: updater }
    }

    fn replica_urls(&self) -> String {
        let database = self.site.database.as_ref().unwrap();
        [0, 1].map(|n| database.reader_url_via(self.servers.replica(n).port())).join(",")
    }

    fn api(&self, more: &[(&str, &str)]) -> Server {
        let urls = self.replica_urls();
        self.site.api_with(&[&[("TABLESWAP_STORE_READ_URLS", urls.as_str())], more].concat())
    }

    fn lag(&self) {
        self.servers.stop_applying(0);
        self.servers.stop_applying(1);
    }

    fn catch_up(&self) {
        self.servers.start_replication(0);
        self.servers.start_replication(1);
        self.servers.wait_until_caught_up();
    }

    fn path() -> String {
        format!("/promotions/{}", promotion_id(SEED, 7))
    }

    fn etag(&self) -> String {
        self.site.get(&Self::path()).header("etag").unwrap().to_owned()
    }
}

#[test]
fn p2_p7_a_paused_api_of_replicas_that_lag_answers_the_new_version_at_once() {
    let it = Replicated::start();
    let api = it.api(&[]);
    for round in 2..6 {
        let etag = it.etag();
        let mut clients: Vec<_> = (0..8).map(|_| Client::new(it.site.api_port)).collect();
        for client in &mut clients {
            client.send(None);
            assert_eq!(client.receive().status, 200);
        }
        it.lag();
        api.pause();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send((number % 2 == 0).then_some(etag.as_str()));
        }
        upload(&it.site, round);
        api.resume();
        for client in &mut clients {
            let answer = client.receive();
            assert_eq!((answer.status, answer.text()), (200, promotion_json(edition(SEED, round), 7)));
        }
        it.catch_up();
    }
}

#[test]
fn p7_an_api_that_is_far_from_the_primary_answers_the_new_version_at_once() {
    let it = Replicated::start();
    let far = FaultProxy::start(it.servers.primary().port());
    far.set(Fault::Delay(Duration::from_millis(20)));
    let database = it.site.database.as_ref().unwrap();
    let (url, replicas) = (database.reader_url_via(far.port()), it.replica_urls());
    let _api =
        it.site.api_with(&[("TABLESWAP_STORE_URL", url.as_str()), ("TABLESWAP_STORE_READ_URLS", &replicas)]);
    until(|| it.site.get(&Replicated::path()).status == 200);
    for round in 2..8 {
        let etag = it.etag();
        it.lag();
        upload(&it.site, round);
        let answer =
            http::send("GET", it.site.api_port, &Replicated::path(), &[("if-none-match", &etag)], b"");
        assert_eq!((answer.status, answer.text()), (200, promotion_json(edition(SEED, round), 7)));
        it.catch_up();
    }
}

#[test]
fn p7_an_api_that_starts_beside_replicas_that_lag_answers_the_new_version() {
    let it = Replicated::start();
    it.lag();
    upload(&it.site, 2);
    for _ in 0..5 {
        let _api = it.api(&[]);
        let answer = it.site.get(&Replicated::path());
        assert_eq!((answer.status, answer.text()), (200, promotion_json(edition(SEED, 2), 7)));
    }
}

#[test]
fn p9_a_fault_of_a_replica_or_a_swap_fails_no_request() {
    let it = Replicated::start();
    let _api = it.api(&[]);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut answers = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let answer = it.site.get(&Replicated::path());
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        answers += 1;
                    }
                    answers
                })
            })
            .collect();
        for round in 2..8 {
            match round % 3 {
                0 => it.servers.replica(0).pause(),
                1 => it.servers.replica(0).kill(),
                _ => it.servers.stop_replication(0),
            }
            upload(&it.site, round);
            match round % 3 {
                0 => it.servers.replica(0).resume(),
                1 => it.servers.replica(0).restart(),
                _ => it.servers.start_replication(0),
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(asking.into_iter().all(|asking| asking.join().unwrap() > 20));
    });
}

#[test]
fn p7_replicas_answer_alone_for_a_limited_time() {
    let it = Replicated::start();
    let _api = it.api(&[("TABLESWAP_STORE_ALONE_SECONDS_MAX", "3")]);
    until(|| it.site.get(&Replicated::path()).status == 200);
    it.servers.primary().kill();
    until(|| metric(&it.site, "tableswap_store_alone_seconds") > 0.0);
    assert_eq!(it.site.get(&Replicated::path()).status, 200);
    assert_eq!(it.site.get("/readyz").status, 200);
    until(|| it.site.get(&Replicated::path()).status == 503);
    assert_eq!(it.site.get("/readyz").status, 503);
    it.servers.primary().restart();
    until(|| it.site.get(&Replicated::path()).status == 200);
    assert!(metric(&it.site, "tableswap_store_alone_seconds") < 0.5);
}

#[test]
fn a_replica_that_does_not_follow_is_shown_and_left_out() {
    let it = Replicated::start();
    let _api = it.api(&[("TABLESWAP_STORE_REPLICA_AGE_SECONDS_MAX", "2")]);
    until(|| it.site.get("/readyz").status == 200);
    assert!(!it.site.get("/readyz").text().contains("excluded"), "{}", it.site.get("/readyz").text());
    // Its SQL thread runs, and nothing comes to it.
    it.servers.replica(0).execute("STOP SLAVE IO_THREAD");
    until(|| it.site.get("/readyz").text().contains("seconds behind the primary"));
    assert_eq!(it.site.get("/readyz").status, 200);
    it.servers.start_replication(0);
    until(|| !it.site.get("/readyz").text().contains("excluded"));
}

fn metric(site: &Site, name: &str) -> f64 {
    let metrics = site.get("/prometheus").text();
    let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn p1_verify_finds_the_replica_whose_rows_are_not_those_of_the_primary() {
    let it = Replicated::start();
    let (url, replicas) = (it.site.database.as_ref().unwrap().reader_url(), it.replica_urls());
    let verify = || {
        let mut command = std::process::Command::new(crate::harness::program("tableswap"));
        command.args(["verify", "--replicas"]);
        command.env("TABLESWAP_STORE_URL", &url).env("TABLESWAP_STORE_READ_URLS", &replicas);
        printed(&command.output().unwrap())
    };
    let equal = verify();
    assert!(equal.matches("equal").count() == 2 && equal.ends_with("exit 0"), "{equal}");
    let name = it.site.database.as_ref().unwrap().name();
    it.servers.replica(1).execute(&format!("UPDATE {name}.promotions SET price = price + 1 LIMIT 1"));
    let different = verify();
    assert!(different.matches("equal").count() == 1, "{different}");
    assert!(different.contains("other values") && different.ends_with("exit 1"), "{different}");
}
