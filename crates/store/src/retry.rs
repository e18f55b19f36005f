//! Trying again what may succeed later: one way for the whole program, with what differs in its arguments.

use std::time::{Duration, Instant};

use crate::{Error, Result};

/// How often a pause looks whether the result is still wanted.
const WANTED_INTERVAL: Duration = Duration::from_millis(100);

/// The pauses between attempts.
#[derive(Debug, Clone, Copy)]
pub enum Backoff {
    /// All are the same.
    Constant(Duration),
    /// Each is twice as long as the one before, because an attempt disturbs others. Each is varied by up to a half, so
    /// that several processes do not try in step.
    Doubling {
        /// The first one.
        next: Duration,
        /// None is longer.
        max: Duration,
    },
}

impl Backoff {
    fn next_pause(&mut self) -> Duration {
        match self {
            Self::Constant(pause) => *pause,
            Self::Doubling { next, max } => {
                let pause = next.mul_f64(rand::random_range(0.5..1.5));
                *next = (*next * 2).min(*max);
                pause
            }
        }
    }
}

/// How long something is tried, and with which pauses.
///
/// This is an object for a loop and not a function that takes an attempt as an async closure: an attempt borrows its
/// publisher mutably, and the future of such a closure cannot be sent between threads.
#[derive(Debug)]
pub struct Retry {
    start: Instant,
    patience: Duration,
    backoff: Backoff,
}

impl Retry {
    /// Begins with the first attempt. [`Duration::MAX`] is without end.
    pub fn new(patience: Duration, backoff: Backoff) -> Self {
        Self { start: Instant::now(), patience, backoff }
    }

    /// Pauses before another attempt. Returns the error of the last one if the time is up, and [`Error::Unwanted`] as soon
    /// as `is_wanted` denies it.
    pub async fn pause(&mut self, error: Error, is_wanted: impl Fn() -> bool) -> Result<()> {
        if !is_wanted() {
            return Err(Error::Unwanted);
        }
        let pause = self.next_pause(error)?;
        match tokio::time::timeout(pause, until_unwanted(is_wanted)).await {
            Ok(()) => Err(Error::Unwanted),
            Err(_) => Ok(()),
        }
    }

    /// The same on a thread that may block, where nothing is cancelled.
    pub fn pause_blocking<E>(&mut self, error: E) -> std::result::Result<(), E> {
        self.next_pause(error).map(std::thread::sleep)
    }

    fn next_pause<E>(&mut self, error: E) -> std::result::Result<Duration, E> {
        if self.start.elapsed() < self.patience { Ok(self.backoff.next_pause()) } else { Err(error) }
    }
}

/// Waits until something is not wanted any more.
pub(crate) async fn until_unwanted(is_wanted: impl Fn() -> bool) {
    while is_wanted() {
        tokio::time::sleep(WANTED_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const MILLISECOND: Backoff = Backoff::Constant(Duration::from_millis(1));
    const MINUTE: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn the_last_error_is_returned_when_the_time_is_up() {
        let mut retry = Retry::new(Duration::from_millis(20), MILLISECOND);
        let (start, mut attempts) = (Instant::now(), 1);
        let last = loop {
            match retry.pause(Error::SwapTimeout(attempts), || true).await {
                Ok(()) => attempts += 1,
                Err(last) => break last,
            }
        };
        assert!(matches!(last, Error::SwapTimeout(last) if last == attempts && last > 1), "{last:?}");
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert_eq!(Retry::new(Duration::ZERO, MILLISECOND).pause_blocking(1), Err(1));
        assert_eq!(Retry::new(Duration::MAX, MILLISECOND).pause_blocking(1), Ok(()));
    }

    #[tokio::test]
    async fn a_long_pause_ends_when_the_result_is_not_wanted_any_more() {
        let (is_wanted, mut retry) = (AtomicBool::new(true), Retry::new(MINUTE, Backoff::Constant(MINUTE)));
        let pause = retry.pause(Error::SwapTimeout(1), || is_wanted.load(Ordering::Relaxed));
        let (paused, ()) = tokio::join!(pause, async { is_wanted.store(false, Ordering::Relaxed) });
        assert!(matches!(paused, Err(Error::Unwanted)));
        assert!(retry.start.elapsed() < MINUTE);
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (next, max) = (Duration::from_millis(200), Duration::from_secs(1));
        let mut backoff = Backoff::Doubling { next, max };
        for expected in [200, 400, 800, 1000, 1000] {
            let pause = backoff.next_pause();
            let expected = Duration::from_millis(expected);
            assert!(pause >= expected / 2 && pause < expected * 3 / 2, "{pause:?}, about {expected:?}");
        }
    }
}
