//! Where versions live: one contract, two backends.
//!
//! A [`Publisher`] is the one who may change a dataset; it stages rows where nobody reads, verifies them, and publishes
//! them by one atomic step. A [`Reader`] answers look-ups from the live version and says with each answer which
//! version that was. Staging is consumed by what ends it, so a version that was published or given up cannot be
//! touched again. The set of backends is closed: an embedded one (LMDB files) and MariaDB. This crate knows no HTTP.

mod answer_budget;
mod clock;
pub mod embedded;
mod error;
mod ledger;
mod manners;
pub mod mariadb;
mod metrics;
mod publisher;
mod reader;
mod retry;
mod settings;
mod version;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dataset::{Dataset, Schema};

pub use answer_budget::{AnswerBudget, AnswerBytes, OverBudget};
pub use error::{Error, LockHolder, Result};
pub use manners::Manners;
pub use metrics::{Followed, Metrics, MetricsError};
pub use publisher::{Ending, LiveRows, Published, Publisher, Reservation, Rows, Staged, Staging};
pub use reader::{Found, Live, LookUp, Lookup, Outcome, Reader, StoreHealth, Unwell, VersionId};
pub use retry::{Backoff, Retry};
pub use settings::{Settings, StoreUrl};
pub use version::{Actor, Counts, Entry, NewLoad, NewVersion, State};

/// How long it can take until every reader has seen a new version; a publication answers no sooner after its swap.
pub const FOLLOW_MS: u64 = 100;

/// All datasets and their versions.
#[derive(Debug, Clone)]
pub enum Store {
    /// Files of this machine.
    Embedded(Arc<embedded::Embedded>),
    /// Tables of a database.
    Mariadb(Arc<mariadb::Mariadb>),
}

impl Store {
    /// Opens the store that the settings name. A database that is down is no error: it may come.
    pub fn open(settings: &Settings, metrics: &Metrics) -> Result<Self> {
        Ok(match &settings.url {
            StoreUrl::Embedded(root) => {
                Self::Embedded(embedded::Embedded::open(root, settings.allow_network_file_system, metrics)?)
            }
            StoreUrl::Mariadb(address) => Self::Mariadb(mariadb::Mariadb::open(address, settings, metrics)?),
        })
    }

    /// Where on this machine versions live, if that is where they do.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Embedded(store) => Some(store.root()),
            Self::Mariadb(_) => None,
        }
    }

    /// Whether the store can be reached.
    pub async fn check(&self) -> Result<()> {
        match self {
            Self::Embedded(store) => store.check(),
            Self::Mariadb(store) => store.check().await,
        }
    }

    /// Says why rows of a dataset cannot be stored, if they cannot.
    pub fn check_schema(&self, schema: &Schema) -> std::result::Result<(), String> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Mariadb(_) => mariadb::check_schema(schema),
        }
    }

    /// Reserves a version number for a load that begins. It takes no lock.
    pub async fn reserve(&self, dataset: &Arc<Dataset>, load: NewLoad) -> Result<Reservation> {
        match self {
            Self::Embedded(store) => {
                store.reserve(dataset, load).await.map(|it| Reservation::Embedded(Box::new(it)))
            }
            Self::Mariadb(store) => {
                store.reserve(dataset, load).await.map(|it| Reservation::Mariadb(Box::new(it)))
            }
        }
    }

    /// Becomes the one who may change the dataset, until the publisher is consumed or dropped. Recovers what a crash
    /// left behind.
    pub async fn publisher(&self, dataset: &Arc<Dataset>) -> Result<Publisher> {
        match self {
            Self::Embedded(store) => {
                store.publisher(dataset).await.map(|it| Publisher::Embedded(Box::new(it)))
            }
            Self::Mariadb(store) => store.publisher(dataset).await.map(|it| Publisher::Mariadb(Box::new(it))),
        }
    }

    /// Puts the ledger of a dataset right after a crash, and removes what the crash left behind.
    pub async fn recover(&self, dataset: &Arc<Dataset>) -> Result<()> {
        if let Self::Embedded(store) = self
            && !store.has(&dataset.name)
        {
            return Ok(());
        }
        self.publisher(dataset).await?.end(Ending::Told).await
    }

    /// Shows readers of replicas, every second, how far those are behind, for as long as this is waited for.
    pub async fn send_heartbeats(&self) {
        match self {
            // Its readers look at the same files.
            Self::Embedded(_) => std::future::pending().await,
            Self::Mariadb(store) => store.send_heartbeats().await,
        }
    }

    /// Reads all that is stored of a dataset, in no hurry, until `stop` is set, and says what is damaged. MariaDB has
    /// checksums of its own.
    pub async fn scrub(&self, dataset: &Arc<Dataset>, stop: Arc<AtomicBool>) -> Result<Vec<Error>> {
        match self {
            Self::Embedded(store) => store.scrub(dataset, stop).await,
            Self::Mariadb(_) => Ok(Vec::new()),
        }
    }

    /// Compares the live rows of each replica with those of the primary. Files have no replicas.
    pub async fn compare_replicas(&self) -> Result<Vec<mariadb::Comparison>> {
        match self {
            Self::Embedded(_) => Ok(Vec::new()),
            Self::Mariadb(store) => store.compare_replicas().await,
        }
    }

    /// The live version and its rows, to compare with. It takes no lock.
    pub async fn live_rows(&self, dataset: &str) -> Result<Option<(Entry, LiveRows)>> {
        match self {
            Self::Embedded(store) => store.live_rows(dataset),
            Self::Mariadb(store) => store.live_rows(dataset).await,
        }
    }

    /// The history of a dataset, newest version first.
    pub async fn versions(&self, dataset: &str) -> Result<Vec<Entry>> {
        match self {
            Self::Embedded(store) => store.versions(dataset),
            Self::Mariadb(store) => store.versions(dataset).await,
        }
    }

    /// Starts to follow the live versions. Must be called within a tokio runtime, which does the waiting.
    pub fn reader(&self) -> Reader {
        match self {
            Self::Embedded(store) => Reader::Embedded(store.reader()),
            Self::Mariadb(store) => Reader::Mariadb(store.reader()),
        }
    }
}
