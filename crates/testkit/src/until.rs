//! Waiting for what must come, in one way for all tests.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between two looks: short beside anything that a test waits for.
const INTERVAL: Duration = Duration::from_millis(5);

/// Looks until there is something, and returns it; nothing when the limit is over.
pub fn wait_for<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let seen = look();
        if seen.is_some() || Instant::now() >= deadline {
            return seen;
        }
        sleep(INTERVAL);
    }
}

/// Waits for a condition; panics when it does not come true within a minute.
#[track_caller]
pub fn until(mut is_true: impl FnMut() -> bool) {
    let came = wait_for(Duration::from_mins(1), || is_true().then_some(()));
    assert!(came.is_some(), "the condition did not come true within a minute");
}
