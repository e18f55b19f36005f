//! Published version to JSON.
//!
//! The api never writes and knows no definition of a dataset: the columns travel with the version. Each answer says
//! which version it is of. What cannot be a key is not found, without a question to the store.
//!
//! The way of a look-up through the files: `look_up.rs` (one key) and, where it has to wait, `together.rs`;
//! `routes/many.rs` (many keys); then the crate store, which gives back the row as JSON.

mod app;
mod look_up;
mod routes;
mod settings;
mod together;

pub use app::{App, BuildError, Config};
pub use settings::{CacheControl, Settings};
