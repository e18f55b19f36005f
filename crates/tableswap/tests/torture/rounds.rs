//! What can happen in a round, and in which order the rounds come.

use std::time::Duration;

use testkit::Fault as NetworkFault;

use crate::cluster::Backend;
use crate::dice::Dice;
use crate::operations::{Pace, Tolerance};

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// A file of some hundred rows.
    SmallUpload,
    /// A file of some ten thousand rows, sent at once: long in staging.
    LargeUpload,
    /// The same, sent slowly: long in receiving.
    SlowUpload,
    /// A file of some hundred rows whose sender does not wait for the load.
    AsyncUpload,
    /// The previous version, and the one after it again.
    Rollback,
    /// Both updaters are sent a file at once.
    TwoUploads,
    /// While one updater receives a file, the other one is sent a small one, which ends first.
    Overtaking,
    /// While an updater receives a file, it is sent another one.
    SecondUpload,
    /// A rollback by an updater that is receiving a file.
    RollbackOverUpload,
    /// A rollback by an updater while the other one is receiving a file.
    RollbackBesideUpload,
    /// A version is rolled back from, and its file is sent again.
    WithdrawnAgain,
}

/// What goes wrong meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Cancel,
    KillUpdater,
    PauseUpdater,
    /// The network between the updater and the database.
    CutOffUpdater(Network),
    KillApi,
    PauseApi,
    CutOffApi(Network),
    KillDatabase,
    /// One of two replicas.
    KillReplica,
    PauseReplica,
    StopReplica,
}

/// What a network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    Hang,
    Refuse,
    /// After a number of bytes that is drawn by lot.
    Cut,
    /// The database does not learn that the updater is gone.
    HalfOpen,
}

/// When it goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// At an instant that is drawn by lot, up to so many milliseconds after the work began.
    Within(usize),
    /// As soon as a load is in one of these phases.
    Phase(&'static [&'static str]),
}

pub(crate) const RECEIVING: Moment = Moment::Phase(&["receiving"]);
pub(crate) const STAGING: Moment = Moment::Phase(&["staging", "verifying"]);
/// Right before the swap, in it, or while the updater waits for all readers to see it.
pub(crate) const PUBLISHING: Moment = Moment::Phase(&["publishing"]);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) work: Work,
    pub(crate) fault: Fault,
    pub(crate) moment: Moment,
}

const fn round(work: Work, fault: Fault, moment: Moment) -> Round {
    Round { work, fault, moment }
}

const ANY_STORE: &[Round] = &[
    round(Work::SmallUpload, Fault::None, Moment::Within(0)),
    round(Work::TwoUploads, Fault::None, Moment::Within(0)),
    round(Work::Overtaking, Fault::None, Moment::Within(0)),
    round(Work::SecondUpload, Fault::None, Moment::Within(0)),
    round(Work::RollbackOverUpload, Fault::None, Moment::Within(0)),
    round(Work::RollbackBesideUpload, Fault::None, Moment::Within(0)),
    round(Work::WithdrawnAgain, Fault::None, Moment::Within(0)),
    round(Work::SlowUpload, Fault::Cancel, RECEIVING),
    round(Work::LargeUpload, Fault::Cancel, STAGING),
    round(Work::SlowUpload, Fault::KillUpdater, RECEIVING),
    round(Work::LargeUpload, Fault::KillUpdater, STAGING),
    round(Work::SmallUpload, Fault::KillUpdater, PUBLISHING),
    round(Work::SmallUpload, Fault::KillUpdater, Moment::Within(300)),
    round(Work::AsyncUpload, Fault::KillUpdater, Moment::Within(300)),
    round(Work::AsyncUpload, Fault::None, Moment::Within(0)),
    round(Work::Rollback, Fault::KillUpdater, Moment::Within(200)),
    round(Work::LargeUpload, Fault::PauseUpdater, STAGING),
    round(Work::SmallUpload, Fault::KillApi, Moment::Within(300)),
    round(Work::SmallUpload, Fault::PauseApi, Moment::Within(200)),
];

