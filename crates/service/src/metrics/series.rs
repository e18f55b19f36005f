//! What one worker counts of one handler, method and code.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::http::StatusCode;
use prometheus::proto::{Bucket, Counter, Histogram, LabelPair, Metric};

/// Upper bounds in nanoseconds, from 100 us up; the last ones are for uploads.
const BOUNDS: [u64; 17] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
    60_000_000_000,
    600_000_000_000,
];
/// One more than there are bounds: what is above all of them.
const BUCKETS: usize = BOUNDS.len() + 1;

#[derive(Debug)]
pub(super) struct Series {
    pub(super) handler: String,
    pub(super) method: &'static str,
    pub(super) status: StatusCode,
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl Series {
    pub(super) fn new(handler: &str, method: &'static str, status: StatusCode) -> Self {
        let handler = handler.to_owned();
        Self { handler, method, status, buckets: Default::default(), nanos: AtomicU64::new(0) }
    }

    /// Only the worker that made the series may count.
    pub(super) fn count(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().take_while(|bound| nanos > **bound).count();
        add(&self.buckets[bucket], 1);
        add(&self.nanos, nanos);
    }

    pub(super) fn read(&self) -> Sum {
        let counts = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        Sum { counts, nanos: self.nanos.load(Ordering::Relaxed) }
    }
}

/// No other thread writes, so nothing gets lost between the two, and no cache line is fought for.
fn add(number: &AtomicU64, more: u64) {
    number.store(number.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

/// What several workers counted.
#[derive(Debug, Default)]
pub(super) struct Sum {
    counts: [u64; BUCKETS],
    nanos: u64,
}

impl Sum {
    pub(super) fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, count)| *sum += count);
        self.nanos = self.nanos.wrapping_add(other.nanos);
    }

    #[expect(clippy::cast_precision_loss, reason = "the text format has floating point numbers only")]
    pub(super) fn counter(&self, names: &[&str], values: &[&str]) -> Metric {
        let mut counter = Counter::default();
        counter.set_value(self.counts.iter().sum::<u64>() as f64);
        let mut metric = Metric::from_label(labels(names, values));
        metric.set_counter(counter);
        metric
    }

    pub(super) fn histogram(&self, names: &[&str], values: &[&str]) -> Metric {
        let mut histogram = Histogram::default();
        histogram.set_sample_count(self.counts.iter().sum());
        histogram.set_sample_sum(Duration::from_nanos(self.nanos).as_secs_f64());
        let mut below = 0;
        let buckets = BOUNDS.iter().zip(self.counts).map(|(bound, count)| {
            below += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(Duration::from_nanos(*bound).as_secs_f64());
            bucket.set_cumulative_count(below);
            bucket
        });
        histogram.set_bucket(buckets.collect());
        let mut metric = Metric::from_label(labels(names, values));
        metric.set_histogram(histogram);
        metric
    }
}

fn labels(names: &[&str], values: &[&str]) -> Vec<LabelPair> {
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    let mut labels: Vec<_> = names.iter().zip(values).map(pair).collect();
    labels.sort_by(|one, other| one.name().cmp(other.name()));
    labels
}
