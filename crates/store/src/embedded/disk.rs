//! Whether reads spend their time waiting for the disk.
//!
//! A row whose page is in memory is read in less time than it takes to hand the read to another thread, so it is read
//! where it is asked for. A page that is not in memory stops the thread until the disk has answered, and with it every
//! other request of that worker. So each read is watched: where the kernel says that a thread went to the disk, the
//! time counts. While it comes to more than a few hundredths of all time, reads are handed to threads that may wait.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

/// A read in memory takes a few microseconds; no disk answers as quickly as this.
const LONG: Duration = Duration::from_micros(30);
/// The disk may have a fiftieth of the time.
const SHARE: u32 = 50;
/// So much at once is passed over: 5 ms of waiting, times the share.
const PASSED_OVER: Duration = Duration::from_millis(250);
/// No wait counts for longer than this, so that reads come back soon after the last one.
const COUNTED_MAX: Duration = Duration::from_secs(1);

thread_local! {
    /// How often this thread has gone to the disk, when it was last asked for.
    static FAULTS: Cell<i64> = const { Cell::new(0) };
}

/// The time that was spent waiting.
#[derive(Debug)]
pub(super) struct Disk {
    start: Instant,
    /// When all of it will be made up for, in microseconds since the start.
    even_at: AtomicU64,
}

impl Default for Disk {
    fn default() -> Self {
        Self { start: Instant::now(), even_at: AtomicU64::new(0) }
    }
}

impl Disk {
    /// Whether a read is likely to wait.
    pub(super) fn is_awaited(&self) -> bool {
        let even_at = Duration::from_micros(self.even_at.load(Ordering::Relaxed));
        even_at > PASSED_OVER && even_at > self.start.elapsed() + PASSED_OVER
    }

    /// Reads, and sees whether that went to the disk.
    pub(super) fn watch<T>(&self, read: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let read = read();
        let took = start.elapsed();
        if took >= LONG && went_to_disk() {
            let now = self.start.elapsed();
            let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            let add = |even_at| Some(micros(add(Duration::from_micros(even_at), now, took)));
            // The function never declines.
            let _ = self.even_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        }
        read
    }
}

/// When it will be made up for, with one wait more.
fn add(even_at: Duration, now: Duration, wait: Duration) -> Duration {
    (even_at.max(now) + wait * SHARE).min(now + COUNTED_MAX)
}

/// Whether this thread has waited for a page since it was last asked: it may also have lost its processor for a while,
/// which is no reason to hand anything away.
fn went_to_disk() -> bool {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_THREAD) else { return false };
    let faults = usage.major_page_faults();
    FAULTS.replace(faults) < faults
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether reads are handed away after waits of so long, each so long after the one before.
    fn is_awaited_after(waits: u32, wait: Duration, apart: Duration) -> bool {
        let (mut even_at, mut now) = (Duration::ZERO, Duration::from_secs(100));
        for _ in 0..waits {
            now += apart;
            even_at = add(even_at, now, wait);
        }
        even_at > now + PASSED_OVER
    }

    #[test]
    fn what_waits_now_and_then_is_read_in_place_and_what_waits_often_is_handed_away() {
        let (micros, millis) = (Duration::from_micros, Duration::from_millis);
        assert!(!is_awaited_after(1000, micros(100), millis(10)));
        assert!(is_awaited_after(1000, micros(100), millis(1)));
        assert!(is_awaited_after(1, millis(10), millis(1)));
        assert!(!is_awaited_after(1000, micros(100), micros(5100)));
    }

    #[test]
    fn a_thread_that_only_lost_its_time_did_not_go_to_the_disk() {
        let disk = Disk::default();
        disk.watch(|| ());
        went_to_disk();
        disk.watch(|| std::thread::sleep(Duration::from_millis(20)));
        assert!(!disk.is_awaited());
    }
}
