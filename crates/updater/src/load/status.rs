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

use super::options::{LoadOptions, LoadRequest};
use super::outcome::Outcome;
use super::phase::{NextEvent, Phase, PhaseHistory};

/// One load, from its first byte to what became of it.
#[derive(Debug)]
pub(crate) struct LoadStatus {
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
    pub(crate) options: LoadOptions,
    /// The trace that its request is part of, and its place there.
    pub(crate) trace: Trace,
    /// How far it is.
    pub(crate) progress: Arc<Progress>,
    /// Where its rejects are written.
    pub(crate) rejects_report: PathBuf,
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
    state: Mutex<State>,
    /// Wakes those who follow the load at every phase. A watch channel, because a follower that is slow needs to know
    /// only that there was a change, and must not hold up the load.
    changed: watch::Sender<()>,
}

/// What changes together.
#[derive(Debug)]
struct State {
    history: PhaseHistory,
    end: Option<End>,
}

/// How a load ended.
#[derive(Debug)]
struct End {
    elapsed: Duration,
    outcome: Outcome,
    /// The body of its answer.
    answer: Json,
}

/// Something to tell those who follow a load. Numbers grow, so that who was away can say what was seen.
#[derive(Debug, PartialEq)]
pub(crate) struct LoadEvent {
    pub(crate) number: u64,
    pub(crate) name: &'static str,
    pub(crate) data: Json,
}

