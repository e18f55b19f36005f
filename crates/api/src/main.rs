//! The api as a process of its own.

use std::process::ExitCode;

use service::{Environment, Scheme, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match api::runtime().map_err(Into::into).and_then(|runtime| runtime.block_on(run())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => service::fail("api", error.as_ref()),
    }
}

async fn run() -> anyhow::Result<()> {
    let environment = Environment::from_process()?;
    let settings: api::Settings = environment.section("API")?;
    if service::is_probe() {
        return Ok(service::probe(settings.listen, Scheme::of(settings.tls_paths())).await?);
    }
    let telemetry = telemetry::init(&environment, "tableswap-api")?;
    let (traces, registry) = (telemetry.traces.clone(), telemetry.registry()?);
    let store = store::Store::open(&environment.section("STORE")?, &store::Metrics::of(&registry)?)?;
    let app = api::App::build(api::Config { settings, store, registry, traces: traces.clone() })?;
    Ok(traces.stop_after(app.run(service::stop_on_signal())).await?)
}
