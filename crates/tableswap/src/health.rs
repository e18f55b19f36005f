//! `tableswap health`: whether both servers are alive.

use std::process::ExitCode;

use crate::Error;
use crate::arguments::Servers;
use crate::client::Client;
use crate::output::say;

pub(crate) fn run(servers: &Servers) -> Result<ExitCode, Error> {
    let client = Client::new(servers)?;
    for (name, server) in [("updater", &servers.updater), ("api", &servers.api)] {
        let answer = client.get(&format!("{}/healthz", server.trim_end_matches('/')))?;
        say(format!("{name}: {}", answer.status))?;
        if answer.status != 200 {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
