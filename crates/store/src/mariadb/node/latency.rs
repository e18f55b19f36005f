//! How quickly a server answers lookups, and whether it is left alone for a while because it is far too slow.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::now_millis;

/// A server this many times slower than the fastest one is too slow.
const SLOW_FACTOR: u64 = 10;
/// Below this a server is never too slow: a swap alone holds lookups up for 0.1 seconds.
const SLOW_MIN: Duration = Duration::from_millis(200);
/// A server that was too slow is tried again after this.
const REST: Duration = Duration::from_secs(5);

/// The moving average of the time that lookups took.
#[derive(Debug, Default)]
pub(in crate::mariadb) struct Latency {
    /// In microseconds; 0 while it is not known.
    average: AtomicU64,
    resting_until: AtomicU64,
}

impl Latency {
    /// Notes how long a lookup, or a poll, took.
    pub(super) fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let before = self.average.load(Ordering::Relaxed);
        let average = if before == 0 { took } else { before - before / 8 + took / 8 };
        self.average.store(average.max(1), Ordering::Relaxed);
    }

    /// In microseconds; nothing while it is not known.
    pub(in crate::mariadb) fn micros(&self) -> Option<u64> {
        Some(self.average.load(Ordering::Relaxed)).filter(|average| *average > 0)
    }

    /// Whether the server is left alone. One that is too slow by now, beside the fastest one, is left alone from now on,
    /// and what is known of it is forgotten, so that it is judged anew afterwards.
    pub(in crate::mariadb) fn is_too_slow(&self, fastest: u64) -> bool {
        let now = now_millis();
        if now < self.resting_until.load(Ordering::Relaxed) {
            return true;
        }
        let is_slow = |average: u64| {
            average > fastest.saturating_mul(SLOW_FACTOR) && u128::from(average) > SLOW_MIN.as_micros()
        };
        if !self.micros().is_some_and(is_slow) {
            return false;
        }
        let rest = u64::try_from(REST.as_millis()).unwrap_or(u64::MAX);
        self.resting_until.store(now + rest, Ordering::Relaxed);
        self.average.store(0, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_ten_times_slower_is_left_alone() {
        let (fast, slow) = (Latency::default(), Latency::default());
        assert!(fast.micros().is_none() && !slow.is_too_slow(1000));
        for _ in 0..100 {
            fast.note(Duration::from_millis(2));
            slow.note(Duration::from_millis(1200));
        }
        assert!(!fast.is_too_slow(2000) && slow.is_too_slow(2000));
        assert!(slow.is_too_slow(u64::MAX), "it rests");
    }

    #[test]
    fn what_is_quick_enough_is_not_left_alone() {
        let far = Latency::default();
        far.note(Duration::from_millis(150));
        assert!(!far.is_too_slow(100));
    }
}
