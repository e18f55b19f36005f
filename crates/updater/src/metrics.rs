//! What the updater measures of its loads.

use std::time::Duration;

use ingest::{Refusal, Rejects};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use crate::load::failure::{DIGEST_MISMATCH, LIVE_CHANGED, UNREADABLE};
use crate::load::outcome::Outcome;
use crate::load::phase::Phase;

/// From a small file to a half hour.
const BUCKETS: [f64; 12] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0];

/// Counts and times of loads.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    loads: IntCounterVec,
    phase_seconds: HistogramVec,
    rejected_rows: IntCounterVec,
    refused: IntCounterVec,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let loads = Opts::new("tableswap_loads_total", "Loads that ended, by what became of them.");
        let seconds =
            HistogramOpts::new("tableswap_load_phase_seconds", "Seconds that a load spent in a phase.");
        let rejected = Opts::new("tableswap_rejected_rows_total", "Rows that were refused, by reason.");
        let refused =
            Opts::new("tableswap_refused_loads_total", "Files that were refused, by the guard that did.");
        let metrics = Self {
            loads: IntCounterVec::new(loads, &["dataset", "outcome"])?,
            phase_seconds: HistogramVec::new(seconds.buckets(BUCKETS.to_vec()), &["dataset", "phase"])?,
            rejected_rows: IntCounterVec::new(rejected, &["dataset", "reason"])?,
            refused: IntCounterVec::new(refused, &["dataset", "guard"])?,
        };
        registry.register(Box::new(metrics.loads.clone()))?;
        registry.register(Box::new(metrics.phase_seconds.clone()))?;
        registry.register(Box::new(metrics.rejected_rows.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        Ok(metrics)
    }

    /// Shows what has not happened yet as zero, so that the first time is an increase.
    pub(crate) fn expect(&self, dataset: &str) {
        for outcome in Outcome::ALL {
            self.loads.with_label_values(&[dataset, outcome.as_str()]);
        }
        for guard in Refusal::CODES.into_iter().chain([UNREADABLE, DIGEST_MISMATCH, LIVE_CHANGED]) {
            self.refused.with_label_values(&[dataset, guard]);
        }
    }

    pub(crate) fn outcome(&self, dataset: &str, outcome: Outcome) {
        self.loads.with_label_values(&[dataset, outcome.as_str()]).inc();
    }

    pub(crate) fn refused(&self, dataset: &str, guard: &str) {
        self.refused.with_label_values(&[dataset, guard]).inc();
    }

    pub(crate) fn phase(&self, dataset: &str, phase: Phase, took: Duration) {
        self.phase_seconds.with_label_values(&[dataset, phase.as_str()]).observe(took.as_secs_f64());
    }

    /// Counts a file's rejects, once, when all of them are known.
    pub(crate) fn rejects(&self, dataset: &str, rejects: &Rejects) {
        for (code, count) in rejects.by_code() {
            self.rejected_rows.with_label_values(&[dataset, code]).inc_by(*count);
        }
    }
}
