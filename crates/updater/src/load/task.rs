//! One load: from the bytes of an upload to a version that is live, or to the reason why not.

use std::sync::Arc;
use std::time::Duration;

use dataset::Dataset;
use ingest::{Ingested, Limits, Merged, Outlets, SortedRows};
use serde_json::json;
use store::{Actor, Counts, Ending, Entry, NewLoad, NewVersion, Store};
use tracing::{error, info, warn};

use super::diff::{Changes, compare};
use super::failure::Failure;
use super::guards::{Baseline, Guards};
use super::options::LoadOptions;
use super::outcome::Outcome;
use super::phase::Phase;
use super::publication::Publication;
use super::status::LoadStatus;
use super::summary::{LoadSummary, ReceivedFile};
use crate::body::Body;
use crate::metrics::Metrics;
use crate::recovery::resolve_outcome;

/// How long a load waits while another updater publishes, once its file has been received: longer than a version of a
/// billion rows takes to be staged.
const LOCK_WAIT: Duration = Duration::from_hours(2);

/// A load that is to run, with everything it needs.
#[derive(Debug, Clone)]
pub(crate) struct LoadTask {
    pub(crate) store: Store,
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) status: Arc<LoadStatus>,
}

impl LoadTask {
    /// Runs the load to its end and records the outcome.
    pub(crate) async fn run(self, body: Body) -> Result<LoadSummary, Failure> {
        // A task of its own, because a panic must end like any other failure: with an answer, a line in the log and an
        // outcome.
        let result = tokio::spawn(self.clone().run_and_clean_up(body)).await;
        let result = result.unwrap_or(Err(Failure::Panicked));
        self.record(&result);
        if let Err(Failure::Store(store::Error::OutcomeUnknown { version, .. })) = result {
            // A task of its own, because the client has its answer long before the store answers again.
            tokio::spawn(resolve_outcome(self.store, self.dataset, self.status, version));
        }
        result
    }

    async fn run_and_clean_up(self, body: Body) -> Result<LoadSummary, Failure> {
        let mut publication = self.reserve().await?;
        let result = self.run_phases(&mut publication, body).await;
        if let Err(failure) = &result {
            self.end(&mut publication, self.ending(failure), &self.abort_reason(failure)).await;
        }
        result
    }

    /// The load, a phase per line. What it holds in the store when a line fails, `run_and_clean_up` gives back.
    async fn run_phases(&self, publication: &mut Publication, body: Body) -> Result<LoadSummary, Failure> {
        let (ingested, file) = self.receive(publication, body).await?;
        self.guards().check_digest(&file)?;
        let baseline = self.lock(publication).await?;
        self.guards().check_live(baseline.live.as_ref())?;
        if let Some(unchanged) = self.unchanged(publication, &ingested, &file).await? {
            return Ok(unchanged);
        }
        self.guards().check_history(publication.publisher(), &file)?;
        self.guards().check_received(&ingested, &file, &baseline)?;
        self.stage(publication, &ingested, &file).await?;
        let (merged, changes) = self.fill_or_compare(publication, ingested).await?;
        let counts = self.guards().check_merged(&merged, &file, &baseline)?;
        if self.options().dry_run {
            return Ok(LoadSummary { changes, ..self.summary(Outcome::DryRun, None, &file, counts) });
        }
        self.verify(publication, counts).await?;
        let version = self.publish(publication).await?;
        Ok(self.summary(Outcome::Published, Some(version), &file, counts))
    }

    /// Reserves the version number, so that versions are ordered by when their loads began. A cancellation does not cut
    /// this short: a number that is in the ledger and never given back would stay there as loading.
    async fn reserve(&self) -> Result<Publication, Failure> {
        if self.options().dry_run {
            return Ok(Publication::Nothing);
        }
        let actor = Some(self.status.actor.clone());
        let new = NewLoad { id: self.status.id.to_string(), source: self.status.source.clone(), actor };
        let reservation = self.store.reserve(&self.dataset, new).await?;
        self.status.set_version(reservation.version());
        Ok(Publication::Reserved(reservation))
    }

    /// Reads the whole file, with rests while others read from the database. On a machine of two processors
    /// lookups kept 0.62 of their throughput during a load without rests, and 0.75 with them; the slowest hundredth
    /// took 266 and 4 ms.
    async fn receive(
        &self,
        publication: &Publication,
        body: Body,
    ) -> Result<(Ingested, ReceivedFile), Failure> {
        let body = body.with_rests(publication.manners().cloned());
        let outlets = Outlets { report: &self.status.rejects_report, progress: self.status.progress.clone() };
        let ingest = ingest::ingest(body, self.dataset.clone(), &self.limits, outlets);
        let ingested = self.unless_cancelled(ingest).await??;
        let file = ReceivedFile::of(&ingested);
        Ok((ingested, file))
    }

