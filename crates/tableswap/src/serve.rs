//! `tableswap serve`: updater and api in one process, on one store.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use service::{Environment, telemetry};
use store::Store;
use tracing::{info, warn};

use crate::Error;
use crate::arguments::{Load, Serve, Servers};
use crate::output::say;

pub(crate) fn run(serve: &Serve) -> Result<ExitCode, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Start)?;
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
    let shutdown = service::stop_on_signal();
    let dataset = updater.default_dataset().map(str::to_owned);
    let first_load = async {
        let Some(dataset) = dataset else { return Ok(()) };
        if let Some(file) = &serve.first_load
            && !load_first(&store, file, &dataset, updater_at, token.is_some()).await
        {
            return Ok(());
        }
        say(welcome(&dataset, updater_at, api_at))
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
    loading.and(answering).map_err(Error::Server)?;
    said?;
    Ok(ExitCode::SUCCESS)
}

/// Loads a file through the updater's own door, unless there is something to serve already. Says whether there is now.
async fn load_first(store: &Store, file: &Path, dataset: &str, updater: SocketAddr, has_token: bool) -> bool {
    match store.versions(dataset).await {
        Ok(versions) if versions.iter().any(|entry| entry.state == store::State::Live) => return true,
        Ok(_) if has_token => {
            warn!(dataset, "the first load is left to whoever has the token");
            return false;
        }
        Ok(_) => info!(file = %file.display(), dataset, "first load"),
        Err(error) => {
            warn!(dataset, error = service::chain(&error), "cannot see whether a first load is needed");
            return false;
        }
    }
    let load = Load { file: file.to_owned(), dry_run: false, force: false };
    let (updater, api, dataset) = (format!("http://{updater}"), String::new(), dataset.to_owned());
    let servers = Servers { updater, api, dataset, token_file: None };
    let loaded = tokio::task::spawn_blocking(move || crate::load::run(&load, &servers)).await;
    match loaded {
        Ok(Ok(code)) => code == ExitCode::SUCCESS,
        Ok(Err(error)) => {
            warn!(error = service::chain(&error), "the first load did not succeed");
            false
        }
        Err(_) => false,
    }
}

/// What to try next.
fn welcome(dataset: &str, updater: SocketAddr, api: SocketAddr) -> String {
    let (updater, api) = (updater.port(), api.port());
    format!(
        "
Ready. In another terminal, with a file FILE.csv and a key KEY of it:

  curl http://localhost:{api}/{dataset}/KEY
  curl http://localhost:{api}/{dataset}/test
  curl --form data=@FILE.csv http://localhost:{updater}/datasets/{dataset}/upload
  curl http://localhost:{api}/prometheus

For the promotions.csv that ships, a key is its first field: head -n 1 promotions.csv
Stop with Ctrl-C."
    )
}
