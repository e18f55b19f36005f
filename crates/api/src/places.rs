//! A bound for the requests that wait for the store: those above it are refused at once and not queued without end.

use std::sync::Arc;

use service::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A place, until it is dropped.
pub(crate) type Place = OwnedSemaphorePermit;

/// The places for requests that wait, in all workers together.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Semaphore>);

impl Places {
    pub(crate) fn new(max: usize) -> Self {
        Self(Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS))))
    }

    /// Takes a place, or says that there is none.
    pub(crate) fn take(&self) -> Result<Place, Problem> {
        let place = self.0.clone().try_acquire_owned();
        place.map_err(|_| Problem::unavailable("too many requests are waiting").logged())
    }
}
