//! A bound for the requests that wait for the store: those above it are refused at once and not queued without end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use service::Problem;

/// The places for requests that wait, in all workers together.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    taken: Arc<AtomicUsize>,
    max: usize,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Places {
    pub(crate) fn new(max: usize) -> Self {
        Self { taken: Arc::default(), max }
    }

    /// Takes a place, or says that there is none.
    pub(crate) fn take(&self) -> Result<Place, Problem> {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        // Where there is none, dropping it makes up for the count.
        let place = Place(self.taken.clone());
        if taken >= self.max {
            return Err(Problem::unavailable("too many requests are waiting").logged());
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_was_refused_takes_none_and_one_that_is_left_is_free() {
        let places = Places::new(2);
        let (first, _second) = (places.take().unwrap(), places.take().unwrap());
        assert!(places.take().is_err() && places.take().is_err());
        drop(first);
        assert!(places.take().is_ok());
    }
}