impl LoadStatus {
    pub(super) fn new(
        id: Uuid,
        rejects_report: PathBuf,
        request: LoadRequest<'_>,
        stopping: &CancellationToken,
    ) -> Self {
        let LoadRequest { dataset, source, options, trace, actor } = request;
        Self {
            id,
            dataset: dataset.to_owned(),
            source: source.to_owned(),
            actor,
            cancelled: OnceLock::new(),
            options,
            trace,
            progress: Arc::default(),
            rejects_report,
            cancel: stopping.child_token(),
            version: AtomicU32::new(0),
            is_async: AtomicBool::new(false),
            stopping: stopping.clone(),
            started_at: Utc::now(),
            started: Instant::now(),
            state: Mutex::new(State { history: PhaseHistory::start(), end: None }),
            changed: watch::Sender::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.state().history.phase()
    }

    /// Begins the next phase and returns the previous one with its duration.
    pub(crate) fn advance_to(&self, phase: Phase) -> (Phase, Duration) {
        let previous = self.state().history.advance_to(phase);
        self.changed.send_replace(());
        previous
    }

    /// Sets the outcome, and the body of its answer.
    pub(crate) fn end(&self, outcome: Outcome, answer: Json) {
        self.state().end = Some(End { elapsed: self.elapsed(), outcome, answer });
    }

    /// Replaces an outcome that was unknown.
    pub(crate) fn resolve(&self, outcome: Outcome) {
        if let Some(end) = &mut self.state().end {
            end.outcome = outcome;
        }
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.state().end.as_ref().map(|end| end.outcome)
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
        let _ = self.changed.subscribe().wait_for(|()| self.phase() == Phase::Ended).await;
    }

    /// Since its first byte.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether it is told to stop because the updater is.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// The next event for a client that has seen the event `seen`: a phase that began since then; if there is none, the
    /// progress, after `interval`. Nothing once it has seen the end.
    pub(crate) async fn next_event(&self, seen: u64, interval: Duration) -> Option<LoadEvent> {
        let mut changed = self.changed.subscribe();
        let mut is_progress_due = false;
        loop {
            // The lock is free again before `to_json` takes it.
            let next = self.state().history.event_after(seen, is_progress_due);
            match next {
                NextEvent::Phase(number, Phase::Ended) => {
                    return Some(LoadEvent { number, name: Phase::Ended.as_str(), data: self.to_json() });
                }
                NextEvent::Phase(number, phase) => {
                    let data = json!({ "phase": phase.as_str() });
                    return Some(LoadEvent { number, name: "phase", data });
                }
                NextEvent::Progress(number) => {
                    return Some(LoadEvent { number, name: "progress", data: self.to_json() });
                }
                NextEvent::Over => return None,
                NextEvent::NotYet => {}
            }
            is_progress_due = tokio::time::timeout(interval, changed.changed()).await.is_err();
        }
    }

    /// The load as `/loads/{id}` shows it.
    pub(crate) fn to_json(&self) -> Json {
        let state = self.state();
        let (phase, in_phase) = (state.history.phase(), state.history.in_phase());
        let elapsed = state.end.as_ref().map_or_else(|| self.elapsed(), |end| end.elapsed);
        let progress = &self.progress;
        // Rows go twice through a load: as they come, and sorted.
        let (done, all) = match phase {
            Phase::Receiving => (progress.bytes(), progress.bytes_expected()),
            Phase::Staging => (progress.given(), Some(progress.rows())),
            Phase::Waiting | Phase::Verifying | Phase::Publishing | Phase::Ended => (0, None),
        };
        let (rows, rows_time) = match phase {
            Phase::Staging => (progress.given(), in_phase),
            _ => (progress.rows(), elapsed),
        };
        json!({
            "id": self.id.to_string(),
            "dataset": self.dataset,
            "version": self.version(),
            "source": self.source,
            "actor": self.actor,
            "cancelled_by": self.cancelled.get().map(|(actor, _)| actor),
            "dry_run": self.options.dry_run,
            "force": self.options.force,
            "started_at": self.started_at.to_rfc3339_opts(SecondsFormat::Secs, true),
            "seconds": (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
            "phase": phase.as_str(),
            "bytes": progress.bytes(),
            "bytes_expected": progress.bytes_expected(),
            "rows": progress.rows(),
            "rows_staged": progress.given(),
            "rejected": progress.rejected(),
            "rows_per_second": per_second(rows, rows_time),
            "phase_seconds_left": all.and_then(|all| seconds_left(done, all, in_phase)),
            "outcome": state.end.as_ref().map(|end| end.outcome),
            "answer": state.end.as_ref().map(|end| &end.answer),
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

    fn load() -> LoadStatus {
        let request = LoadRequest {
            dataset: "items",
            source: "a test",
            options: LoadOptions::default(),
            trace: Trace::default(),
            actor: Actor::default(),
        };
        LoadStatus::new(Uuid::now_v7(), "rejects.csv".into(), request, &CancellationToken::new())
    }

    /// All events after `seen`, each with its number and phase.
    async fn follow(load: &LoadStatus, mut seen: u64) -> Vec<(u64, String)> {
        let mut events = Vec::new();
        while let Some(event) = load.next_event(seen, Duration::from_secs(1000)).await {
            assert!(event.number > seen);
            seen = event.number;
            events.push((seen, event.data["phase"].as_str().unwrap().to_owned()));
        }
        events
    }

    fn phases(events: &[(u64, String)]) -> Vec<&str> {
        events.iter().map(|(_, phase)| phase.as_str()).collect()
    }

    #[tokio::test]
    async fn who_follows_sees_every_phase_once_and_who_comes_back_only_what_is_new() {
        let load = load();
        let followed = async {
            let first = load.next_event(0, Duration::from_secs(1000)).await.unwrap();
            assert_eq!((first.number, first.name), (1, "phase"));
            follow(&load, first.number).await
        };
        let advanced = async {
            load.advance_to(Phase::Staging);
            tokio::task::yield_now().await;
            load.advance_to(Phase::Ended);
        };
        let (followed, ()) = tokio::join!(followed, advanced);
        assert_eq!(phases(&followed), ["staging", "ended"]);
        assert_eq!(phases(&follow(&load, 0).await), ["receiving", "staging", "ended"]);
        let (last, _) = followed[1];
        assert!(follow(&load, last).await.is_empty());
        assert_eq!(phases(&follow(&load, last - 1).await), ["ended"]);
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
