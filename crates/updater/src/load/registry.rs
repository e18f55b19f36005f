//! All loads that this updater knows: the running ones, and the last ones that ended.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use store::Actor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;
use uuid::Uuid;

use super::options::LoadRequest;
use super::phase::Phase;
use super::reports::Reports;
use super::status::LoadStatus;

/// So many ended loads are remembered, with their reports.
const ENDED_MAX: usize = 100;

/// A database that hangs must not keep the process from ending.
const STOP_WAIT: Duration = Duration::from_mins(2);

/// So many loads may run at once, dry runs and those that wait for a lock among them. Each takes memory for sorting, and a
/// connection to the database.
const RUNNING_MAX: usize = 16;

/// Why a load cannot begin.
#[derive(Debug)]
pub(crate) enum NoLoad {
    /// A file of the same dataset is being received.
    InTheWay(Arc<LoadStatus>),
    /// As many loads run as may.
    TooMany,
}

/// The registry of loads.
#[derive(Debug)]
pub(crate) struct Loads {
    reports: Reports,
    known: Mutex<VecDeque<Arc<LoadStatus>>>,
    stopping: CancellationToken,
    running: TaskTracker,
}

impl Loads {
    /// Prepares the work directory; what a crash left there goes.
    pub(crate) fn open(work_dir: &Path) -> io::Result<Self> {
        let reports = Reports::open(work_dir)?;
        Ok(Self {
            reports,
            known: Mutex::default(),
            stopping: CancellationToken::new(),
            running: TaskTracker::new(),
        })
    }

    /// Whether a load could begin now. It may be too late when its first bytes have come.
    pub(crate) fn can_begin(&self, dataset: &str, dry_run: bool) -> Result<(), NoLoad> {
        can_begin(&lock(&self.known), dataset, dry_run)
    }

    /// Enters a new load, unless the dataset's file is being received already, or too many loads run. A dry run changes
    /// nothing and is in nobody's way.
    pub(crate) fn begin(&self, request: LoadRequest<'_>) -> Result<Arc<LoadStatus>, NoLoad> {
        let mut known = lock(&self.known);
        can_begin(&known, request.dataset, request.options.dry_run)?;
        let id = Uuid::now_v7();
        let load = Arc::new(LoadStatus::new(id, self.reports.of(id), request, &self.stopping));
        known.push_front(load.clone());
        forget(&mut known);
        Ok(load)
    }

    /// Cancels all loads of a dataset that would publish, and waits until nothing is left of them.
    pub(crate) async fn cancel(&self, dataset: &str, actor: &Actor) {
        let running = |load: &Arc<LoadStatus>| {
            load.dataset == dataset && !load.options.dry_run && load.phase() != Phase::Ended
        };
        let loads: Vec<_> = self.list().into_iter().filter(running).collect();
        for load in &loads {
            load.cancel_for(actor.clone());
        }
        for load in loads {
            load.ended().await;
        }
    }

    /// Where the tasks of loads are counted, so that a stop can wait for them.
    pub(crate) fn tracker(&self) -> &TaskTracker {
        &self.running
    }

    pub(crate) fn find(&self, id: Uuid) -> Option<Arc<LoadStatus>> {
        lock(&self.known).iter().find(|load| load.id == id).cloned()
    }

    /// All of them, newest first.
    pub(crate) fn list(&self) -> Vec<Arc<LoadStatus>> {
        lock(&self.known).iter().cloned().collect()
    }

    /// The updater is being stopped.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stopping
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

fn can_begin(known: &VecDeque<Arc<LoadStatus>>, dataset: &str, dry_run: bool) -> Result<(), NoLoad> {
    if known.iter().filter(|load| load.phase() != Phase::Ended).count() >= RUNNING_MAX {
        return Err(NoLoad::TooMany);
    }
    let is_in_the_way = |load: &&Arc<LoadStatus>| {
        load.dataset == dataset && !load.options.dry_run && load.phase() == Phase::Receiving
    };
    match known.iter().find(is_in_the_way) {
        Some(first) if !dry_run => Err(NoLoad::InTheWay(first.clone())),
        _ => Ok(()),
    }
}

/// Drops the oldest loads that have ended, and their reports.
fn forget(known: &mut VecDeque<Arc<LoadStatus>>) {
    while known.len() > ENDED_MAX {
        let Some(oldest) = known.iter().rposition(|load| load.phase() == Phase::Ended) else { return };
        if let Some(load) = known.remove(oldest) {
            // Most loads have no rejects and so no report.
            let _ = fs::remove_file(&load.rejects_report);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
