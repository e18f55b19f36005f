//! The programs as their users run them: real processes, real ports, both stores.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod commands;
mod crashes;
mod freshness;
mod harness;
mod messages;
mod named;
mod quick_start;
mod readers;
mod readme;
mod replicated;
mod stops;
mod tls;
mod traces;
mod watched;
