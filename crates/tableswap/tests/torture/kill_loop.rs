//! Two updaters and two apis on one store, under kills, pauses and partitions, while readers never stop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::checker::{Answer, Checker};
use crate::cluster::{Backend, Cluster, Node};
use crate::dice::Dice;
use crate::editions::Editions;
use crate::findings::Findings;
use crate::history::History;
use crate::idle::Idle;
use crate::injection::Injection;
use crate::operations::{Operations, Pace, Tolerance};
use crate::options::Options;
use crate::rounds::{Fault, Round, kinds, schedule};
use crate::verdict::Reader;
use crate::workload::Workload;

/// Bringing a version back takes less than a second on an idle machine; this one may be building at the same time.
const ROLLBACK_MAX: Duration = Duration::from_secs(3);

#[test]
fn p1_p2_p3_p7_p8_the_embedded_store_under_kills_and_pauses() {
    run(Backend::Embedded, "kill_loop embedded");
}

#[test]
fn p1_p2_p3_p4_p7_p8_mariadb_under_kills_pauses_and_partitions() {
    run(Backend::Mariadb, "kill_loop mariadb");
}

#[test]
fn p1_p2_p3_p4_p7_p8_mariadb_with_replicas_under_faults_of_replicas() {
    run(Backend::Replicated, "kill_loop replicated");
}

/// What happened how often: a run that did not meet its faults proves nothing.
#[derive(Default)]
pub(crate) struct Counts(Mutex<BTreeMap<String, usize>>);

impl Counts {
    pub(crate) fn add(&self, what: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(what.into()).or_default() += 1;
    }

    fn of(&self, what: &str) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(what).copied().unwrap_or_default()
    }

    fn summary(&self) -> String {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
    }
}

fn run(backend: Backend, scenario: &str) {
    let options = Options::read(scenario, kinds(backend).len());
    let (findings, editions, history) =
        (Findings::new(scenario), Editions::new(options.seed), History::default());
    let (cluster, counts, stop) = (Cluster::start(backend), Counts::default(), AtomicBool::new(false));
    let operations = Operations {
        history: &history,
        findings: &findings,
        tolerance: Mutex::default(),
        open: Mutex::default(),
    };
    // Two, so that there always is a version to go back to.
    for updater in &cluster.updaters {
        let first = operations.upload(updater, &editions.next(500), Pace::AT_ONCE, &[]);
        assert_eq!(first.status, 200, "the first uploads failed");
    }
    let checkers = cluster.apis.each_ref().map(|api| Checker {
        name: api.name,
        port: api.port,
        editions: &editions,
        findings: &findings,
        answers: Mutex::default(),
    });
    let mut looped = KillLoop {
        cluster: &cluster,
        editions: &editions,
        findings: &findings,
        operations: &operations,
        counts: &counts,
        checkers: &checkers,
        readers: cluster.apis.each_ref().map(|api| Reader::of(api.name)),
        across: None,
        slowest_rollback: Duration::ZERO,
    };
    std::thread::scope(|scope| {
        // A panic must end the readers too, or the scope never ends.
        let _stop = StopOnDrop(&stop);
        for checker in &checkers {
            scope.spawn(|| checker.run(&stop));
        }
        for (number, round) in schedule(backend, options.rounds, options.seed).into_iter().enumerate() {
            looped.play(round, number, &mut Dice::new(options.seed, number as u64));
        }
    });
    looped.conclude(backend);
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct KillLoop<'a> {
    cluster: &'a Cluster,
    editions: &'a Editions,
    findings: &'a Findings,
    operations: &'a Operations<'a>,
    counts: &'a Counts,
    checkers: &'a [Checker<'a>; 2],
    readers: [Reader; 2],
    /// What an api answered first after a pause in this round.
    across: Option<(&'a Node, Vec<Answer>)>,
    slowest_rollback: Duration,
}

