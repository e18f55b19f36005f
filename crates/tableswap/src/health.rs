//! `tableswap health`: whether both servers that `serve` runs are alive.

use std::process::ExitCode;

use service::Environment;

use crate::Error;
use crate::output::say;

pub(crate) fn run() -> Result<ExitCode, Error> {
    let environment = Environment::from_process()?;
    let updater: updater::Settings = environment.section("UPDATER")?;
    let api: api::Settings = environment.section("API")?;
    let servers = [
        ("updater", updater.listen, updater.tls_certificate_path.is_some()),
        ("api", api.listen, api.tls_certificate_path.is_some()),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(Error::Start)?;
    for (name, listen, is_tls) in servers {
        if let Err(error) = runtime.block_on(service::probe(listen, is_tls)) {
            say(format!("{name}: {error}"))?;
            return Ok(ExitCode::FAILURE);
        }
        say(format!("{name}: ok"))?;
    }
    Ok(ExitCode::SUCCESS)
}
