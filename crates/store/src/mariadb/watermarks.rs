//! The last swap of each dataset that this process saw on the primary, so that a database that was set back is noticed.
//!
//! A restore or a failover can bring back an older version under numbers that were seen before. Numbers that grow again
//! prove nothing then: only a new history id, which a person sets, makes the process forget what it saw.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::store_table::StoreRow;

#[derive(Debug, Default)]
pub(super) struct SwapWatermarks(Mutex<Watermarks>);

#[derive(Debug, Default)]
struct Watermarks {
    history_id: String,
    of_datasets: HashMap<String, Watermark>,
}

#[derive(Debug)]
struct Watermark {
    last: LiveSwap,
    /// The database was seen at an earlier swap since.
    set_back: bool,
}

/// A version and the swap by which it became live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LiveSwap {
    pub(super) swap: u64,
    pub(super) version: u32,
    pub(super) content: u64,
}

/// What to do about a database that was set back, in the words of an operator.
pub(super) const SET_BACK: &str = "the database was set back: it holds an earlier swap than this process has seen; if its \
    present state is right, run UPDATE tableswap_store SET history_id = MD5(RAND())";

impl SwapWatermarks {
    /// Notes what the primary says is live. Returns whether it may be read: it may not where an earlier swap than before
    /// is live, or the same swap with another version.
    pub(super) fn note(&self, store: &StoreRow, dataset: &str, live: LiveSwap) -> bool {
        let mut watermarks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if watermarks.history_id != store.history_id {
            watermarks.of_datasets.clear();
            watermarks.history_id.clone_from(&store.history_id);
        }
        let Some(watermark) = watermarks.of_datasets.get_mut(dataset) else {
            let watermark = Watermark { last: live, set_back: false };
            watermarks.of_datasets.insert(dataset.to_owned(), watermark);
            return true;
        };
        let last = watermark.last;
        if (live.version, live.content) == (last.version, last.content) {
            // A ledger that was made anew numbers its swaps anew, too.
            *watermark = Watermark { last: live, set_back: false };
        } else if live.swap <= last.swap {
            watermark.set_back = true;
        } else if !watermark.set_back {
            watermark.last = live;
        }
        !watermark.set_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(history: &str) -> StoreRow {
        StoreRow { store_id: "store".into(), history_id: history.into(), heartbeat: 0 }
    }

    fn live(swap: u64, version: u32, content: u64) -> LiveSwap {
        LiveSwap { swap, version, content }
    }

    #[test]
    fn p2_a_database_that_was_set_back_is_not_read_until_its_history_is_declared() {
        let (watermarks, before) = (SwapWatermarks::default(), store("before"));
        let note = |live| watermarks.note(&before, "items", live);
        assert!(note(live(1, 1, 11)) && note(live(3, 3, 33)));
        // Back to an earlier one, the same number with other content, and numbers that even out.
        assert!(!note(live(2, 2, 22)) && !note(live(3, 3, 34)) && !note(live(4, 4, 44)));
        assert!(watermarks.note(&before, "others", live(1, 1, 11)), "another dataset is not concerned");
        assert!(note(live(3, 3, 33)), "the state of before is right again");
        assert!(!note(live(2, 2, 22)));
        assert!(watermarks.note(&store("declared"), "items", live(2, 2, 22)));
        assert!(!watermarks.note(&store("declared"), "items", live(1, 1, 11)));
    }

    #[test]
    fn a_rollback_is_a_later_swap() {
        let watermarks = SwapWatermarks::default();
        let note = |live| watermarks.note(&store("history"), "items", live);
        assert!(note(live(1, 1, 11)) && note(live(2, 2, 22)) && note(live(3, 1, 11)));
    }

    #[test]
    fn a_ledger_that_was_made_anew_numbers_its_swaps_anew() {
        let watermarks = SwapWatermarks::default();
        let note = |live| watermarks.note(&store("history"), "items", live);
        assert!(note(live(17, 9, 99)) && note(live(1, 9, 99)) && note(live(2, 10, 100)));
    }
}
