//! The real server on a port of its own, over a store that the tests publish to.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod faults;
mod harness;
mod http;
mod limits;
mod look_up;
mod overload;
