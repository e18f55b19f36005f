//! A clock that also counts the time during which the machine was suspended.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Since the machine was started.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
