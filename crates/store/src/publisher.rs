//! The contract of publishing: one publisher, one staging area, one atomic step.
//!
//! Each value is consumed by what comes next: publisher, staging, staged. So rows cannot be added to a version that was
//! verified, and what was not verified cannot be published. A value that is dropped on the way leaves rows that nobody
//! reads; the next publisher sweeps them.

use dataset::RowBatch;
use tokio::sync::mpsc;

use crate::embedded;
pub use crate::embedded::Draft;
use crate::ledger::{Counts, Entry, NewVersion};
use crate::mariadb;
use crate::{Error, Manners, Result};

/// Rows of the live version in key order, in the form of its schema, to compare with.
pub type LiveRows = mpsc::Receiver<Result<RowBatch>>;

/// Rows of a range of the keys in key order, for a version that is being staged.
pub type Rows = mpsc::Receiver<RowBatch>;

const NO_DRAFTS: &str = "MariaDB takes no drafts";

/// The one who may change a dataset.
#[derive(Debug)]
#[must_use = "holds the lock of its dataset"]
pub enum Publisher {
    /// Of the embedded store.
    Embedded(embedded::Publisher),
    /// Of MariaDB.
    Mariadb(Box<mariadb::Publisher>),
}

/// A version that takes rows and that nobody reads.
#[derive(Debug)]
#[must_use = "must be verified or aborted"]
pub enum Staging {
    /// In the embedded store.
    Embedded(embedded::Staging),
    /// In MariaDB.
    Mariadb(Box<mariadb::Staging>),
}

/// A version whose rows are all there.
#[derive(Debug)]
#[must_use = "must be published or aborted"]
pub enum Staged {
    /// In the embedded store.
    Embedded(embedded::Staged),
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

impl Publisher {
    /// The version that is live; it stays live for as long as this publisher does nothing.
    pub fn live(&self) -> Option<&Entry> {
        match self {
            Self::Embedded(publisher) => publisher.live(),
            Self::Mariadb(publisher) => publisher.live(),
        }
    }

    /// How its work gives way to readers, where it is known whether there are any.
    pub fn manners(&self) -> Option<&Manners> {
        match self {
            Self::Embedded(_) => None,
            Self::Mariadb(publisher) => Some(publisher.manners()),
        }
    }

    /// Gives out the rows of the live version.
    pub async fn live_rows(&self) -> Result<LiveRows> {
        match self {
            Self::Embedded(publisher) => publisher.live_rows(),
            Self::Mariadb(publisher) => publisher.live_rows().await,
        }
    }

    /// Starts a new version.
    pub async fn stage(self, new: NewVersion) -> Result<Staging> {
        match self {
            Self::Embedded(publisher) => publisher.stage(new).await.map(Staging::Embedded),
            Self::Mariadb(publisher) => publisher.stage(new).await.map(|it| Staging::Mariadb(Box::new(it))),
        }
    }

    /// Whether rows that come in key order can be put aside before they are staged. MariaDB takes them more quickly in
    /// several ranges of the keys at once, for which all keys must be known.
    pub fn takes_drafts(&self) -> bool {
        matches!(self, Self::Embedded(_))
    }

    /// Starts to put rows aside. There is one draft at a time.
    pub async fn draft(&self) -> Result<Draft> {
        match self {
            Self::Embedded(publisher) => publisher.draft().await,
            Self::Mariadb(_) => Err(Error::corrupt(NO_DRAFTS)),
        }
    }

    /// Starts a new version of the rows of a draft.
    pub async fn stage_draft(self, new: NewVersion, draft: Draft) -> Result<Staging> {
        match self {
            Self::Embedded(publisher) => publisher.stage_draft(new, draft).await.map(Staging::Embedded),
            Self::Mariadb(_) => Err(Error::corrupt(NO_DRAFTS)),
        }
    }

    /// Makes a previous version live again, or a withdrawn one.
    pub async fn activate(self, version: u32) -> Result<Published> {
        match self {
            Self::Embedded(publisher) => publisher.activate(version).await,
            Self::Mariadb(publisher) => publisher.activate(version).await,
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
            Self::Embedded(staging) => staging.verify(counts).await.map(Staged::Embedded),
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

/// Counts the rows of a staging area against those that were sent.
pub(crate) fn same_count(sent: u64, staged: u64) -> Result<()> {
    if sent == staged { Ok(()) } else { Err(Error::Miscounted { sent, staged }) }
}
