//! The updater as a process of its own.

use std::process::ExitCode;

use service::{Environment, Scheme, telemetry};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => service::fail("updater", error.as_ref()),
    }
}

async fn run() -> anyhow::Result<()> {
    let environment = Environment::from_process()?;
    let settings: updater::Settings = environment.section("UPDATER")?;
    if service::is_probe() {
        return Ok(service::probe(settings.listen, Scheme::of(settings.tls_paths())).await?);
    }
    let telemetry = telemetry::init(&environment, "tableswap-updater")?;
    let (traces, registry) = (telemetry.traces.clone(), telemetry.registry()?);
    let store = store::Store::open(&environment.section("STORE")?, &store::Metrics::of(&registry)?)?;
    let app = updater::App::build(updater::Config { settings, store, registry, traces: traces.clone() })?;
    Ok(traces.stop_after(app.run(service::stop_on_signal())).await?)
}
