//! One load: from the bytes of an upload to a version that is live, or to the reason why not.

use std::sync::Arc;
use std::time::Duration;

use dataset::Dataset;
use ingest::{Ingested, Limits, Merged, Outlets, Refusal, Rejects};
use serde::Serialize;
use store::{Actor, Counts, Ending, Manners, NewLoad, NewVersion, Publisher, Reservation, Staging, Store};
use tracing::{error, info, warn};

use crate::body::Body;
use crate::compare::{Changes, compare};
use crate::failure::Failure;
use crate::loads::{Load, Phase};
use crate::metrics::Metrics;
use crate::outcome::Outcome;
use crate::settle::settle;

/// How long a load waits while another updater publishes, once its file has been received: longer than a version of a
/// billion rows takes to be staged.
const LOCK_WAIT: Duration = Duration::from_hours(2);

/// What an upload is answered with once its load has succeeded.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// The dataset.
    pub(crate) dataset: String,
    /// The version that is live now; a dry run has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<u32>,
    /// What became of the file.
    pub(crate) status: Outcome,
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
    /// What the sender should know about the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
    /// What a dry run found that the file would change.
    #[serde(flatten)]
    pub(crate) changes: Option<Changes>,
}

/// What is known of a file once it was read.
struct File {
    bytes: u64,
    sha256: String,
    header: bool,
    warnings: Vec<String>,
    /// Rows of the version that it would replace.
    live_rows: Option<u64>,
}

