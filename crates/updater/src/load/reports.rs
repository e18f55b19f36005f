//! Where the reports of rejects are kept: a directory of this process alone, inside the work directory.
//!
//! Several updaters may have one work directory. Each has a subdirectory that it keeps locked; one that nobody locks is
//! that of an updater that crashed, and goes. Nothing else in the work directory is touched.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

const PREFIX: &str = "updater-";

/// The directory of this process.
#[derive(Debug)]
pub(super) struct Reports {
    path: PathBuf,
    _lock: File,
}

impl Reports {
    pub(super) fn open(work_dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(work_dir)?;
        let work_dir = work_dir.canonicalize()?;
        for entry in fs::read_dir(&work_dir)? {
            let entry = entry?;
            if is_ours(&entry.file_name().to_string_lossy()) && entry.file_type()?.is_dir() {
                remove_if_unlocked(&entry.path())?;
            }
        }
        loop {
            let path = work_dir.join(format!("{PREFIX}{}", Uuid::now_v7()));
            fs::create_dir(&path)?;
            // Another updater that starts just now may have taken it for that of a crashed one.
            if let Ok(lock) = File::open(&path)
                && lock.try_lock().is_ok()
                && path.exists()
            {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    /// The report of a load.
    pub(super) fn of(&self, load: Uuid) -> PathBuf {
        self.path.join(format!("rejects-{load}.csv"))
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next start.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|id| id.parse::<Uuid>().is_ok())
}

fn remove_if_unlocked(path: &Path) -> io::Result<()> {
    let directory = File::open(path)?;
    if directory.try_lock().is_ok() {
        fs::remove_dir_all(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_running_updater_stays_and_that_of_a_crashed_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        let others = dir.path().join("rejects-of-somebody-else.csv");
        fs::write(&others, "a").unwrap();
        let crashed = dir.path().join(format!("{PREFIX}{}", Uuid::now_v7()));
        fs::create_dir(&crashed).unwrap();
        fs::write(crashed.join("rejects-1.csv"), "b").unwrap();
        let running = Reports::open(dir.path()).unwrap();
        fs::write(running.of(Uuid::nil()), "c").unwrap();
        let second = Reports::open(dir.path()).unwrap();
        assert!(others.exists() && !crashed.exists() && running.of(Uuid::nil()).exists());
        drop((running, second));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
