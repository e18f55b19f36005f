//! One load: what it was asked for, how far it is, and what became of it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use ingest::Progress;
use serde_json::{Value as Json, json};
use service::Trace;
use store::Actor;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use super::reports::Reports;
use crate::expected::{IfMatch, Sha256};
use crate::failure::Failure;
use crate::load::Report;
use crate::outcome::Outcome;

/// One load, from its first byte to what became of it.
#[derive(Debug)]
pub(crate) struct Load {
    /// Its name in paths and logs.
    pub(crate) id: Uuid,
    /// The dataset that it loads.
    pub(crate) dataset: String,
    /// Where the file came from, as its sender named it.
    pub(crate) source: String,
    /// Who sent it.
    pub(crate) actor: Actor,
    /// Who cancelled it, and the reason that the ledger keeps.
    cancelled: OnceLock<(Actor, String)>,
    /// What it was asked for.
    pub(crate) wish: Wish,
    /// The trace that its request is part of, and its place there.
    pub(crate) trace: Trace,
    /// How far it is.
    pub(crate) progress: Arc<Progress>,
    /// Where its rejects are written.
    pub(crate) report: PathBuf,
    /// Tells it to stop.
    pub(crate) cancel: CancellationToken,
    /// The whole updater is told to stop.
    stopping: CancellationToken,
    /// The version that it loads, from when it is known.
    version: AtomicU32,
    /// Whether its client is answered before it ends.
    is_async: AtomicBool,
    started_at: DateTime<Utc>,
    started: Instant,
    state: Mutex<LoadState>,
    /// Changes with every phase.
    phases: watch::Sender<()>,
}

/// What a sender can ask for beside the load itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    /// Everything but the publication.
    pub(crate) dry_run: bool,
    /// Pass the shrink guard.
    pub(crate) force: bool,
    /// The digests that the file must have.
    pub(crate) sha256: Vec<Sha256>,
    /// The versions of which one must be live.
    pub(crate) if_match: Option<IfMatch>,
}

/// What a load is to do.
#[derive(Debug, Clone)]
pub(crate) struct Order<'a> {
    /// The dataset that it loads.
    pub(crate) dataset: &'a str,
    /// Where the file comes from, as its sender names it.
    pub(crate) source: &'a str,
    /// What it is asked for.
    pub(crate) wish: Wish,
    /// Where it stands in a trace.
    pub(crate) trace: Trace,
    /// Who sends it.
    pub(crate) actor: Actor,
}

/// The part of a load that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The file arrives, is parsed and sorted.
    Receiving,
    /// Another publisher has the lock.
    Waiting,
    /// Its rows go into staging, or are compared with the live ones.
    Staging,
    /// The staged rows are counted.
    Verifying,
    /// The version is being swapped in.
    Publishing,
    /// Nothing any more.
    Ended,
}

impl Phase {
    /// The phase as one word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Receiving => "receiving",
            Self::Waiting => "waiting",
            Self::Staging => "staging",
            Self::Verifying => "verifying",
            Self::Publishing => "publishing",
            Self::Ended => "ended",
        }
    }
}

#[derive(Debug)]
struct LoadState {
    /// All phases so far, each with the number of the event that it was.
    phases: Vec<(u64, Phase)>,
    /// The number of the last event, whoever was told of it.
    last_number: u64,
    phase_started: Instant,
    /// What became of it, as its answer said.
    ended: Option<(Duration, Outcome, Json)>,
}

impl LoadState {
    fn phase(&self) -> Phase {
        self.phases.last().map_or(Phase::Receiving, |(_, phase)| *phase)
    }

    /// What is new for who has seen the event `seen`. It is decided and numbered in one step, so that nothing happens in
    /// between.
    fn news(&mut self, seen: u64, is_due: bool, elapsed: Duration) -> News {
        match self.phases.iter().find(|(number, _)| *number > seen) {
            Some((number, phase)) => News::Phase(*number, *phase),
            None if self.phase() == Phase::Ended => News::Over,
            None if is_due => News::Progress(self.next_number(elapsed)),
            None => News::None,
        }
    }

    /// The number of an event that happens now, above all before it: milliseconds since the start, about.
    fn next_number(&mut self, elapsed: Duration) -> u64 {
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.last_number = millis.max(self.last_number + 1);
        self.last_number
    }
}

#[derive(Debug, Clone, Copy)]
enum News {
    Phase(u64, Phase),
    Progress(u64),
    Over,
    None,
}

/// Something to tell those who follow a load. Numbers grow, so that who was away can say what was seen.
#[derive(Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) number: u64,
    pub(crate) name: &'static str,
    pub(crate) data: Json,
}

