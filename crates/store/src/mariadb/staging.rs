//! A version on its way into MariaDB: its table is loaded over several connections, verified and made live.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dataset::Schema;
use tokio::task::JoinSet;
use tracing::warn;

use super::load::Lane;
use super::publisher::Publisher;
use super::session::ConnectionId;
use super::table;
use super::turns::Turns;
use crate::error::chain;
use crate::publisher::{Rows, check_count};
use crate::version::Counts;
use crate::{Error, FOLLOW_MS, Published, Result};

/// How often it is seen during a load whether the lock is still held.
const LOCK_INTERVAL: Duration = Duration::from_secs(1);

/// How often the server is asked whether it still has the connections of a load.
const LANES_INTERVAL: Duration = Duration::from_secs(5);

/// A version whose table is being loaded.
#[derive(Debug)]
pub struct Staging {
    publisher: Publisher,
    version: u32,
    keep_versions: u32,
    schema: Arc<Schema>,
    /// How many rows were counted in the table.
    rows: u64,
    /// What loads it.
    connections: Vec<ConnectionId>,
}

impl Staging {
    pub(super) fn new(publisher: Publisher, version: u32, keep_versions: u32, schema: Arc<Schema>) -> Self {
        Self { publisher, version, keep_versions, schema, rows: 0, connections: Vec::new() }
    }

    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    pub(crate) fn ranges_max(&self) -> usize {
        self.publisher.store.settings.load_connections
    }

    pub(crate) async fn fill(&mut self, ranges: Vec<Rows>) -> Result<()> {
        let table = table::name(&self.publisher.dataset.name, self.version);
        // A task for each range, because two connections load faster than one. They end with this one.
        let mut lanes = JoinSet::new();
        let turns = Arc::new(Turns::new(self.publisher.watched.manners.clone()));
        for rows in ranges {
            let mut conn = self.publisher.connect().await?;
            self.connections.push(ConnectionId::of(&mut conn).await?);
            lanes.spawn(Lane::new(conn, &table, &self.schema, rows, &turns).run());
        }
        let loaded = self.monitor(lanes).await;
        if let Err(error) = &loaded
            && let Err(lost) = self.publisher.check_lock().await
        {
            // Without the lock another publisher may have removed the table: that is not an error of the database.
            warn!(error = chain(error), "a load failed after it lost its lock");
            return Err(lost);
        }
        self.rows += loaded?;
        Ok(())
    }

    /// Waits until all lanes have loaded their rows, and returns how many rows are there. Meanwhile it makes sure that
    /// the lock is still held, and that the server knows the lanes: one whose connection was lost without a word would
    /// wait for its answer for hours.
    async fn monitor(&self, mut lanes: JoinSet<Result<u64>>) -> Result<u64> {
        let (mut rows, mut missing, mut last_check) = (0, 0, Instant::now());
        loop {
            match tokio::time::timeout(LOCK_INTERVAL, lanes.join_next()).await {
                Ok(Some(loaded)) => rows += loaded??,
                Ok(None) => return Ok(rows),
                Err(_) if self.publisher.is_lock_lost() => {
                    let name = &self.publisher.dataset.name;
                    return Err(Error::lock_lost(name, "its connection to the database broke"));
                }
                Err(_) if last_check.elapsed() >= LANES_INTERVAL => {
                    let known = self.publisher.count_connections(&self.connections).await?;
                    // One that has just ended is joined before the next check.
                    missing = if known < lanes.len() { missing + 1 } else { 0 };
                    if missing > 1 {
                        let why = "the server has lost a connection over which rows are loaded";
                        return Err(Error::Unavailable(why.into()));
                    }
                    last_check = Instant::now();
                }
                Err(_) => {}
            }
        }
    }

    pub(crate) async fn verify(mut self, counts: Counts) -> Result<Staged> {
        let verified = match check_count(counts.rows, self.rows) {
            Ok(()) => {
                self.publisher.ledger.staged(self.version, counts);
                self.publisher.write_ledger().await
            }
            mismatch => mismatch,
        };
        let Self { mut publisher, version, keep_versions, connections, .. } = self;
        match verified {
            Ok(()) => Ok(Staged { publisher, version, keep_versions }),
            Err(error) => {
                publisher.discard(version, &error.to_string(), &connections).await;
                Err(error)
            }
        }
    }

    pub(crate) async fn abort(mut self, reason: &str) -> Result<()> {
        self.publisher.discard(self.version, reason, &self.connections).await;
        self.publisher.release().await;
        Ok(())
    }
}

/// A version whose table is whole.
#[derive(Debug)]
pub struct Staged {
    publisher: Publisher,
    version: u32,
    keep_versions: u32,
}

impl Staged {
    pub(crate) async fn publish(self, is_wanted: impl Fn() -> bool) -> Result<Published> {
        let Self { mut publisher, version, keep_versions } = self;
        let before = match publisher.swap(version, is_wanted).await {
            Ok(before) => before,
            // Whoever has the lock next finds out, and removes what is not needed.
            Err(error @ Error::OutcomeUnknown { .. }) => return Err(error),
            Err(error) => {
                publisher.discard(version, &error.to_string(), &[]).await;
                publisher.release().await;
                return Err(error);
            }
        };
        tokio::time::sleep(Duration::from_millis(FOLLOW_MS)).await;
        if let Err(error) = publisher.prune(keep_versions).await {
            publisher.store.metrics.cleanup_failures.inc();
            let (dataset, error) = (&publisher.dataset.name, chain(&error));
            warn!(dataset, error, "an old version stays until the next load");
        }
        let published = publisher.published(version, before);
        publisher.release().await;
        published
    }

    pub(crate) async fn abort(mut self, reason: &str) -> Result<()> {
        self.publisher.discard(self.version, reason, &[]).await;
        self.publisher.release().await;
        Ok(())
    }
}