const MARIADB: &[Round] = &[
    round(Work::LargeUpload, Fault::CutOffUpdater(Network::Hang), STAGING),
    round(Work::LargeUpload, Fault::CutOffUpdater(Network::HalfOpen), STAGING),
    round(Work::LargeUpload, Fault::CutOffUpdater(Network::Cut), STAGING),
    round(Work::SmallUpload, Fault::CutOffUpdater(Network::Cut), Moment::Within(0)),
    round(Work::SmallUpload, Fault::CutOffUpdater(Network::Refuse), Moment::Within(200)),
    round(Work::Rollback, Fault::CutOffUpdater(Network::Hang), Moment::Within(100)),
    round(Work::SmallUpload, Fault::CutOffApi(Network::Hang), Moment::Within(200)),
    round(Work::SmallUpload, Fault::CutOffApi(Network::Refuse), Moment::Within(200)),
    round(Work::LargeUpload, Fault::KillDatabase, STAGING),
    round(Work::SmallUpload, Fault::KillDatabase, PUBLISHING),
    round(Work::SmallUpload, Fault::CutOffUpdater(Network::Hang), PUBLISHING),
    round(Work::SmallUpload, Fault::CutOffUpdater(Network::Refuse), PUBLISHING),
    // The swap was sent, its answer never comes, and its session holds the lock.
    round(Work::SmallUpload, Fault::CutOffUpdater(Network::HalfOpen), PUBLISHING),
    round(Work::Rollback, Fault::CutOffUpdater(Network::HalfOpen), Moment::Within(60)),
    round(Work::SmallUpload, Fault::KillDatabase, Moment::Within(200)),
];

const REPLICATED: &[Round] = &[
    round(Work::SmallUpload, Fault::KillReplica, Moment::Within(200)),
    round(Work::LargeUpload, Fault::KillReplica, STAGING),
    round(Work::SmallUpload, Fault::PauseReplica, Moment::Within(200)),
    round(Work::Rollback, Fault::PauseReplica, Moment::Within(60)),
    round(Work::SmallUpload, Fault::StopReplica, Moment::Within(200)),
    round(Work::Rollback, Fault::StopReplica, Moment::Within(60)),
    round(Work::LargeUpload, Fault::CutOffUpdater(Network::Hang), STAGING),
    round(Work::SmallUpload, Fault::CutOffUpdater(Network::HalfOpen), PUBLISHING),
];

/// All kinds of rounds that this store can have.
pub(crate) fn kinds(backend: Backend) -> Vec<Round> {
    let of_database = match backend {
        Backend::Embedded => &[],
        Backend::Mariadb => MARIADB,
        Backend::Replicated => REPLICATED,
    };
    [ANY_STORE, of_database].concat()
}

/// The rounds of a run: every kind comes once before any comes again, each time in another order.
pub(crate) fn schedule(backend: Backend, rounds: usize, seed: u64) -> Vec<Round> {
    let mut dice = Dice::new(seed, u64::MAX);
    let mut schedule = Vec::new();
    while schedule.len() < rounds {
        let mut deck = kinds(backend);
        dice.shuffle(&mut deck);
        schedule.extend(deck);
    }
    schedule.truncate(rounds);
    schedule
}

impl Fault {
    /// What the operations of a round may come to because of it.
    pub(crate) fn tolerance(self) -> Tolerance {
        match self {
            Fault::None
            | Fault::KillApi
            | Fault::PauseApi
            | Fault::CutOffApi(_)
            | Fault::PauseUpdater
            | Fault::KillReplica
            | Fault::PauseReplica
            | Fault::StopReplica => Tolerance::default(),
            Fault::Cancel => Tolerance { statuses: &[409], no_answer: false },
            Fault::KillUpdater => Tolerance { statuses: &[], no_answer: true },
            // The lock stays with a session whose client is gone.
            Fault::CutOffUpdater(Network::HalfOpen) => {
                Tolerance { statuses: &[409, 503, 504], no_answer: false }
            }
            Fault::CutOffUpdater(_) | Fault::KillDatabase => {
                Tolerance { statuses: &[503, 504], no_answer: false }
            }
        }
    }
}

impl Network {
    pub(crate) fn fault(self, dice: &mut Dice) -> NetworkFault {
        match self {
            Network::Hang => NetworkFault::Hang,
            Network::Refuse => NetworkFault::Refuse,
            Network::HalfOpen => NetworkFault::HalfOpen,
            Network::Cut => NetworkFault::CutAfter(dice.between(1, 6000) as u64),
        }
    }
}

impl Work {
    pub(crate) fn rows(self, dice: &mut Dice) -> usize {
        match self {
            Work::LargeUpload | Work::SlowUpload => dice.between(20_000, 30_000),
            _ => dice.between(300, 900),
        }
    }

    pub(crate) fn pace(self, dice: &mut Dice) -> Pace {
        match self {
            // Half a second or a little more from the first byte to the last.
            Work::SlowUpload => Pace { pieces: 20, pause: dice.millis(25, 40) },
            _ => Pace::AT_ONCE,
        }
    }
}

/// How long a fault stays.
pub(crate) fn duration(dice: &mut Dice) -> Duration {
    dice.millis(50, 1500)
}
