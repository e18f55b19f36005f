//! The history of a dataset's versions, and the rules by which their states change.
//!
//! The ledger only remembers. Which version is live is decided by what a swap changes: a table's name, or the catalog.
//! After a crash the ledger is put right from that. The rules are the same for both backends, which differ in where
//! they keep the entries.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use dataset::Schema;
use serde::{Deserialize, Serialize};

/// The state of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Rows are being staged.
    Loading,
    /// All rows are staged and verified.
    Staged,
    /// What readers see.
    Live,
    /// No longer live, and there for a rollback.
    Kept,
    /// Rolled back from: never picked again by itself.
    Withdrawn,
    /// No longer there.
    Dropped,
    /// Given up before it was published.
    Failed,
}

/// What is remembered of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number; numbers only grow.
    pub version: u32,
    /// Its state.
    pub state: State,
    /// Rows in it.
    pub rows: u64,
    /// Rows of its file that were refused.
    pub rejected: u64,
    /// Rows of its file that were left out for their key.
    pub duplicates: u64,
    /// Bytes of its file, as they came.
    pub bytes: u64,
    /// SHA-256 of these bytes, in hexadecimal.
    pub sha256: String,
    /// Where the file came from, as its sender named it.
    pub source: String,
    /// Whether it passed the shrink guard by force.
    pub forced: bool,
    /// When its staging began.
    pub started_at: DateTime<Utc>,
    /// When it first became live.
    pub published_at: Option<DateTime<Utc>>,
    /// Why it failed or was withdrawn.
    pub reason: Option<String>,
    /// The number of the swap by which it became live last; such numbers only grow. 0 before the first.
    #[serde(default)]
    pub swap: u64,
    /// Its columns.
    pub schema: Arc<Schema>,
}

/// What is known of a version before its rows are staged.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// Its columns.
    pub schema: Arc<Schema>,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Bytes of its file.
    pub bytes: u64,
    /// Where the file came from.
    pub source: String,
    /// Whether it passed the shrink guard by force.
    pub forced: bool,
    /// How many versions before it stay once it is live.
    pub keep_versions: u32,
}

/// What was counted while the rows were staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Rows that were sent.
    pub rows: u64,
    /// Rows of the file that were refused.
    pub rejected: u64,
    /// Rows of the file that were left out for their key.
    pub duplicates: u64,
}

/// The entries of one dataset, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    entries: Vec<Entry>,
    /// Versions whose entries changed and are not yet written.
    changed: BTreeSet<u32>,
    /// The highest version whose rows were seen, whether or not it has an entry.
    seen_max: u32,
}

impl Ledger {
    pub(crate) fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by_key(|entry| entry.version);
        Self { entries, ..Self::default() }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All entries, newest first.
    pub(crate) fn into_newest_first(mut self) -> Vec<Entry> {
        self.entries.reverse();
        self.entries
    }

