//! What both servers measure of HTTP, and how it is shown.
//!
//! Labels are bounded: the handler is the route's pattern, never a path; an unknown method is `other`. Each worker
//! keeps the metrics that it counts in, so that no request looks for them by their labels.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use crate::{Problem, Traces};

/// Upper bounds in seconds, from 100 us up; the last ones are for uploads.
const BUCKETS: [f64; 17] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
    60.0, 600.0,
];

/// Counts and times of requests.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    in_flight: IntGauge,
}

/// What one worker counts of one handler, method and code.
#[derive(Debug)]
struct Series {
    handler: String,
    method: &'static str,
    status: StatusCode,
    requests: IntCounter,
    seconds: Histogram,
}

/// A registry that measures the process.
pub fn registry() -> prometheus::Result<Registry> {
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::for_self()))?;
    Ok(registry)
}

impl HttpMetrics {
    /// Makes the metrics and registers them.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let requests = Opts::new("http_requests_total", "Requests that were answered.");
        let seconds =
            HistogramOpts::new("http_request_duration_seconds", "Seconds until a request was answered.");
        let metrics = Self {
            requests: IntCounterVec::new(requests, &["handler", "method", "code"])?,
            seconds: HistogramVec::new(seconds.buckets(BUCKETS.to_vec()), &["handler", "method"])?,
            in_flight: IntGauge::new("http_requests_in_flight", "Requests that are being answered.")?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        Ok(metrics)
    }

    fn series(&self, handler: &str, method: &'static str, status: StatusCode) -> Series {
        Series {
            handler: handler.to_owned(),
            method,
            status,
            requests: self.requests.with_label_values(&[handler, method, status.as_str()]),
            seconds: self.seconds.with_label_values(&[handler, method]),
        }
    }
}

impl Series {
    fn count(&self, time: Duration) {
        self.requests.inc();
        self.seconds.observe(time.as_secs_f64());
    }
}

/// The metrics as one worker uses them.
#[derive(Debug)]
pub struct Recorder {
    metrics: HttpMetrics,
    pub(crate) traces: Traces,
    /// The metrics that this worker has asked for. They are few, so a search through them is quicker than a table.
    own: RefCell<Vec<Series>>,
}

impl Recorder {
    /// For one worker.
    pub fn new(metrics: &HttpMetrics, traces: &Traces) -> Rc<Self> {
        Rc::new(Self { metrics: metrics.clone(), traces: traces.clone(), own: RefCell::default() })
    }

    /// Counts a request that was answered.
    pub fn record(&self, handler: &str, method: &'static str, status: StatusCode, time: Duration) {
        let mut own = self.own.borrow_mut();
        let found = own
            .iter()
            .find(|series| series.status == status && series.method == method && series.handler == handler);
        if let Some(series) = found {
            return series.count(time);
        }
        let series = self.metrics.series(handler, method, status);
        series.count(time);
        own.push(series);
    }
}

/// Counts a request for as long as it is under way, also when its client goes away.
#[derive(Debug)]
pub struct InFlight(Rc<Recorder>);

impl InFlight {
    /// From now on.
    pub fn new(recorder: &Rc<Recorder>) -> Self {
        recorder.metrics.in_flight.inc();
        Self(recorder.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.metrics.in_flight.dec();
    }
}

/// Answers `/prometheus`.
pub(crate) async fn exposition(registry: web::Data<Registry>) -> Result<HttpResponse, Problem> {
    let failed = |error| Problem::internal("the metrics cannot be shown").because(error);
    // A disk of the network can let who asks for its room wait.
    let shown = web::block(move || TextEncoder::new().encode_to_string(&registry.gather())).await;
    let text = shown.map_err(|error| failed(Box::<dyn std::error::Error + Send + Sync>::from(error)))?;
    let text = text.map_err(|error| failed(error.into()))?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_series_is_counted_in_all_workers_together() {
        let registry = Registry::new();
        let metrics = HttpMetrics::register(&registry).unwrap();
        let work = || {
            let recorder = Recorder::new(&metrics, &Traces::default());
            for status in [StatusCode::OK, StatusCode::OK, StatusCode::NOT_FOUND] {
                recorder.record("/{dataset}/{key}", "GET", status, Duration::from_micros(90));
            }
            recorder.record("/{dataset}/{key}", "GET", StatusCode::OK, Duration::from_hours(1));
        };
        for scrape in [1, 2] {
            thread::scope(|scope| {
                [work; 2].map(|work| scope.spawn(work)).map(|worker| worker.join().unwrap())
            });
            let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
            for (series, count) in [
                (r#"http_requests_total{code="200",handler="/{dataset}/{key}",method="GET"}"#, 6),
                (r#"http_requests_total{code="404",handler="/{dataset}/{key}",method="GET"}"#, 2),
                (
                    r#"http_request_duration_seconds_bucket{handler="/{dataset}/{key}",method="GET",le="0.0001"}"#,
                    6,
                ),
                (
                    r#"http_request_duration_seconds_bucket{handler="/{dataset}/{key}",method="GET",le="600"}"#,
                    6,
                ),
                (
                    r#"http_request_duration_seconds_bucket{handler="/{dataset}/{key}",method="GET",le="+Inf"}"#,
                    8,
                ),
                (r#"http_request_duration_seconds_count{handler="/{dataset}/{key}",method="GET"}"#, 8),
            ] {
                let line = format!("{series} {}", count * scrape);
                assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
            }
            let sum = metrics.seconds.with_label_values(&["/{dataset}/{key}", "GET"]).get_sample_sum();
            assert!((sum - 7_200.000_54 * f64::from(scrape)).abs() < 1e-6, "{sum}");
        }
    }
}
