//! All loads that this updater knows: the running ones, and the last ones that ended.

mod entry;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;
use uuid::Uuid;

use entry::REPORT;
pub(crate) use entry::{Event, Load, Order, Phase, Wish};

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
    pub(crate) fn begin(&self, order: Order<'_>) -> Arc<Load> {
        let load = Arc::new(Load::new(&self.work_dir, order, &self.stopping));
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
