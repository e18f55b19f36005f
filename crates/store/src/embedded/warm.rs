//! Brings snapshots into memory before a request waits for them.
//!
//! A version that has just been published is in memory. On a machine that has just started it is not, and where memory
//! is wanted for something else the kernel takes some of it back. Asked for row by row it would come back in small pages
//! that stay small, each while a request waits. So a snapshot that fits into memory is read as a whole when it is opened.
//! One that does not fit is left alone: what is asked for often stays in memory, and reading all of it would push that
//! out. What is in memory gets an index, too.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use tracing::{debug, info};

use super::pages;
use super::snapshot::Snapshot;
use crate::Result;

/// Of the memory that there is snapshots take no more than one part in so many.
const PART: u64 = 2;

/// Asks a thread to read snapshots.
#[derive(Debug)]
pub(super) struct Warmer {
    tasks: Sender<Task>,
}

/// A snapshot that is to be in memory.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) path: PathBuf,
    /// Nobody needs it any more once this is gone.
    pub(super) snapshot: Weak<Snapshot>,
}

impl Warmer {
    pub(super) fn start() -> Self {
        let (tasks, to_do) = channel();
        std::thread::spawn(move || work(&to_do));
        Self { tasks }
    }

    /// Has snapshots read, all that there are: together they have to fit.
    pub(super) fn read(&self, tasks: Vec<Task>) {
        let bytes = tasks.iter().filter_map(|task| Some(task.path.metadata().ok()?.len())).sum();
        let available = available(Path::new("/")).unwrap_or(0);
        if !fits(bytes, available) {
            return debug!(bytes, available, "snapshots are not read into memory: they may not fit");
        }
        for task in tasks {
            // Without its thread a snapshot is read as it is asked for.
            let _ = self.tasks.send(task);
        }
    }
}

fn fits(bytes: u64, available: u64) -> bool {
    bytes <= available / PART
}

fn work(to_do: &Receiver<Task>) {
    while let Ok(task) = to_do.recv() {
        let start = Instant::now();
        match task.run() {
            Ok(0) => {}
            Ok(bytes) => {
                let seconds = start.elapsed().as_secs_f64();
                info!(path = %task.path.display(), bytes, seconds, "read a snapshot into memory");
            }
            // Its pages come when they are asked for.
            Err(error) => {
                debug!(path = %task.path.display(), %error, "a snapshot was not read into memory");
            }
        }
    }
}

impl Task {
    /// Returns how many bytes were read. An index is made also where the kernel cannot read ahead.
    fn run(&self) -> Result<usize> {
        let read = self.read();
        self.snapshot.upgrade().map_or(Ok(()), |snapshot| snapshot.make_index())?;
        Ok(read?)
    }

    fn read(&self) -> io::Result<usize> {
        let file = File::open(&self.path)?;
        let (mut at, end, mut read) = (0, file.metadata()?.len(), 0);
        while at < end && self.snapshot.strong_count() > 0 {
            let next = (at + pages::LARGE_BYTES).min(end);
            read += pages::restore(&file, at, next)?;
            at = next;
        }
        Ok(read)
    }
}

