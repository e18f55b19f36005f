//! The api as a process of its own.

use std::process::ExitCode;

use anyhow::Context;
use service::{Environment, telemetry};

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
    telemetry::init(&environment.section("LOG")?)?;
    let registry = service::registry()?;
    let metrics = store::Metrics::new()?;
    metrics.register(&registry)?;
    let store = store::Store::open(&environment.section("STORE")?, &metrics)?;
    let app = api::App::build(api::Config { settings: environment.section("API")?, store, registry })?;
    app.run(service::stop_on_signal()).await.context("the api stopped")
}
