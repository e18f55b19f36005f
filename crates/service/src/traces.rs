//! Traces: what a request and a load did and how long it took, for a collector that speaks OpenTelemetry.
//!
//! Nothing is global: what sends is a value that is handed down, and without a collector it is nothing at all. The
//! `traceparent` of a request is honoured either way, so that a line of the log names the trace that a caller began.

mod sampler;
mod send;

use std::time::{Duration, SystemTime};

use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, StatusCode, Uri};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanBuilder, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use serde::Deserialize;
use tracing::warn;

use self::sampler::RequestSampler;
use self::send::Client;
use crate::Secret;

/// So long a stop waits for what is still to be sent.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Settings of the section `TRACES`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TraceSettings {
    /// Where traces are sent by OTLP over HTTP, such as `http://collector:4318/v1/traces`. Default: nowhere.
    pub url: Option<Secret>,
    /// Of requests whose sender decides nothing, so many in a hundred are traced. Default: 1.
    pub sample_percent: f64,
    /// Trace every request whose `traceparent` says so, and not only the share above. Default: `false`.
    pub trust_parent: bool,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self { url: None, sample_percent: 1.0, trust_parent: false }
    }
}

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// No share.
    #[error("TABLESWAP_TRACES_SAMPLE_PERCENT must be from 0 to 100")]
    Percent,
    /// No address.
    #[error("TABLESWAP_TRACES_URL must be http://HOST:PORT/v1/traces or https://...")]
    Url,
    /// The exporter has something against the settings.
    #[error("cannot send traces")]
    Exporter(#[source] ExporterBuildError),
}

/// What sends traces; without a collector it does nothing.
#[derive(Debug, Clone, Default)]
pub struct Traces(Option<Sending>);

#[derive(Debug, Clone)]
struct Sending {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Starts to send what the service `name` does.
    pub fn start(settings: &TraceSettings, name: &'static str) -> Result<Self, TracesError> {
        if !(0.0..=100.0).contains(&settings.sample_percent) {
            return Err(TracesError::Percent);
        }
        let Some(url) = &settings.url else { return Ok(Self::default()) };
        if !is_http(url.expose()) {
            return Err(TracesError::Url);
        }
        let exporter = SpanExporter::builder().with_http().with_http_client(Client::new());
        let exporter = exporter.with_protocol(Protocol::HttpBinary).with_endpoint(url.expose()).build();
        let exporter = exporter.map_err(TracesError::Exporter)?;
        let sampler = RequestSampler::new(settings.sample_percent / 100.0, settings.trust_parent);
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(Resource::builder().with_service_name(name).with_attribute(version).build())
            .build();
        Ok(Self(Some(Sending { tracer: provider.tracer("tableswap"), provider })))
    }

    /// Waits for the end of what it was traced for, then a few seconds at most for what is still to be sent.
    pub async fn stop_after<T>(&self, work: impl Future<Output = T>) -> T {
        let done = work.await;
        if let Some(Sending { provider, .. }) = self.0.clone() {
            let stop = move || provider.shutdown_with_timeout(STOP_WAIT);
            if let Ok(Err(error)) = tokio::task::spawn_blocking(stop).await {
                warn!(%error, "the last traces were not sent");
            }
        }
        done
    }

    /// A request that begins.
    pub(crate) fn begin(&self, headers: &HeaderMap, method: &Method) -> Trace {
        let parent = Trace { traces: self.clone(), context: sender(headers) };
        let request = SpanBuilder::from_name("request").with_kind(SpanKind::Server);
        parent.child(request.with_attributes([KeyValue::new("http.request.method", method.to_string())]))
    }

    /// A request that was answered just now; its trace, if there is one.
    pub(crate) fn answered(&self, headers: &HeaderMap, answered: Answered<'_>) -> Option<Trace> {
        let sending = self.0.as_ref()?;
        let Answered { handler, method, status, time } = answered;
        let span = SpanBuilder::from_name(handler.to_owned()).with_kind(SpanKind::Server);
        let span = span.with_start_time(SystemTime::now() - time);
        let span = span.with_attributes([KeyValue::new("http.request.method", method), code(status)]);
        let trace = Trace::new(self, sending, span, &sender(headers));
        trace.fail_if_ours(status);
        trace.end();
        Some(trace)
    }
}

/// A request that has its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered<'a> {
    pub(crate) handler: &'a str,
    pub(crate) method: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) time: Duration,
}

/// The trace of which something is a part, and its place in it.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    traces: Traces,
    context: Context,
}

impl Trace {
    fn new(traces: &Traces, sending: &Sending, span: SpanBuilder, parent: &Context) -> Self {
        let span = sending.tracer.build_with_context(span, parent);
        Self { traces: traces.clone(), context: parent.with_span(span) }
    }

    fn child(&self, span: SpanBuilder) -> Self {
        match &self.traces.0 {
            Some(sending) => Self::new(&self.traces, sending, span, &self.context),
            None => self.clone(),
        }
    }

    /// The number of the trace, for the log, if somebody began one.
    pub fn id(&self) -> Option<String> {
        let span = self.context.span();
        let context = span.span_context();
        context.is_valid().then(|| context.trace_id().to_string())
    }

    /// A part that begins.
    #[must_use]
    pub fn part(&self, name: &'static str) -> Self {
        self.child(SpanBuilder::from_name(name))
    }

    /// A part that has ended just now.
    pub fn past_part(&self, name: &'static str, time: Duration) {
        if self.traces.0.is_some() {
            self.child(SpanBuilder::from_name(name).with_start_time(SystemTime::now() - time)).end();
        }
    }

    /// Says something of this part.
    pub fn say(&self, name: &'static str, value: impl Into<Value>) {
        if self.traces.0.is_some() {
            self.context.span().set_attribute(KeyValue::new(name, value));
        }
    }

    /// Says that this part failed, and how.
    pub fn fail(&self, why: impl Into<String>) {
        if self.traces.0.is_some() {
            self.context.span().set_status(Status::error(why.into()));
        }
    }

    /// Ends this part. What was not begun here has no end here.
    pub fn end(&self) {
        if self.traces.0.is_some() {
            self.context.span().end();
        }
    }

    /// Ends a request.
    pub(crate) fn end_request(&self, handler: &str, status: StatusCode) {
        if self.traces.0.is_some() {
            let span = self.context.span();
            span.update_name(handler.to_owned());
            span.set_attribute(code(status));
            self.fail_if_ours(status);
            span.end();
        }
    }

    fn fail_if_ours(&self, status: StatusCode) {
        if status.is_server_error() {
            self.fail("");
        }
    }
}

fn is_http(url: &str) -> bool {
    let url = url.parse::<Uri>();
    url.is_ok_and(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.authority().is_some())
}

fn code(status: StatusCode) -> KeyValue {
    KeyValue::new("http.response.status_code", i64::from(status.as_u16()))
}

/// The trace that the sender of a request began.
pub(crate) fn sender(headers: &HeaderMap) -> Context {
    // Nobody says so with nearly every look-up.
    if !headers.contains_key("traceparent") {
        return Context::new();
    }
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers))
}

/// The number of the trace that the sender of a request began.
pub(crate) fn sender_id(headers: &HeaderMap) -> Option<String> {
    Trace { traces: Traces::default(), context: sender(headers) }.id()
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(actix_web::http::header::HeaderName::as_str).collect()
    }
}
