//! Cases that run side by side: a case mostly waits for servers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

use crate::findings::Findings;

/// More would make servers slow on two cores, and slowness is a fault that no case asks for.
const WORKERS: usize = 3;

/// Runs all cases. One that panics is a finding and keeps no other from running.
pub(crate) fn run_all<T: Sync>(
    cases: &[T],
    findings: &Findings,
    name: impl Fn(&T) -> String + Sync,
    run: impl Fn(&T) + Sync,
) {
    let queue = Mutex::new(cases.iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(case) = next() {
            let ended = catch_unwind(AssertUnwindSafe(|| run(case)));
            if let Err(panic) = ended {
                let text = panic.downcast_ref::<String>().map_or("", |text| text);
                findings.report("a case did not come to its end", format!("{}: {text}", name(case)));
            }
        }
    };
    thread::scope(|scope| (0..WORKERS).for_each(|_| drop(scope.spawn(work))));
}
