//! Readers come first: how much a load takes while others read.
//!
//! Alone, a load takes all that it can get. While there are readers it works for no more than its share of the time, in
//! pieces that are short enough that nobody notices them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How a load gives way to readers.
#[derive(Debug, Clone)]
pub struct Manners {
    /// How long it rests for each part of the time that it works.
    rest_per_work: f64,
    has_readers: Arc<AtomicBool>,
}

impl Manners {
    /// It works for so much of the time while there are readers, in percent.
    pub fn new(share_percent: u8) -> Self {
        let share = f64::from(share_percent.clamp(1, 100));
        Self { rest_per_work: (100.0 - share) / share, has_readers: Arc::default() }
    }

    /// Says whether anybody reads.
    pub fn see_readers(&self, any: bool) {
        self.has_readers.store(any, Ordering::Relaxed);
    }

    /// Whether it has to give way now.
    pub fn give_way(&self) -> bool {
        self.rest_per_work > 0.0 && self.has_readers.load(Ordering::Relaxed)
    }

    /// How long to rest after so much work; not at all while nobody reads.
    pub fn rest_after(&self, work: Duration) -> Duration {
        if self.give_way() { work.mul_f64(self.rest_per_work) } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_readers_a_load_works_for_its_share_of_the_time_and_alone_for_all_of_it() {
        let work = Duration::from_millis(30);
        let manners = Manners::new(30);
        assert_eq!((manners.give_way(), manners.rest_after(work)), (false, Duration::ZERO));
        manners.see_readers(true);
        assert_eq!((manners.give_way(), manners.rest_after(work)), (true, Duration::from_millis(70)));
        let whole = Manners::new(100);
        whole.see_readers(true);
        assert_eq!((whole.give_way(), whole.rest_after(work)), (false, Duration::ZERO));
    }
}
