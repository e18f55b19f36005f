//! One load: from the bytes of an upload to a version that is live, or to the reason why not.

use std::sync::Arc;

use dataset::Dataset;
use ingest::{Ingested, Limits, Merged, Outlets, Range, Refusal, Reject, Rejects};
use serde::Serialize;
use store::{Counts, Draft, NewVersion, Publisher, Staging, Store};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::body::Body;
use crate::compare::{Changes, compare};
use crate::loads::{Load, Phase};
use crate::metrics::Metrics;

/// What an upload is answered with once its load has succeeded.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// The dataset.
    pub(crate) dataset: String,
    /// The version that is live now; a dry run has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<u32>,
    /// What became of the file.
    pub(crate) status: Status,
    /// Rows of the version.
    pub(crate) rows: u64,
    /// Rows of the file that were refused.
    pub(crate) rejected: u64,
    /// Rows of the file that were left out for their key.
    pub(crate) duplicates: u64,
    /// Bytes of the file as they came.
    pub(crate) bytes: u64,
    /// SHA-256 of these bytes.
    pub sha256: String,
    /// From the first byte until the version was live.
    pub(crate) seconds: f64,
    /// What a dry run found that the file would change.
    #[serde(flatten)]
    pub(crate) changes: Option<Changes>,
}

/// What became of a file that is fine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// It is live.
    Published,
    /// It is what is live already.
    Unchanged,
    /// It was only tried.
    DryRun,
}

impl Status {
    /// The status as one word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Unchanged => "unchanged",
            Self::DryRun => "dry_run",
        }
    }
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The file was read whole and is not fit.
    #[error("the file was refused: {refusal}")]
    Refused {
        /// The first reason.
        refusal: Refusal,
        /// What was counted.
        counts: Counts,
        /// The first rejects.
        shown: Vec<Reject>,
        /// Whether there is a report of all rejects.
        has_report: bool,
    },
    /// The file could not be read.
    #[error(transparent)]
    Ingest(#[from] ingest::Error),
    /// The store could not take it.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Somebody does not want it any more, or the updater is being stopped.
    #[error("the load was cancelled")]
    Cancelled,
    /// A task ended without a result, which is a defect.
    #[error("the load stopped unexpectedly")]
    Panicked,
}

impl Failure {
    /// What became of the load, as one word.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Store(store::Error::Busy { .. }) => "busy",
            Self::Cancelled => "cancelled",
            Self::Ingest(ingest::Error::BrokenOff(_)) => "broken_off",
            Self::Ingest(error) if error.is_of_the_file() => "refused",
            Self::Ingest(_) | Self::Store(_) | Self::Panicked => "failed",
        }
    }

    /// What refused the file, if it was refused.
    fn guard(&self) -> Option<&'static str> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.code()),
            Self::Ingest(_) => (self.outcome() == "refused").then_some(UNREADABLE),
            Self::Store(_) | Self::Cancelled | Self::Panicked => None,
        }
    }
}

/// All that can become of a load.
pub(crate) const OUTCOMES: [&str; 8] =
    ["published", "unchanged", "dry_run", "refused", "busy", "cancelled", "broken_off", "failed"];
/// What stands for a guard where a file cannot be read to its end.
pub(crate) const UNREADABLE: &str = "unreadable";

/// What is known of a file once it was read.
struct File {
    bytes: u64,
    sha256: String,
    header: bool,
    /// Rows of the version that it would replace.
    live_rows: Option<u64>,
}

/// What a load works with.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) store: Store,
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) load: Arc<Load>,
}

impl Job {
    /// Runs the load to its end, whatever that is, and enters it where others look.
    pub(crate) async fn run(self, body: Body) -> Result<Report, Failure> {
        let (load, metrics) = (self.load.clone(), self.metrics.clone());
        // A panic must end like any other failure: with an answer, a line in the log and an entry.
        let outcome = tokio::spawn(self.run_phases(body)).await.unwrap_or(Err(Failure::Panicked));
        // Whoever sees that it has ended sees how.
        load.end(&outcome);
        let (phase, seconds) = load.enter(Phase::Ended);
        metrics.phase(&load.dataset, phase, seconds);
        load.trace.past_part(phase.name(), seconds);
        end_trace(&load, &outcome);
        let (dataset, trace_id) = (load.dataset.as_str(), load.trace.id());
        match &outcome {
            Ok(report) => {
                metrics.outcome(dataset, report.status.name());
                let (version, rows, status) = (report.version, report.rows, report.status.name());
                info!(dataset, load = %load.id, version, rows, status, bytes = report.bytes, rejected = report.rejected,
                    duplicates = report.duplicates, seconds = report.seconds, sha256 = report.sha256,
                    source = load.source, trace_id, "load ended");
            }
            Err(failure) => {
                metrics.outcome(dataset, failure.outcome());
                failure.guard().into_iter().for_each(|guard| metrics.refused(dataset, guard));
                log_failure(&load, phase, failure);
            }
        }
        outcome
    }

