//! Measures look-ups, loads and swaps: `cargo run --release -p bench -- lookup`; README.md beside the manifest says
//! more.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its tables and how far it is")]

mod arguments;
mod bare;
mod contender;
mod data;
mod draws;
mod load;
mod lookup;
mod machine;
mod numbers;
mod programs;
mod readme;
mod report;
mod results;
mod running;
mod stores;
mod swap;
mod targets;
mod wrk;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    match arguments::Arguments::parse().command {
        arguments::Command::Lookup(arguments) => lookup::run(&arguments),
        arguments::Command::Load(arguments) => load::run(&arguments),
        arguments::Command::Swap(arguments) => swap::run(&arguments),
        arguments::Command::Bare { port } => Ok(bare::run(port)?),
    }
}
