//! What both servers measure of HTTP, and how it is shown.
//!
//! Labels are bounded: the handler is the route's pattern, never a path; an unknown method is `other`. Each worker
//! keeps the series that it has used, because finding them anew costs more than counting.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

use crate::Problem;

/// From 100 us up; the last ones are for uploads.
const BUCKETS: [f64; 17] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
    600.0,
];

/// Counts and times of requests.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    in_flight: IntGauge,
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
}

/// The metrics as one worker uses them.
pub(crate) struct Recorder {
    metrics: HttpMetrics,
    /// By handler; of methods and codes each has few.
    used: RefCell<HashMap<String, Vec<Series>>>,
}

/// The series of one handler, method and code.
struct Series {
    method: &'static str,
    status: StatusCode,
    requests: IntCounter,
    seconds: Histogram,
}

impl Recorder {
    pub(crate) fn new(metrics: &HttpMetrics) -> Self {
        Self { metrics: metrics.clone(), used: RefCell::default() }
    }

    /// Counts a request that was answered.
    pub(crate) fn record(&self, handler: &str, method: &'static str, status: StatusCode, time: Duration) {
        let mut used = self.used.borrow_mut();
        let is_it = |series: &&Series| series.method == method && series.status == status;
        if let Some(series) = used.get(handler).and_then(|all| all.iter().find(is_it)) {
            return series.count(time);
        }
        let series = Series {
            method,
            status,
            requests: self.metrics.requests.with_label_values(&[handler, method, status.as_str()]),
            seconds: self.metrics.seconds.with_label_values(&[handler, method]),
        };
        series.count(time);
        used.entry(handler.to_owned()).or_default().push(series);
    }
}

impl Series {
    fn count(&self, time: Duration) {
        self.requests.inc();
        self.seconds.observe(time.as_secs_f64());
    }
}

/// Counts a request for as long as it is under way, also when its client goes away.
pub(crate) struct InFlight(Rc<Recorder>);

impl InFlight {
    pub(crate) fn new(recorder: Rc<Recorder>) -> Self {
        recorder.metrics.in_flight.inc();
        Self(recorder)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.metrics.in_flight.dec();
    }
}

/// Answers `/prometheus`.
pub(crate) async fn exposition(registry: web::Data<Registry>) -> Result<HttpResponse, Problem> {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    encoder
        .encode(&registry.gather(), &mut text)
        .map_err(|error| Problem::internal("the metrics cannot be shown").because(error))?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_counted_in_all_workers_together() {
        let registry = Registry::new();
        let metrics = HttpMetrics::register(&registry).unwrap();
        for recorder in [Recorder::new(&metrics), Recorder::new(&metrics)] {
            for status in [StatusCode::OK, StatusCode::OK, StatusCode::NOT_FOUND] {
                recorder.record("/{dataset}/{key}", "GET", status, Duration::from_micros(90));
            }
        }
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            r#"http_requests_total{code="200",handler="/{dataset}/{key}",method="GET"} 4"#,
            r#"http_requests_total{code="404",handler="/{dataset}/{key}",method="GET"} 2"#,
            r#"http_request_duration_seconds_bucket{handler="/{dataset}/{key}",method="GET",le="0.0001"} 6"#,
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
    }
}
