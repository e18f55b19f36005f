//! Publishing in MariaDB: a named lock, a staging table, one `RENAME TABLE`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dataset::{RowBatch, Schema};
use futures_util::StreamExt;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use tokio::sync::mpsc;
use tracing::warn;

use super::connect::{code, is_lost, server_code};
use super::load::Loader;
use super::{Mariadb, ledger, rows, table};
use crate::ledger::{Counts, Entry, Ledger, NewVersion};
use crate::publisher::{LiveRows, same_count};
use crate::{Error, FOLLOW_MS, Published, Result};

/// How many live rows are given out at once.
const SCAN_ROWS: usize = 4096;

/// Long enough for the server to notice that a connection was closed whose load has just been answered.
const LOCK_WAIT_SECONDS: u32 = 1;

/// Holds the lock of a dataset, on the connection on which it swaps.
#[derive(Debug)]
pub struct Publisher {
    store: Arc<Mariadb>,
    dataset: String,
    ledger: Ledger,
    live: Option<u32>,
    lock: Conn,
}

impl Publisher {
    pub(super) async fn lock(store: Arc<Mariadb>, dataset: &str) -> Result<Self> {
        let mut lock = store.connect().await?;
        require_mariadb(&mut lock).await?;
        take_lock(&mut lock, dataset, LOCK_WAIT_SECONDS).await?;
        ledger::create(&mut lock).await?;
        let live = table::live_version(&mut lock, dataset).await?;
        let ledger = Ledger::new(ledger::read(&mut lock, dataset).await?);
        let mut publisher = Self { store, dataset: dataset.to_owned(), ledger, live, lock };
        publisher.mend().await?;
        Ok(publisher)
    }

    /// Puts the ledger right and drops tables that no version needs any more.
    async fn mend(&mut self) -> Result<()> {
        let present = table::others(&mut self.lock, &self.dataset).await?;
        self.ledger.reconcile(self.live, &present);
        for version in present {
            if self.ledger.is_left_over(version)
                && let Err(error) = table::drop(&mut self.lock, &self.dataset, version).await
            {
                // Somebody reads it, a backup perhaps: that must not keep anybody from publishing.
                warn!(dataset = self.dataset, version, %error, "left-overs of a failed version stay until the next load");
            }
        }
        self.write_ledger().await
    }

    pub(crate) fn live(&self) -> Option<&Entry> {
        self.ledger.live()
    }

    pub(crate) async fn live_rows(&self) -> Result<LiveRows> {
        let (sender, receiver) = mpsc::channel(2);
        let Some(live) = self.live() else { return Ok(receiver) };
        let (schema, mut conn) = (live.schema.clone(), self.store.connect().await?);
        let select = format!(
            "SELECT {} FROM `{}` ORDER BY `{}`",
            table::columns(&schema),
            self.dataset,
            schema.key().name
        );
        tokio::spawn(async move {
            if let Err(error) = scan(&mut conn, select, &schema, &sender).await {
                // Nobody waits for an error any more if nobody takes it.
                let _ = sender.send(Err(error)).await;
            }
        });
        Ok(receiver)
    }

    pub(crate) async fn stage(mut self, new: NewVersion) -> Result<Staging> {
        let (schema, keep_versions) = (new.schema.clone(), new.keep_versions);
        let version = self.ledger.begin(new);
        self.write_ledger().await?;
        let made = self.make_table(version, &schema).await;
        match made {
            Ok(conn) => {
                let loader = Loader::new(conn, &table::name(&self.dataset, version), &schema);
                Ok(Staging { publisher: self, version, keep_versions, schema, loader })
            }
            Err(error) => {
                self.give_up(version, &error.to_string()).await;
                Err(error)
            }
        }
    }

    /// Makes the staging table; returns a connection to load it.
    async fn make_table(&mut self, version: u32, schema: &Schema) -> Result<Conn> {
        self.lock.query_drop(table::create(&self.dataset, version, schema)).await?;
        self.store.connect().await
    }

    pub(crate) async fn activate(mut self, version: u32) -> Result<Published> {
        if Some(version) == self.live {
            let published = self.published(version, self.live);
            self.release().await;
            return published;
        }
        if !self.ledger.can_activate(version) {
            return Err(Error::NoSuchVersion { dataset: self.dataset, version });
        }
        let before = self.swap(version).await?;
        tokio::time::sleep(Duration::from_millis(FOLLOW_MS)).await;
        let published = self.published(version, before);
        self.release().await;
        published
    }

