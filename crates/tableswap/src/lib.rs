//! The command line: serve both servers, check a file, load it, look keys up, list versions, roll back, make test data.
//!
//! What is typed is in `arguments.rs`; each command has a file of its own. Commands other than `serve`, `check` and
//! `generate` are clients of the two servers.

mod arguments;
mod check;
mod client;
mod error;
mod follow;
pub mod generate;
mod get;
mod health;
mod load;
mod output;
mod serve;
mod verify;
mod versions;

use std::process::ExitCode;

pub use arguments::Arguments;
use arguments::Command;
pub use error::Error;

/// Runs the command that was typed.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let servers = &arguments.servers;
    match &arguments.command {
        Command::Serve(serve) => serve::run(serve),
        Command::Check(check) => check::run(check, servers),
        Command::Load(load) => load::run(load, servers),
        Command::Get { keys } => get::run(keys, servers),
        Command::Health => health::run(),
        Command::Versions => versions::list(servers),
        Command::Rollback { version } => versions::rollback(*version, servers),
        Command::Verify { .. } => verify::run(),
        Command::Generate(generate) => generate::run(generate),
    }
}
