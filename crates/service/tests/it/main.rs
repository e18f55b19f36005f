//! The parts of a server put together as the servers do it, and asked over the network.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod site;
mod stops;
mod streams;
mod tls;
