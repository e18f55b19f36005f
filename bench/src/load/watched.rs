//! What a process takes while it works: memory, and room on the disk for files without a name.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(50);

/// Looks at a process until it is asked what it saw.
#[derive(Debug)]
pub(crate) struct Watched {
    process: u32,
    seen: Arc<Seen>,
    watching: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    is_over: AtomicBool,
    temporary_bytes: AtomicU64,
}

impl Watched {
    pub(crate) fn start(process: u32) -> Watched {
        let seen = Arc::new(Seen::default());
        let shared = seen.clone();
        let watching = thread::spawn(move || {
            while !shared.is_over.load(Ordering::Relaxed) {
                shared.temporary_bytes.fetch_max(unnamed_bytes(process), Ordering::Relaxed);
                sleep(EVERY);
            }
        });
        Watched { process, seen, watching }
    }

    /// The most memory that the process ever took, and the most room for files without a name.
    pub(crate) fn end(self) -> (u64, u64) {
        self.seen.is_over.store(true, Ordering::Relaxed);
        // It has only looked.
        let _ = self.watching.join();
        (memory_bytes(self.process), self.seen.temporary_bytes.load(Ordering::Relaxed))
    }
}

fn memory_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1024
}

fn unnamed_bytes(process: u32) -> u64 {
    let files = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let unnamed =
        files.filter_map(|file| fs::metadata(file.path()).ok()).filter(|it| it.is_file() && it.nlink() == 0);
    unnamed.map(|file| file.blocks() * 512).sum()
}