    pub(crate) fn get(&self, version: u32) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.version == version)
    }

    pub(crate) fn live(&self) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.state == State::Live)
    }

    /// The entries that changed since this was last asked.
    pub(crate) fn take_changed(&mut self) -> Vec<Entry> {
        let changed = std::mem::take(&mut self.changed);
        self.entries.iter().filter(|entry| changed.contains(&entry.version)).cloned().collect()
    }

    /// Enters a new version, whose number is above all that were ever seen.
    pub(crate) fn begin(&mut self, new: NewVersion) -> u32 {
        let version = self.entries.last().map_or(0, |entry| entry.version).max(self.seen_max) + 1;
        self.entries.push(Entry {
            version,
            state: State::Loading,
            rows: 0,
            rejected: 0,
            duplicates: 0,
            bytes: new.bytes,
            sha256: new.sha256,
            source: new.source,
            forced: new.forced,
            started_at: now(),
            published_at: None,
            reason: None,
            swap: 0,
            schema: new.schema,
        });
        self.changed.insert(version);
        version
    }

    pub(crate) fn staged(&mut self, version: u32, counts: Counts) {
        self.change(version, |entry| {
            entry.state = State::Staged;
            (entry.rows, entry.rejected, entry.duplicates) =
                (counts.rows, counts.rejected, counts.duplicates);
        });
    }

    pub(crate) fn failed(&mut self, version: u32, reason: &str) {
        self.change(version, |entry| {
            entry.state = State::Failed;
            entry.reason = Some(reason.to_owned());
        });
    }

    /// Numbers the swap that is to come. It is written before the swap, so that whoever sees the version live can tell
    /// this time from an earlier one, and a server that is behind from one on which somebody rolled back.
    pub(crate) fn announce(&mut self, version: u32) {
        let last = self.entries.iter().map(|entry| entry.swap).max().unwrap_or(0);
        self.change(version, |entry| entry.swap = last + 1);
    }

    /// Enters that another version became live. Going back withdraws the one that was live before.
    pub(crate) fn swapped(&mut self, version: u32) {
        for before in self.live_others(Some(version)) {
            let withdrawn = version < before;
            self.change(before, |entry| {
                entry.state = if withdrawn { State::Withdrawn } else { State::Kept };
                entry.reason = withdrawn.then(|| format!("rolled back to version {version}"));
            });
        }
        self.change(version, |entry| {
            entry.state = State::Live;
            entry.reason = None;
            entry.published_at.get_or_insert_with(now);
        });
    }

    /// Versions that are live by their entries and not by what readers see. A crash between the writing of two entries
    /// can leave one.
    fn live_others(&self, live: Option<u32>) -> Vec<u32> {
        let others =
            self.entries.iter().filter(|entry| entry.state == State::Live && Some(entry.version) != live);
        others.map(|entry| entry.version).collect()
    }

    pub(crate) fn dropped(&mut self, version: u32) {
        self.change(version, |entry| entry.state = State::Dropped);
    }

    /// Puts the entries right, where `live` is what readers really see and `present` are the other versions whose rows
    /// are there.
    pub(crate) fn reconcile(&mut self, live: Option<u32>, present: &[u32]) {
        self.seen_max = live.iter().chain(present).copied().max().unwrap_or(0);
        self.see_live(live);
        let states: Vec<_> = self.entries.iter().map(|entry| (entry.version, entry.state)).collect();
        for (version, state) in states {
            match state {
                State::Loading | State::Staged => self.failed(version, "left behind by a crash"),
                State::Kept | State::Withdrawn if !present.contains(&version) => self.dropped(version),
                _ => {}
            }
        }
    }

    /// Says which version is live by what readers really see, where the entries do not know it yet.
    pub(crate) fn see_live(&mut self, live: Option<u32>) {
        let Some(live) = live else {
            // Somebody took the live rows away.
            return self.live_others(None).into_iter().for_each(|version| self.dropped(version));
        };
        let known = self.get(live).is_some_and(|entry| entry.state == State::Live);
        if !known || !self.live_others(Some(live)).is_empty() {
            self.swapped(live);
        }
    }

    /// Whether the rows of a version are there for nobody. What has no entry is not ours to remove.
    pub(crate) fn is_left_over(&self, version: u32) -> bool {
        self.get(version).is_some_and(|entry| entry.state != State::Live) && !self.stays(version)
    }

    /// Whether the rows of a version that is not live are to stay.
    pub(crate) fn stays(&self, version: u32) -> bool {
        self.get(version).is_some_and(|entry| matches!(entry.state, State::Kept | State::Withdrawn))
    }

    /// Whether the version can be made live.
    pub(crate) fn can_activate(&self, version: u32) -> bool {
        self.stays(version)
    }

    /// The versions that no longer stay when `keep` previous ones do. A withdrawn one goes before any other.
    pub(crate) fn expired(&self, keep: u32) -> Vec<u32> {
        let mut there: Vec<_> = self.entries.iter().filter(|entry| self.stays(entry.version)).collect();
        there.sort_by_key(|entry| std::cmp::Reverse((entry.state == State::Kept, entry.version)));
        there
            .into_iter()
            .skip(usize::try_from(keep).unwrap_or(usize::MAX))
            .map(|entry| entry.version)
            .collect()
    }

    /// Forgets the oldest versions whose rows are gone, so that no more than `max` entries are left.
    pub(crate) fn forget(&mut self, max: usize) {
        let mut over = self.entries.len().saturating_sub(max);
        self.entries.retain(|entry| {
            let gone = over > 0 && matches!(entry.state, State::Dropped | State::Failed);
            over -= usize::from(gone);
            !gone
        });
    }

    fn change(&mut self, version: u32, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.version == version) {
            change(entry);
            self.changed.insert(version);
        }
    }
}

