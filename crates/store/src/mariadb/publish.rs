//! Publishing in MariaDB: a named lock, a staging table, one `RENAME TABLE`.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataset::{RowBatch, Schema};
use futures_util::StreamExt;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::warn;

use super::connect::{code, is_lost, server_code, timed_out};
use super::load::Lane;
use super::turns::{Turns, watch};
use super::{Mariadb, ledger, rows, table};
use crate::ledger::{Counts, Entry, Ledger, NewVersion};
use crate::publisher::{LiveRows, Rows, same_count};
use crate::{Error, FOLLOW_MS, Manners, Published, Result};

/// How many live rows are given out at once.
const SCAN_ROWS: usize = 4096;

/// Long enough for the server to notice that a connection was closed whose load has just been answered.
const LOCK_WAIT_SECONDS: u32 = 1;

/// How often it is made sure that a load still has its lock and its server, and how long the server may take for that.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_WAIT: Duration = Duration::from_secs(30);
/// A database that has not answered a small statement after so long hangs.
const STATEMENT_WAIT: Duration = Duration::from_secs(30);
/// What a database that hangs keeps of a version that is given up stays there.
const GIVE_UP_WAIT: Duration = Duration::from_secs(10);

/// Holds the lock of a dataset, on the connection on which it swaps.
#[derive(Debug)]
pub struct Publisher {
    store: Arc<Mariadb>,
    dataset: String,
    ledger: Ledger,
    live: Option<u32>,
    lock: Conn,
    /// A statement was given up on the connection of the lock: it cannot be used any more.
    lock_is_spoilt: bool,
    manners: Manners,
    /// Looks for readers until the publisher is gone.
    _watch: JoinSet<()>,
}

impl Publisher {
    pub(super) async fn lock(store: Arc<Mariadb>, dataset: &str) -> Result<Self> {
        let mut lock = store.connect().await?;
        require_mariadb(&mut lock).await?;
        take_lock(&mut lock, dataset, LOCK_WAIT_SECONDS).await?;
        ledger::create(&mut lock).await?;
        let live = table::live_version(&mut lock, dataset).await?;
        let ledger = Ledger::new(ledger::read(&mut lock, dataset).await?);
        let manners = Manners::new(store.settings.load_share_percent);
        let mut watching = JoinSet::new();
        watching.spawn(watch(store.clone(), manners.clone()));
        let mut publisher = Self {
            dataset: dataset.to_owned(),
            ledger,
            live,
            lock,
            lock_is_spoilt: false,
            manners,
            _watch: watching,
            store,
        };
        publisher.mend().await?;
        Ok(publisher)
    }

    /// Puts the ledger right and drops tables that no version needs any more.
    async fn mend(&mut self) -> Result<()> {
        let present = table::others(&mut self.lock, &self.dataset).await?;
        self.ledger.reconcile(self.live, &present);
        for version in present {
            if self.ledger.is_left_over(version)
                && let Err(error) = self.drop_left_over(version).await
            {
                // Somebody reads it, a backup perhaps: that must not keep anybody from publishing.
                warn!(dataset = self.dataset, version, %error, "left-overs of a failed version stay until the next load");
            }
        }
        self.write_ledger().await
    }

    /// An updater that vanished with its machine can have left statements behind that still wait for its rows.
    async fn drop_left_over(&mut self, version: u32) -> Result<()> {
        let loading = table::loading(&mut self.lock, &self.dataset, version).await?;
        kill(&mut self.lock, &loading).await;
        table::drop(&mut self.lock, &self.dataset, version).await
    }

    pub(crate) fn live(&self) -> Option<&Entry> {
        self.ledger.live()
    }

    pub(crate) fn manners(&self) -> &Manners {
        &self.manners
    }