/// How much memory there is for pages of files, as the kernel says, and as the groups allow to which this process
/// belongs.
fn available(root: &Path) -> Option<u64> {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let kib = read("proc/meminfo")?
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    let mut available = 1024 * kib.unwrap_or(0_u64);
    // Each line has a number, the controllers, and the path of the group.
    for line in read("proc/self/cgroup").unwrap_or_default().lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (base, limit) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            "memory" => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        for group in Path::new(group.trim_start_matches('/')).ancestors() {
            let limit = fs::read_to_string(root.join(base).join(group).join(limit)).ok();
            let limit = limit.and_then(|limit| limit.trim().parse().ok());
            available = available.min(limit.unwrap_or(u64::MAX));
        }
    }
    Some(available)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use dataset::{Datasets, RowBatch};

    use super::super::catalog::{self, Catalog, FileFacts};
    use super::super::pages::tests::{forget, is_in_memory, on_disk};
    use super::super::read::Reader;
    use super::super::snapshot::{self, Snapshots, Writer};
    use super::*;
    use crate::Metrics;
    use crate::ledger::Ledger;
    use crate::version::{Counts, Entry, NewLoad};

    /// A snapshot that is not in memory.
    fn cold(root: &Path) -> (Arc<Snapshot>, PathBuf, File) {
        fs::create_dir(root.join("d")).unwrap();
        let path = snapshot::path(&root.join("d"), 1);
        let writer = Writer::create(&path).unwrap();
        for first in 0..40_u32 {
            let mut batch = RowBatch::default();
            for n in 0..1000 {
                batch.push(&(1000 * first + n).to_be_bytes(), &[7; 100]);
            }
            writer.append(&batch).unwrap();
        }
        writer.finish().unwrap();
        let file = File::open(&path).unwrap();
        forget(&file);
        assert!(!is_in_memory(&file));
        (Arc::new(Snapshot::open(&path).unwrap()), path, file)
    }

    #[test]
    fn a_snapshot_that_is_needed_is_read_and_one_that_is_gone_is_not() {
        let dir = on_disk();
        let (snapshot, path, file) = cold(dir.path());
        let task = Task { path, snapshot: Arc::downgrade(&snapshot) };
        assert!(task.run().unwrap() > 0);
        assert!(is_in_memory(&file));
        drop(snapshot);
        forget(&file);
        assert_eq!(task.run().unwrap(), 0);
        assert!(!is_in_memory(&file));
    }

    /// Enters that version 1 is live.
    fn announce(root: &Path) {
        let items = "[d]\nkey = \"n\"\ncolumns = [{ name = \"n\", type = \"integer\" }]";
        let dataset = Datasets::from_toml(items).unwrap().single().unwrap().clone();
        let load = NewLoad { id: String::new(), source: "a test".to_owned(), actor: None };
        let mut ledger = Ledger::new(vec![Entry::reserved(1, &dataset, &load)]);
        ledger.staged(1, Counts { rows: 40_000, rejected: 0, duplicates: 0 });
        ledger.announce(1);
        ledger.swapped(1);
        let bytes = snapshot::path(&root.join("d"), 1).metadata().unwrap().len();
        let files = [(1, FileFacts { bytes, crc32: 0 })].into();
        let catalog = Catalog { live: Some(1), versions: ledger.entries().to_vec(), files };
        catalog::write(&root.join("d"), &catalog.to_bytes().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn a_reader_has_what_is_live_brought_into_memory() {
        let dir = on_disk();
        let (snapshot, _, file) = cold(dir.path());
        drop(snapshot);
        announce(dir.path());
        let (root, metrics) = (dir.path().to_owned(), Metrics::new().unwrap());
        let reader = Reader::start(root.clone(), Arc::new(Snapshots::new(root)), metrics);
        assert_eq!(reader.current("d").map(|id| id.number), Some(1));
        let start = Instant::now();
        while !is_in_memory(&file) {
            assert!(start.elapsed() < Duration::from_mins(1), "the snapshot stays on the disk");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[test]
    fn memory_is_what_the_kernel_has_and_what_all_groups_allow() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let mib = || available(root.path()).map(|bytes| bytes >> 20);
        assert_eq!(mib(), None);
        write("proc/meminfo", "MemTotal:  4194304 kB\nMemAvailable:   2097152 kB\n");
        assert_eq!(mib(), Some(2048));
        write("proc/self/cgroup", "4:memory:/a\n1:cpu:/b\n0::/pod/one\n");
        write("sys/fs/cgroup/pod/one/memory.max", "max\n");
        assert_eq!(mib(), Some(2048));
        write("sys/fs/cgroup/pod/memory.max", "1073741824\n");
        assert_eq!(mib(), Some(1024));
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
        assert_eq!(mib(), Some(512));
    }

    #[test]
    fn snapshots_are_read_where_together_they_take_half_of_the_memory_at_most() {
        assert!(fits(5, 10));
        assert!(!fits(6, 10));
    }
}
