//! The contract of publishing: one publisher, one staging area, one atomic step.
//!
//! Each value is consumed by what comes next: publisher, staging, staged. So rows cannot be added to a version that was
//! verified, and what was not verified cannot be published. A value that is dropped on the way leaves rows that nobody
//! reads; the next publisher sweeps them.

use std::time::Duration;

use dataset::RowBatch;
use tokio::sync::mpsc;

use crate::embedded;
use crate::ledger::Ledger;
use crate::mariadb;
use crate::version::{Counts, Entry, NewVersion};
use crate::{Actor, Error, Manners, Result};

/// Rows of the live version in key order, in the form of its schema, to compare with.
pub type LiveRows = mpsc::Receiver<Result<RowBatch>>;

/// Rows of a range of the keys in key order, for a version that is being staged.
pub type Rows = mpsc::Receiver<RowBatch>;

/// A version number that a load reserved when it began, before it needs the lock. It lives as long as the load does, so
/// others can tell a load that still receives its file from one that crashed.
#[derive(Debug)]
#[must_use = "must be locked or ended"]
pub enum Reservation {
    /// In the embedded store.
    Embedded(Box<embedded::Reservation>),
    /// In MariaDB.
    Mariadb(Box<mariadb::Reservation>),
}

/// How a load ends that staged nothing.
#[derive(Debug, Clone, Copy)]
pub enum Ending<'a> {
    /// Its client was told; nothing is remembered.
    Told,
    /// The reason is remembered, for a client that asks later.
    Failed(&'a str),
    /// A load that began later was published first.
    Superseded(&'a str),
}

/// The one who may change a dataset.
#[derive(Debug)]
#[must_use = "holds the lock of its dataset"]
pub enum Publisher {
    /// Of the embedded store.
    Embedded(Box<embedded::Publisher>),
    /// Of MariaDB.
    Mariadb(Box<mariadb::Publisher>),
}

/// A version that takes rows and that nobody reads.
#[derive(Debug)]
#[must_use = "must be verified or aborted"]
pub enum Staging {
    /// In the embedded store.
    Embedded(Box<embedded::Staging>),
    /// In MariaDB.
    Mariadb(Box<mariadb::Staging>),
}

/// A version whose rows are all there.
#[derive(Debug)]
#[must_use = "must be published or aborted"]
pub enum Staged {
    /// In the embedded store.
    Embedded(Box<embedded::Staged>),
    /// In MariaDB.
    Mariadb(Box<mariadb::Staged>),
}

/// A version that became live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The version that is live now.
    pub live: Entry,
    /// The version that was live before.
    pub before: Option<u32>,
}

impl Reservation {
    /// The number.
    pub fn version(&self) -> u32 {
        match self {
            Self::Embedded(reservation) => reservation.version(),
            Self::Mariadb(reservation) => reservation.version(),
        }
    }

    /// How its load gives way to readers, where it is known whether there are any.
    pub fn manners(&self) -> Option<&Manners> {
        match self {
            Self::Embedded(_) => None,
            Self::Mariadb(reservation) => Some(reservation.manners()),
        }
    }

    /// Waits for the dataset's lock, for no longer than `wait` and while `is_wanted` says so.
    pub async fn lock(&mut self, wait: Duration, is_wanted: impl Fn() -> bool) -> Result<()> {
        match self {
            Self::Embedded(reservation) => reservation.lock(wait, is_wanted).await,
            Self::Mariadb(reservation) => reservation.lock(wait, is_wanted).await,
        }
    }

    /// Becomes the publisher, once it has the lock. Recovers what a crash left behind.
    pub async fn into_publisher(self) -> Result<Publisher> {
        match self {
            Self::Embedded(reservation) => {
                reservation.into_publisher().await.map(|it| Publisher::Embedded(Box::new(it)))
            }
            Self::Mariadb(reservation) => {
                reservation.into_publisher().await.map(|it| Publisher::Mariadb(Box::new(it)))
            }
        }
    }

    /// Gives the number back.
    pub async fn end(self, ending: Ending<'_>) -> Result<()> {
        match self {
            Self::Embedded(reservation) => reservation.end(ending).await,
            Self::Mariadb(reservation) => reservation.end(ending).await,
        }
    }
}

impl Publisher {
    fn ledger(&self) -> &Ledger {
        match self {
            Self::Embedded(publisher) => publisher.ledger(),
            Self::Mariadb(publisher) => publisher.ledger(),
        }
    }

    fn reserved(&self) -> Option<u32> {
        match self {
            Self::Embedded(publisher) => publisher.reserved(),
            Self::Mariadb(publisher) => publisher.reserved(),
        }
    }

    /// The version that is live; it stays live for as long as this publisher does nothing.
    pub fn live(&self) -> Option<&Entry> {
        self.ledger().live()
    }

