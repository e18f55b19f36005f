//! The contract of a store, run against every backend, and what is particular to one of them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod contract;
mod damage;
mod fixture;
mod foreign;
mod identity;
mod kinds;
mod look_ups;
mod mariadb;
mod readers;
mod replicas;
mod rights;
mod row_size;
mod sessions;
mod tls;
