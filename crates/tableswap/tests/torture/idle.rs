//! Waiting until nothing is under way any more, which nobody helps with: no human repairs anything here.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use testkit::http;

use crate::cluster::{Cluster, Node};
use crate::editions::Editions;
use crate::listing::Listing;
use crate::operations::{Operations, outcome_of, running_loads};

/// How long recovery may take: a lock whose holder is gone, a database that has to start, a load that has to end.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

pub(crate) struct Idle<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) editions: &'a Editions,
    pub(crate) operations: &'a Operations<'a>,
}

impl Idle<'_> {
    /// Waits until no load runs, both updaters list the same, every open outcome is told, both apis answer from what is
    /// listed, and, after a fault, both updaters take loads again. Settles the history from that.
    pub(crate) fn wait(&self, after_fault: bool) -> Option<Listing> {
        let [first, second] = &self.cluster.updaters;
        self.until("no load runs", || {
            let loads = [first, second].map(|node| running_loads(node.port));
            if loads.iter().all(Vec::is_empty) { Ok(()) } else { Err(format!("{loads:?}")) }
        })?;
        if after_fault {
            for node in [first, second] {
                self.until("an updater takes a load again", || dry_run(node, self.editions))?;
            }
        }
        let listing = self.until("the updaters agree", || {
            let (one, other) = (Listing::read(first.port)?, Listing::read(second.port)?);
            if one.live == other.live { Ok(one) } else { Err(format!("{:?} and {:?}", one.live, other.live)) }
        })?;
        self.close_open_outcomes();
        for api in &self.cluster.apis {
            self.until("an api answers from the live version", || {
                answers_from(api, self.editions, &listing)
            })?;
        }
        let findings = self.operations.findings;
        findings.tell(format!("idle, live is {:?}", listing.live));
        let broken = self.operations.history.settle(self.editions, &listing, Instant::now());
        for broken in broken {
            findings.report("P3 the history is wrong", broken);
        }
        Some(listing)
    }

    /// A 504 and a 202 said that the outcome would be told by the load.
    fn close_open_outcomes(&self) {
        let open = std::mem::take(&mut *self.operations.open.lock().unwrap_or_else(PoisonError::into_inner));
        for (name, load) in open {
            let Some(node) = self.cluster.updaters.iter().find(|node| node.name == name) else {
                continue;
            };
            self.until("an open outcome is told", || match outcome_of(node.port, &load).as_deref() {
                Some("published" | "failed" | "superseded" | "busy") => Ok(()),
                other => Err(format!("{load}: {other:?}")),
            });
        }
    }

    fn until<T>(&self, what: &str, come: impl Fn() -> Result<T, String>) -> Option<T> {
        let started = Instant::now();
        loop {
            match come() {
                Ok(value) => {
                    if started.elapsed() > Duration::from_secs(1) {
                        self.operations.findings.tell(format!("{what}, after {:?}", started.elapsed()));
                    }
                    return Some(value);
                }
                Err(why) if started.elapsed() > RECOVERY_MAX => {
                    let rule = format!("P3 never came: {what}");
                    self.operations.findings.report(&rule, format!("not within {RECOVERY_MAX:?}: {why}"));
                    return None;
                }
                Err(_) => std::thread::sleep(POLL),
            }
        }
    }
}

/// An upload that is only tried takes the way of a load up to staging, and publishes nothing.
fn dry_run(node: &Node, editions: &Editions) -> Result<(), String> {
    let csv = editions.trial();
    let length = csv.len().to_string();
    let head =
        http::head("PUT", "/datasets/promotions?dry_run=true", node.port, &[("content-length", &length)]);
    let request = [head.as_bytes(), csv.as_bytes()].concat();
    let answer = http::try_request(node.port, &request).map_err(|error| error.to_string())?;
    if answer.status == 200 { Ok(()) } else { Err(format!("{} {}", answer.status, answer.text())) }
}

fn answers_from(api: &Node, editions: &Editions, listing: &Listing) -> Result<(), String> {
    let path = format!("/promotions/{}", editions.id(0));
    let head = http::head("GET", &path, api.port, &[]);
    let answer = http::try_request(api.port, head.as_bytes()).map_err(|error| error.to_string())?;
    let version = answer.header("x-dataset-version").and_then(|version| version.parse().ok());
    if answer.status == 200 && version == listing.live {
        Ok(())
    } else {
        Err(format!("{}: {} of version {version:?}, live is {:?}", api.name, answer.status, listing.live))
    }
}
