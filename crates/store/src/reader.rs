//! The contract of reading: keys in, rows as JSON out, all of one version, which is named.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use dataset::Schema;
use futures_util::future::BoxFuture;

use crate::embedded;
use crate::mariadb;
use crate::{AnswerBytes, Entry, Result};

/// Follows the live versions and answers look-ups from them.
#[derive(Debug, Clone)]
pub enum Reader {
    /// Of the embedded store.
    Embedded(Arc<embedded::Reader>),
    /// Of MariaDB.
    Mariadb(Arc<mariadb::Reader>),
}

/// The database servers that a reader follows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Servers {
    /// The primary first.
    pub(crate) servers: Vec<ServerStatus>,
    /// For how long replicas have answered alone, because the primary is away.
    pub(crate) alone: Duration,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerStatus {
    pub(crate) name: String,
    /// Whether lookups can use it.
    pub(crate) is_available: bool,
    /// Whether it has a version that the primary never had.
    pub(crate) is_diverged: bool,
    /// How far it is behind the primary.
    pub(crate) age: Duration,
}

/// Tells a version from every other, also from one with the same number in a store that was restored or made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionId {
    /// Its number.
    pub number: u32,
    /// A number for its content.
    pub content: u64,
}

impl VersionId {
    /// The version of a dataset as one word, as it stands in an etag.
    pub fn tag(self, dataset: &str) -> String {
        format!("{dataset}-{}-{:016x}", self.number, self.content)
    }
}

/// What a reader knows of the store's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// Why nothing can be read, if nothing can.
    pub error: Option<String>,
    /// Datasets that cannot be read.
    pub unwell: Vec<Unwell>,
    /// Servers that are not read, each with the reason.
    pub excluded: Vec<String>,
}

/// A dataset that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwell {
    /// Its name.
    pub dataset: String,
    /// Why not.
    pub why: String,
    /// Whether this reader has answered from it before.
    pub was_served: bool,
}

/// A live version, as readers know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Its dataset.
    pub dataset: String,
    /// Its number.
    pub version: u32,
    /// A number for its content.
    pub content: u64,
    /// Rows in it.
    pub rows: u64,
    /// When it first became live.
    pub published_at: Option<DateTime<Utc>>,
    /// Its columns.
    pub schema: Arc<Schema>,
}

/// The answer to a look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookUp {
    /// The version that all of the answer is from.
    pub version: VersionId,
    /// For each key that was asked for, in their order, its row as JSON, or nothing. Keys that are equal share the bytes of
    /// their row, however they were written.
    pub rows: Vec<Option<Bytes>>,
}

/// The answer to a look-up of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The version that the answer is from.
    pub version: VersionId,
    /// The row as JSON, or nothing.
    pub row: Option<Bytes>,
}

/// What comes of a question: nothing is found where there is no such dataset.
pub type Outcome = Result<Option<Found>>;

/// A lookup of one key: what is at hand is there at once, so that nothing has to be set up to wait for it.
pub enum Lookup {
    /// It is done.
    Ready(Outcome),
    /// It begins when it is waited for.
    Pending(BoxFuture<'static, Outcome>),
}

impl Live {
    pub(crate) fn new(dataset: &str, entry: &Entry) -> Self {
        Self {
            dataset: dataset.to_owned(),
            version: entry.version,
            content: entry.content_id(),
            rows: entry.rows,
            published_at: entry.published_at,
            schema: entry.schema.clone(),
        }
    }

    /// What tells it from every other version.
    pub fn id(&self) -> VersionId {
        VersionId { number: self.version, content: self.content }
    }
}

impl Reader {
    /// The live versions of all datasets.
    pub fn live(&self) -> Vec<Live> {
        match self {
            Self::Embedded(reader) => reader.live(),
            Self::Mariadb(reader) => reader.live(),
        }
    }

    /// Waits until the live versions were polled once, whatever came of it.
    pub async fn first_poll(&self) {
        match self {
            // It polls when it is started.
            Self::Embedded(_) => {}
            Self::Mariadb(reader) => reader.first_poll().await,
        }
    }

    /// What can be read and what cannot.
    pub fn health(&self) -> StoreHealth {
        match self {
            Self::Embedded(reader) => reader.health(),
            Self::Mariadb(reader) => reader.health(),
        }
    }

    /// Whether the store could be read when it was last polled.
    pub fn check(&self) -> std::result::Result<(), String> {
        self.health().error.map_or(Ok(()), Err)
    }

    /// How many databases it can use; on files there is none.
    pub(crate) fn servers(&self) -> Option<Servers> {
        match self {
            Self::Embedded(_) => None,
            Self::Mariadb(reader) => Some(reader.servers()),
        }
    }

    /// The live version of a dataset, where it is known well enough to answer from it without a question to the
    /// store: no other was live for longer than [`FOLLOW_MS`](crate::FOLLOW_MS).
    pub fn current(&self, dataset: &str) -> Option<VersionId> {
        match self {
            Self::Embedded(reader) => reader.current(dataset),
            Self::Mariadb(reader) => reader.current(dataset),
        }
    }

    /// Looks one key up as it was typed. What can be no key of the dataset is not found.
    pub fn get(&self, dataset: &str, key: &str) -> Lookup {
        match self {
            Self::Embedded(reader) => reader.get(dataset, key),
            Self::Mariadb(reader) => reader.get(dataset, key),
        }
    }

    /// Looks keys up as they were typed; what can be no key of the dataset is not found. Nothing is returned where
    /// there is no such dataset. The rows are counted in `bytes` while they are collected.
    pub async fn look_up(
        &self,
        dataset: &str,
        keys: &[&str],
        bytes: &Arc<AnswerBytes>,
    ) -> Result<Option<LookUp>> {
        match self {
            Self::Embedded(reader) => reader.look_up(dataset, keys, bytes).await,
            Self::Mariadb(reader) => reader.look_up(dataset, keys, bytes).await,
        }
    }
}
