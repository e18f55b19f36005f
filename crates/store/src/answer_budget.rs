//! How many bytes of rows the answers to look-ups of many keys may hold, each alone and all together.
//!
//! A request of a few kilobytes can ask for a gigabyte. So rows are counted while they are collected, and a look-up that
//! would hold too many stops there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all answers may hold.
#[derive(Debug, Clone)]
pub struct AnswerBudget {
    used: Arc<AtomicUsize>,
    bytes_max: usize,
    all_bytes_max: usize,
}

/// Why an answer may hold no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverBudget {
    /// This answer has as many bytes as one may have.
    #[error("the rows have more than {bytes_max} bytes")]
    TooLarge {
        /// What one answer may hold.
        bytes_max: usize,
    },
    /// All answers that are not yet sent have as many bytes as they may have together.
    #[error("too many large answers are being sent")]
    Overloaded,
}

/// What one answer holds, until it is dropped.
#[derive(Debug)]
pub struct AnswerBytes {
    budget: AnswerBudget,
    held: AtomicUsize,
}

impl AnswerBudget {
    /// What one answer may hold, and what all may hold together.
    pub fn new(bytes_max: usize, all_bytes_max: usize) -> Self {
        Self { used: Arc::default(), bytes_max, all_bytes_max }
    }

    /// An answer that holds nothing yet.
    pub fn begin(&self) -> Arc<AnswerBytes> {
        Arc::new(AnswerBytes { budget: self.clone(), held: AtomicUsize::new(0) })
    }
}

impl AnswerBytes {
    /// Holds more bytes, if there may be more.
    pub fn hold(&self, bytes: usize) -> Result<(), OverBudget> {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let used = self.budget.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // What is over the limit is given back when this is dropped or cleared.
        if held > self.budget.bytes_max {
            return Err(OverBudget::TooLarge { bytes_max: self.budget.bytes_max });
        }
        if used > self.budget.all_bytes_max { Err(OverBudget::Overloaded) } else { Ok(()) }
    }

    /// Gives all bytes back, for another try.
    pub fn clear(&self) {
        let held = self.held.swap(0, Ordering::Relaxed);
        self.budget.used.fetch_sub(held, Ordering::Relaxed);
    }
}

impl Drop for AnswerBytes {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_bytes_until_it_is_dropped() {
        let budget = AnswerBudget::new(10, 15);
        let (first, second) = (budget.begin(), budget.begin());
        assert_eq!(first.hold(10), Ok(()));
        assert_eq!(second.hold(6), Err(OverBudget::Overloaded));
        second.clear();
        assert_eq!(second.hold(5), Ok(()));
        drop(first);
        assert_eq!(second.hold(5), Ok(()));
        assert_eq!(second.hold(1), Err(OverBudget::TooLarge { bytes_max: 10 }));
        drop(second);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
