//! What becomes of a load.

use std::fmt;

use serde::{Serialize, Serializer};

/// How a load ended, as metrics, answers, events and `/loads/{id}` name it.
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

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_lists_exactly_these_outcomes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        let (_, list) = readme.split_once("The `outcome` of a load is one of ").unwrap();
        let listed: Vec<_> = list.split_once('.').unwrap().0.split('`').skip(1).step_by(2).collect();
        assert_eq!(listed, Outcome::ALL.map(Outcome::as_str));
    }
}