    /// Lets others publish, before anybody is told that this is done.
    async fn release(self) {
        // A connection that does not answer any more holds no lock for long.
        let _ = tokio::time::timeout(self.store.timeout, self.lock.disconnect()).await;
    }

    /// The swap, tried again while readers are in its way. Returns which version was live before.
    async fn swap(&mut self, version: u32) -> Result<Option<u32>> {
        let (start, before) = (Instant::now(), self.live);
        self.ledger.announce(version);
        self.write_ledger().await?;
        let rename = table::swap(&self.dataset, version, before);
        loop {
            match self.lock.query_drop(&rename).await {
                Ok(()) => break,
                Err(error)
                    if matches!(server_code(&error), Some(code::LOCK_WAIT_TIMEOUT | code::DEADLOCK)) =>
                {
                    if start.elapsed() > self.store.swap_wait {
                        return Err(Error::SwapTimeout(
                            self.store.swap_wait.as_millis().try_into().unwrap_or(0),
                        ));
                    }
                    // Readers that queued behind the attempt get their turn; others do not try in step with us.
                    tokio::time::sleep(Duration::from_millis(rand::random_range(20..120))).await;
                }
                Err(error) if is_lost(&error) => {
                    self.read_back(version, error).await?;
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.store.metrics.swap_seconds.observe(start.elapsed().as_secs_f64());
        self.live = Some(version);
        self.ledger.swapped(version);
        if let Err(error) = self.write_ledger().await {
            warn!(dataset = self.dataset, version, %error, "the version is live, its entry follows with the next load");
        }
        Ok(before)
    }

    /// The connection broke during the swap: the live table says whether it happened, once the database can be asked
    /// and nobody else can be at it.
    async fn read_back(&mut self, version: u32, error: mysql_async::Error) -> Result<()> {
        let start = Instant::now();
        loop {
            match self.lock_again().await {
                Ok(live) if live == Some(version) => return Ok(()),
                Ok(_) => return Err(error.into()),
                Err(away) if start.elapsed() > self.store.swap_wait => return Err(away),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// Takes the lock on a new connection and returns which version is live.
    async fn lock_again(&mut self) -> Result<Option<u32>> {
        let mut lock = self.store.connect().await?;
        take_lock(&mut lock, &self.dataset, 5).await?;
        self.lock = lock;
        table::live_version(&mut self.lock, &self.dataset).await
    }

    fn published(&self, version: u32, before: Option<u32>) -> Result<Published> {
        let live = self.ledger.get(version).cloned();
        let live = live.ok_or_else(|| Error::corrupt("the ledger has no entry of the live version"))?;
        Ok(Published { live, before })
    }

    async fn write_ledger(&mut self) -> Result<()> {
        let changed = self.ledger.take_changed();
        ledger::write(&mut self.lock, &self.dataset, changed).await
    }

    /// Enters that a version failed and drops its table. What cannot be done now is done by the next publisher.
    async fn give_up(&mut self, version: u32, reason: &str) {
        self.ledger.failed(version, reason);
        let written = self.write_ledger().await;
        let dropped = table::drop(&mut self.lock, &self.dataset, version).await;
        if let Err(error) = written.and(dropped) {
            warn!(dataset = self.dataset, version, %error, "left-overs of a failed version stay until the next load");
        }
    }

    /// Drops versions that no longer stay, one at a time.
    async fn retain(&mut self, keep_versions: u32) -> Result<()> {
        for version in self.ledger.expired(keep_versions) {
            table::drop(&mut self.lock, &self.dataset, version).await?;
            self.ledger.dropped(version);
            self.write_ledger().await?;
        }
        Ok(())
    }
}

/// Refuses a server whose `RENAME TABLE` is not atomic in a crash, or that is no MariaDB.
async fn require_mariadb(conn: &mut Conn) -> Result<()> {
    let version: Option<String> = conn.query_first("SELECT VERSION()").await?;
    let version = version.unwrap_or_default();
    let mut numbers = version.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let new_enough = (numbers.next(), numbers.next()) >= (Some(10), Some(6));
    if version.contains("MariaDB") && new_enough {
        return Ok(());
    }
    Err(Error::Setup(format!("the database is {version}: MariaDB 10.6 or later is needed")))
}

/// Takes the dataset's lock, which ends with the connection.
async fn take_lock(conn: &mut Conn, dataset: &str, wait_seconds: u32) -> Result<()> {
    // A lock's name holds for the whole server and has 64 characters at most.
    let get = "SELECT GET_LOCK(CONCAT('tableswap.', SHA1(CONCAT(DATABASE(), '.', ?))), ?)";
    let taken: Option<Option<i64>> = conn.exec_first(get, (dataset, wait_seconds)).await?;
    if taken.flatten() == Some(1) { Ok(()) } else { Err(Error::Busy { dataset: dataset.to_owned() }) }
}

async fn scan(
    conn: &mut Conn,
    select: String,
    schema: &Schema,
    sender: &mpsc::Sender<Result<RowBatch>>,
) -> Result<()> {
    let mut found = conn.exec_stream::<Row, _, _>(select, ()).await?;
    let (mut batch, mut key, mut rest) = (RowBatch::default(), Vec::new(), Vec::new());
    while let Some(row) = found.next().await {
        let sql = row?.unwrap();
        let values = rows::read(schema, &sql)?;
        key.clear();
        rest.clear();
        schema.write_key(&values, &mut key);
        schema.write_rest(&values, &mut rest);
        batch.push(&key, &rest);
        if batch.len() >= SCAN_ROWS && sender.send(Ok(std::mem::take(&mut batch))).await.is_err() {
            return Ok(());
        }
    }
    if !batch.is_empty() {
        let _ = sender.send(Ok(batch)).await;
    }
    Ok(())
}

/// A version whose table is being loaded.
#[derive(Debug)]
pub struct Staging {
    publisher: Publisher,
    version: u32,
    keep_versions: u32,
    schema: Arc<Schema>,
    loader: Loader,
}

impl Staging {
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    pub(crate) async fn append(&mut self, batch: RowBatch) -> Result<()> {
        self.loader.append(&self.schema, &batch).await
    }

    pub(crate) async fn verify(self, counts: Counts) -> Result<Staged> {
        let Self { mut publisher, version, keep_versions, loader, .. } = self;
        match publisher.count(version, loader, counts).await {
            Ok(()) => Ok(Staged { publisher, version, keep_versions }),
            Err(error) => {
                publisher.give_up(version, &error.to_string()).await;
                Err(error)
            }
        }
    }

    pub(crate) async fn abort(mut self, reason: &str) -> Result<()> {
        // The loading connection goes first: while it has a statement under way, its table cannot be dropped.
        drop(self.loader);
        self.publisher.give_up(self.version, reason).await;
        self.publisher.release().await;
        Ok(())
    }
}

impl Publisher {
    /// Counts the staged rows and enters that they are all there.
    async fn count(&mut self, version: u32, loader: Loader, counts: Counts) -> Result<()> {
        let mut conn = loader.finish().await?;
        let count = format!("SELECT COUNT(*) FROM `{}`", table::name(&self.dataset, version));
        let rows: Option<u64> = conn.query_first(count).await?;
        same_count(counts.rows, rows.unwrap_or(0))?;
        self.ledger.staged(version, counts);
        self.write_ledger().await
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
    pub(crate) async fn publish(self) -> Result<Published> {
        let Self { mut publisher, version, keep_versions } = self;
        let before = match publisher.swap(version).await {
            Ok(before) => before,
            Err(error) => {
                publisher.give_up(version, &error.to_string()).await;
                return Err(error);
            }
        };
        tokio::time::sleep(Duration::from_millis(FOLLOW_MS)).await;
        if let Err(error) = publisher.retain(keep_versions).await {
            warn!(dataset = publisher.dataset, %error, "an old version stays until the next load");
        }
        let published = publisher.published(version, before);
        publisher.release().await;
        published
    }

    pub(crate) async fn abort(mut self, reason: &str) -> Result<()> {
        self.publisher.give_up(self.version, reason).await;
        self.publisher.release().await;
        Ok(())
    }
}
