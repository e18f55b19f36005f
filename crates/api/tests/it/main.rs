//! The real server on a port of its own, over a store that the tests publish to.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod faults;
mod harness;
mod http;
mod limits;
mod look_up;
mod overload;