    /// Rows that a guard compares a new version with: those of the live one as it was published, also where somebody has
    /// taken its rows away since.
    pub fn rows_before(&self) -> Option<u64> {
        self.ledger().last_live().map(|entry| entry.rows)
    }

    /// The published version whose load began after this one's, if there is one.
    pub fn superseded_by(&self) -> Option<&Entry> {
        self.ledger().published_after(self.reserved()?)
    }

    /// The withdrawn version that has this content, if there is one.
    pub fn withdrawn(&self, sha256: &str, definition_hash: &str) -> Option<&Entry> {
        self.ledger().withdrawn(sha256, definition_hash)
    }

    /// Whether the live version can be read and has all its rows.
    /// That takes a while for many rows, and ends where `is_wanted` says so.
    pub async fn is_live_whole(&self, is_wanted: impl Fn() -> bool) -> Result<bool> {
        match self {
            Self::Embedded(publisher) => publisher.is_live_whole(is_wanted).await,
            Self::Mariadb(publisher) => publisher.is_live_whole(is_wanted).await,
        }
    }

    /// Starts a new version.
    pub async fn stage(self, new: NewVersion) -> Result<Staging> {
        match self {
            Self::Embedded(publisher) => publisher.stage(new).await.map(|it| Staging::Embedded(Box::new(it))),
            Self::Mariadb(publisher) => publisher.stage(new).await.map(|it| Staging::Mariadb(Box::new(it))),
        }
    }

    /// Says who activates a version, for the ledger.
    pub fn activate_for(&mut self, actor: Actor) {
        match self {
            Self::Embedded(publisher) => publisher.activate_for(actor),
            Self::Mariadb(publisher) => publisher.activate_for(actor),
        }
    }

    /// Makes a previous version live again, or a withdrawn one.
    pub async fn activate(self, version: u32) -> Result<Published> {
        match self {
            Self::Embedded(publisher) => publisher.activate(version).await,
            Self::Mariadb(publisher) => publisher.activate(version).await,
        }
    }

    /// Gives the lock back, and the number if there is one.
    pub async fn end(self, ending: Ending<'_>) -> Result<()> {
        match self {
            Self::Embedded(publisher) => publisher.end(ending).await,
            Self::Mariadb(publisher) => publisher.end(ending).await,
        }
    }
}

impl Staging {
    /// The number of the version.
    pub fn version(&self) -> u32 {
        match self {
            Self::Embedded(staging) => staging.version(),
            Self::Mariadb(staging) => staging.version(),
        }
    }

    /// How many ranges of the keys it takes at once.
    pub fn ranges_max(&self) -> usize {
        match self {
            Self::Embedded(_) => 1,
            Self::Mariadb(staging) => staging.ranges_max(),
        }
    }

    /// Takes the rows of some ranges of the keys until all are at their end. The ranges are in order, and above all that
    /// were there before. What is not waited for to its end must be aborted.
    pub async fn fill(&mut self, ranges: Vec<Rows>) -> Result<()> {
        match self {
            Self::Embedded(staging) => staging.fill(ranges).await,
            Self::Mariadb(staging) => staging.fill(ranges).await,
        }
    }

    /// Makes sure that exactly the rows that were sent are there, on disk. Otherwise the version is given up.
    pub async fn verify(self, counts: Counts) -> Result<Staged> {
        match self {
            Self::Embedded(staging) => staging.verify(counts).await.map(|it| Staged::Embedded(Box::new(it))),
            Self::Mariadb(staging) => staging.verify(counts).await.map(|it| Staged::Mariadb(Box::new(it))),
        }
    }

    /// Gives the version up and removes what was staged.
    pub async fn abort(self, reason: &str) -> Result<()> {
        match self {
            Self::Embedded(staging) => staging.abort(reason).await,
            Self::Mariadb(staging) => staging.abort(reason).await,
        }
    }
}

impl Staged {
    /// Makes the version live by one atomic step, and drops versions that no longer stay. An error means that readers
    /// still see what they saw before. While readers are in the way, `is_wanted` is asked whether it shall go on.
    pub async fn publish(self, is_wanted: impl Fn() -> bool) -> Result<Published> {
        match self {
            Self::Embedded(staged) => staged.publish().await,
            Self::Mariadb(staged) => staged.publish(is_wanted).await,
        }
    }

    /// Gives the version up and removes what was staged.
    pub async fn abort(self, reason: &str) -> Result<()> {
        match self {
            Self::Embedded(staged) => staged.abort(reason).await,
            Self::Mariadb(staged) => staged.abort(reason).await,
        }
    }
}

/// Compares the rows of a staging area with those that were sent.
pub(crate) fn check_count(sent: u64, staged: u64) -> Result<()> {
    if sent == staged { Ok(()) } else { Err(Error::Miscounted { sent, staged }) }
}
