//! The servers under faults that a seed chooses: kills, pauses, partitions, power cuts, full disks.
//!
//! The short form runs with all other tests. `make torture ROUNDS=200 SEED=7` is as long as you like, and adds what needs
//! root (the feature `torture`). Each scenario collects all broken rules, prints a line of what it met, and leaves a
//! report with the story of the run and the servers' logs under `target/tmp`.
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
mod human_actions;
mod idle;
mod injection;
mod kill_loop;
mod listing;
#[cfg(feature = "torture")]
mod mounts;
mod operations;
mod options;
mod oracle;
#[cfg(feature = "torture")]
mod power_cuts;
#[cfg(feature = "torture")]
mod quota;
#[cfg(feature = "torture")]
mod recording;
mod rounds;
mod statements;
mod system_calls;
mod testbed;
mod verdict;
mod workers;
mod workload;
