//! The api as a server: what it is made of, how it starts and how it stops.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_service::apply_fn_factory;
use actix_web::HttpServer;
use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ThinData};
use prometheus::Registry;
use service::{
    Access, Exposure, Health, HostCheck, HttpMetrics, PlainHttp, Recorder, StopTimes, Streams, TlsError,
    TokenSources, TokensError, Traces,
};
use store::{AnswerBudget, Followed, Reader, Store};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::gate::Gate;
use crate::key_list;
use crate::look_up::{Limits, LookUps};
use crate::lookup_service::answer_or_pass_on;
use crate::places::Places;
use crate::{Settings, routes};

/// What an api is built from.
#[derive(Debug)]
pub struct Config {
    /// The section `API`.
    pub settings: Settings,
    /// Where versions live.
    pub store: Store,
    /// Where metrics are registered.
    pub registry: Registry,
    /// Where traces are sent.
    pub traces: Traces,
}

/// Why an api cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Another program has the port, or the address is not one of this machine.
    #[error(transparent)]
    Listen(#[from] io::Error),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// TLS is required and not set up.
    #[error(transparent)]
    PlainHttp(#[from] PlainHttp),
    /// A metric is registered twice, which is a defect.
    #[error("cannot register the metrics")]
    Metrics(#[from] prometheus::Error),
}

/// An api that is bound to its port.
pub struct App {
    address: SocketAddr,
    server: Server,
    health: Health,
    times: StopTimes,
    reader: Reader,
}

/// How long a start waits for the first answer of a database.
const FIRST_POLL_TIMEOUT: Duration = Duration::from_secs(2);

impl App {
    /// Builds and binds an api. Must be called within a multi-thread tokio runtime, which follows the live versions.
    pub fn build(config: Config) -> Result<Self, BuildError> {
        let reader = config.store.reader();
        config.registry.register(Box::new(Followed::new(reader.clone())?))?;
        let send_timeout = Duration::from_secs(config.settings.send_timeout_seconds);
        let listener = service::bind(config.settings.listen, send_timeout)?;
        let address = listener.local_addr()?;
        let health = health(reader.clone());
        let times = StopTimes { notice: Duration::from_secs(config.settings.stop_notice_seconds) };
        let server = serve(listener, config, reader.clone(), &health)?;
        Ok(Self { address, server, health, times, reader })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) -> io::Result<()> {
        // An answer that the store was not polled yet would be taken for a failure.
        if tokio::time::timeout(FIRST_POLL_TIMEOUT, self.reader.first_poll()).await.is_err() {
            warn!("the store does not answer yet");
        }
        info!(listen = %self.address, "api started");
        service::run(self.server, self.health, self.times, shutdown, std::future::ready(())).await
    }
}

/// Where the store is spoken with. Requests are answered on threads of their own, which do most of the work: more than a
/// few here only hand each other the batches.
pub fn runtime() -> io::Result<Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread().worker_threads(processors.div_ceil(4)).enable_all().build()
}

/// Ready means: at least one dataset can be served, and every dataset that was served since the start still can. A dataset
/// that this process never served is only named: taking the process out of rotation would take the others away, too.
fn health(reader: Reader) -> Health {
    Health::new(Arc::new(move || Box::pin(std::future::ready(readiness(&reader)))))
}

fn readiness(reader: &Reader) -> Result<Vec<String>, String> {
    let health = reader.health();
    if health.error.is_some() {
        return Err("the store is not available".into());
    }
    // Why is for the log, which has it.
    let lost: Vec<_> = health.unwell.iter().filter(|unwell| unwell.was_served).collect();
    if let Some(first) = lost.first() {
        return Err(format!("`{}` was served before and cannot be read now", first.dataset));
    }
    let unwell = health.unwell.iter().map(|unwell| format!("`{}` cannot be read", unwell.dataset));
    let unwell: Vec<_> = unwell.chain(health.excluded).collect();
    if reader.live().is_empty() {
        return Err(unwell.into_iter().next().unwrap_or_else(|| "no dataset has a live version yet".into()));
    }
    Ok(unwell)
}

fn gate(settings: &Settings, registry: &Registry) -> Result<Gate, BuildError> {
    // An address that others reach has a name in their network, so its host is not checked.
    let hosts = HostCheck::new(settings.listen.ip().is_loopback(), &settings.allowed_hosts);
    let sources = TokenSources { section: "API", token: None, tokens_file: settings.tokens_file.as_deref() };
    let access = Access::start(sources, &settings.trusted_proxies, registry)?;
    Ok(Gate { hosts, access })
}

fn serve(
    listener: TcpListener,
    config: Config,
    reader: Reader,
    health: &Health,
) -> Result<Server, BuildError> {
    let Config { settings, registry, traces, .. } = config;
    let tls = service::tls_config("API", settings.tls_paths(), &registry)?;
    let gate = gate(&settings, &registry)?;
    let exposure = Exposure {
        section: "API",
        listen: settings.listen,
        is_tls: tls.is_some(),
        has_tokens: !gate.access.is_open(),
        require_tls: settings.require_tls,
    };
    exposure.check()?;
    let metrics = HttpMetrics::register(&registry)?;
    let health = health.clone();
    let limits = Limits {
        places: Places::new(settings.requests_max),
        answers: AnswerBudget::new(settings.response_bytes_max, settings.all_responses_bytes_max),
        bodies: key_list::budget(),
        send_timeout: Duration::from_secs(settings.send_timeout_seconds),
    };
    let cache_control = settings.cache_control.clone();
    let server = HttpServer::new(move || {
        let recorder = Recorder::new(&metrics, &traces);
        let cache_control = cache_control.clone().map(|value| value.0);
        let look_ups = LookUps::new(reader.clone(), recorder.clone(), limits.clone(), cache_control);
        let app = actix_web::App::new()
            .wrap(from_fn(service::measure))
            .app_data(ThinData(look_ups.clone()))
            .configure(|config| service::configure(config, &registry, &recorder, &health))
            .configure(routes::configure)
            .default_service(web::route().to(service::nothing_there));
        let gate = gate.clone();
        apply_fn_factory(app, move |request, app: &_| answer_or_pass_on(&look_ups, &gate, request, app))
    });
    let server = server
        .on_connect(Streams::on_connect)
        .workers(settings.workers.max(1))
        .max_connections(service::connections_max(settings.connections_max, settings.workers))
        .keep_alive(Duration::from_secs(settings.keep_alive_seconds))
        .shutdown_timeout(settings.stop_wait_seconds)
        .disable_signals();
    let server = match tls {
        Some(tls) => server.listen_rustls_0_23(listener, tls)?,
        None => server.listen(listener)?,
    };
    Ok(server.run())
}
