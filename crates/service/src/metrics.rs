//! What both servers measure of HTTP, and how it is shown.
//!
//! Labels are bounded: the handler is the route's pattern, never a path; an unknown method is `other`.

use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::{HttpResponse, web};
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};
use tracing::{debug, error};

use crate::{Problem, chain};

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

/// The middleware: measures each request, and logs each failure once.
pub async fn measure<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let Some(metrics) = request.app_data::<web::Data<HttpMetrics>>().cloned() else {
        return next.call(request).await;
    };
    let method = method_label(request.method());
    let _in_flight = InFlight::new(&metrics.in_flight);
    let start = Instant::now();
    let outcome = next.call(request).await;
    let (handler, status) = match &outcome {
        Ok(response) => (response.request().match_pattern(), response.status()),
        Err(error) => (None, error.as_response_error().status_code()),
    };
    let handler = handler.as_deref().unwrap_or("unmatched");
    if let Ok(response) = &outcome
        && let Some(error) = response.response().error()
    {
        log(handler, method, status.as_u16(), error);
    }
    metrics.requests.with_label_values(&[handler, method, status.as_str()]).inc();
    metrics.seconds.with_label_values(&[handler, method]).observe(start.elapsed().as_secs_f64());
    outcome
}

/// Counts a request for as long as it is under way, also when its client goes away.
struct InFlight(IntGauge);

impl InFlight {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What the server could not do is an error; what a client did wrong is not.
fn log(handler: &str, method: &str, code: u16, error: &actix_web::Error) {
    let problem = error.as_error::<Problem>();
    if problem.is_some_and(Problem::is_logged) {
        return;
    }
    let error = problem.map_or_else(|| error.to_string(), |problem| chain(problem));
    if code >= 500 {
        error!(handler, method, code, error, "request failed");
    } else {
        debug!(handler, method, code, error, "request refused");
    }
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
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
