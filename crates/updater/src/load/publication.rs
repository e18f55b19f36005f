//! What a load holds in the store: first a version number, then the dataset's lock, then staged rows.
//!
//! A load can fail in any phase. Whatever it holds then, [`Publication::end`] gives back, so no phase has an ending of
//! its own. A step that consumes what was held and fails leaves `Nothing`: the store has ended it already.

use std::time::Duration;

use store::{Counts, Ending, Manners, NewVersion, Publisher, Reservation, Result, Rows, Staged, Staging};

/// What a load holds in the store.
#[derive(Debug)]
pub(super) enum Publication {
    /// A dry run, or a load that has ended.
    Nothing,
    /// A version number.
    Reserved(Reservation),
    /// The lock of the dataset.
    Locked(Publisher),
    /// The lock, and a version that takes rows.
    Staging(Staging),
    /// The lock, and a version whose rows are verified.
    Staged(Staged),
}

impl Publication {
    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Nothing)
    }

    /// How the load gives way to readers.
    pub(super) fn manners(&self) -> Option<&Manners> {
        match self {
            Self::Reserved(reservation) => reservation.manners(),
            _ => None,
        }
    }

    /// The publisher, from the lock until staging begins.
    pub(super) fn publisher(&self) -> Option<&Publisher> {
        match self {
            Self::Locked(publisher) => Some(publisher),
            _ => None,
        }
    }

    /// Waits for the dataset's lock and becomes the publisher.
    pub(super) async fn lock(&mut self, wait: Duration, is_wanted: impl Fn() -> bool) -> Result<()> {
        if let Self::Reserved(reservation) = self {
            reservation.lock(wait, is_wanted).await?;
        }
        *self = match self.take() {
            Self::Reserved(reservation) => Self::Locked(reservation.into_publisher().await?),
            other => other,
        };
        Ok(())
    }

    /// Begins a version. Returns its number; a dry run has none.
    pub(super) async fn stage(&mut self, new: NewVersion) -> Result<Option<u32>> {
        *self = match self.take() {
            Self::Locked(publisher) => Self::Staging(publisher.stage(new).await?),
            other => other,
        };
        match self {
            Self::Staging(staging) => Ok(Some(staging.version())),
            _ => Ok(None),
        }
    }

    /// How many ranges of keys it takes at once.
    pub(super) fn ranges_max(&self) -> usize {
        match self {
            Self::Staging(staging) => staging.ranges_max(),
            _ => 1,
        }
    }

    /// Puts rows into staging.
    pub(super) async fn fill(&mut self, ranges: Vec<Rows>) -> Result<()> {
        match self {
            Self::Staging(staging) => staging.fill(ranges).await,
            _ => Err(out_of_order("fill")),
        }
    }

    /// Makes sure that exactly the rows that were sent are there.
    pub(super) async fn verify(&mut self, counts: Counts) -> Result<()> {
        *self = match self.take() {
            Self::Staging(staging) => Self::Staged(staging.verify(counts).await?),
            other => other,
        };
        Ok(())
    }

    /// Makes the version live, and returns its number.
    pub(super) async fn publish(&mut self, is_wanted: impl Fn() -> bool) -> Result<u32> {
        match self.take() {
            Self::Staged(staged) => Ok(staged.publish(is_wanted).await?.live.version),
            other => {
                *self = other;
                Err(out_of_order("publish"))
            }
        }
    }

    /// Gives back what is held. The ledger keeps `ending` for a load that staged nothing, and `reason` for a version that
    /// is given up.
    pub(super) async fn end(&mut self, ending: Ending<'_>, reason: &str) -> Result<()> {
        match self.take() {
            Self::Nothing => Ok(()),
            Self::Reserved(reservation) => reservation.end(ending).await,
            Self::Locked(publisher) => publisher.end(ending).await,
            Self::Staging(staging) => staging.abort(reason).await,
            Self::Staged(staged) => staged.abort(reason).await,
        }
    }
}

/// A defect of the load task, and no failure of the store.
fn out_of_order(step: &str) -> store::Error {
    store::Error::Other(format!("the load took the step {step} out of order").into())
}
