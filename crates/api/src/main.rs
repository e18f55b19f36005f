//! The api as a process of its own.

use std::io;
use std::process::ExitCode;

use anyhow::Context;
use service::{Environment, telemetry};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match runtime().map_err(Into::into).and_then(|runtime| runtime.block_on(run())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => service::fail("api", error.as_ref()),
    }
}

/// Where the store is spoken with. Requests are answered on threads of their own, which do most of the work: more than a
/// few here only hand each other the batches.
fn runtime() -> io::Result<Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread().worker_threads(processors.div_ceil(4)).enable_all().build()
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
