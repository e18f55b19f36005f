//! The servers under faults that a seed chooses: kills, pauses, partitions, power cuts, full disks.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it met"
)]

mod checker;
mod cluster;
mod dice;
mod editions;
mod findings;
mod history;
mod idle;
mod injection;
mod kill_loop;
mod listing;
mod operations;
mod options;
mod rounds;
mod verdict;
mod workload;