    async fn run_phases(self, body: Body) -> Result<Report, Failure> {
        let publisher = self.unless_cancelled(self.store.publisher(&self.dataset.name)).await??;
        let (ingested, draft) = self.unless_cancelled(self.receive(&publisher, body)).await??;
        let live_rows = publisher.live().map(|live| live.rows);
        let counts = Counts { rows: ingested.rows, rejected: ingested.rejects().count(), duplicates: 0 };
        self.guard(counts, ingested.header, ingested.rejects(), live_rows)?;
        if let Some(report) = self.unchanged(&publisher, &ingested) {
            self.metrics.rejects(&self.dataset.name, ingested.rejects());
            return Ok(report);
        }
        self.enter(Phase::Staging);
        let file = File {
            bytes: ingested.bytes,
            sha256: ingested.sha256.clone(),
            header: ingested.header,
            live_rows,
        };
        if self.load.wish.dry_run {
            self.try_out(publisher, ingested, file).await
        } else {
            self.publish(publisher, draft, ingested, file).await
        }
    }

    /// Reads the whole file. What comes in key order is put aside at once, where the store can make a version of it.
    async fn receive(&self, publisher: &Publisher, body: Body) -> Result<(Ingested, Option<Draft>), Failure> {
        let (early, rows) = oneshot::channel();
        let is_wanted = publisher.takes_drafts() && !self.load.wish.dry_run;
        let outlets = Outlets {
            report: &self.load.report,
            progress: self.load.progress.clone(),
            early: is_wanted.then_some(early),
        };
        let body = body.with_rests(publisher.manners().cloned());
        let ingest = ingest::ingest(body, self.dataset.clone(), &self.limits, outlets);
        let (ingested, draft) = tokio::join!(ingest, put_aside(publisher, rows));
        let ingested = ingested?;
        let draft = draft.filter(|_| ingested.was_given());
        Ok((ingested, draft))
    }

    /// The report for a file that is live already, byte for byte and with the same columns.
    fn unchanged(&self, publisher: &Publisher, ingested: &Ingested) -> Option<Report> {
        let live = publisher.live()?;
        if self.load.wish.dry_run || live.sha256 != ingested.sha256 || live.schema != self.dataset.schema {
            return None;
        }
        let counts = Counts { rows: live.rows, rejected: live.rejected, duplicates: live.duplicates };
        Some(self.report(Status::Unchanged, Some(live.version), (ingested.bytes, &ingested.sha256), counts))
    }

    async fn publish(
        &self,
        publisher: Publisher,
        draft: Option<Draft>,
        ingested: Ingested,
        file: File,
    ) -> Result<Report, Failure> {
        let new = NewVersion {
            schema: self.dataset.schema.clone(),
            sha256: file.sha256.clone(),
            bytes: file.bytes,
            source: self.load.source.clone(),
            forced: self.load.wish.force,
            keep_versions: self.dataset.keep_versions,
        };
        let is_filled = draft.is_some();
        let mut staging = match draft {
            Some(draft) => publisher.stage_draft(new, draft).await?,
            None => publisher.stage(new).await?,
        };
        let merged =
            if is_filled { Ok(ingested.into_given()) } else { self.fill(&mut staging, ingested).await };
        let counts = match merged.and_then(|merged| self.guard_merged(&merged, &file)) {
            Ok(counts) => counts,
            Err(failure) => {
                staging.abort(&failure.to_string()).await?;
                return Err(failure);
            }
        };
        self.enter(Phase::Verifying);
        let staged = staging.verify(counts).await?;
        if self.load.cancel.is_cancelled() {
            staged.abort(&Failure::Cancelled.to_string()).await?;
            return Err(Failure::Cancelled);
        }
        self.enter(Phase::Publishing);
        let swapped = staged.publish(|| !self.load.cancel.is_cancelled()).await;
        let version = match swapped {
            Err(store::Error::Unwanted) => return Err(Failure::Cancelled),
            swapped => swapped?.live.version,
        };
        Ok(self.report(Status::Published, Some(version), (file.bytes, &file.sha256), counts))
    }

    /// Puts all rows into staging.
    async fn fill(&self, staging: &mut Staging, ingested: Ingested) -> Result<Merged, Failure> {
        let mut rows = self.unless_cancelled(ingested.into_rows(staging.ranges_max())).await??;
        self.unless_cancelled(staging.fill(rows.take_ranges())).await??;
        Ok(rows.finish().await?)
    }

