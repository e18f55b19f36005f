//! File descriptors: how many this process may have, and how many of them connections may take.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for files of the store, logs, and connections to a database: a server that has none left would serve an old
/// version for good, because it cannot open the new one.
const RESERVED: u64 = 64;

/// Raises the limit of this process as far as it may, and returns it.
fn raise_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where that is refused the limit stays as it is.
    let now = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    now.unwrap_or(u64::MAX)
}

/// How many connections each of so many workers may have: what is set, and no more than descriptors allow.
pub fn connections_max(wanted: usize, workers: usize) -> usize {
    share(raise_limit(), wanted, workers)
}

fn share(limit: u64, wanted: usize, workers: usize) -> usize {
    // Each worker has a few of its own for waiting.
    let workers = workers.max(1) as u64;
    let each = limit.saturating_sub(RESERVED).saturating_sub(8 * workers) / workers;
    wanted.min(usize::try_from(each).unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_store() {
        assert_eq!(share(200, 25_000, 2), 60);
        assert_eq!(share(1_048_576, 25_000, 2), 25_000);
        assert_eq!((share(10, 25_000, 4), share(1024, 7, 0)), (1, 7));
    }
}
