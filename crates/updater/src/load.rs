//! A load: the job that turns the bytes of an upload into a live version.
//!
//! `task` is the job itself, from top to bottom. Each file imports only files to the left of it:
//! `outcome`, `phase`, `options`, `diff`, `reports` < `failure`, `summary`, `status` < `registry`, `guards`,
//! `publication` < `task`.

pub(crate) mod diff;
pub(crate) mod failure;
mod guards;
pub(crate) mod options;
pub(crate) mod outcome;
pub(crate) mod phase;
mod publication;
pub(crate) mod registry;
mod reports;
pub(crate) mod status;
pub(crate) mod summary;
pub(crate) mod task;
