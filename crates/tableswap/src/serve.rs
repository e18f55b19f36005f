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
    let telemetry = telemetry::init(&environment, "tableswap")?;
    let traces = telemetry.traces.clone();
    let metrics = store::Metrics::new()?;
    let store = Store::open(&environment.section("STORE")?, &metrics)?;
    let settings: updater::Settings = environment.section("UPDATER")?;
    let kept_out = kept_out(&settings);
    let updater_tls = settings.tls_certificate_path.is_some();
    let registry = || {
        let registry = telemetry.registry()?;
        metrics.register(&registry)?;
        Ok::<_, store::MetricsError>(registry)
    };
    let updater = updater::App::build(updater::Config {
        settings,
        store: store.clone(),
        registry: registry()?,
        traces: traces.clone(),
    })?;
    let settings: api::Settings = environment.section("API")?;
    let api_tls = settings.tls_certificate_path.is_some();
    let api = api::App::build(api::Config {
        settings,
        store: store.clone(),
        registry: registry()?,
        traces: traces.clone(),
    })?;
    let (updater_at, api_at) = (updater.address(), api.address());
    let shutdown = service::stop_on_signal();
    let dataset = updater.default_dataset().map(str::to_owned);
    let first_load = async {
        let Some(dataset) = dataset else { return Ok(()) };
        if let Some(file) = &serve.first_load
            && !load_first(&store, file, &dataset, updater_at, kept_out).await
        {
            return Ok(());
        }
        say(welcome(&dataset, &url(updater_tls, updater_at), &url(api_tls, api_at)))
    };
    // One that ends early, which is a defect, ends the other too.
    let run = |app: Result<(), std::io::Error>| {
        shutdown.cancel();
        app
    };
    let all = async {
        tokio::join!(
            async { run(updater.run(shutdown.clone()).await) },
            async { run(api.run(shutdown.clone()).await) },
            first_load,
        )
    };
    let (loading, answering, said) = traces.stop_after(all).await;
    loading.and(answering).map_err(Error::Server)?;
    said?;
    Ok(ExitCode::SUCCESS)
}

/// Loads a file through the updater's own door, unless there is something to serve already. Says whether there is now.
async fn load_first(
    store: &Store,
    file: &Path,
    dataset: &str,
    updater: SocketAddr,
    kept_out: Option<&str>,
) -> bool {
    match store.versions(dataset).await {
        Ok(versions) if versions.iter().any(|entry| entry.state == store::State::Live) => return true,
        Ok(_) => {
            if let Some(why) = kept_out {
                warn!(dataset, "the first load is left to {why}");
                return false;
            }
            info!(file = %file.display(), dataset, "first load");
        }
        Err(error) => {
            warn!(dataset, error = service::chain(&error), "cannot see whether a first load is needed");
            return false;
        }
    }
    let load = Load { file: file.to_owned(), dry_run: false, force: false };
    let (updater, api, dataset) = (format!("http://{updater}"), String::new(), dataset.to_owned());
    let servers = Servers { updater, api, dataset, token_file: None, ca: None };
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

/// Who may load the first file, if not this process.
fn kept_out(updater: &updater::Settings) -> Option<&'static str> {
    if updater.has_tokens() {
        return Some("whoever has the token");
    }
    // Only who knows the certificate's name and its authority can tell that this is the updater.
    updater.tls_certificate_path.as_ref().map(|_| "whoever can verify the updater's certificate")
}

fn url(tls: bool, at: SocketAddr) -> String {
    format!("{}://localhost:{}", if tls { "https" } else { "http" }, at.port())
}

/// What to try next.
fn welcome(dataset: &str, updater: &str, api: &str) -> String {
    format!(
        "
Ready. In another terminal, with a file FILE.csv and a key KEY of it:

  curl {api}/{dataset}/KEY
  curl {api}/{dataset}/test
  curl --form data=@FILE.csv {updater}/datasets/{dataset}/upload
  curl {api}/prometheus

For the promotions.csv that ships, a key is its first field: head -n 1 promotions.csv
Stop with Ctrl-C."
    )
}
