//! The updater as a process of its own.

use std::process::ExitCode;

use anyhow::Context;
use service::{Environment, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => service::fail("updater", error.as_ref()),
    }
}

async fn run() -> anyhow::Result<()> {
    let environment = Environment::from_process()?;
    telemetry::init(&environment.section("LOG")?)?;
    let registry = service::registry()?;
    let metrics = store::Metrics::new()?;
    metrics.register(&registry)?;
    let store = store::Store::open(&environment.section("STORE")?, &metrics)?;
    let app =
        updater::App::build(updater::Config { settings: environment.section("UPDATER")?, store, registry })?;
    app.run(service::stop_on_signal()).await.context("the updater stopped")
}
