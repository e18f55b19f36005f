//! What becomes of a load.

use std::fmt;

/// How a load ended, as metrics, events and `/loads/{id}` name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Published,
    /// The file is what is live already.
    Unchanged,
    /// The file was only tried.
    DryRun,
    /// A guard refused the file, or it cannot be read.
    Refused,
    /// Another updater kept the dataset's lock for too long.
    Busy,
    /// A load that began later was published first.
    Superseded,
    /// The file is that of a version that was rolled back.
    Withdrawn,
    Cancelled,
    /// The file did not arrive whole.
    BrokenOff,
    NoSpace,
    /// The swap was sent, and the store did not say whether it happened.
    Unknown,
    Failed,
}

impl Outcome {
    pub(crate) const ALL: [Self; 12] = [
        Self::Published,
        Self::Unchanged,
        Self::DryRun,
        Self::Refused,
        Self::Busy,
        Self::Superseded,
        Self::Withdrawn,
        Self::Cancelled,
        Self::BrokenOff,
        Self::NoSpace,
        Self::Unknown,
        Self::Failed,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Unchanged => "unchanged",
            Self::DryRun => "dry_run",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Superseded => "superseded",
            Self::Withdrawn => "withdrawn",
            Self::Cancelled => "cancelled",
            Self::BrokenOff => "broken_off",
            Self::NoSpace => "no_space",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
        }
    }

    /// Whether someone has to look: everything else is the sender's, or explains itself.
    pub(crate) fn is_our_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Unknown | Self::NoSpace)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
