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
                broken.push(format!("version {} was edition {known} and is edition {edition}", entry.version));
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
        // An answer that began before the last time that all was settled may still come in.
        if let Some(last) = state.last_settled {
            state.publications.retain(|publication| publication.ended >= last);
        }
        state.last_settled = Some(now);
        let base = |version| Publication { version, started: now, ended: now, certain: true };
        state.publications.extend(listing.live.map(base));
        broken
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
