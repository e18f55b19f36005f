//! What was published when, as far as the clients know it, and which versions an answer may therefore name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::editions::Editions;
use crate::listing::Listing;

/// A version became live at one instant between `started` and `ended`, or, where it is not certain, may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publication {
    pub(crate) version: u32,
    pub(crate) started: Instant,
    pub(crate) ended: Instant,
    pub(crate) certain: bool,
}

/// An operation whose answer did not say how it ended.
enum Unknown {
    Upload { edition: u32, started: Instant },
    Activation { version: u32, started: Instant },
}

#[derive(Default)]
pub(crate) struct History {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    publications: Vec<Publication>,
    unknown: Vec<Unknown>,
    edition_of: BTreeMap<u32, u32>,
    /// Editions whose upload was answered with a refusal, and that answer.
    refused: BTreeMap<u32, u16>,
    reported: BTreeSet<u32>,
    last_settled: Option<Instant>,
    keep_from: Option<Instant>,
}

impl History {
    pub(crate) fn published(&self, version: u32, edition: u32, (started, ended): (Instant, Instant)) {
        let mut state = self.state();
        state.edition_of.entry(version).or_insert(edition);
        state.publications.push(Publication { version, started, ended, certain: true });
    }

    pub(crate) fn activated(&self, version: u32, (started, ended): (Instant, Instant)) {
        self.state().publications.push(Publication { version, started, ended, certain: true });
    }

    pub(crate) fn upload_unknown(&self, edition: u32, started: Instant) {
        self.state().unknown.push(Unknown::Upload { edition, started });
    }

    pub(crate) fn activation_unknown(&self, version: u32, started: Instant) {
        self.state().unknown.push(Unknown::Activation { version, started });
    }

    pub(crate) fn refused(&self, edition: u32, status: u16) {
        self.state().refused.insert(edition, status);
    }

    /// An edition that was refused before is sent once more, so it may become live after all.
    pub(crate) fn sent_again(&self, edition: u32) {
        self.state().refused.remove(&edition);
    }

    pub(crate) fn edition_of(&self, version: u32) -> Option<u32> {
        self.state().edition_of.get(&version).copied()
    }

    pub(crate) fn publications(&self) -> Vec<Publication> {
        self.state().publications.clone()
    }

    /// Takes what the store says while nothing is under way: it settles all that was not known. Returns broken rules.
    pub(crate) fn settle(&self, editions: &Editions, listing: &Listing, now: Instant) -> Vec<String> {
        let mut state = self.state();
        let mut broken = Vec::new();
        for entry in listing.entries.iter().filter(|entry| entry.was_published) {
            let Some(edition) = editions.of_sha256(&entry.sha256) else {
                broken.push(format!("version {} is of a file that nobody sent", entry.version));
                continue;
            };
            let known = *state.edition_of.entry(entry.version).or_insert(edition);
            if known != edition && state.reported.insert(entry.version) {
                broken
                    .push(format!("version {} was edition {known} and is edition {edition}", entry.version));
            }
            if let Some(status) = state.refused.get(&edition).copied()
                && state.reported.insert(entry.version)
            {
                broken.push(format!(
                    "edition {edition} was answered with {status} and is version {} ({})",
                    entry.version, entry.state
                ));
            }
        }
        for unknown in std::mem::take(&mut state.unknown) {
            let (version, started) = match unknown {
                Unknown::Activation { version, started } => (Some(version), started),
                Unknown::Upload { edition, started } => (listing.version_of(editions, edition), started),
            };
            let ended = now;
            let found = version.map(|version| Publication { version, started, ended, certain: false });
            state.publications.extend(found);
        }
        state.last_settled = Some(now);
        let base = |version| Publication { version, started: now, ended: now, certain: true };
        state.publications.extend(listing.live.map(base));
        broken
    }

    /// All answers so far have been judged. Forgets what answers to come cannot name any more: one that is on its way
    /// began after what was settled before the answers were taken.
    pub(crate) fn judged(&self) {
        let mut state = self.state();
        let last_settled = state.last_settled;
        let keep_from = std::mem::replace(&mut state.keep_from, last_settled);
        state.publications.retain(|publication| keep_from.is_none_or(|from| publication.ended >= from));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The publications because of which an answer between these instants may name this version: those that had begun, and
/// after which no other one began and ended before the request did.
pub(crate) fn sources(
    publications: &[Publication],
    version: u32,
    (started, ended): (Instant, Instant),
) -> Vec<Publication> {
    let is_replaced = |source: &Publication| {
        publications
            .iter()
            .any(|other| other.certain && other.started > source.ended && other.ended < started)
    };
    publications
        .iter()
        .filter(|source| source.version == version && source.started < ended && !is_replaced(source))
        .copied()
        .collect()
}

/// Whether a reader who saw `before` may see `after` next: not where every publication of `after` had ended before one
/// of `before` began.
pub(crate) fn may_follow(publications: &[Publication], before: &[Publication], after: u32) -> bool {
    let Some(earliest) = before.iter().map(|publication| publication.started).min() else {
        return true;
    };
    publications.iter().any(|publication| publication.version == after && publication.ended >= earliest)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Version 1 from the start, then version 2 between 10 and 20 ms, and version 1 again between 30 and 40 ms.
    fn publications(start: Instant, certain: bool) -> Vec<Publication> {
        let publication = |version, from, to| Publication {
            version,
            started: start + Duration::from_millis(from),
            ended: start + Duration::from_millis(to),
            certain,
        };
        vec![publication(1, 0, 1), publication(2, 10, 20), publication(1, 30, 40)]
    }

    fn may_name(version: u32, from: u64, to: u64, certain: bool) -> bool {
        let start = Instant::now();
        let times = (start + Duration::from_millis(from), start + Duration::from_millis(to));
        !sources(&publications(start, certain), version, times).is_empty()
    }

    #[test]
    fn an_answer_may_name_what_was_live_at_some_instant_of_its_request() {
        assert!(may_name(1, 5, 8, true) && !may_name(2, 5, 8, true), "before");
        assert!(may_name(1, 12, 15, true) && may_name(2, 12, 15, true), "while it is published");
        assert!(may_name(1, 18, 25, true), "the request began before the answer to the upload");
        assert!(!may_name(1, 21, 25, true) && may_name(2, 21, 25, true), "after");
        assert!(may_name(1, 41, 42, true) && !may_name(2, 41, 42, true), "after a rollback");
        assert!(!may_name(3, 12, 15, true), "a version that nobody published");
    }

    #[test]
    fn a_publication_that_is_not_certain_replaces_nothing() {
        assert!(may_name(1, 21, 25, false) && may_name(2, 21, 25, false) && may_name(2, 41, 42, false));
    }

    #[test]
    fn a_reader_goes_back_only_where_a_publication_went_back() {
        let all = publications(Instant::now(), true);
        let saw_2 = [all[1]];
        assert!(may_follow(&all, &saw_2, 1), "there was a rollback");
        assert!(!may_follow(&all[..2], &saw_2, 1), "there was none");
        assert!(may_follow(&all, &[all[0]], 2), "forward");
    }
}
