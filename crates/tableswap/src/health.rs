//! `tableswap health`: whether both servers that `serve` runs are alive.

use std::process::ExitCode;

use service::{Environment, Scheme};

use crate::Error;
use crate::output::say;

pub(crate) fn run() -> Result<ExitCode, Error> {
    let environment = Environment::from_process()?;
    let updater: updater::Settings = environment.section("UPDATER")?;
    let api: api::Settings = environment.section("API")?;
    let servers = [
        ("updater", updater.listen, Scheme::of(updater.tls_paths())),
        ("api", api.listen, Scheme::of(api.tls_paths())),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(Error::Start)?;
    for (name, listen, scheme) in servers {
        if let Err(error) = runtime.block_on(service::probe(listen, scheme)) {
            say(format!("{name}: {error}"))?;
            return Ok(ExitCode::FAILURE);
        }
        say(format!("{name}: ok"))?;
    }
    Ok(ExitCode::SUCCESS)
}
