//! What both servers share: settings, logs, metrics, health, problem answers, TLS, how to start and how to stop.
//!
//! Nothing here is global: settings are read once and handed down, as are the registry of metrics and the token that
//! says stop. So tests start a real server with values of their own.

mod access;
mod attempts;
mod chunks;
mod clients;
mod connection;
mod descriptors;
mod disks;
mod exit;
mod exposure;
mod framing;
mod health;
mod hosts;
mod listen;
mod metrics;
mod probe;
mod problem;
mod remainder;
mod requests;
mod server;
pub mod settings;
mod streams;
pub mod telemetry;
mod tls;
mod tokens;
mod traces;

pub use access::{Access, Caller, TokenSources};
pub use chunks::FramingFault;
pub use clients::TrustedProxies;
pub use connection::BodyFault;
pub use descriptors::connections_max;
pub use disks::Disks;
pub use exit::fail;
pub use exposure::{Exposure, PlainHttp};
pub use health::{Check, Health};
pub use hosts::{AllowedHosts, HostCheck};
pub use listen::{Listen, listen};
pub use metrics::{HttpMetrics, InFlight, Recorder, registry};
pub use probe::{Scheme, probe};
pub use problem::{NO_SNIFF, PROBLEM_JSON, Problem, chain};
pub use requests::{Asked, answer, measure};
pub use rustls::ServerConfig as TlsConfig;
pub use server::{
    StopTimes, Takes, also_deleted, also_posted, bind, configure, is_open_path, nothing_there, route, run,
    stop_on_signal,
};
pub use settings::{Environment, Secret, SettingsError, is_probe};
pub use streams::{Stream, Streams, TooManyStreams};
pub use tls::{TlsError, TlsPaths, tls_config};
pub use tokens::{Grant, Role, TokensError};
pub use traces::{Trace, TraceSettings, Traces, TracesError};
