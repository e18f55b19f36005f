//! `tableswap serve`: updater and api in one process, on one store.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use service::{Environment, telemetry};
use store::Store;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Error;
use crate::arguments::{Load, Serve, Servers};
use crate::output::say;

pub(crate) fn run(serve: &Serve) -> Result<ExitCode, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run_both(serve))
}

async fn run_both(serve: &Serve) -> Result<ExitCode, Error> {
    let environment = Environment::from_process()?;
    telemetry::init(&environment.section("LOG")?)?;
    let metrics = store::Metrics::new()?;
    let store = Store::open(&environment.section("STORE")?, &metrics)?;
    let settings: updater::Settings = environment.section("UPDATER")?;
    let token = settings.token.clone();
    let registry = || {
        let registry = service::registry()?;
        metrics.register(&registry)?;
        Ok::<_, store::MetricsError>(registry)
    };
    let updater =
        updater::App::build(updater::Config { settings, store: store.clone(), registry: registry()? })?;
    let settings = environment.section("API")?;
    let api = api::App::build(api::Config { settings, store: store.clone(), registry: registry()? })?;
    let (updater_at, api_at) = (updater.address(), api.address());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move { service::stop_signal().await.map(|()| stop.cancel()) });
    let first_load = async {
        if let Some(file) = &serve.first_load {
            load_first(&store, file, updater_at, token.is_some()).await;
        }
        say(welcome(updater_at, api_at))
    };
    // One that ends early, which is a defect, ends the other too.
    let run = |app: Result<(), std::io::Error>| {
        shutdown.cancel();
        app
    };
    let (loading, answering, said) = tokio::join!(
        async { run(updater.run(shutdown.clone()).await) },
        async { run(api.run(shutdown.clone()).await) },
        first_load,
    );
    loading.and(answering).and(said)?;
    Ok(ExitCode::SUCCESS)
}

/// Loads a file through the updater's own door, unless there is something to serve already.
async fn load_first(store: &Store, file: &Path, updater: SocketAddr, has_token: bool) {
    let dataset = "promotions".to_owned();
    match store.versions(&dataset).await {
        Ok(versions) if versions.iter().any(|entry| entry.state == store::State::Live) => return,
        Ok(_) if has_token => return warn!("the first load is left to whoever has the token"),
        Ok(_) => {}
        Err(error) => {
            return warn!(error = service::chain(&error), "cannot see whether a first load is needed");
        }
    }
    info!(file = %file.display(), dataset, "first load");
    let load = Load { file: file.to_owned(), dry_run: false, force: false };
    let (updater, api) = (format!("http://{updater}"), String::new());
    let servers = Servers { updater, api, dataset, token_file: None };
    let loaded = tokio::task::spawn_blocking(move || crate::load::run(&load, &servers)).await;
    if let Ok(Err(error)) = loaded {
        warn!(error = service::chain(&error), "the first load did not succeed");
    }
}

/// What to try next.
fn welcome(updater: SocketAddr, api: SocketAddr) -> String {
    let (updater, api) = (updater.port(), api.port());
    format!(
        "
Ready. In another terminal:

  head -n 1 promotions.csv                                         # a row; its first field is an id
  curl http://localhost:{api}/promotions/$(head -n 1 promotions.csv | cut -d, -f1)
  curl http://localhost:{api}/promotions/test                       # 404
  curl --form data=@promotions.csv http://localhost:{updater}/upload    # replaces the whole dataset
  curl http://localhost:{api}/prometheus

Stop with Ctrl-C."
    )
}
