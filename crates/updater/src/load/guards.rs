//! The guards: whether a file may replace the live version.

use dataset::Dataset;
use ingest::{Ingested, Merged, Refusal, Rejects};
use store::{Counts, Entry, Publisher, State};

use super::failure::Failure;
use super::options::LoadOptions;
use super::summary::ReceivedFile;
use crate::metrics::Metrics;

/// What the guards of a load go by.
pub(super) struct Guards<'a> {
    pub(super) dataset: &'a Dataset,
    pub(super) options: &'a LoadOptions,
    pub(super) metrics: &'a Metrics,
}

/// The version that a file would replace.
#[derive(Debug)]
pub(super) struct Baseline {
    pub(super) live: Option<Entry>,
    /// Rows of the live version as it was published, even if its rows have been taken away since.
    pub(super) rows: Option<u64>,
}

impl Baseline {
    /// As the ledger has it under the lock.
    pub(super) fn locked(publisher: &Publisher) -> Self {
        Self { live: publisher.live().cloned(), rows: publisher.rows_before() }
    }

    /// As the ledger has it without the lock.
    pub(super) fn unlocked(versions: &[Entry]) -> Self {
        let live = versions.iter().find(|entry| entry.state == State::Live).cloned();
        let newest_swap = versions.iter().max_by_key(|entry| entry.live_swap);
        Self { live, rows: newest_swap.filter(|entry| entry.live_swap > 0).map(|entry| entry.rows) }
    }
}

impl Guards<'_> {
    /// Refuses a file that is not the one that the request states.
    pub(super) fn check_digest(&self, file: &ReceivedFile) -> Result<(), Failure> {
        let found = &file.sha256;
        match self.options.sha256.iter().find(|stated| stated.as_str() != found) {
            Some(stated) => {
                let stated = stated.as_str().to_owned();
                Err(Failure::DigestMismatch { stated, found: found.clone() })
            }
            None => Ok(()),
        }
    }

    /// Fails where another version is live than the client expects.
    pub(super) fn check_live(&self, live: Option<&Entry>) -> Result<(), Failure> {
        match &self.options.if_match {
            Some(expected) if !expected.allows(&self.dataset.name, live) => {
                Err(Failure::LiveChanged { live: live.map(|live| live.version) })
            }
            _ => Ok(()),
        }
    }

    /// Refuses a load that a later one has overtaken, and the content of a version that was rolled back.
    /// A dry run has no publisher and no place in the history.
    pub(super) fn check_history(
        &self,
        publisher: Option<&Publisher>,
        file: &ReceivedFile,
    ) -> Result<(), Failure> {
        let Some(publisher) = publisher.filter(|_| !self.options.force) else { return Ok(()) };
        if let Some(later) = publisher.superseded_by() {
            return Err(Failure::Superseded { by: later.version });
        }
        if let Some(withdrawn) = publisher.withdrawn(&file.sha256, &self.dataset.definition_hash()) {
            let at = withdrawn.withdrawn_at.unwrap_or_default();
            return Err(Failure::Withdrawn { version: withdrawn.version, at });
        }
        Ok(())
    }

    /// Decides before duplicate keys are known. Later there can only be fewer rows and more rejects, so a refusal is
    /// final.
    pub(super) fn check_received(
        &self,
        ingested: &Ingested,
        file: &ReceivedFile,
        baseline: &Baseline,
    ) -> Result<(), Failure> {
        let counts = Counts { rows: ingested.rows, rejected: ingested.rejects().count(), duplicates: 0 };
        self.check(counts, ingested.rejects(), file, baseline)
    }

    /// Decides once all duplicates are known.
    pub(super) fn check_merged(
        &self,
        merged: &Merged,
        file: &ReceivedFile,
        baseline: &Baseline,
    ) -> Result<Counts, Failure> {
        let rejected = merged.rejects.count();
        let counts = Counts { rows: merged.rows, rejected, duplicates: merged.duplicates };
        self.check(counts, &merged.rejects, file, baseline)?;
        self.metrics.rejects(&self.dataset.name, &merged.rejects);
        Ok(counts)
    }

    fn check(
        &self,
        counts: Counts,
        rejects: &Rejects,
        file: &ReceivedFile,
        baseline: &Baseline,
    ) -> Result<(), Failure> {
        let guards = &self.dataset.guards;
        let rows_before = baseline.rows.filter(|_| !self.options.force);
        let decided = Refusal::of_rejects(guards, counts.rejected)
            .and_then(|()| Refusal::of_rows(guards, counts.rows, file.has_header, rows_before));
        decided.map_err(|refusal| {
            self.metrics.rejects(&self.dataset.name, rejects);
            let (shown, has_report) = (rejects.shown().to_vec(), rejects.has_report());
            Failure::Refused { refusal, counts, shown, has_report, warnings: file.warnings.clone() }
        })
    }
}
