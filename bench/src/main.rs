//! Measures look-ups, loads and swaps; README.md beside the manifest says how.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its tables and how far it is")]

mod arguments;
mod bare;
mod data;
mod draws;
mod load;
mod lookup;
mod machine;
mod numbers;
mod plain;
mod programs;
mod readme;
mod stores;
mod swap;
mod wrk;

use arguments::{Arguments, Command};
use clap::Parser;

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Lookup(arguments) => lookup::run(&arguments),
        Command::Load(arguments) => load::run(&arguments),
        Command::Swap(arguments) => swap::run(&arguments),
        Command::Bare { port } => Ok(bare::run(port)?),
        Command::Plain { port, database } => plain::run(port, &database),
    }
}
