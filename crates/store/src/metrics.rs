//! What a store measures of itself.

use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Histogram, HistogramOpts, IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

use crate::Reader;
use crate::reader::{ServerStatus, Servers};

/// Metrics that cannot be made or registered, which is a defect.
pub type MetricsError = prometheus::Error;

/// Measurements of both backends.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Seconds from the first attempt of a swap until readers see it.
    pub swap_seconds: Histogram,
    /// Seconds that a look-up waits for the store.
    pub look_up_seconds: Histogram,
    /// Keys in one look-up.
    pub look_up_batch_size: Histogram,
    /// Connections to the database that look-ups use now.
    pub pool_in_use: IntGauge,
    /// Look-ups that wait for a connection now.
    pub pool_waiting: IntGauge,
    /// Polls of the live versions that failed.
    pub poll_failures: IntCounter,
    /// Versions that the last scrub found damaged.
    pub damaged_versions: IntGaugeVec,
    /// Removals of old or discarded versions that failed.
    pub cleanup_failures: IntCounter,
    /// Look-ups that were answered from memory.
    pub cache_hits: IntCounter,
    /// Look-ups that were not.
    pub cache_misses: IntCounter,
    /// Bytes of answers that are kept in memory.
    pub cache_bytes: IntGauge,
}

impl Metrics {
    /// Makes the metrics.
    pub fn new() -> prometheus::Result<Self> {
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))
        };
        Ok(Self {
            swap_seconds: histogram(
                "tableswap_swap_seconds",
                "Seconds from the first attempt of a swap until it is done.",
                &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0],
            )?,
            look_up_seconds: histogram(
                "tableswap_store_look_up_seconds",
                "Seconds that a look-up waits for the store.",
                &[
                    0.000_01, 0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 2.5,
                    10.0,
                ],
            )?,
            look_up_batch_size: histogram(
                "tableswap_look_up_batch_size",
                "Keys in one look-up of the store.",
                &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0],
            )?,
            pool_in_use: IntGauge::new(
                "tableswap_store_connections_in_use",
                "Connections to the database that look-ups use now.",
            )?,
            pool_waiting: IntGauge::new(
                "tableswap_store_connections_waiting",
                "Look-ups that wait for a connection now.",
            )?,
            poll_failures: IntCounter::new(
                "tableswap_store_poll_failures_total",
                "Polls of the live versions that failed.",
            )?,
            damaged_versions: IntGaugeVec::new(
                Opts::new("tableswap_store_damaged_versions", "Versions that the last scrub found damaged."),
                &["dataset"],
            )?,
            cleanup_failures: IntCounter::new(
                "tableswap_store_cleanup_failures_total",
                "Removals of old or discarded versions that failed.",
            )?,
            cache_hits: IntCounter::new(
                "tableswap_cache_hits_total",
                "Look-ups in a database that were answered from memory.",
            )?,
            cache_misses: IntCounter::new(
                "tableswap_cache_misses_total",
                "Look-ups in a database whose answer was not in memory.",
            )?,
            cache_bytes: IntGauge::new("tableswap_cache_bytes", "Bytes of answers that are kept in memory.")?,
        })
    }

    /// Makes the metrics and shows them in a registry.
    pub fn of(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self::new()?;
        metrics.register(registry)?;
        Ok(metrics)
    }

    pub(crate) fn observe(&self, time: Duration, keys: usize) {
        self.look_up_seconds.observe(time.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most thousands of keys")]
        self.look_up_batch_size.observe(keys as f64);
    }

    /// Shows them in a registry; each of two servers on one store has its own.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        let histograms = [&self.swap_seconds, &self.look_up_seconds, &self.look_up_batch_size];
        histograms.into_iter().try_for_each(|histogram| registry.register(Box::new(histogram.clone())))?;
        let counters = [&self.poll_failures, &self.cleanup_failures, &self.cache_hits, &self.cache_misses];
        counters.into_iter().try_for_each(|counter| registry.register(Box::new(counter.clone())))?;
        registry.register(Box::new(self.damaged_versions.clone()))?;
        let gauges = [&self.pool_in_use, &self.pool_waiting, &self.cache_bytes];
        gauges.into_iter().try_for_each(|gauge| registry.register(Box::new(gauge.clone())))
    }
}