    /// Becomes the publisher, and reads what the file would replace. A dry run takes no lock.
    async fn lock(&self, publication: &mut Publication) -> Result<Baseline, Failure> {
        if !self.options().dry_run {
            self.advance_to(Phase::Waiting);
            publication.lock(LOCK_WAIT, || self.is_wanted()).await?;
        }
        match publication.publisher() {
            Some(publisher) => Ok(Baseline::locked(publisher)),
            None => Ok(Baseline::unlocked(&self.store.versions(&self.dataset.name).await?)),
        }
    }

    /// Ends the load here if its content is live already and can be read. A dry run compares all the same.
    async fn unchanged(
        &self,
        publication: &mut Publication,
        ingested: &Ingested,
        file: &ReceivedFile,
    ) -> Result<Option<LoadSummary>, Failure> {
        let Some(publisher) = publication.publisher().filter(|_| !self.options().force) else {
            return Ok(None);
        };
        let is_same = |live: &&Entry| live.is_content(&file.sha256, &self.dataset.definition_hash());
        let Some(live) = publisher.live().filter(is_same) else { return Ok(None) };
        if !publisher.is_live_whole(|| self.is_wanted()).await? {
            return Ok(None);
        }
        let counts = Counts { rows: live.rows, rejected: live.rejected, duplicates: live.duplicates };
        let summary = self.summary(Outcome::Unchanged, Some(live.version), file, counts);
        self.metrics.rejects(&self.dataset.name, ingested.rejects());
        self.end(publication, Ending::Told, "").await;
        // Readers may be behind what this publisher read.
        tokio::time::sleep(Duration::from_millis(store::FOLLOW_MS)).await;
        Ok(Some(summary))
    }

    /// Begins a version that nobody reads. A dry run stages nothing.
    async fn stage(
        &self,
        publication: &mut Publication,
        ingested: &Ingested,
        file: &ReceivedFile,
    ) -> Result<(), Failure> {
        self.advance_to(Phase::Staging);
        let new = NewVersion {
            schema: self.dataset.schema.clone(),
            definition_hash: self.dataset.definition_hash(),
            sha256: file.sha256.clone(),
            bytes: file.bytes,
            rows: ingested.rows,
            source: self.status.source.clone(),
            forced: self.options().force,
            keep_versions: self.dataset.keep_versions,
        };
        if let Some(version) = publication.stage(new).await? {
            self.status.set_version(version);
        }
        Ok(())
    }

    /// Puts all rows into staging. A dry run compares them with the live rows instead.
    async fn fill_or_compare(
        &self,
        publication: &mut Publication,
        ingested: Ingested,
    ) -> Result<(Merged, Option<Changes>), Failure> {
        let mut rows = self.unless_cancelled(ingested.into_rows(publication.ranges_max())).await??;
        let changes = if self.options().dry_run {
            Some(self.compare(&mut rows).await?)
        } else {
            self.unless_cancelled(publication.fill(rows.take_ranges())).await??;
            None
        };
        Ok((rows.finish().await?, changes))
    }

    async fn compare(&self, rows: &mut SortedRows) -> Result<Changes, Failure> {
        let schema = &self.dataset.schema;
        let (live_schema, live_rows) = match self.store.live_rows(&self.dataset.name).await? {
            Some((live, live_rows)) => (live.schema, live_rows),
            // A channel without a sender is a version without rows.
            None => (schema.clone(), tokio::sync::mpsc::channel(1).1),
        };
        Ok(self.unless_cancelled(compare(rows, schema, live_rows, &live_schema)).await??)
    }

    /// Makes sure that exactly the rows that were sent are staged.
    async fn verify(&self, publication: &mut Publication, counts: Counts) -> Result<(), Failure> {
        self.advance_to(Phase::Verifying);
        publication.verify(counts).await?;
        if self.is_wanted() { Ok(()) } else { Err(Failure::Cancelled) }
    }

    /// Makes the version live.
    async fn publish(&self, publication: &mut Publication) -> Result<u32, Failure> {
        self.advance_to(Phase::Publishing);
        Ok(publication.publish(|| self.is_wanted()).await?)
    }

    /// Gives back what the load holds in the store. If that fails, it is logged and not returned: the client is told why
    /// the load failed.
    async fn end(&self, publication: &mut Publication, ending: Ending<'_>, reason: &str) {
        if let Err(error) = publication.end(ending, reason).await {
            let (dataset, load, error) = (&self.dataset.name, self.status.id, service::chain(&error));
            warn!(dataset, %load, error, "the load is not cleaned up in the store: the next publisher does that");
        }
    }

