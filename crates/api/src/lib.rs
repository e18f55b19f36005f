//! Published version to JSON.
//!
//! The api never writes and knows no definition of a dataset: the columns travel with the version. Each answer says
//! which version it is of. What cannot be a key is not found, without a question to the store.
//!
//! The way of a lookup through the files: `lookup_path.rs`, `lookup_service.rs` (one key) or `routes/many.rs` (many keys);
//! then the crate store, which gives back the row as JSON; `look_up.rs`.

mod app;
mod gate;
mod key_list;
mod look_up;
mod lookup_path;
mod lookup_service;
mod places;
mod routes;
mod rows_body;
mod settings;

pub use app::{App, BuildError, Config, runtime};
pub use settings::{CacheControl, Settings};