/// Shows what a reader follows: the live versions, the servers in which they are, and whether it can answer at all.
pub struct Followed {
    reader: Reader,
    version: IntGaugeVec,
    rows: IntGaugeVec,
    published: IntGaugeVec,
    servers: IntGaugeVec,
    age: GaugeVec,
    diverged: IntGauge,
    alone: IntGauge,
    ready: IntGauge,
}

impl Followed {
    /// Takes the reader that knows them.
    pub fn new(reader: Reader) -> prometheus::Result<Self> {
        let labelled = |name: &str, help: &str, label| IntGaugeVec::new(Opts::new(name, help), &[label]);
        let gauge = |name: &str, help: &str| labelled(name, help, "dataset");
        Ok(Self {
            reader,
            version: gauge("tableswap_live_version", "Number of the live version.")?,
            rows: gauge("tableswap_live_rows", "Rows of the live version.")?,
            published: gauge(
                "tableswap_live_published_timestamp_seconds",
                "When the live version was first published, in seconds since 1970.",
            )?,
            servers: labelled(
                "tableswap_store_servers",
                "Databases that look-ups can use (in) and cannot use now (out).",
                "state",
            )?,
            age: GaugeVec::new(
                Opts::new(
                    "tableswap_store_replica_age_seconds",
                    "How far a replica is behind the primary, by the last heartbeats that came to both.",
                ),
                &["server"],
            )?,
            diverged: IntGauge::new(
                "tableswap_store_diverged_replicas",
                "Replicas that have a version that the primary never had.",
            )?,
            alone: IntGauge::new(
                "tableswap_store_alone_seconds",
                "For how long replicas have answered alone, because the primary is away.",
            )?,
            ready: IntGauge::new(
                "tableswap_store_ready",
                "Whether look-ups can be answered: 1, or 0 where the store is away or nothing was loaded yet.",
            )?,
        })
    }

    fn all(&self) -> [&IntGaugeVec; 4] {
        [&self.version, &self.rows, &self.published, &self.servers]
    }

    fn others(&self) -> [&dyn Collector; 4] {
        [&self.ready, &self.age, &self.diverged, &self.alone]
    }
}

impl Collector for Followed {
    fn desc(&self) -> Vec<&Desc> {
        let others = self.others().into_iter().flat_map(Collector::desc);
        self.all().into_iter().flat_map(Collector::desc).chain(others).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let all_live = self.reader.live();
        self.ready.set((self.reader.check().is_ok() && !all_live.is_empty()).into());
        for live in all_live {
            let dataset = [live.dataset.as_str()];
            self.version.with_label_values(&dataset).set(live.version.into());
            self.rows.with_label_values(&dataset).set(number(live.rows));
            let published = live.published_at.map_or(0, |time| time.timestamp());
            self.published.with_label_values(&dataset).set(published);
        }
        if let Some(Servers { servers, alone }) = self.reader.servers() {
            let count = |is_counted: &dyn Fn(&ServerStatus) -> bool| {
                number(servers.iter().filter(|server| is_counted(server)).count() as u64)
            };
            self.servers.with_label_values(&["in"]).set(count(&|server| server.is_available));
            self.servers.with_label_values(&["out"]).set(count(&|server| !server.is_available));
            self.diverged.set(count(&|server| server.is_diverged));
            self.alone.set(number(alone.as_secs()));
            for server in servers.iter().skip(1) {
                self.age.with_label_values(&[&server.name]).set(server.age.as_secs_f64());
            }
        }
        let others = self.others().into_iter().flat_map(Collector::collect);
        self.all().into_iter().flat_map(Collector::collect).chain(others).collect()
    }
}
