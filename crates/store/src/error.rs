//! What can go wrong in a store, told apart by what a caller does about it.

use std::io;

use crate::answer_budget::OverBudget;

/// The result of asking a store.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another publisher holds the dataset's lock.
    #[error("another updater is changing `{dataset}`{}", held_by(holder.as_ref()))]
    Busy {
        /// The dataset.
        dataset: String,
        /// The load that holds the lock, where that is known.
        holder: Option<LockHolder>,
    },
    /// The dataset's lock was lost while it was needed: its connection broke, or what it protects was replaced.
    #[error("the lock of `{dataset}` was lost: {why}")]
    LockLost {
        /// The dataset.
        dataset: String,
        /// How it was lost.
        why: String,
    },
    /// The swap was sent, and the store did not say whether it happened.
    #[error("the store vanished during the swap: it is not known whether version {version} is live")]
    OutcomeUnknown {
        /// The version that was to become live.
        version: u32,
        /// What went wrong.
        #[source]
        source: Box<Error>,
    },
    /// All version numbers are used up.
    #[error("no version number is left above {newest}: remove what has that number")]
    NoVersionNumber {
        /// The highest number that is there.
        newest: u32,
    },
    /// The store cannot be reached, or does not answer in time.
    #[error("the store is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database is there and refuses what is needed: a right is missing, or it is read-only.
    #[error("the database refuses this: {what}")]
    Refused {
        /// What is missing.
        what: String,
        /// What the database says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no room for the version.
    #[error("the store has no space left")]
    NoSpace(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The dataset has no such version, or none that could be made live.
    #[error("`{dataset}` has no version {version} that can be activated")]
    NoSuchVersion {
        /// The dataset.
        dataset: String,
        /// The version that was asked for.
        version: u32,
    },
    /// A version's rows are not what was written.
    #[error("version {version} of `{dataset}` is damaged: {why}")]
    Damaged {
        /// The dataset.
        dataset: String,
        /// The version.
        version: u32,
        /// What was seen.
        why: String,
    },
    /// The staged rows are not the rows that were sent.
    #[error("{sent} rows were sent, but {staged} arrived in staging")]
    Miscounted {
        /// How many were sent.
        sent: u64,
        /// How many are there.
        staged: u64,
    },
    /// The store took the rows only with warnings, so some values may not be what was sent.
    #[error("the store took the rows with {0} warnings")]
    Warnings(u64),
    /// Readers kept the swap from happening for too long.
    #[error("the swap did not get through within {0} ms")]
    SwapTimeout(u64),
    /// Whoever wanted the version does not want it any more.
    #[error("the version is not wanted any more")]
    Unwanted,
    /// Something stands where the dataset's data has to be, or the data is not what it was. The text says what, and names
    /// nothing that a client must not know.
    #[error("{0}")]
    InTheWay(String),
    /// The store is set up in a way that cannot work; the text says how to mend it. It may name paths and versions.
    #[error("{0}")]
    Setup(String),
    /// What is stored is not what this program wrote.
    #[error("the stored data is damaged: {0}")]
    Corrupt(String),
    /// This program found its own work wrong: a defect, and no damage of what is stored.
    #[error("internal error: {0}")]
    Internal(String),
    /// The rows of a look-up have more bytes than they may.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// Anything else that the store reports.
    #[error("the store reports an error")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The load that holds a dataset's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// The host of its updater.
    pub host: String,
    /// Its id.
    pub load: String,
}

fn held_by(holder: Option<&LockHolder>) -> String {
    holder.map_or_else(String::new, |holder| format!(" (load {} on host {})", holder.load, holder.host))
}

impl Error {
    pub(crate) fn lock_lost(dataset: &str, why: impl Into<String>) -> Self {
        Self::LockLost { dataset: dataset.to_owned(), why: why.into() }
    }

    pub(crate) fn corrupt(what: impl std::fmt::Display) -> Self {
        Self::Corrupt(format!("{what}"))
    }

    pub(crate) fn internal(what: impl std::fmt::Display) -> Self {
        Self::Internal(format!("{what}"))
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match error.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => Self::NoSpace(error.into()),
            _ => Self::Other(error.into()),
        }
    }
}

impl From<dataset::CorruptRow> for Error {
    fn from(error: dataset::CorruptRow) -> Self {
        Self::corrupt(error)
    }
}

impl From<dataset::DamagedBatch> for Error {
    fn from(error: dataset::DamagedBatch) -> Self {
        Self::Other(error.into())
    }
}

impl From<tokio::task::JoinError> for Error {
    fn from(error: tokio::task::JoinError) -> Self {
        // Otherwise the runtime ends.
        if error.is_panic() { Self::internal(error) } else { Self::Other(error.into()) }
    }
}

/// An error with its causes, for a log and for all who wait for the same.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
