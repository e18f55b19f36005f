//! The command `tableswap`.

use std::process::ExitCode;

use clap::Parser;
use tableswap::{Arguments, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        // Whoever read our output has read enough.
        Err(error) if error.is_closed_output() => ExitCode::SUCCESS,
        Err(error) => {
            service::fail("tableswap", &error);
            ExitCode::from(2)
        }
    }
}
