//! The history of a dataset's versions, and the rules by which their states change.
//!
//! The ledger only remembers. Which version is live is decided by what a swap changes: a table's name, or the catalog.
//! After a crash the ledger is put right from that. The rules are the same for both backends, which differ in where
//! they keep the entries.

use std::collections::BTreeSet;

use dataset::Dataset;

use crate::version::{Actor, Counts, Entry, NewLoad, NewVersion, State, host, now};
use crate::{Error, Result};

/// What a store really holds of a dataset, beside its ledger.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// What readers see.
    pub(crate) live: Option<u32>,
    /// Other versions whose rows are there and are proven to be ours.
    pub(crate) present: Vec<u32>,
    /// Numbers whose name is taken, by whatever.
    pub(crate) taken: BTreeSet<u32>,
    /// Versions whose loads are alive and hold no lock: they are still receiving their files.
    pub(crate) receiving: BTreeSet<u32>,
}

/// A number that a load reserved; only an entry of this load is its own.
#[derive(Debug, Clone)]
pub(crate) struct Reserved {
    pub(crate) version: u32,
    pub(crate) load: String,
}

/// The reason of a version whose rows were not found, unlike one that was pruned: they may come back.
const MISSING: &str = "its rows were not found";
/// The reason of a version that a person took out of its place.
const SET_ASIDE: &str = "its table was renamed by hand";