impl Load {
    pub(super) fn new(reports: &Reports, order: Order<'_>, stopping: &CancellationToken) -> Self {
        let Order { dataset, source, wish, trace, actor } = order;
        let id = Uuid::now_v7();
        let report = reports.of(id);
        Self {
            id,
            dataset: dataset.to_owned(),
            source: source.to_owned(),
            actor,
            cancelled: OnceLock::new(),
            wish,
            trace,
            progress: Arc::default(),
            report,
            cancel: stopping.child_token(),
            version: AtomicU32::new(0),
            is_async: AtomicBool::new(false),
            stopping: stopping.clone(),
            started_at: Utc::now(),
            started: Instant::now(),
            state: Mutex::new(LoadState {
                phases: vec![(1, Phase::Receiving)],
                last_number: 1,
                phase_started: Instant::now(),
                ended: None,
            }),
            phases: watch::Sender::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, LoadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.state().phase()
    }

    /// Enters the next phase and returns how long the one before took.
    pub(crate) fn enter(&self, phase: Phase) -> (Phase, Duration) {
        let mut state = self.state();
        let before = (state.phase(), state.phase_started.elapsed());
        let number = state.next_number(self.elapsed());
        state.phases.push((number, phase));
        state.phase_started = Instant::now();
        drop(state);
        self.phases.send_replace(());
        before
    }

    /// Enters what became of it.
    pub(crate) fn end(&self, outcome: &Result<Report, Failure>) {
        let (word, answer) = match outcome {
            Ok(report) => (report.status, json!(report)),
            Err(failure) => (failure.outcome(), failure.problem(self).to_json()),
        };
        self.state().ended = Some((self.elapsed(), word, answer));
    }

    /// Enters what became of it after all, where its end left that open.
    pub(crate) fn settle(&self, outcome: Outcome) {
        if let Some((_, settled, _)) = &mut self.state().ended {
            *settled = outcome;
        }
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.state().ended.as_ref().map(|(_, outcome, _)| *outcome)
    }

    pub(crate) fn set_version(&self, version: u32) {
        self.version.store(version, Ordering::Relaxed);
    }

    fn version(&self) -> Option<u32> {
        Some(self.version.load(Ordering::Relaxed)).filter(|version| *version > 0)
    }

    /// Its client is answered before it ends, and will ask later.
    pub(crate) fn set_async(&self) {
        self.is_async.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_async(&self) -> bool {
        self.is_async.load(Ordering::Relaxed)
    }

    /// Cancels it for a client. The first one who does is remembered.
    pub(crate) fn cancel_for(&self, actor: Actor) {
        let reason = format!("the load was cancelled by {actor}");
        let Actor { token, address, user_agent } = &actor;
        info!(dataset = self.dataset, load = %self.id, token, address, user_agent, "cancelling the load");
        // One that was cancelled before stays that one's.
        let _ = self.cancelled.set((actor, reason));
        self.cancel.cancel();
    }

    /// Why it was cancelled, if a client did that.
    pub(crate) fn cancel_reason(&self) -> Option<&str> {
        self.cancelled.get().map(|(_, reason)| reason.as_str())
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&self) {
        // The sender lives as long as the load does.
        let _ = self.phases.subscribe().wait_for(|()| self.phase() == Phase::Ended).await;
    }

    /// Since its first byte.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Whether it is told to stop because the updater is.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// What is new for who has seen the event `seen`: phases that were entered since then; once there are none, how far
    /// it is, at the latest after `patience`. Nothing where the end was seen.
    pub(crate) async fn next_event(&self, seen: u64, patience: Duration) -> Option<Event> {
        let mut phases = self.phases.subscribe();
        let mut is_due = false;
        loop {
            // The lock is free again before the load is shown, which takes it too.
            let news = self.state().news(seen, is_due, self.elapsed());
            match news {
                News::Phase(number, Phase::Ended) => {
                    return Some(Event { number, name: Phase::Ended.name(), data: self.to_json() });
                }
                News::Phase(number, phase) => {
                    return Some(Event { number, name: "phase", data: json!({ "phase": phase.name() }) });
                }
                News::Progress(number) => {
                    return Some(Event { number, name: "progress", data: self.to_json() });
                }
                News::Over => return None,
                News::None => {}
            }
            is_due = tokio::time::timeout(patience, phases.changed()).await.is_err();
        }
    }

    /// The load as its page shows it.
    pub(crate) fn to_json(&self) -> Json {
        let state = self.state();
        let (elapsed, outcome, answer) = match &state.ended {
            Some((elapsed, word, answer)) => (*elapsed, Some(word.as_str()), Some(answer)),
            None => (self.elapsed(), None, None),
        };
        let (progress, in_phase) = (&self.progress, state.phase_started.elapsed());
        // Rows go twice through a load: as they come, and sorted.
        let (done, all) = match state.phase() {
            Phase::Receiving => (progress.bytes(), progress.bytes_expected()),
            Phase::Staging => (progress.given(), Some(progress.rows())),
            Phase::Waiting | Phase::Verifying | Phase::Publishing | Phase::Ended => (0, None),
        };
        let rows = if state.phase() == Phase::Staging { progress.given() } else { progress.rows() };
        let rate_of = if state.phase() == Phase::Staging { in_phase } else { elapsed };
        json!({
            "id": self.id.to_string(),
            "dataset": self.dataset,
            "version": self.version(),
            "source": self.source,
            "actor": self.actor,
            "cancelled_by": self.cancelled.get().map(|(actor, _)| actor),
            "dry_run": self.wish.dry_run,
            "force": self.wish.force,
            "started_at": self.started_at.to_rfc3339_opts(SecondsFormat::Secs, true),
            "seconds": (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
            "phase": state.phase().name(),
            "bytes": progress.bytes(),
            "bytes_expected": progress.bytes_expected(),
            "rows": progress.rows(),
            "rows_staged": progress.given(),
            "rejected": progress.rejected(),
            "rows_per_second": per_second(rows, rate_of),
            "phase_seconds_left": all.and_then(|all| seconds_left(done, all, in_phase)),
            "outcome": outcome,
            "answer": answer,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is shown to people")]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is not negative, and not so large"
)]
fn per_second(count: u64, time: Duration) -> u64 {
    (count as f64 / time.as_secs_f64().max(0.001)) as u64
}

/// How long the rest takes at the pace so far; nothing while there is none.
#[expect(clippy::cast_precision_loss, reason = "an estimate is shown to people")]
fn seconds_left(done: u64, all: u64, time: Duration) -> Option<f64> {
    let left = all.saturating_sub(done) as f64 * time.as_secs_f64() / done as f64;
    left.is_finite().then(|| left.round())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> Load {
        let order = Order {
            dataset: "items",
            source: "a test",
            wish: Wish::default(),
            trace: Trace::default(),
            actor: Actor::default(),
        };
        let dir = tempfile::tempdir().unwrap();
        Load::new(&Reports::open(dir.path()).unwrap(), order, &CancellationToken::new())
    }

    async fn follow(load: &Load, mut seen: u64) -> Vec<&'static str> {
        let mut names = Vec::new();
        while let Some(event) = load.next_event(seen, Duration::from_secs(1000)).await {
            assert!(event.number > seen);
            seen = event.number;
            names.push(event.data["phase"].as_str().map_or("", |phase| match phase {
                "receiving" => "receiving",
                "staging" => "staging",
                "ended" => "ended",
                _ => "other",
            }));
        }
        names
    }

    #[tokio::test]
    async fn who_follows_sees_every_phase_once_and_who_comes_back_only_what_is_new() {
        let load = load();
        let followed = async {
            let first = load.next_event(0, Duration::from_secs(1000)).await.unwrap();
            assert_eq!((first.number, first.name), (1, "phase"));
            follow(&load, first.number).await
        };
        let entered = async {
            load.enter(Phase::Staging);
            tokio::task::yield_now().await;
            load.enter(Phase::Ended);
        };
        let (followed, ()) = tokio::join!(followed, entered);
        assert_eq!(followed, ["staging", "ended"]);
        assert_eq!(follow(&load, 0).await, ["receiving", "staging", "ended"]);
        let last = load.state().phases[2].0;
        assert_eq!(follow(&load, last).await, [""; 0]);
        assert_eq!(follow(&load, last - 1).await, ["ended"]);
    }

    #[tokio::test]
    async fn between_phases_there_is_progress() {
        let event = load().next_event(1, Duration::from_millis(1)).await.unwrap();
        assert_eq!((event.name, &event.data["phase"]), ("progress", &json!("receiving")));
    }

    #[test]
    fn the_rest_is_estimated_from_what_was_done() {
        assert_eq!(seconds_left(25, 100, Duration::from_secs(10)), Some(30.0));
        assert_eq!(seconds_left(0, 100, Duration::from_secs(10)), None);
        assert_eq!(per_second(1000, Duration::from_millis(500)), 2000);
    }
}
