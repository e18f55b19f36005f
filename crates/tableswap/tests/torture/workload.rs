//! What the clients of a round do. All decisions are drawn before it begins.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cluster::Node;
use crate::dice::Dice;
use crate::editions::{Edition, Editions};
use crate::listing::Listing;
use crate::operations::{Operations, Pace, Request, running_loads};
use crate::rounds::Work;

/// An answer that needs no load to end.
const AT_ONCE: Duration = Duration::from_millis(500);
/// How long a load may take to be seen in a phase.
const PHASE_WAIT: Duration = Duration::from_secs(5);

pub(crate) struct Workload<'a> {
    work: Work,
    /// The one that the fault is for, and the other one.
    updaters: [&'a Node; 2],
    files: [Edition; 2],
    pace: Pace,
}

impl<'a> Workload<'a> {
    pub(crate) fn draw(
        work: Work,
        updaters: [&'a Node; 2],
        editions: &Editions,
        dice: &mut Dice,
    ) -> Workload<'a> {
        let files = [work.rows(dice), Work::SmallUpload.rows(dice)].map(|rows| editions.next(rows));
        Workload { work, updaters, files, pace: work.pace(dice) }
    }

    /// Returns the statuses of all answers.
    pub(crate) fn run(&self, operations: &Operations, editions: &Editions) -> Vec<u16> {
        let [node, other] = self.updaters;
        match self.work {
            Work::SmallUpload | Work::LargeUpload | Work::SlowUpload => {
                vec![operations.upload(node, &self.files[0], self.pace, &[]).status]
            }
            Work::AsyncUpload => {
                let request = Request { prefer: "respond-async", ..Request::default() };
                vec![operations.upload_with(node, &self.files[0], request, &[202]).status]
            }
            Work::Rollback => rollback(operations, node),
            Work::TwoUploads => self.two_uploads(operations),
            Work::Overtaking => self.beside_slow_upload(operations, || {
                let answered = operations.upload(other, &self.files[1], Pace::AT_ONCE, &[]);
                expect(operations, "an upload that overtakes a slow one", answered.status, 200);
                (answered.status, Some(409))
            }),
            Work::SecondUpload => self.beside_slow_upload(operations, || {
                let answered = operations.upload(node, &self.files[1], Pace::AT_ONCE, &[409]);
                expect(operations, "a second upload while one is received", answered.status, 409);
                if answered.took > AT_ONCE {
                    operations.findings.report("P4 a late 409", format!("{:?}", answered.took));
                }
                (answered.status, Some(200))
            }),
            Work::RollbackOverUpload => self.rollback_beside_upload(operations, node, Some(409)),
            // The other updater's load does not hold the lock while its file arrives.
            Work::RollbackBesideUpload => self.rollback_beside_upload(operations, other, None),
            Work::WithdrawnAgain => self.withdrawn_again(operations, editions),
        }
    }

    /// At least one of them is published; the other one may be, or is told that it was not.
    fn two_uploads(&self, operations: &Operations) -> Vec<u16> {
        let statuses = std::thread::scope(|scope| {
            let [first, second] = [0, 1].map(|at| {
                scope.spawn(move || {
                    operations.upload(self.updaters[at], &self.files[at], Pace::AT_ONCE, &[409]).status
                })
            });
            vec![first.join().unwrap(), second.join().unwrap()]
        });
        if !statuses.contains(&200) {
            operations.findings.report("P9 two uploads and none published", format!("{statuses:?}"));
        }
        statuses
    }

    /// Does `beside` while a file is received, which is whole only after that; it gives its own status and the one that the slow file must get.
    fn beside_slow_upload(
        &self,
        operations: &Operations,
        beside: impl FnOnce() -> (u16, Option<u16>),
    ) -> Vec<u16> {
        let (node, done) = (self.updaters[0], AtomicBool::new(false));
        std::thread::scope(|scope| {
            let request = Request { hold: Some(&done), ..Request::default() };
            let slow =
                scope.spawn(move || operations.upload_with(node, &self.files[0], request, &[409]).status);
            if !wait_for_phase(node, &["receiving"], || slow.is_finished()) {
                operations.findings.report("precondition", "the slow upload was never receiving");
            }
            let (status, must) = beside();
            done.store(true, Ordering::SeqCst);
            let slow = slow.join().unwrap();
            if let Some(must) = must {
                expect(operations, "the slow upload beside another operation", slow, must);
            }
            vec![status, slow]
        })
    }

    fn rollback_beside_upload(&self, operations: &Operations, by: &Node, slow_must: Option<u16>) -> Vec<u16> {
        let Some(previous) = Listing::read(by.port).ok().and_then(|listing| listing.previous()) else {
            operations.findings.report("precondition", "there was nothing to go back to");
            return Vec::new();
        };
        self.beside_slow_upload(operations, || (operations.activate(by, previous, &[]).status, slow_must))
    }

    /// What was rolled back from comes again only by force.
    fn withdrawn_again(&self, operations: &Operations, editions: &Editions) -> Vec<u16> {
        let [node, _] = self.updaters;
        let edition = &self.files[0];
        let mut statuses = vec![operations.upload(node, edition, Pace::AT_ONCE, &[]).status];
        let previous = Listing::read(node.port).ok().and_then(|listing| listing.previous());
        let Some(previous) = previous.filter(|_| statuses == [200]) else {
            return statuses;
        };
        statuses.push(operations.activate(node, previous, &[]).status);
        let again = operations.upload(node, edition, Pace::AT_ONCE, &[409]).status;
        expect(operations, "a withdrawn file without force", again, 409);
        // It has been live, so it is not one of those that never may be.
        operations.history.sent_again(edition.number);
        let forced = operations
            .upload_with(node, edition, Request { query: "?force=true", ..Request::default() }, &[])
            .status;
        let is_live = Listing::read(node.port).ok().and_then(|listing| {
            let live = listing.live?;
            Some(listing.version_of(editions, edition.number)? == live)
        });
        if forced == 200 && is_live != Some(true) {
            operations.findings.report("P7 a forced file is not live", format!("{is_live:?}"));
        }
        statuses.extend([again, forced]);
        statuses
    }
}

/// Back to the previous version, and forward again.
fn rollback(operations: &Operations, node: &Node) -> Vec<u16> {
    let Some((live, previous)) =
        Listing::read(node.port).ok().and_then(|listing| Some((listing.live?, listing.previous()?)))
    else {
        return Vec::new();
    };
    let back = operations.activate(node, previous, &[]).status;
    if back != 200 {
        return vec![back];
    }
    vec![back, operations.activate(node, live, &[]).status]
}

fn expect(operations: &Operations, what: &str, status: u16, must: u16) {
    if status != must {
        operations.findings.report(&format!("answer to {what}"), format!("{status}, not {must}"));
    }
}

/// Waits until the updater has a load in one of these phases; false where the work has ended before.
pub(crate) fn wait_for_phase(node: &Node, phases: &[&str], is_over: impl Fn() -> bool) -> bool {
    let deadline = std::time::Instant::now() + PHASE_WAIT;
    loop {
        if running_loads(node.port).iter().any(|(_, phase)| phases.contains(&phase.as_str())) {
            return true;
        }
        if is_over() || std::time::Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