/// The entries of one dataset, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    entries: Vec<Entry>,
    /// Versions whose entries changed and are not yet written.
    changed: BTreeSet<u32>,
    /// The highest version whose rows were seen, whether or not it has an entry.
    seen_max: u32,
    taken: BTreeSet<u32>,
    /// The highest number of a swap that is known beside the entries.
    last_swap: u64,
    /// Who activates a version.
    activating: Option<Actor>,
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

    /// The version that is live, or was until somebody took its rows away.
    pub(crate) fn last_live(&self) -> Option<&Entry> {
        let was_live = self.entries.iter().filter(|entry| entry.live_swap > 0);
        self.live().or_else(|| was_live.max_by_key(|entry| entry.live_swap))
    }

    /// A published version whose load began after that of `version`.
    pub(crate) fn published_after(&self, version: u32) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.version > version && entry.published_at.is_some())
    }

    /// The withdrawn version with this content; its rows may be gone.
    pub(crate) fn withdrawn(&self, sha256: &str, definition_hash: &str) -> Option<&Entry> {
        let same = self.entries.iter().filter(|entry| entry.is_content(sha256, definition_hash));
        // What was published again since then is not withdrawn any more.
        same.max_by_key(|entry| entry.live_swap).filter(|entry| entry.withdrawn_at.is_some())
    }

    /// The entries that changed since this was last called.
    pub(crate) fn take_changed(&mut self) -> Vec<Entry> {
        let changed = std::mem::take(&mut self.changed);
        self.entries.iter().filter(|entry| changed.contains(&entry.version)).cloned().collect()
    }

    /// Takes note of the highest number that is in use without an entry, and of all names that are taken.
    pub(crate) fn see_names(&mut self, newest: u32, taken: BTreeSet<u32>) {
        (self.seen_max, self.taken) = (newest, taken);
    }

    /// Whether something has the name that this version has while it is not live.
    pub(crate) fn is_taken(&self, version: u32) -> bool {
        self.taken.contains(&version)
    }

    /// The next number: above all that were ever seen, and none whose name is taken.
    pub(crate) fn next_version(&self) -> Result<u32> {
        let newest = self.entries.last().map_or(0, |entry| entry.version).max(self.seen_max);
        let mut numbers = (1..=u32::MAX - newest).map(|step| newest + step);
        numbers.find(|number| !self.taken.contains(number)).ok_or(Error::NoVersionNumber { newest })
    }

    /// Enters a version whose rows are about to be staged. It has the number that its load reserved, unless a load that
    /// began later was published, or something else took the name.
    pub(crate) fn stage(&mut self, reserved: Option<&Reserved>, new: NewVersion) -> Result<u32> {
        // Where the store was restored meanwhile, another load may have the number by now.
        let own = reserved.filter(|reserved| self.is_own(reserved)).map(|reserved| reserved.version);
        let usable =
            |version: &u32| self.published_after(*version).is_none() && !self.taken.contains(version);
        let version = match own.filter(usable) {
            Some(version) => version,
            None => self.next_version()?,
        };
        let before = own.and_then(|own| self.get(own)).cloned();
        let (load, actor, started_at) = before.map_or_else(
            || (reserved.map_or_else(String::new, |it| it.load.clone()), None, now()),
            |before| (before.load, before.actor, before.started_at),
        );
        let entry = Entry {
            version,
            state: State::Loading,
            rows: 0,
            rejected: 0,
            duplicates: 0,
            bytes: new.bytes,
            sha256: new.sha256,
            definition_hash: new.definition_hash,
            source: new.source,
            load,
            host: host(),
            actor,
            activated_by: None,
            forced: new.forced,
            started_at,
            published_at: None,
            withdrawn_at: None,
            reason: None,
            swap: 0,
            live_swap: 0,
            content: None,
            schema: new.schema,
        };
        if let Some(own) = own.filter(|own| *own != version) {
            self.superseded(own, &format!("published by force as version {version}"));
        }
        self.insert(entry);
        Ok(version)
    }

    /// Whether the entry of a reserved number, if there is one, is of the load that reserved it.
    pub(crate) fn is_own(&self, reserved: &Reserved) -> bool {
        let is_own = |entry: &Entry| entry.load == reserved.load && entry.published_at.is_none();
        self.get(reserved.version).is_none_or(is_own)
    }

    /// Enters a load that has staged nothing so far.
    pub(crate) fn add_unstaged(&mut self, entry: Entry) {
        if self.get(entry.version).is_none() {
            self.insert(entry);
        }
    }

    /// Enters the live version again whose entry is gone or is of other content. The swap that made it live is not known,
    /// so it gets a new number.
    pub(crate) fn rebuild(&mut self, version: u32, dataset: &Dataset, rows: u64, content: u64) {
        let load = NewLoad { id: String::new(), source: "rebuilt from the live rows".into(), actor: None };
        let content = Some(content);
        let entry = Entry { rows, content, ..Entry::reserved(version, dataset, &load) };
        self.insert(entry);
        self.see_live(Some(version));
    }

    fn insert(&mut self, entry: Entry) {
        let version = entry.version;
        let at = self.entries.partition_point(|other| other.version < version);
        match self.entries.get_mut(at).filter(|other| other.version == version) {
            Some(there) => *there = entry,
            None => self.entries.insert(at, entry),
        }
        self.changed.insert(version);
    }

    pub(crate) fn staged(&mut self, version: u32, counts: Counts) {
        self.change(version, |entry| {
            entry.state = State::Staged;
            (entry.rows, entry.rejected, entry.duplicates) =
                (counts.rows, counts.rejected, counts.duplicates);
        });
    }

    pub(crate) fn failed(&mut self, version: u32, reason: &str) {
        self.end(version, State::Failed, reason);
    }

    pub(crate) fn superseded(&mut self, version: u32, reason: &str) {
        self.end(version, State::Superseded, reason);
    }

    fn end(&mut self, version: u32, state: State, reason: &str) {
        self.change(version, |entry| {
            entry.state = state;
            entry.reason = Some(reason.to_owned());
        });
    }

    /// Numbers the swap that is to come. It is written before the swap, so that whoever sees the version live can tell
    /// this time from an earlier one, and a server that is behind from one on which somebody rolled back.
    pub(crate) fn announce(&mut self, version: u32) {
        let next = self.last_swap() + 1;
        self.change(version, |entry| entry.swap = next);
    }

    /// The highest number of a swap.
    pub(crate) fn last_swap(&self) -> u64 {
        let of_entries = self.entries.iter().map(|entry| entry.swap.max(entry.live_swap));
        of_entries.chain([self.last_swap]).max().unwrap_or(0)
    }

    /// Takes note of a swap that no entry may remember: where entries were lost, numbers go on above it.
    pub(crate) fn see_last_swap(&mut self, swap: u64) {
        self.last_swap = swap;
    }

    /// From now on a version that becomes live is activated by this client.
    pub(crate) fn activate_for(&mut self, actor: Actor) {
        self.activating = Some(actor);
    }

    /// Enters that another version became live. Going back withdraws the one that was live before.
    pub(crate) fn swapped(&mut self, version: u32) {
        let actor = self.activating.clone();
        let by = actor.as_ref().map(|actor| format!(" by {actor}")).unwrap_or_default();
        for before in self.live_others(Some(version)) {
            let withdrawn = version < before;
            self.change(before, |entry| {
                entry.state = if withdrawn { State::Withdrawn } else { State::Kept };
                entry.withdrawn_at = withdrawn.then(now);
                entry.reason = withdrawn.then(|| format!("rolled back to version {version}{by}"));
            });
        }
        self.change(version, |entry| {
            entry.state = State::Live;
            entry.live_swap = entry.swap;
            entry.withdrawn_at = None;
            entry.reason = None;
            entry.activated_by = actor.or(entry.activated_by.take());
            entry.published_at.get_or_insert_with(now);
        });
    }

    /// Whether the swap of that number made the version live, whatever became of it since.
    pub(crate) fn was_swapped(&self, version: u32, swap: u64) -> bool {
        self.get(version).is_some_and(|entry| entry.live_swap >= swap)
    }

    /// Versions that are live by their entries and not by what readers see. A crash between the writing of two entries
    /// can leave one.
    fn live_others(&self, live: Option<u32>) -> Vec<u32> {
        let others =
            self.entries.iter().filter(|entry| entry.state == State::Live && Some(entry.version) != live);
        others.map(|entry| entry.version).collect()
    }

    pub(crate) fn damaged(&mut self, version: u32, reason: &str) {
        self.end(version, State::Damaged, reason);
    }

    pub(crate) fn dropped(&mut self, version: u32) {
        self.change(version, |entry| {
            entry.state = State::Dropped;
            entry.reason = None;
        });
    }

    /// Puts the entries right by what the store really holds.
    pub(crate) fn reconcile(&mut self, found: &Found) {
        self.see_names(found.live.unwrap_or(0), found.taken.clone());
        for version in self.live_others(found.live).into_iter().filter(|_| found.live.is_none()) {
            let is_there = found.present.contains(&version);
            let (state, reason) = if is_there { (State::Kept, SET_ASIDE) } else { (State::Dropped, MISSING) };
            self.end(version, state, reason);
        }
        for version in &found.present {
            let entry = self.get(*version).filter(|entry| entry.state == State::Dropped);
            if entry.is_some_and(|entry| entry.reason.as_deref() == Some(MISSING)) {
                self.end(*version, State::Kept, SET_ASIDE);
            }
        }
        self.see_live(found.live);
        let states: Vec<_> = self.entries.iter().map(|entry| (entry.version, entry.state)).collect();
        for (version, state) in states {
            match state {
                State::Loading if found.receiving.contains(&version) => {}
                State::Loading | State::Staged => self.failed(version, "left behind by a crash"),
                State::Kept | State::Withdrawn if !found.present.contains(&version) => {
                    self.end(version, State::Dropped, MISSING);
                }
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
        let Some(entry) = self.get(live) else {
            return self.swapped(live);
        };
        if entry.state == State::Live && self.live_others(Some(live)).is_empty() {
            return;
        }
        let last_live = self.entries.iter().map(|entry| entry.live_swap).max().unwrap_or(0);
        if entry.swap <= last_live && entry.state != State::Live {
            // Nothing announced this swap: somebody renamed tables by hand.
            self.announce(live);
        }
        self.swapped(live);
    }

    /// Whether the rows of a version are there for nobody. What has no entry is not ours to remove.
    pub(crate) fn is_orphan(&self, version: u32) -> bool {
        use State::{Dropped, Failed, Superseded};
        // What is damaged stays for whoever wants to look at it, until it would be pruned.
        self.get(version).is_some_and(|entry| matches!(entry.state, Dropped | Failed | Superseded))
    }

    /// Whether a version may be discarded with its rows: it was never published.
    pub(crate) fn is_discardable(&self, version: u32) -> bool {
        let may_go = |entry: &Entry| {
            !matches!(entry.state, State::Live | State::Kept | State::Withdrawn | State::Damaged)
        };
        self.get(version).is_some_and(may_go)
    }

    /// Whether the rows of a version that is not live are to stay, so that it can be activated.
    pub(crate) fn stays(&self, version: u32) -> bool {
        self.get(version).is_some_and(|entry| matches!(entry.state, State::Kept | State::Withdrawn))
    }

    /// The versions that no longer stay when `keep` previous ones do: those that were live most recently stay, and a
    /// withdrawn one goes before any other.
    pub(crate) fn expired(&self, keep: u32) -> Vec<u32> {
        let is_there = |entry: &&Entry| self.stays(entry.version) || entry.state == State::Damaged;
        let mut there: Vec<_> = self.entries.iter().filter(is_there).collect();
        there.sort_by_key(|entry| std::cmp::Reverse((entry.state == State::Kept, entry.live_swap)));
        there
            .into_iter()
            .skip(usize::try_from(keep).unwrap_or(usize::MAX))
            .map(|entry| entry.version)
            .collect()
    }

    /// Forgets the oldest versions whose rows are gone, so that no more than `max` entries are left.
    pub(crate) fn forget(&mut self, max: usize) {
        use State::{Dropped, Failed, Superseded};
        let mut over = self.entries.len().saturating_sub(max);
        self.entries.retain(|entry| {
            let gone = over > 0
                && entry.withdrawn_at.is_none()
                && matches!(entry.state, Dropped | Failed | Superseded);
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

#[cfg(test)]
mod tests;