/// To the second: that is what both backends keep.
fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_version() -> NewVersion {
        let datasets = dataset::Datasets::built_in().unwrap();
        let schema = datasets.only().unwrap().schema.clone();
        let (sha256, source) = (String::new(), String::new());
        NewVersion { schema, sha256, bytes: 0, source, forced: false, keep_versions: 2 }
    }

    fn with_published(count: u32) -> Ledger {
        let mut ledger = Ledger::default();
        for _ in 0..count {
            let version = ledger.begin(new_version());
            ledger.swapped(version);
        }
        ledger
    }

    fn states(ledger: &Ledger) -> String {
        ledger.entries().iter().map(|entry| format!("{}:{:?} ", entry.version, entry.state)).collect()
    }

    #[test]
    fn going_back_withdraws_and_going_forward_keeps() {
        let mut ledger = with_published(2);
        assert_eq!(states(&ledger), "1:Kept 2:Live ");
        ledger.swapped(1);
        assert_eq!(states(&ledger), "1:Live 2:Withdrawn ");
        ledger.swapped(2);
        assert_eq!(states(&ledger), "1:Kept 2:Live ");
    }

    #[test]
    fn a_number_is_never_used_again() {
        let mut ledger = with_published(2);
        ledger.swapped(1);
        ledger.forget(0);
        assert_eq!(ledger.begin(new_version()), 3);
    }

    #[test]
    fn a_number_that_only_a_table_remembers_is_not_used_again() {
        let mut ledger = Ledger::default();
        ledger.reconcile(Some(42), &[41, 43]);
        assert_eq!(ledger.begin(new_version()), 44);
    }

    #[test]
    fn withdrawn_versions_expire_before_kept_ones() {
        let mut ledger = with_published(4);
        ledger.swapped(3);
        let version = ledger.begin(new_version());
        ledger.swapped(version);
        assert_eq!(states(&ledger), "1:Kept 2:Kept 3:Kept 4:Withdrawn 5:Live ");
        assert_eq!(ledger.expired(2), [1, 4]);
    }

    #[test]
    fn a_crash_between_the_swap_and_its_entry_is_put_right() {
        let mut ledger = with_published(1);
        ledger.begin(new_version());
        ledger.reconcile(Some(2), &[1]);
        assert_eq!(states(&ledger), "1:Kept 2:Live ");
    }

    #[test]
    fn a_crash_between_two_entries_of_a_rollback_is_put_right() {
        let mut ledger = with_published(2);
        ledger.change(1, |entry| entry.state = State::Live);
        ledger.reconcile(Some(1), &[2]);
        assert_eq!(states(&ledger), "1:Live 2:Withdrawn ");
        assert!(!ledger.is_left_over(2) && !ledger.is_left_over(1) && !ledger.is_left_over(77));
    }

    #[test]
    fn live_rows_that_somebody_took_away_are_not_called_live() {
        let mut ledger = with_published(1);
        ledger.reconcile(None, &[]);
        assert_eq!(states(&ledger), "1:Dropped ");
    }

    #[test]
    fn a_crash_before_the_swap_leaves_a_failed_version() {
        let mut ledger = with_published(2);
        ledger.begin(new_version());
        ledger.reconcile(Some(2), &[]);
        assert_eq!(states(&ledger), "1:Dropped 2:Live 3:Failed ");
        assert_eq!(ledger.get(3).unwrap().reason.as_deref(), Some("left behind by a crash"));
    }
}
