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
#[cfg(feature = "torture")]
mod file_site;
mod findings;
#[cfg(feature = "torture")]
mod full_disk;
#[cfg(feature = "torture")]
mod fuse;
mod history;
mod idle;
mod injection;
mod kill_loop;
mod listing;
#[cfg(feature = "torture")]
mod mounts;
mod operations;
mod options;
#[cfg(feature = "torture")]
mod power_cuts;
#[cfg(feature = "torture")]
mod recording;
mod rounds;
mod verdict;
mod workload;
