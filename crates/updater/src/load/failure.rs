//! Why a load published nothing.

use chrono::{DateTime, SecondsFormat, Utc};
use ingest::{Refusal, Reject};
use store::Counts;

use super::outcome::Outcome;

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The file was read whole and is not fit.
    #[error("the file was refused: {refusal}")]
    Refused {
        /// The first reason.
        refusal: Refusal,
        /// What was counted.
        counts: Counts,
        /// The first rejects.
        shown: Vec<Reject>,
        /// Whether there is a report of all rejects.
        has_report: bool,
        /// What the sender should know about the file.
        warnings: Vec<String>,
    },
    /// The file could not be read.
    #[error(transparent)]
    Ingest(#[from] ingest::Error),
    /// The store could not take it.
    #[error(transparent)]
    Store(store::Error),
    /// A load that began later was published first.
    #[error("version {by}, whose load began later, was published first")]
    Superseded {
        /// That version.
        by: u32,
    },
    /// The file is that of a version that was rolled back.
    #[error("these are the bytes of version {version}, which was withdrawn at {}", at.to_rfc3339_opts(SecondsFormat::Secs, true))]
    Withdrawn {
        /// That version.
        version: u32,
        /// When it was rolled back from.
        at: DateTime<Utc>,
    },
    /// The file is not the one that the client says it sends.
    #[error("the file has the SHA-256 {found}, and the request states {stated}: nothing was published")]
    DigestMismatch {
        /// What the client says.
        stated: String,
        /// What arrived.
        found: String,
    },
    /// Another version is live than the client expects.
    #[error("another version is live than If-Match names")]
    LiveChanged {
        /// The one that is.
        live: Option<u32>,
    },
    /// Somebody does not want it any more, or the updater is being stopped.
    #[error("the load was cancelled")]
    Cancelled,
    /// A task ended without a result, which is a defect.
    #[error("the load stopped unexpectedly")]
    Panicked,
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Unwanted => Self::Cancelled,
            error => Self::Store(error),
        }
    }
}

impl Failure {
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Refused { .. } | Self::DigestMismatch { .. } | Self::LiveChanged { .. } => Outcome::Refused,
            Self::Superseded { .. } => Outcome::Superseded,
            Self::Withdrawn { .. } => Outcome::Withdrawn,
            Self::Cancelled => Outcome::Cancelled,
            Self::Store(store::Error::Busy { .. }) => Outcome::Busy,
            Self::Store(store::Error::NoSpace(_)) => Outcome::NoSpace,
            Self::Store(store::Error::OutcomeUnknown { .. }) => Outcome::Unknown,
            Self::Ingest(ingest::Error::BrokenOff(_)) => Outcome::BrokenOff,
            Self::Ingest(error) if error.is_of_the_file() => Outcome::Refused,
            Self::Ingest(error) if error.is_no_space() => Outcome::NoSpace,
            Self::Ingest(_) | Self::Store(_) | Self::Panicked => Outcome::Failed,
        }
    }

    /// What refused the file, if it was refused.
    pub(crate) fn guard(&self) -> Option<&'static str> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.code()),
            Self::DigestMismatch { .. } => Some(DIGEST_MISMATCH),
            Self::LiveChanged { .. } => Some(LIVE_CHANGED),
            Self::Ingest(_) => (self.outcome() == Outcome::Refused).then_some(UNREADABLE),
            _ => None,
        }
    }
}

/// What stands for a guard where a file cannot be read to its end.
pub(crate) const UNREADABLE: &str = "unreadable";
/// What stands for a guard where the client states another digest than the file has.
pub(crate) const DIGEST_MISMATCH: &str = "digest-mismatch";
/// What stands for a guard where another version is live than the client expects.
pub(crate) const LIVE_CHANGED: &str = "live-changed";