impl File {
    fn new(ingested: &Ingested, live_rows: Option<u64>) -> Self {
        Self {
            bytes: ingested.bytes,
            sha256: ingested.sha256.clone(),
            header: ingested.header,
            warnings: ingested.warnings.iter().map(ToString::to_string).collect(),
            live_rows,
        }
    }
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
        let (store, definition) = (self.store.clone(), self.dataset.clone());
        // A panic must end like any other failure: with an answer, a line in the log and an entry.
        let outcome = tokio::spawn(self.run_phases(body)).await.unwrap_or(Err(Failure::Panicked));
        // The outcome comes before the phase, so whoever sees that the load has ended sees how.
        load.end(&outcome);
        let (phase, seconds) = load.enter(Phase::Ended);
        metrics.phase(&load.dataset, phase, seconds);
        load.trace.past_part(phase.name(), seconds);
        end_trace(&load, &outcome);
        let (dataset, trace_id) = (load.dataset.as_str(), load.trace.id());
        match &outcome {
            Ok(report) => {
                metrics.outcome(dataset, report.status);
                let (version, rows, status) = (report.version, report.rows, report.status.as_str());
                info!(dataset, load = %load.id, version, rows, status, bytes = report.bytes, rejected = report.rejected,
                    duplicates = report.duplicates, seconds = report.seconds, sha256 = report.sha256,
                    source = load.source, forced = load.wish.force, token = load.actor.token,
                    address = load.actor.address, user_agent = load.actor.user_agent, trace_id, "load ended");
            }
            Err(failure) => {
                metrics.outcome(dataset, failure.outcome());
                failure.guard().into_iter().for_each(|guard| metrics.refused(dataset, guard));
                log_failure(&load, phase, failure);
                if let Failure::Store(store::Error::OutcomeUnknown { version, .. }) = failure {
                    tokio::spawn(settle(store, definition, load.clone(), *version));
                }
            }
        }
        outcome
    }

    async fn run_phases(self, body: Body) -> Result<Report, Failure> {
        if self.load.wish.dry_run {
            return self.try_out(body).await;
        }
        // Not cut short by a cancellation: a number that is entered and that nobody gives back would stay there as loading.
        let reservation = self.store.reserve(&self.dataset, self.new_load()).await?;
        self.load.set_version(reservation.version());
        let ingested = match self.receive(body, reservation.manners()).await {
            Ok(ingested) => ingested,
            Err(failure) => {
                self.note_end(reservation.end(self.ending(&failure)).await);
                return Err(failure);
            }
        };
        let publisher = self.lock(reservation).await?;
        let file = File::new(&ingested, publisher.rows_before());
        match self.admit(&publisher, &ingested, &file).await {
            Ok(None) => self.publish(publisher, ingested, file).await,
            Ok(Some(unchanged)) => {
                self.note_end(publisher.end(Ending::Told).await);
                // Readers may be behind what this publisher read.
                tokio::time::sleep(Duration::from_millis(store::FOLLOW_MS)).await;
                Ok(unchanged)
            }
            Err(failure) => {
                self.note_end(publisher.end(self.ending(&failure)).await);
                Err(failure)
            }
        }
    }

    fn new_load(&self) -> NewLoad {
        let actor = Some(self.load.actor.clone());
        NewLoad { id: self.load.id.to_string(), source: self.load.source.clone(), actor }
    }

    /// How a load ends that staged nothing: a client that was promised an answer later finds it in the ledger.
    fn ending<'a>(&'a self, failure: &'a Failure) -> Ending<'a> {
        match failure {
            Failure::Superseded { .. } => Ending::Superseded("a load that began later was published first"),
            Failure::Cancelled if self.load.cancel_reason().is_some() => Ending::Failed(self.cancel_reason()),
            failure if self.load.is_async() => Ending::Failed(failure.outcome().as_str()),
            _ => Ending::Told,
        }
    }

    fn cancel_reason(&self) -> &str {
        self.load.cancel_reason().unwrap_or("the load was cancelled")
    }

    /// Where the store cannot take the end of a load, the next publisher enters it.
    fn note_end(&self, ended: store::Result<()>) {
        if let Err(error) = ended {
            let (dataset, load, error) = (&self.dataset.name, self.load.id, service::chain(&error));
            warn!(dataset, %load, error, "the end of the load is not in the ledger yet");
        }
    }

    /// A failed abort is logged and not returned: the answer says why the load was aborted.
    fn note_abort(&self, aborted: store::Result<()>) {
        if let Err(error) = aborted {
            let (dataset, load, error) = (&self.dataset.name, self.load.id, service::chain(&error));
            warn!(dataset, %load, error, "the next publisher removes what this load staged");
        }
    }

    /// Reads the whole file, with rests while others read from the database. On a machine of two processors look-ups kept 0.62
    /// of their throughput during a load without rests, and 0.75 with them; the slowest hundredth took 266 and 4 ms.
    async fn receive(&self, body: Body, manners: Option<&Manners>) -> Result<Ingested, Failure> {
        let body = body.with_rests(manners.cloned());
        let outlets = Outlets { report: &self.load.report, progress: self.load.progress.clone() };
        let ingest = ingest::ingest(body, self.dataset.clone(), &self.limits, outlets);
        let ingested = self.unless_cancelled(ingest).await??;
        let found = &ingested.sha256;
        match self.load.wish.sha256.iter().find(|stated| stated.as_str() != found) {
            Some(stated) => {
                let stated = stated.as_str().to_owned();
                Err(Failure::DigestMismatch { stated, found: found.clone() })
            }
            None => Ok(ingested),
        }
    }

    /// Fails where another version is live than the client expects.
    fn check_live(&self, live: Option<&store::Entry>) -> Result<(), Failure> {
        match &self.load.wish.if_match {
            Some(expected) if !expected.allows(&self.dataset.name, live) => {
                Err(Failure::LiveChanged { live: live.map(|live| live.version) })
            }
            _ => Ok(()),
        }
    }

    /// Becomes the publisher, after whoever is.
    async fn lock(&self, mut reservation: Reservation) -> Result<Publisher, Failure> {
        self.enter(Phase::Waiting);
        let locked = reservation.lock(LOCK_WAIT, || !self.load.cancel.is_cancelled()).await;
        match locked {
            Ok(()) => Ok(reservation.into_publisher().await?),
            Err(error) => {
                let failure = match error {
                    store::Error::Unwanted => Failure::Cancelled,
                    error => error.into(),
                };
                self.note_end(reservation.end(self.ending(&failure)).await);
                Err(failure)
            }
        }
    }

    /// Decides whether the file may be staged. Where it is what is live already, that is the report.
    async fn admit(
        &self,
        publisher: &Publisher,
        ingested: &Ingested,
        file: &File,
    ) -> Result<Option<Report>, Failure> {
        self.check_live(publisher.live())?;
        let forced = self.load.wish.force;
        if !forced && let Some(report) = self.unchanged(publisher, file).await? {
            self.metrics.rejects(&self.dataset.name, ingested.rejects());
            return Ok(Some(report));
        }
        if !forced && let Some(later) = publisher.superseded_by() {
            return Err(Failure::Superseded { by: later.version });
        }
        let definition_hash = self.dataset.definition_hash();
        if !forced && let Some(withdrawn) = publisher.withdrawn(&file.sha256, &definition_hash) {
            let at = withdrawn.withdrawn_at.unwrap_or_default();
            return Err(Failure::Withdrawn { version: withdrawn.version, at });
        }
        self.guard_received(ingested, file)?;
        Ok(None)
    }

    /// The report for a file whose content is live already and can be read.
    async fn unchanged(&self, publisher: &Publisher, file: &File) -> Result<Option<Report>, Failure> {
        let is_same = |live: &&store::Entry| live.is_content(&file.sha256, &self.dataset.definition_hash());
        let Some(live) = publisher.live().filter(is_same) else { return Ok(None) };
        match publisher.is_live_whole(|| !self.load.cancel.is_cancelled()).await {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(store::Error::Unwanted) => return Err(Failure::Cancelled),
            Err(error) => return Err(error.into()),
        }
        let counts = Counts { rows: live.rows, rejected: live.rejected, duplicates: live.duplicates };
        Ok(Some(self.report(Outcome::Unchanged, Some(live.version), file, counts)))
    }

    async fn publish(&self, publisher: Publisher, ingested: Ingested, file: File) -> Result<Report, Failure> {
        self.enter(Phase::Staging);
        let new = NewVersion {
            schema: self.dataset.schema.clone(),
            definition_hash: self.dataset.definition_hash(),
            sha256: file.sha256.clone(),
            bytes: file.bytes,
            rows: ingested.rows,
            source: self.load.source.clone(),
            forced: self.load.wish.force,
            keep_versions: self.dataset.keep_versions,
        };
        let mut staging = publisher.stage(new).await?;
        self.load.set_version(staging.version());
        let merged = self.fill(&mut staging, ingested).await;
        let counts = match merged.and_then(|merged| self.guard_merged(&merged, &file)) {
            Ok(counts) => counts,
            Err(failure) => {
                let reason = failure.to_string();
                let is_cancelled = matches!(failure, Failure::Cancelled);
                let reason = if is_cancelled { self.cancel_reason() } else { &reason };
                self.note_abort(staging.abort(reason).await);
                return Err(failure);
            }
        };
        self.enter(Phase::Verifying);
        let staged = staging.verify(counts).await?;
        if self.load.cancel.is_cancelled() {
            self.note_abort(staged.abort(self.cancel_reason()).await);
            return Err(Failure::Cancelled);
        }
        self.enter(Phase::Publishing);
        let swapped = staged.publish(|| !self.load.cancel.is_cancelled()).await;
        let version = match swapped {
            Err(store::Error::Unwanted) => return Err(Failure::Cancelled),
            swapped => swapped?.live.version,
        };
        Ok(self.report(Outcome::Published, Some(version), &file, counts))
    }

    /// Puts all rows into staging.
    async fn fill(&self, staging: &mut Staging, ingested: Ingested) -> Result<Merged, Failure> {
        let mut rows = self.unless_cancelled(ingested.into_rows(staging.ranges_max())).await??;
        self.unless_cancelled(staging.fill(rows.take_ranges())).await??;
        Ok(rows.finish().await?)
    }

    /// The same without a lock and without a publication.
    async fn try_out(&self, body: Body) -> Result<Report, Failure> {
        let ingested = self.receive(body, None).await?;
        let versions = self.store.versions(&self.dataset.name).await?;
        self.check_live(versions.iter().find(|entry| entry.state == store::State::Live))?;
        let last_live =
            versions.iter().max_by_key(|entry| entry.live_swap).filter(|entry| entry.live_swap > 0);
        let file = File::new(&ingested, last_live.map(|entry| entry.rows));
        self.guard_received(&ingested, &file)?;
        self.enter(Phase::Staging);
        let schema = &self.dataset.schema;
        let mut rows = self.unless_cancelled(ingested.into_rows(1)).await??;
        let (live_schema, live_rows) = match self.store.live_rows(&self.dataset.name).await? {
            Some((live, live_rows)) => (live.schema, live_rows),
            None => (schema.clone(), tokio::sync::mpsc::channel(1).1),
        };
        let changes = self.unless_cancelled(compare(&mut rows, schema, live_rows, &live_schema)).await??;
        let counts = self.guard_merged(&rows.finish().await?, &file)?;
        let report = self.report(Outcome::DryRun, None, &file, counts);
        Ok(Report { changes: Some(changes), ..report })
    }

    /// Decides when the file was received, and duplicate keys are not known yet.
    fn guard_received(&self, ingested: &Ingested, file: &File) -> Result<(), Failure> {
        let counts = Counts { rows: ingested.rows, rejected: ingested.rejects().count(), duplicates: 0 };
        self.guard(counts, ingested.rejects(), file)
    }

    /// Decides once more when all duplicates are known, and counts the rejects.
    fn guard_merged(&self, merged: &Merged, file: &File) -> Result<Counts, Failure> {
        let counts =
            Counts { rows: merged.rows, rejected: merged.rejects.count(), duplicates: merged.duplicates };
        self.guard(counts, &merged.rejects, file)?;
        self.metrics.rejects(&self.dataset.name, &merged.rejects);
        Ok(counts)
    }

    /// Decides whether a file with these counts may replace the live version.
    fn guard(&self, counts: Counts, rejects: &Rejects, file: &File) -> Result<(), Failure> {
        let guards = &self.dataset.guards;
        let live_rows = file.live_rows.filter(|_| !self.load.wish.force);
        let decided = Refusal::of_rejects(guards, counts.rejected)
            .and_then(|()| Refusal::of_rows(guards, counts.rows, file.header, live_rows));
        decided.map_err(|refusal| {
            self.metrics.rejects(&self.dataset.name, rejects);
            let (shown, has_report) = (rejects.shown().to_vec(), rejects.has_report());
            Failure::Refused { refusal, counts, shown, has_report, warnings: file.warnings.clone() }
        })
    }

    fn report(&self, status: Outcome, version: Option<u32>, file: &File, counts: Counts) -> Report {
        Report {
            dataset: self.dataset.name.clone(),
            version,
            status,
            rows: counts.rows,
            rejected: counts.rejected,
            duplicates: counts.duplicates,
            bytes: file.bytes,
            sha256: file.sha256.clone(),
            warnings: file.warnings.clone(),
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

/// What became of a load, as its part of the trace.
fn end_trace(load: &Load, outcome: &Result<Report, Failure>) {
    load.trace.say("dataset", load.dataset.clone());
    load.trace.say("load", load.id.to_string());
    match outcome {
        Ok(report) => {
            load.trace.say("outcome", report.status.as_str());
            load.trace.say("rows", i64::try_from(report.rows).unwrap_or(i64::MAX));
            report.version.into_iter().for_each(|version| load.trace.say("version", i64::from(version)));
        }
        Err(failure) => {
            load.trace.say("outcome", failure.outcome().as_str());
            load.trace.fail(failure.to_string());
        }
    }
    load.trace.end();
}

/// A failure of the sender's is a warning; one of ours means that somebody must look.
fn log_failure(load: &Load, phase: Phase, failure: &Failure) {
    let (dataset, phase, outcome) = (load.dataset.as_str(), phase.name(), failure.outcome().as_str());
    let (id, error, source) = (load.id, service::chain(failure), load.source.as_str());
    let trace_id = load.trace.id();
    let Actor { token, address, user_agent } = &load.actor;
    if failure.outcome().is_our_failure() {
        error!(dataset, load = %id, phase, outcome, error, source, token, address, user_agent, trace_id, "load ended");
    } else {
        warn!(dataset, load = %id, phase, outcome, error, source, token, address, user_agent, trace_id, "load ended");
    }
}