    async fn try_out(&self, publisher: Publisher, ingested: Ingested, file: File) -> Result<Report, Failure> {
        let schema = &self.dataset.schema;
        let live_schema = publisher.live().map_or_else(|| schema.clone(), |live| live.schema.clone());
        let live = publisher.live_rows().await?;
        let mut rows = self.unless_cancelled(ingested.into_rows(1)).await??;
        let changes = self.unless_cancelled(compare(&mut rows, schema, live, &live_schema)).await??;
        let counts = self.guard_merged(&rows.finish().await?, &file)?;
        let report = self.report(Status::DryRun, None, (file.bytes, &file.sha256), counts);
        Ok(Report { changes: Some(changes), ..report })
    }

    /// Decides once more when all duplicates are known, and counts the rejects.
    fn guard_merged(&self, merged: &Merged, file: &File) -> Result<Counts, Failure> {
        let counts =
            Counts { rows: merged.rows, rejected: merged.rejects.count(), duplicates: merged.duplicates };
        self.guard(counts, file.header, &merged.rejects, file.live_rows)?;
        self.metrics.rejects(&self.dataset.name, &merged.rejects);
        Ok(counts)
    }

    /// Decides whether a file with these counts may replace the live version.
    fn guard(
        &self,
        counts: Counts,
        header: bool,
        rejects: &Rejects,
        live_rows: Option<u64>,
    ) -> Result<(), Failure> {
        let (guards, live_rows) = (&self.dataset.guards, live_rows.filter(|_| !self.load.wish.force));
        let decided = Refusal::of_rejects(guards, counts.rejected)
            .and_then(|()| Refusal::of_rows(guards, counts.rows, header, live_rows));
        decided.map_err(|refusal| {
            self.metrics.rejects(&self.dataset.name, rejects);
            let (shown, has_report) = (rejects.shown().to_vec(), rejects.has_report());
            Failure::Refused { refusal, counts, shown, has_report }
        })
    }

    fn report(&self, status: Status, version: Option<u32>, file: (u64, &str), counts: Counts) -> Report {
        let (bytes, sha256) = file;
        Report {
            dataset: self.dataset.name.clone(),
            version,
            status,
            rows: counts.rows,
            rejected: counts.rejected,
            duplicates: counts.duplicates,
            bytes,
            sha256: sha256.to_owned(),
            seconds: (self.load.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            changes: None,
        }
    }

    fn enter(&self, phase: Phase) {
        let (before, seconds) = self.load.enter(phase);
        self.metrics.phase(&self.dataset.name, before, seconds);
        self.load.trace.past_part(before.name(), seconds);
    }

    async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.load.cancel.cancelled() => Err(Failure::Cancelled),
            done = work => Ok(done),
        }
    }
}

/// Puts rows aside as they come. What does not work out is tried once more when all have come.
async fn put_aside(publisher: &Publisher, rows: oneshot::Receiver<Range>) -> Option<Draft> {
    let rows = rows.await.ok()?;
    let draft = async {
        let mut draft = publisher.draft().await?;
        draft.fill(rows).await.map(|()| draft)
    };
    draft
        .await
        .inspect_err(|error| warn!(error = service::chain(error), "rows cannot be put aside early"))
        .ok()
}

/// What became of a load, as its part of the trace.
fn end_trace(load: &Load, outcome: &Result<Report, Failure>) {
    load.trace.say("dataset", load.dataset.clone());
    load.trace.say("load", load.id.to_string());
    match outcome {
        Ok(report) => {
            load.trace.say("outcome", report.status.name());
            load.trace.say("rows", i64::try_from(report.rows).unwrap_or(i64::MAX));
            report.version.into_iter().for_each(|version| load.trace.say("version", i64::from(version)));
        }
        Err(failure) => {
            load.trace.say("outcome", failure.outcome());
            load.trace.fail(failure.to_string());
        }
    }
    load.trace.end();
}

/// A failure of the sender's is a warning; one of ours means that somebody must look.
fn log_failure(load: &Load, phase: Phase, failure: &Failure) {
    let (dataset, phase, outcome) = (load.dataset.as_str(), phase.name(), failure.outcome());
    let (id, error, source) = (load.id, service::chain(failure), load.source.as_str());
    let trace_id = load.trace.id();
    if outcome == "failed" {
        error!(dataset, load = %id, phase, outcome, error, source, trace_id, "load ended");
    } else {
        warn!(dataset, load = %id, phase, outcome, error, source, trace_id, "load ended");
    }
}
