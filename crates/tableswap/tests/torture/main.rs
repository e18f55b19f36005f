//! The servers under faults that a seed chooses: kills, pauses, partitions, power cuts, full disks.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod kill_loop;
