//! Logs: one line for each thing worth knowing, with its identifiers as fields, as text or as JSON, on stderr.

use prometheus::IntCounter;
use serde::Deserialize;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::{self, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::{Environment, SettingsError, Traces, TracesError};

/// Settings of the section `LOG`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// `text` or `json`. Default: `text`.
    pub format: LogFormat,
    /// What is logged: `error`, `warn`, `info`, `debug`, or directives such as `info,store=debug`. Default: `info`.
    pub level: String,
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}

/// Why it cannot be logged or traced as the settings say.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A setting cannot be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The directives cannot be used.
    #[error(
        "TABLESWAP_LOG_LEVEL: expected error, warn, info, debug, trace or directives such as info,store=debug"
    )]
    Level,
    /// A metric cannot be made, which is a defect.
    #[error("cannot make the metrics of the log")]
    Metrics(#[from] prometheus::Error),
    /// Traces cannot be sent.
    #[error(transparent)]
    Traces(#[from] TracesError),
}

/// Starts to log, and to trace where that is set, what the service `name` does.
pub fn init(environment: &Environment, name: &'static str) -> Result<Telemetry, TelemetryError> {
    let malformed_requests = IntCounter::new(
        "http_malformed_requests_total",
        "Connections that the HTTP parser broke off: requests that are malformed or too large.",
    )?;
    log(&environment.section("LOG")?, &malformed_requests)?;
    let traces = Traces::start(&environment.section("TRACES")?, name)?;
    Ok(Telemetry { traces, malformed_requests })
}

/// Where a process says what it does.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// What sends traces.
    pub traces: Traces,
    malformed_requests: IntCounter,
}

impl Telemetry {
    /// A registry with the metrics of the process.
    pub fn registry(&self) -> prometheus::Result<prometheus::Registry> {
        let registry = crate::registry()?;
        registry.register(Box::new(self.malformed_requests.clone()))?;
        Ok(registry)
    }
}

/// Counts the errors of the HTTP parser. Their lines are off by default: any client can cause as many as it likes.
struct ParserErrors(IntCounter);

impl<S: Subscriber> Layer<S> for ParserErrors {
    fn on_event(&self, _: &Event<'_>, _: layer::Context<'_, S>) {
        self.0.inc();
    }
}

fn is_parser_error(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("actix_http") && *metadata.level() == Level::ERROR
}

/// A panic is a line like any other, so that it is not lost among them.
fn log(settings: &LogSettings, malformed_requests: &IntCounter) -> Result<(), TelemetryError> {
    // A word that is no level would be taken for the name of a module, and everything else would fall silent.
    let mut words = settings.level.split(',').filter(|part| !part.contains(['=', '[']));
    if !words.all(|word| word.trim().parse::<LevelFilter>().is_ok()) {
        return Err(TelemetryError::Level);
    }
    // What actix says at start, this service says in its own line. Malformed requests are counted.
    let filter = EnvFilter::builder().parse(format!("actix_server=warn,actix_http=off,{}", settings.level));
    let filter = filter.map_err(|_| TelemetryError::Level)?;
    let errors = ParserErrors(malformed_requests.clone()).with_filter(filter_fn(is_parser_error));
    let counted = tracing_subscriber::registry().with(errors);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    match settings.format {
        LogFormat::Text => counted.with(lines.with_ansi(false).with_filter(filter)).init(),
        LogFormat::Json => counted.with(lines.json().flatten_event(true).with_filter(filter)).init(),
    }
    log_panics();
    Ok(())
}

fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, panic = panic.payload_as_str(), "a task panicked, which is a defect");
    }));
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_one_line_of_the_log() {
        let before = std::panic::take_hook();
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone());
        tracing::subscriber::with_default(log.finish(), || {
            log_panics();
            assert!(std::panic::catch_unwind(|| panic!("no such row")).is_err());
        });
        std::panic::set_hook(before);
        let line: serde_json::Value = serde_json::from_slice(&lines.0.lock().unwrap()).unwrap();
        assert_eq!((&line["level"], &line["panic"]), (&"ERROR".into(), &"no such row".into()));
        assert!(line["place"].as_str().unwrap().contains("telemetry.rs"), "{line}");
    }
}
