//! Upload to published version.
//!
//! A request hands its bytes to a load, which runs in a task of its own: it reads, sorts and checks the file, stages
//! its rows, verifies them and publishes them, or says why not. Any answer but 200 and 202 means that nothing was
//! published, but for one: where the store vanishes during the swap nobody can know, until it is back (`recovery.rs`).
//!
//! The way of an upload through the files: `routes/upload.rs` (the request), `body.rs` (its bytes), `load/task.rs`
//! (the phases), then the crates ingest and store; `answer.rs` says what became of it.

mod answer;
mod app;
mod body;
mod expected;
mod formulas;
mod load;
mod metrics;
mod multipart;
mod recovery;
mod routes;
mod runtime;
mod scrub;
mod settings;

pub use app::{App, BuildError, Config};
pub use settings::Settings;
