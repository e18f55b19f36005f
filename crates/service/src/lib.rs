//! What both servers share: settings, logs, metrics, health, problem answers, TLS, how to start and how to stop.
//!
//! Nothing here is global: settings are read once and handed down, as are the registry of metrics and the token that
//! says stop. So tests start a real server with values of their own.

mod descriptors;
mod disks;
mod exit;
mod health;
mod metrics;
mod probe;
mod problem;
mod remainder;
mod requests;
mod server;
pub mod settings;
pub mod telemetry;
mod tls;
mod traces;

pub use descriptors::connections_max;
pub use disks::Disks;
pub use exit::fail;
pub use health::{Check, Health};
pub use metrics::{HttpMetrics, InFlight, Recorder, registry};
pub use probe::probe;
pub use problem::{PROBLEM_JSON, Problem, chain};
pub use requests::{Asked, answer, measure};
pub use rustls::ServerConfig as TlsConfig;
pub use server::{
    StopTimes, Takes, also_deleted, bind, configure, nothing_there, route, run, stop_on_signal,
};
pub use settings::{Environment, Secret, SettingsError, is_probe};
pub use tls::{TlsError, tls_config};
pub use traces::{Trace, TraceSettings, Traces, TracesError};