    /// What the ledger remembers of a load that staged nothing: a client that was promised an answer later finds it there.
    fn ending<'a>(&'a self, failure: &'a Failure) -> Ending<'a> {
        match (failure, self.status.cancel_reason()) {
            (Failure::Superseded { .. }, _) => {
                Ending::Superseded("a load that began later was published first")
            }
            (Failure::Cancelled, Some(reason)) => Ending::Failed(reason),
            (failure, _) if self.status.is_async() => Ending::Failed(failure.outcome().as_str()),
            _ => Ending::Told,
        }
    }

    /// What the ledger remembers of a version that was staged and is given up.
    fn abort_reason(&self, failure: &Failure) -> String {
        match (failure, self.status.cancel_reason()) {
            (Failure::Cancelled, Some(reason)) => reason.to_owned(),
            (failure, _) => failure.to_string(),
        }
    }

    fn options(&self) -> &LoadOptions {
        &self.status.options
    }

    fn guards(&self) -> Guards<'_> {
        Guards { dataset: &self.dataset, options: self.options(), metrics: &self.metrics }
    }

    fn is_wanted(&self) -> bool {
        !self.status.cancel.is_cancelled()
    }

    async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.status.cancel.cancelled() => Err(Failure::Cancelled),
            done = work => Ok(done),
        }
    }

    fn summary(
        &self,
        status: Outcome,
        version: Option<u32>,
        file: &ReceivedFile,
        counts: Counts,
    ) -> LoadSummary {
        LoadSummary {
            dataset: self.dataset.name.clone(),
            version,
            status,
            rows: counts.rows,
            rejected: counts.rejected,
            duplicates: counts.duplicates,
            bytes: file.bytes,
            sha256: file.sha256.clone(),
            seconds: (self.status.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            warnings: file.warnings.clone(),
            changes: None,
        }
    }

    fn advance_to(&self, phase: Phase) -> Phase {
        let (previous, seconds) = self.status.advance_to(phase);
        self.metrics.phase(&self.dataset.name, previous, seconds);
        self.status.trace.past_part(previous.as_str(), seconds);
        previous
    }

    /// Records the outcome: in the status, the metrics, the trace and the log.
    fn record(&self, result: &Result<LoadSummary, Failure>) {
        let (status, dataset) = (&self.status, self.dataset.name.as_str());
        let (outcome, answer) = match result {
            Ok(summary) => (summary.status, json!(summary)),
            Err(failure) => (failure.outcome(), failure.problem(status).to_json()),
        };
        // The outcome comes before the phase, so whoever sees that the load has ended sees how.
        status.end(outcome, answer);
        let last_phase = self.advance_to(Phase::Ended);
        self.metrics.outcome(dataset, outcome);
        if let Err(failure) = result {
            failure.guard().into_iter().for_each(|guard| self.metrics.refused(dataset, guard));
        }
        end_trace(status, outcome, result);
        log_end(status, last_phase, result);
    }
}

/// What became of a load, as its part of the trace.
fn end_trace(load: &LoadStatus, outcome: Outcome, result: &Result<LoadSummary, Failure>) {
    load.trace.say("dataset", load.dataset.clone());
    load.trace.say("load", load.id.to_string());
    load.trace.say("outcome", outcome.as_str());
    match result {
        Ok(summary) => {
            load.trace.say("rows", i64::try_from(summary.rows).unwrap_or(i64::MAX));
            summary.version.into_iter().for_each(|version| load.trace.say("version", i64::from(version)));
        }
        Err(failure) => load.trace.fail(failure.to_string()),
    }
    load.trace.end();
}

/// A failure of the sender's is a warning; one of ours means that somebody must look.
fn log_end(load: &LoadStatus, phase: Phase, result: &Result<LoadSummary, Failure>) {
    let (dataset, id, source, trace_id) = (load.dataset.as_str(), load.id, &load.source, load.trace.id());
    let (phase, Actor { token, address, user_agent }) = (phase.as_str(), &load.actor);
    match result {
        Ok(summary) => {
            let (version, rows, status) = (summary.version, summary.rows, summary.status.as_str());
            info!(dataset, load = %id, version, rows, status, bytes = summary.bytes, rejected = summary.rejected,
                duplicates = summary.duplicates, seconds = summary.seconds, sha256 = summary.sha256, source,
                forced = load.options.force, token, address, user_agent, trace_id, "load ended");
        }
        Err(failure) if failure.outcome().is_our_failure() => {
            let (outcome, error) = (failure.outcome().as_str(), service::chain(failure));
            error!(dataset, load = %id, phase, outcome, error, source, token, address, user_agent, trace_id, "load ended");
        }
        Err(failure) => {
            let (outcome, error) = (failure.outcome().as_str(), service::chain(failure));
            warn!(dataset, load = %id, phase, outcome, error, source, token, address, user_agent, trace_id, "load ended");
        }
    }
}
