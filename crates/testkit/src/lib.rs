//! FOR TESTS ONLY: what the tests of the other crates start, break and compare with.
//!
//! - [`MariaDb`] is a private database server, [`Replication`] one with replicas, [`FaultProxy`] a bad network in
//!   front of any, [`StatementProxy`] one that fails at a chosen statement;
//! - [`Server`] runs a built binary of ours, [`http`] talks to it in ways that ordinary clients refuse;
//! - [`fuzz()`] mutates bytes for what reads them;
//! - [`rows`] makes CSV files, and says independently of our own code what the api has to answer for them.
//!
//! Every process that is started here, and every directory, ends with the test process however that ends. A
//! thing that is missing fails the test: nothing here skips. No crate but `bench`, which is
//! no part of the product, has this one outside its dev-dependencies, and it uses none of ours, so that it can judge
//! all of them.
#![expect(clippy::expect_used, clippy::panic, reason = "a test kit fails its test by panicking")]
#![expect(clippy::missing_panics_doc, reason = "everything here panics when the test cannot go on")]
#![expect(clippy::disallowed_methods, reason = "tests find programs and how long to run in the environment")]

mod fuzz;
pub mod http;
mod mariadb;
mod nest;
mod port;
mod process;
mod promtool;
mod proxy;
pub mod rows;
mod statement_proxy;
mod until;

pub use fuzz::fuzz;
pub use mariadb::{Database, MariaDb, PASSWORD, Replication};
pub use port::free_port;
pub use process::Server;
pub use promtool::check_metrics;
pub use proxy::{Fault, FaultProxy};
pub use statement_proxy::{Command, FaultPoint, Statement, StatementFault, StatementProxy, shape};
pub use until::{until, wait_for};
