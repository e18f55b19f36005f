//! The updater as a server: what it is made of, how it starts and how it stops.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::web;
use dataset::{Dataset, Datasets, DefinitionError};
use prometheus::Registry;
use service::{
    Access, Disks, Exposure, Health, HostCheck, HttpMetrics, PlainHttp, Recorder, StopTimes, TlsConfig,
    TlsError, TokenSources, TokensError, Traces,
};
use store::{Followed, Reader, Store};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::Settings;
use crate::answer::store_problem;
use crate::load::registry::Loads;
use crate::load::status::LoadStatus;
use crate::load::task::LoadTask;
use crate::metrics::Metrics;
use crate::recovery::recover;
use crate::routes;
use crate::runtime::LoadRuntime;
use crate::scrub::scrub;

/// What an updater is built from.
#[derive(Debug)]
pub struct Config {
    /// The section `UPDATER`.
    pub settings: Settings,
    /// Where versions live.
    pub store: Store,
    /// Where metrics are registered.
    pub registry: Registry,
    /// Where traces are sent.
    pub traces: Traces,
}

/// Why an updater cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Anybody could write.
    #[error(
        "TABLESWAP_UPDATER_LISTEN is {0}, which others can reach: set TABLESWAP_UPDATER_TOKEN or TABLESWAP_UPDATER_TOKENS_FILE, or TABLESWAP_UPDATER_ANONYMOUS_WRITES=true if anybody may replace the data"
    )]
    Open(SocketAddr),
    /// The file with the datasets cannot be read.
    #[error("TABLESWAP_UPDATER_DATASETS: cannot read {path}")]
    Datasets {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The datasets cannot be used.
    #[error("TABLESWAP_UPDATER_DATASETS")]
    Definition(#[from] DefinitionError),
    /// The work directory cannot be used.
    #[error("TABLESWAP_UPDATER_WORK_DIR: cannot use {path}")]
    WorkDir {
        /// The directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
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
    /// The threads of loads cannot be started.
    #[error("cannot start the threads of loads")]
    Threads(#[source] io::Error),
    /// A metric is registered twice, which is a defect.
    #[error("cannot register the metrics")]
    Metrics(#[from] prometheus::Error),
}

/// Open connections of one worker: more than any number of clients that upload or watch.
const CONNECTIONS_MAX: usize = 25_000;

/// How long what a client still sends is taken off the connection, and thrown away, after its upload was refused: a client
/// that reads the answer only when it has sent everything finds the connection broken otherwise.
const UNREAD_WAIT: Duration = Duration::from_secs(10);

/// An updater that is bound to its port.
pub struct App {
    address: SocketAddr,
    server: Server,
    health: Health,
    times: StopTimes,
    shared: Arc<Shared>,
    _runtime: LoadRuntime,
}

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) datasets: Datasets,
    pub(crate) store: Store,
    pub(crate) reader: Reader,
    pub(crate) loads: Loads,
    /// Where loads run: a request's own thread ends with its server.
    pub(crate) runtime: Handle,
    metrics: Metrics,
    pub(crate) hosts: HostCheck,
    pub(crate) access: Arc<Access>,
}

impl App {
    /// Builds and binds an updater. Must be called within a tokio runtime.
    pub fn build(config: Config) -> Result<Self, BuildError> {
        let Config { settings, store, registry, traces } = config;
        if settings.is_open() {
            return Err(BuildError::Open(settings.listen));
        }
        // A start that is refused leaves no directory behind.
        let listener = service::bind(settings.listen, Duration::from_secs(settings.send_timeout_seconds))?;
        let tls = service::tls_config("UPDATER", settings.tls_paths(), &registry)?;
        let access = access(&settings, tls.is_some(), &registry)?;
        let work_dir = |source| BuildError::WorkDir { path: settings.work_dir.clone(), source };
        let runtime = LoadRuntime::start(settings.load_nice).map_err(BuildError::Threads)?;
        let reader = store.reader();
        registry.register(Box::new(Followed::new(reader.clone())?))?;
        let (datasets, metrics) = (datasets(&settings)?, Metrics::register(&registry)?);
        for dataset in datasets.iter() {
            store.check_schema(&dataset.schema).map_err(|why| {
                let dataset = dataset.name.clone();
                DefinitionError::Dataset { dataset, why }
            })?;
            metrics.expect(&dataset.name);
        }
        let work_place = Some(("work", settings.work_dir.clone()));
        let versions_place = store.directory().map(|directory| ("versions", directory.to_owned()));
        let shared = Arc::new(Shared {
            datasets,
            loads: Loads::open(&settings.work_dir).map_err(work_dir)?,
            runtime: runtime.handle().clone(),
            metrics,
            hosts: HostCheck::new(access.is_open(), &settings.allowed_hosts),
            access,
            reader,
            store,
            settings,
        });
        // Its directories are there by now.
        registry.register(Box::new(Disks::new(work_place.into_iter().chain(versions_place))?))?;
        let address = listener.local_addr()?;
        let health = health(shared.store.clone());
        let server = serve((listener, tls), &shared, &health, &registry, traces)?;
        let times = StopTimes { notice: Duration::from_secs(shared.settings.stop_notice_seconds) };
        Ok(Self { address, server, health, times, shared, _runtime: runtime })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The dataset that is meant where none is named: the only one, or else promotions.
    pub fn default_dataset(&self) -> Option<&str> {
        self.shared.default_dataset().map(|dataset| dataset.name.as_str())
    }

    /// Runs until `shutdown`. Loads that run then are aborted and leave nothing behind.
    pub async fn run(self, shutdown: CancellationToken) -> io::Result<()> {
        let names: Vec<_> = self.shared.datasets.iter().map(|dataset| dataset.name.as_str()).collect();
        info!(listen = %self.address, datasets = names.join(","), "updater started");
        // Tasks of their own, because they run as long as the updater does and wait for different things; on the runtime
        // of loads, because they give way to requests.
        for dataset in self.shared.datasets.iter() {
            let stopping = self.shared.loads.stopping().clone();
            let scrub = scrub(self.shared.store.clone(), dataset.clone(), stopping.clone());
            self.shared.runtime.spawn(self.shared.loads.tracker().track_future(scrub));
            let recover = recover(self.shared.store.clone(), dataset.clone(), stopping);
            self.shared.runtime.spawn(self.shared.loads.tracker().track_future(recover));
        }
        let (store, stopping) = (self.shared.store.clone(), self.shared.loads.stopping().clone());
        let heartbeats = async move { stopping.run_until_cancelled(store.send_heartbeats()).await };
        self.shared.runtime.spawn(self.shared.loads.tracker().track_future(heartbeats));
        let drain = self.shared.loads.stop();
        service::run(self.server, self.health, self.times, shutdown, drain).await
    }
}

fn access(settings: &Settings, is_tls: bool, registry: &Registry) -> Result<Arc<Access>, BuildError> {
    let sources = TokenSources {
        section: "UPDATER",
        token: settings.token.as_ref(),
        tokens_file: settings.tokens_file.as_deref(),
    };
    let access = Access::start(sources, &settings.trusted_proxies, registry)?;
    let exposure = Exposure {
        section: "UPDATER",
        listen: settings.listen,
        is_tls,
        has_tokens: !access.is_open(),
        require_tls: settings.require_tls,
    };
    exposure.check()?;
    Ok(access)
}

fn datasets(settings: &Settings) -> Result<Datasets, BuildError> {
    let Some(path) = &settings.datasets else { return Ok(Datasets::built_in()?) };
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| BuildError::Datasets { path: path.clone(), source })?;
    Ok(Datasets::from_toml(&text)?)
}

fn health(store: Store) -> Health {
    let logged = Arc::<Mutex<Option<String>>>::default();
    Health::new(Arc::new(move || {
        let store = store.clone();
        let logged = logged.clone();
        // The client is told what, the log why.
        Box::pin(async move {
            let checked = store.check().await;
            log_setup(checked.as_ref().err(), &logged);
            checked.map(|()| Vec::new()).map_err(|error| store_problem(&error).to_string())
        })
    }))
}

/// Logs why a store cannot work as it is set up, once for each reason: clients are not told.
fn log_setup(error: Option<&store::Error>, logged: &Mutex<Option<String>>) {
    let reason = match error {
        Some(store::Error::Setup(reason)) => Some(reason),
        _ => None,
    };
    let mut logged = logged.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(reason) = reason.filter(|reason| logged.as_ref() != Some(*reason)) {
        error!(reason, "the store is not set up as it must be");
    }
    *logged = reason.cloned();
}

fn serve(
    (listener, tls): (TcpListener, Option<TlsConfig>),
    shared: &Arc<Shared>,
    health: &Health,
    registry: &Registry,
    traces: Traces,
) -> Result<Server, BuildError> {
    let metrics = HttpMetrics::register(registry)?;
    let (health, registry) = (health.clone(), registry.clone());
    let workers = shared.settings.workers;
    let listen = service::Listen {
        listener,
        tls,
        workers,
        connections_max: service::connections_max(CONNECTIONS_MAX, workers),
        unread_wait: UNREAD_WAIT,
        stop_wait_seconds: shared.settings.stop_wait_seconds,
    };
    let shared = web::Data::from(shared.clone());
    let server = service::listen(listen, move || {
        let recorder = Recorder::new(&metrics, &traces);
        actix_web::App::new()
            .wrap(from_fn(routes::admit))
            .wrap(from_fn(service::measure))
            .app_data(shared.clone())
            .configure(|config| service::configure(config, &registry, &recorder, &health))
            .configure(routes::configure)
            .default_service(web::route().to(service::nothing_there))
    })?;
    Ok(server)
}

impl Shared {
    pub(crate) fn default_dataset(&self) -> Option<&Arc<Dataset>> {
        self.datasets.single().or_else(|| self.datasets.get("promotions"))
    }

    /// What the load of a file works with.
    pub(crate) fn load_task(&self, dataset: Arc<Dataset>, status: Arc<LoadStatus>) -> LoadTask {
        LoadTask {
            store: self.store.clone(),
            dataset,
            limits: self.settings.limits(),
            metrics: self.metrics.clone(),
            status,
        }
    }
}
