//! What can go wrong in a store, told apart by what a caller does about it.

use std::io;

/// The result of asking a store.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else is changing the dataset.
    #[error("another load of `{dataset}` is running")]
    Busy {
        /// The dataset.
        dataset: String,
    },
    /// The store cannot be reached, or does not answer in time.
    #[error("the store is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
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
    /// The store is set up in a way that cannot work; the text says how to mend it.
    #[error("{0}")]
    Setup(String),
    /// What is stored is not what this program wrote.
    #[error("the stored data is damaged: {0}")]
    Corrupt(String),
    /// Anything else that the store reports.
    #[error("the store reports an error")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub(crate) fn corrupt(what: impl std::fmt::Display) -> Self {
        Self::Corrupt(format!("{what}"))
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

impl From<tokio::task::JoinError> for Error {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Other(error.into())
    }
}
