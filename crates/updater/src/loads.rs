//! All loads that this updater knows: the running ones, and the last ones that ended.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use ingest::Progress;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;
use uuid::Uuid;

use crate::load::{Failure, Report};

/// So many ended loads are remembered, with their reports.
const ENDED_MAX: usize = 100;

/// A database that hangs must not keep the process from ending.
const STOP_WAIT: Duration = Duration::from_mins(2);

/// The registry of loads.
#[derive(Debug)]
pub(crate) struct Loads {
    work_dir: PathBuf,
    known: Mutex<VecDeque<Arc<Load>>>,
    stopping: CancellationToken,
    running: TaskTracker,
}

/// One load, from its first byte to what became of it.
#[derive(Debug)]
pub(crate) struct Load {
    /// Its name in paths and logs.
    pub(crate) id: Uuid,
    /// The dataset that it loads.
    pub(crate) dataset: String,
    /// Where the file came from, as its sender named it.
    pub(crate) source: String,
    /// What it was asked for.
    pub(crate) wish: Wish,
    /// How far it is.
    pub(crate) progress: Arc<Progress>,
    /// Where its rejects are written.
    pub(crate) report: PathBuf,
    /// Tells it to stop.
    pub(crate) cancel: CancellationToken,
    started_at: DateTime<Utc>,
    started: Instant,
    state: Mutex<LoadState>,
}

/// What a sender can ask for beside the load itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wish {
    /// Everything but the publication.
    pub(crate) dry_run: bool,
    /// Pass the shrink guard.
    pub(crate) force: bool,
}

/// The part of a load that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The file arrives, is parsed and sorted.
    Receiving,
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
            Self::Staging => "staging",
            Self::Verifying => "verifying",
            Self::Publishing => "publishing",
            Self::Ended => "ended",
        }
    }
}

#[derive(Debug)]
struct LoadState {
    phase: Phase,
    phase_started: Instant,
    /// What became of it, as its answer said.
    ended: Option<(Duration, &'static str, Json)>,
}

impl Loads {
    /// Prepares the work directory; what a crash left there goes.
    pub(crate) fn open(work_dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(work_dir)?;
        for file in fs::read_dir(work_dir)? {
            let file = file?;
            if file.file_name().to_string_lossy().starts_with(REPORT) {
                fs::remove_file(file.path())?;
            }
        }
        let work_dir = work_dir.canonicalize()?;
        Ok(Self {
            work_dir,
            known: Mutex::default(),
            stopping: CancellationToken::new(),
            running: TaskTracker::new(),
        })
    }

    /// Enters a new load.
    pub(crate) fn begin(&self, dataset: &str, source: &str, wish: Wish) -> Arc<Load> {
        let id = Uuid::now_v7();
        let load = Arc::new(Load {
            id,
            dataset: dataset.to_owned(),
            source: source.to_owned(),
            wish,
            progress: Arc::default(),
            report: self.work_dir.join(format!("{REPORT}{id}.csv")),
            cancel: self.stopping.child_token(),
            started_at: Utc::now(),
            started: Instant::now(),
            state: Mutex::new(LoadState {
                phase: Phase::Receiving,
                phase_started: Instant::now(),
                ended: None,
            }),
        });
        let mut known = lock(&self.known);
        known.push_front(load.clone());
        forget(&mut known);
        load
    }

    /// Where the tasks of loads are counted, so that a stop can wait for them.
    pub(crate) fn tracker(&self) -> &TaskTracker {
        &self.running
    }

    pub(crate) fn find(&self, id: Uuid) -> Option<Arc<Load>> {
        lock(&self.known).iter().find(|load| load.id == id).cloned()
    }

    /// All of them, newest first.
    pub(crate) fn list(&self) -> Vec<Arc<Load>> {
        lock(&self.known).iter().cloned().collect()
    }

    /// Stops every running load and waits until each has cleaned up.
    pub(crate) async fn stop(&self) {
        self.stopping.cancel();
        self.running.close();
        if tokio::time::timeout(STOP_WAIT, self.running.wait()).await.is_err() {
            error!("a load does not end, the next start cleans up after it");
        }
    }
}

const REPORT: &str = "rejects-";

/// Drops the oldest loads that have ended, and their reports.
fn forget(known: &mut VecDeque<Arc<Load>>) {
    while known.len() > ENDED_MAX {
        let Some(oldest) = known.iter().rposition(|load| load.phase() == Phase::Ended) else { return };
        if let Some(load) = known.remove(oldest) {
            // Most loads have no rejects and so no report.
            let _ = fs::remove_file(&load.report);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    pub(crate) fn phase(&self) -> Phase {
        lock(&self.state).phase
    }

    /// Enters the next phase and returns how long the one before took.
    pub(crate) fn enter(&self, phase: Phase) -> (Phase, Duration) {
        let mut state = lock(&self.state);
        let before = (state.phase, state.phase_started.elapsed());
        (state.phase, state.phase_started) = (phase, Instant::now());
        before
    }

    /// Enters what became of it.
    pub(crate) fn end(&self, outcome: &Result<Report, Failure>) {
        let (word, answer) = match outcome {
            Ok(report) => (report.status.name(), json!(report)),
            Err(failure) => (failure.outcome(), failure.problem(self).to_json()),
        };
        lock(&self.state).ended = Some((self.elapsed(), word, answer));
    }

    /// Since its first byte.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The load as its page shows it.
    pub(crate) fn to_json(&self) -> Json {
        let state = lock(&self.state);
        let (elapsed, outcome, answer) = match &state.ended {
            Some((elapsed, word, answer)) => (*elapsed, Some(*word), Some(answer)),
            None => (self.elapsed(), None, None),
        };
        let (rows, seconds) = (self.progress.rows(), elapsed.as_secs_f64());
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is shown to people"
        )]
        let rows_per_second = (rows as f64 / seconds.max(0.001)) as u64;
        json!({
            "id": self.id.to_string(),
            "dataset": self.dataset,
            "source": self.source,
            "dry_run": self.wish.dry_run,
            "force": self.wish.force,
            "started_at": self.started_at.to_rfc3339_opts(SecondsFormat::Secs, true),
            "seconds": (seconds * 1000.0).round() / 1000.0,
            "phase": state.phase.name(),
            "bytes": self.progress.bytes(),
            "rows": rows,
            "rejected": self.progress.rejected(),
            "rows_per_second": rows_per_second,
            "outcome": outcome,
            "answer": answer,
        })
    }
}
