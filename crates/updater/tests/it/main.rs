//! The real server on a port of its own, asked as a client asks it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod broken;
mod conditions;
mod faults;
mod following;
mod harness;
mod order;
mod refusals;
mod uploads;
mod versions;
