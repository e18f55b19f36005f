//! The test kit's own tests that start real processes.
#![expect(
    clippy::unwrap_used,
    reason = "clippy lets test functions unwrap, but not the functions they share"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "this binary plays further roles, which it is told by variables"
)]

mod leftovers;
mod mariadb;
mod process;
mod replication;
