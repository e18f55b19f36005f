//! What both servers measure of HTTP, and how it is shown.
//!
//! Labels are bounded: the handler is the route's pattern, never a path; an unknown method is `other`. Each worker
//! counts in series of its own, which no other thread writes, so that a request costs two plain stores; what is shown
//! is their sum.

mod series;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{IntGauge, Registry, TextEncoder};

use self::series::{Series, Sum};
use crate::{Problem, Traces};

/// Counts and times of requests.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    /// Those of all workers.
    series: Arc<Mutex<Vec<Arc<Series>>>>,
    in_flight: IntGauge,
    requests: Desc,
    seconds: Desc,
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
        let desc = |name: &str, help: &str, labels: &[&str]| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(name.into(), help.into(), labels, std::collections::HashMap::new())
        };
        let metrics = Self {
            series: Arc::default(),
            in_flight: IntGauge::new("http_requests_in_flight", "Requests that are being answered.")?,
            requests: desc(
                "http_requests_total",
                "Requests that were answered.",
                &["handler", "method", "code"],
            )?,
            seconds: desc(
                "http_request_duration_seconds",
                "Seconds until a request was answered.",
                &["handler", "method"],
            )?,
        };
        registry.register(Box::new(metrics.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        Ok(metrics)
    }

    fn series(&self) -> MutexGuard<'_, Vec<Arc<Series>>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for HttpMetrics {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.requests, &self.seconds]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (mut by_code, mut by_method) = (BTreeMap::new(), BTreeMap::new());
        let all = self.series().clone();
        for series in &all {
            let sum = series.read();
            let labels = [series.handler.as_str(), series.method];
            by_method.entry(labels).or_insert_with(Sum::default).add(&sum);
            let code = (labels, series.status.as_u16());
            by_code.entry(code).or_insert_with(Sum::default).add(&sum);
        }
        let names = ["handler", "method", "code"];
        let counts = by_code.iter().map(|(([handler, method], code), sum)| {
            sum.counter(&names, &[handler, method, &code.to_string()])
        });
        let times = by_method.iter().map(|(labels, sum)| sum.histogram(&names[..2], labels));
        let family = |desc: &Desc, kind, metrics: Vec<_>| {
            let mut family = MetricFamily::default();
            family.set_name(desc.fq_name.clone());
            family.set_help(desc.help.clone());
            family.set_field_type(kind);
            family.set_metric(metrics);
            family
        };
        vec![
            family(&self.requests, MetricType::COUNTER, counts.collect()),
            family(&self.seconds, MetricType::HISTOGRAM, times.collect()),
        ]
    }
}

/// The metrics as one worker uses them.
#[derive(Debug)]
pub struct Recorder {
    metrics: HttpMetrics,
    pub(crate) traces: Traces,
    /// Those of this worker. They are few, so a search through them is quicker than a table.
    own: RefCell<Vec<Arc<Series>>>,
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
        let series = Arc::new(Series::new(handler, method, status));
        series.count(time);
        self.metrics.series().push(series.clone());
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
    use super::*;

    #[test]
    fn a_series_is_counted_in_all_workers_together() {
        let registry = Registry::new();
        let metrics = HttpMetrics::register(&registry).unwrap();
        for recorder in [&metrics; 2].map(|metrics| Recorder::new(metrics, &Traces::default())) {
            for status in [StatusCode::OK, StatusCode::OK, StatusCode::NOT_FOUND] {
                recorder.record("/{dataset}/{key}", "GET", status, Duration::from_micros(90));
            }
            recorder.record("/{dataset}/{key}", "GET", StatusCode::OK, Duration::from_hours(1));
        }
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            r#"http_requests_total{code="200",handler="/{dataset}/{key}",method="GET"} 6"#,
            r#"http_requests_total{code="404",handler="/{dataset}/{key}",method="GET"} 2"#,
            r#"http_request_duration_seconds_bucket{handler="/{dataset}/{key}",method="GET",le="0.0001"} 6"#,
            r#"http_request_duration_seconds_bucket{handler="/{dataset}/{key}",method="GET",le="600"} 6"#,
            r#"http_request_duration_seconds_bucket{handler="/{dataset}/{key}",method="GET",le="+Inf"} 8"#,
            r#"http_request_duration_seconds_sum{handler="/{dataset}/{key}",method="GET"} 7200.00054"#,
            r#"http_request_duration_seconds_count{handler="/{dataset}/{key}",method="GET"} 8"#,
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
    }
}