impl KillLoop<'_> {
    /// One round: work with a fault in it, then quiet, then judgement, then a rollback and back.
    fn play(&mut self, round: Round, number: usize, dice: &mut Dice) {
        let Round { work, fault, .. } = round;
        self.findings.tell(format!("round {number}: {round:?}"));
        let swap = dice.below(2);
        let [first, second] = &self.cluster.updaters;
        let updaters = if swap == 0 { [first, second] } else { [second, first] };
        let workload = Workload::draw(work, updaters, self.editions, dice);
        let mut injection = Injection::draw(round, self.cluster, updaters[0], dice);
        *self.operations.tolerance.lock().unwrap_or_else(PoisonError::into_inner) = fault.tolerance();
        let idle = Idle { cluster: self.cluster, editions: self.editions, operations: self.operations };
        std::thread::scope(|scope| {
            let working = scope.spawn(|| workload.run(self.operations, self.editions));
            let met = injection.inject(self.operations, || working.is_finished());
            self.across = Some((injection.api, injection.heal(self.findings, self.checkers)));
            if fault == Fault::KillUpdater {
                // A new process does not know the loads of the old one; the list of versions still tells.
                self.operations.forget_open(updaters[0]);
            }
            let statuses = working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            self.count(round, met, &statuses);
            if injection.has_cancelled && statuses.contains(&200) {
                self.findings.report("P3 a cancelled load was published", format!("{statuses:?}"));
            }
        });
        *self.operations.tolerance.lock().unwrap_or_else(PoisonError::into_inner) = Tolerance::default();
        let settled = idle.wait(fault != Fault::None);
        self.judge();
        if let Some(listing) = settled
            && let (Some(live), Some(previous)) = (listing.live, listing.previous())
        {
            self.roll_back_and_forward(live, previous, updaters[1]);
        }
    }

    fn count(&self, round: Round, met: Option<String>, statuses: &[u16]) {
        for status in statuses {
            self.counts.add(format!("answer {status}"));
        }
        if let Some(phase) = met {
            // A load that was answered before its updater died was not hit.
            let was_hit = round.fault != Fault::KillUpdater || statuses.contains(&0);
            let hit = if was_hit { "" } else { "missed " };
            self.counts.add(format!("{hit}{:?} in {phase}", round.fault));
        }
    }

    /// Both apis were at peace for a moment, so every answer so far can be judged.
    fn judge(&mut self) {
        for ((reader, checker), api) in self.readers.iter_mut().zip(self.checkers).zip(&self.cluster.apis) {
            let answers = checker.take();
            reader.judge(&answers, &api.faults, self.operations.history, self.findings);
        }
        // They were under way at once, so each is judged by itself.
        if let Some((api, answers)) = self.across.take() {
            let (history, findings) = (self.operations.history, self.findings);
            for answer in answers {
                self.counts.add(answer.request);
                Reader::of(api.name).judge(&[answer], &api.faults, history, findings);
            }
        }
        self.operations.history.judged();
    }

    /// P8: the previous version comes back within the limit, and so does the newer one.
    fn roll_back_and_forward(&mut self, live: u32, previous: u32, updater: &Node) {
        for version in [previous, live] {
            let answered = self.operations.activate(updater, version, &[]);
            self.slowest_rollback = self.slowest_rollback.max(answered.took);
            if answered.status == 200 && answered.took > ROLLBACK_MAX {
                self.findings.report("P8 a slow rollback", format!("version {version}: {:?}", answered.took));
            }
            self.counts.add("rollbacks on an idle store");
        }
    }

    fn conclude(mut self, backend: Backend) {
        // The last answers came after the last judgement, on an idle store.
        let listing = crate::listing::Listing::read(self.cluster.updaters[0].port);
        if let Ok(listing) = listing {
            let broken = self.operations.history.settle(self.editions, &listing, Instant::now());
            for broken in broken {
                self.findings.report("P3 the history is wrong", broken);
            }
        }
        self.judge();
        let answers: usize = self.readers.iter().map(|reader| reader.answers).sum();
        let unavailable: usize = self.readers.iter().map(|reader| reader.unavailable).sum();
        let summary = format!(
            "{answers} answers read, {unavailable} unavailable in faults, slowest rollback {:.3?}; {}",
            self.slowest_rollback,
            self.counts.summary()
        );
        if answers < 500 {
            self.findings.report("precondition", format!("only {answers} answers were read"));
        }
        for needed in needed(backend) {
            if self.counts.of(needed) == 0 {
                self.findings.report("precondition", format!("never happened: {needed}"));
            }
        }
        self.findings.conclude(&summary, &self.cluster.logs());
    }
}

/// What a run must have met to prove anything.
fn needed(backend: Backend) -> Vec<&'static str> {
    let mut needed = vec![
        "KillUpdater in receiving",
        "KillUpdater in staging",
        "KillUpdater in publishing",
        "Cancel in receiving",
        "PauseUpdater in staging",
        "rollbacks on an idle store",
        "get across a pause",
    ];
    if backend == Backend::Replicated {
        needed.extend(["KillReplica in staging", "CutOffUpdater(Hang) in staging"]);
    }
    if backend == Backend::Mariadb {
        needed.extend([
            "KillDatabase in staging",
            "KillDatabase in publishing",
            "CutOffUpdater(Hang) in publishing",
            "CutOffUpdater(Hang) in staging",
            "CutOffUpdater(HalfOpen) in staging",
            "CutOffUpdater(Cut) in staging",
        ]);
    }
    needed
}