    pub(crate) async fn live_rows(&self) -> Result<LiveRows> {
        let (sender, receiver) = mpsc::channel(2);
        let Some(live) = self.live() else { return Ok(receiver) };
        let (schema, store) = (live.schema.clone(), self.store.clone());
        let mut conn = store.connect().await?;
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
            // Where nobody took all rows, the rest would be read for nothing, and a swap would wait for it.
            if let Ok(mut other) = store.connect().await {
                kill(&mut other, &[conn.id()]).await;
            }
        });
        Ok(receiver)
    }

    pub(crate) async fn stage(mut self, new: NewVersion) -> Result<Staging> {
        let (schema, keep_versions) = (new.schema.clone(), new.keep_versions);
        let version = self.ledger.begin(new);
        self.write_ledger().await?;
        self.lock_is_spoilt = true;
        let made = in_time(self.lock.query_drop(table::create(&self.dataset, version, &schema))).await;
        self.lock_is_spoilt = matches!(made, Err(Error::Unavailable(_)));
        match made {
            Ok(()) => {
                let (rows, connections) = (0, Vec::new());
                Ok(Staging { publisher: self, version, keep_versions, schema, rows, connections })
            }
            Err(error) => {
                self.give_up(version, &error.to_string(), &[]).await;
                Err(error)
            }
        }
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
        let before = self.swap(version, || true).await?;
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
    async fn swap(&mut self, version: u32, is_wanted: impl Fn() -> bool) -> Result<Option<u32>> {
        let (start, before) = (Instant::now(), self.live);
        self.ledger.announce(version);
        self.write_ledger().await?;
        let rename = table::swap(&self.dataset, version, before);
        loop {
            if !is_wanted() {
                return Err(Error::Unwanted);
            }
            let renamed = tokio::time::timeout(STATEMENT_WAIT, self.lock.query_drop(&rename)).await;
            match renamed.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())) {
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
            match in_time(self.lock_again()).await {
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
        kill(&mut lock, &[self.lock.id()]).await;
        take_lock(&mut lock, &self.dataset, 5).await?;
        (self.lock, self.lock_is_spoilt) = (lock, false);
        table::live_version(&mut self.lock, &self.dataset).await
    }

    fn published(&self, version: u32, before: Option<u32>) -> Result<Published> {
        let live = self.ledger.get(version).cloned();
        let live = live.ok_or_else(|| Error::corrupt("the ledger has no entry of the live version"))?;
        Ok(Published { live, before })
    }

    async fn write_ledger(&mut self) -> Result<()> {
        let changed = self.ledger.take_changed();
        in_time(ledger::write(&mut self.lock, &self.dataset, changed)).await
    }

    /// Enters that a version failed and drops its table, which nothing must hold any more: what still loads it is
    /// ended. What cannot be done now is done by the next publisher.
    async fn give_up(&mut self, version: u32, reason: &str, connections: &[u32]) {
        let given_up = self.try_to_give_up(version, reason, connections);
        let given_up = tokio::time::timeout(GIVE_UP_WAIT, given_up).await;
        if let Err(error) = given_up.unwrap_or_else(|elapsed| Err(timed_out(elapsed))) {
            warn!(dataset = self.dataset, version, %error, "left-overs of a failed version stay until the next load");
        }
    }

    async fn try_to_give_up(&mut self, version: u32, reason: &str, connections: &[u32]) -> Result<()> {
        if self.lock_is_spoilt {
            self.lock_again().await?;
        }
        kill(&mut self.lock, connections).await;
        self.ledger.failed(version, reason);
        let written = self.write_ledger().await;
        let dropped = table::drop(&mut self.lock, &self.dataset, version).await;
        written.and(dropped)
    }

    /// Waits until all lanes have loaded their rows, and returns how many rows are there. Meanwhile it makes sure that
    /// the lock is still held, and that the server answers.
    async fn accompany(&mut self, mut lanes: JoinSet<Result<u64>>) -> Result<u64> {
        let mut rows = 0;
        loop {
            match tokio::time::timeout(PING_EVERY, lanes.join_next()).await {
                Ok(Some(loaded)) => rows += loaded??,
                Ok(None) => return Ok(rows),
                Err(_) => {
                    self.lock_is_spoilt = true;
                    tokio::time::timeout(PING_WAIT, self.lock.ping()).await.map_err(timed_out)??;
                    self.lock_is_spoilt = false;
                }
            }
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

/// A statement that takes no longer than a moment, unless the database hangs.
async fn in_time<T, E>(statement: impl Future<Output = std::result::Result<T, E>>) -> Result<T>
where
    Error: From<E>,
{
    Ok(tokio::time::timeout(STATEMENT_WAIT, statement).await.map_err(timed_out)??)
}

/// Ends connections of ours that may be in the middle of something. Most of them have ended already.
async fn kill(conn: &mut Conn, connections: &[u32]) {
    for id in connections {
        let _ = conn.query_drop(format!("KILL CONNECTION {id}")).await;
    }
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
    /// How many rows were counted in the table.
    rows: u64,
    /// What loads it, as the server calls them.
    connections: Vec<u32>,
}

impl Staging {
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    pub(crate) fn ranges_max(&self) -> usize {
        self.publisher.store.settings.load_connections
    }

    pub(crate) async fn fill(&mut self, ranges: Vec<Rows>) -> Result<()> {
        let table = table::name(&self.publisher.dataset, self.version);
        // They end with this one.
        let mut lanes = JoinSet::new();
        let turns = Arc::new(Turns::new(self.publisher.manners.clone()));
        for rows in ranges {
            let conn = self.publisher.store.connect().await?;
            let lane = Lane::new(conn, &table, &self.schema, rows, &turns);
            self.connections.push(lane.id());
            lanes.spawn(lane.run());
        }
        self.rows += self.publisher.accompany(lanes).await?;
        Ok(())
    }

    pub(crate) async fn verify(mut self, counts: Counts) -> Result<Staged> {
        let verified = match same_count(counts.rows, self.rows) {
            Ok(()) => {
                self.publisher.ledger.staged(self.version, counts);
                self.publisher.write_ledger().await
            }
            miscounted => miscounted,
        };
        let Self { mut publisher, version, keep_versions, connections, .. } = self;
        match verified {
            Ok(()) => Ok(Staged { publisher, version, keep_versions }),
            Err(error) => {
                publisher.give_up(version, &error.to_string(), &connections).await;
                Err(error)
            }
        }
    }

    pub(crate) async fn abort(mut self, reason: &str) -> Result<()> {
        self.publisher.give_up(self.version, reason, &self.connections).await;
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
            Err(error) => {
                publisher.give_up(version, &error.to_string(), &[]).await;
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
        self.publisher.give_up(self.version, reason, &[]).await;
        self.publisher.release().await;
        Ok(())
    }
}
