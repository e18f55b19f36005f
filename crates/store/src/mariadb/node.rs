//! One database server that is read: what is live there, and the look-ups that are under way in it.
//!
//! What is live is known from a poll every few milliseconds. If an answer turns out to be of another version, or the
//! columns are gone, the server is polled again and the question is asked again. So a swap fails no request.

mod count;
mod latency;
mod poll;
mod take;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use dataset::KeyBytes;
use mysql_async::SslOpts;
use prometheus::IntGauge;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore, watch};
use tracing::warn;

use self::count::RowCount;
use self::latency::Latency;
use self::poll::Polling;
use super::batcher::LookupBatcher;
use super::cache::Cache;
use super::connect::{self, Address, timed_out};
use super::connections::{Connection, Connections};
use super::delivery::{Answer, PendingAnswer};
use super::live_tables::Lost;
use super::select::{self, Selected, Wanted};
use super::store_table::StoreRow;
use super::watermarks::{LiveSwap, SwapWatermarks};
use crate::error::chain;
use crate::{AnswerBytes, Error, Live, Metrics, OverBudget, Result, Settings, clock};

/// The polls of a server are answered if the last one is not older than this.
const POLLED_LATELY_MS: u64 = 500;
/// Minimum interval between two log lines about the same server.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// A live table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) live: Live,
    /// The number of the swap by which it became live.
    pub(super) swap: u64,
    /// What the ledger says of it, to tell it from another one with the same numbers.
    pub(super) mark: String,
    /// Tells its rows from those of every other version, also of one with the same number.
    pub(super) content: u64,
    /// A key that is there: a statement that asks for it always gets a row, and each row says its version.
    pub(super) proof: mysql_async::Value,
    /// Whether a replica has all its rows.
    row_count: RowCount,
}

/// Two tables are the same if they were read at once: what was read anew may be another one.
impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Table {
    pub(super) fn new(live: Live, swap: u64, mark: String, proof: mysql_async::Value) -> Self {
        Self { content: live.content, live, swap, mark, proof, row_count: RowCount::default() }
    }

    pub(super) fn live_swap(&self) -> LiveSwap {
        LiveSwap { swap: self.swap, version: self.live.version, content: self.content }
    }
}

/// For each key its row as JSON, or nothing.
type Selection = std::result::Result<Vec<Option<Bytes>>, Failure>;

/// Why a look-up was not answered.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// Another version is live by now, and is known.
    Moved,
    /// The server does not answer, or not in time.
    Away(Arc<str>),
    /// It answers with something else.
    Other(Arc<str>),
    /// The rows have more bytes than they may.
    OverBudget(OverBudget),
}

/// What the last poll found.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) store: Option<StoreRow>,
    pub(super) live: HashMap<String, Arc<Table>>,
    /// Datasets that were live once and cannot be read, each with the reason.
    pub(super) lost: BTreeMap<String, Lost>,
    /// Datasets of which the last poll learned nothing, because something holds their tables, and since when.
    pub(super) silent: BTreeMap<String, u64>,
    pub(super) error: Option<String>,
    /// Why the server is not to be read from, although it answers.
    pub(super) excluded: Option<String>,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    /// The server that this one follows; nothing for the primary itself.
    primary: Option<Arc<Node>>,
    connections: Connections,
    /// Places for look-ups of many keys, which do not wait for those of one.
    lists: Semaphore,
    pub(super) timeout: Duration,
    /// How far a replica may be behind the primary, in seconds.
    replica_age_max: Duration,
    seen: ArcSwap<Seen>,
    /// When the last poll began that was answered, and when its answer was there, in milliseconds of the clock.
    polled_at: AtomicU64,
    answered_at: AtomicU64,
    /// When the first poll failed of those that failed since; 0 where the last one was answered.
    failing_since: AtomicU64,
    /// When an updater last wrote to this server's data, in microseconds.
    heartbeat: AtomicU64,
    /// Whether there was a first poll.
    polled: watch::Sender<bool>,
    /// A look-up was not answered since the last poll.
    is_suspect: AtomicBool,
    /// When something went into the log.
    logged_at: AtomicU64,
    /// One polls at a time, on connections of its own: two must not overtake each other.
    polling: Mutex<Polling>,
    /// The store that the primary was when it was first polled.
    store_id: OnceLock<String>,
    /// What was live before, as the primary told it.
    watermarks: SwapWatermarks,
    batcher: LookupBatcher,
    /// How many look-ups wait for it.
    pub(super) waiting: AtomicUsize,
    pub(super) latency: Latency,
    cache: Option<Arc<Cache>>,
    pub(super) metrics: Metrics,
    /// The connections live in one runtime, whichever one asks.
    runtime: Handle,
}

/// What all servers of a reader share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) cache: Option<Arc<Cache>>,
    pub(super) metrics: Metrics,
    pub(super) tls: Option<SslOpts>,
}

impl Node {
    /// Starts to follow a server.
    pub(super) fn start(
        address: &Address,
        primary: Option<&Arc<Self>>,
        settings: &Settings,
        shared: &Shared,
    ) -> Arc<Self> {
        let timeout = Duration::from_millis(settings.timeout_ms);
        let seen = Seen { error: Some("the database was not reached yet".into()), ..Seen::default() };
        let (in_flight, lists) = (settings.connections_max, settings.connections_max.div_ceil(4));
        let node = Arc::new(Self {
            name: address.host(),
            primary: primary.cloned(),
            connections: Connections::new(connect::reading(address, shared.tls.clone(), settings.timeout_ms)),
            lists: Semaphore::new(lists),
            timeout,
            replica_age_max: Duration::from_secs(settings.replica_age_seconds_max),
            seen: ArcSwap::from_pointee(seen),
            polled_at: AtomicU64::new(0),
            answered_at: AtomicU64::new(0),
            failing_since: AtomicU64::new(0),
            heartbeat: AtomicU64::new(0),
            polled: watch::Sender::default(),
            is_suspect: AtomicBool::new(false),
            logged_at: AtomicU64::new(0),
            polling: Mutex::default(),
            store_id: OnceLock::new(),
            watermarks: SwapWatermarks::default(),
            batcher: LookupBatcher::new(settings.batch_keys_max, in_flight),
            waiting: AtomicUsize::new(0),
            latency: Latency::default(),
            cache: shared.cache.clone(),
            metrics: shared.metrics.clone(),
            runtime: Handle::current(),
        });
        node.runtime.spawn(poll::follow(Arc::downgrade(&node)));
        node
    }

    pub(super) fn seen(&self) -> arc_swap::Guard<Arc<Seen>> {
        self.seen.load()
    }

    /// Why a look-up has no chance, if it has none.
    pub(super) fn trouble<'a>(&self, seen: &'a Seen) -> Option<&'a str> {
        let suspect = self.is_suspect.load(Ordering::Relaxed).then_some("lookups are not answered");
        seen.error.as_deref().or(seen.excluded.as_deref()).or(suspect)
    }

    /// What was seen, if it is not older than the staleness bound. The time is read first: what is read after it is at
    /// least as new.
    pub(super) fn fresh(&self, dataset: &str) -> Option<arc_swap::Guard<Arc<Seen>>> {
        let polled_at = self.polled_at.load(Ordering::Acquire);
        let seen = self.seen();
        let is_young = polled_at > 0 && now_millis().saturating_sub(polled_at) < crate::FOLLOW_MS;
        (is_young && seen.error.is_none() && !seen.silent.contains_key(dataset)).then_some(seen)
    }

    /// For how long no poll was answered; nothing where the last one was.
    pub(super) fn failing_for(&self) -> Option<Duration> {
        let since = self.failing_since.load(Ordering::Relaxed);
        (since > 0).then(|| Duration::from_millis(now_millis().saturating_sub(since)))
    }

    /// When the first poll failed of those that failed since.
    pub(super) fn failing_since(&self) -> u64 {
        self.failing_since.load(Ordering::Relaxed)
    }

    /// How far this server is behind the primary, by the last heartbeats that came to both.
    pub(super) fn age(&self) -> Duration {
        let of_primary = self.primary.as_ref().map_or(0, |primary| primary.heartbeat.load(Ordering::Relaxed));
        Duration::from_micros(of_primary.saturating_sub(self.heartbeat.load(Ordering::Relaxed)))
    }

    pub(super) async fn first_poll(&self) {
        // The sender lives as long as this does.
        let _ = self.polled.subscribe().wait_for(|polled| *polled).await;
    }

    /// Looks a key up, together with those that others ask for at the same time.
    pub(super) fn get(self: &Arc<Self>, table: &Arc<Table>, key: KeyBytes) -> Waiting {
        let joined = self.batcher.join(table, key);
        if joined.start {
            take::start_worker(self);
        }
        Waiting { _count: Waits::new(self.clone(), 1), answer: joined.answer }
    }

    /// Looks many keys up with one statement; they are in order, each once. A request that is given up must not leave
    /// a connection in the middle of an answer.
    pub(super) async fn ask_all(
        self: &Arc<Self>,
        table: &Arc<Table>,
        keys: Vec<KeyBytes>,
        bytes: &Arc<AnswerBytes>,
    ) -> Selection {
        let (node, table, bytes) = (self.clone(), table.clone(), bytes.clone());
        let _waiting = Waits::new(self.clone(), keys.len());
        let task = async move {
            let mut conn = None;
            let place = tokio::time::timeout(node.timeout, async {
                let place = node.lists.acquire().await;
                node.connection(&mut conn).await.map(|()| place)
            });
            let _place = match place.await {
                Ok(Ok(place)) => place,
                Ok(Err(error)) => return Err(node.away(&error)),
                Err(elapsed) => return Err(node.away(&timed_out(elapsed))),
            };
            let wanted = Wanted { keys: &keys, bytes: Some(&bytes) };
            let selection = node.select(&mut conn, &table, wanted).await;
            if let Some(conn) = conn {
                node.connections.put_back(conn);
            }
            selection
        };
        self.runtime.spawn(task).await.unwrap_or_else(|error| Err(Failure::Other(error.to_string().into())))
    }

    /// Reads keys from the live table, if it is still the expected version. The connection is kept for the next time.
    async fn select(
        self: &Arc<Self>,
        conn: &mut Option<Connection>,
        table: &Arc<Table>,
        wanted: Wanted<'_>,
    ) -> Selection {
        let (start, _in_use) = (Instant::now(), Gauged::new(&self.metrics.pool_in_use));
        let selected = tokio::time::timeout(self.timeout, self.select_twice(conn, table, wanted)).await;
        self.metrics.observe(start.elapsed(), wanted.keys.len());
        self.latency.note(start.elapsed());
        let Ok(selected) = selected else {
            *conn = None;
            return Err(self.suspect_unless_polled("no answer in time"));
        };
        match selected {
            Ok(Selected::Rows(rows)) => Ok(rows),
            Ok(Selected::OverBudget(why)) => Err(Failure::OverBudget(why)),
            Ok(Selected::Moved) => match self.poll_after(table).await {
                Ok(true) => Err(Failure::Moved),
                Ok(false) => {
                    // The connection leads to another server, or this one disagrees with itself.
                    *conn = None;
                    let why = "it answers with another version than it says is live";
                    self.log_failure(why);
                    Err(Failure::Away(why.into()))
                }
                Err(error) => Err(self.away(&error)),
            },
            Err(error) => {
                *conn = None;
                let is_lost = connect::is_broken(&error);
                let text = chain(&error);
                if is_lost {
                    drop(self.suspect_unless_polled(&text));
                } else {
                    self.log_failure(&text);
                }
                Err(match error {
                    Error::Unavailable(_) | Error::Refused { .. } | Error::Setup(_) => {
                        Failure::Away(text.into())
                    }
                    _ => Failure::Other(text.into()),
                })
            }
        }
    }

    /// A connection may have been closed while nobody used it, so the statement is tried once more on a fresh one.
    async fn select_twice(
        &self,
        conn: &mut Option<Connection>,
        table: &Arc<Table>,
        wanted: Wanted<'_>,
    ) -> Result<Selected> {
        if let Some(conn) = conn {
            match select::select(conn, table, wanted).await {
                Err(error) if connect::may_pass(&error) => {}
                selected => return Ok(selected?),
            }
        }
        let fresh = conn.insert(self.connections.open().await?);
        Ok(select::select(fresh, table, wanted).await?)
    }

    /// Gets a connection, where there is none yet or it is too old.
    async fn connection(&self, conn: &mut Option<Connection>) -> Result<()> {
        if conn.as_ref().is_none_or(|conn| !self.connections.is_usable(conn)) {
            let _waiting = Gauged::new(&self.metrics.pool_waiting);
            *conn = Some(self.connections.take().await?);
        }
        Ok(())
    }

    fn away(&self, error: &Error) -> Failure {
        let text = chain(error);
        self.log_failure(&text);
        Failure::Away(text.into())
    }

    /// Logs a failure, unless one was logged within [`LOG_INTERVAL`].
    pub(super) fn log_failure(&self, why: &str) {
        let (now, last) = (now_millis(), self.logged_at.load(Ordering::Relaxed));
        let is_due = u128::from(now.saturating_sub(last)) >= LOG_INTERVAL.as_millis();
        let mine = || self.logged_at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed);
        if is_due && mine().is_ok() {
            warn!(database = self.name, role = self.role(), why, "lookups failing");
        }
    }

    /// What the server is for us, for the log.
    pub(super) fn role(&self) -> &'static str {
        if self.primary.is_some() { "replica" } else { "primary" }
    }

    /// A server whose polls are answered is there: then only this table, or this connection, is in trouble.
    fn suspect_unless_polled(&self, why: &str) -> Failure {
        let polled_at = self.polled_at.load(Ordering::Relaxed);
        if now_millis().saturating_sub(polled_at) < POLLED_LATELY_MS {
            self.log_failure(why);
            return Failure::Away(why.into());
        }
        self.suspect(why)
    }

    /// Nobody else is sent here until a look is answered.
    fn suspect(&self, why: &str) -> Failure {
        self.is_suspect.store(true, Ordering::Relaxed);
        self.log_failure(why);
        self.give_up();
        Failure::Away(why.into())
    }
}

/// A key that was asked for.
#[derive(Debug)]
pub(super) struct Waiting {
    answer: PendingAnswer,
    _count: Waits,
}

impl Waiting {
    pub(super) async fn answer(self) -> Answer {
        self.answer.receive().await.unwrap_or_else(|| Err(Failure::Away("the lookup broke off".into())))
    }
}

/// Counts who waits for as long as it lives.
#[derive(Debug)]
struct Waits(Arc<Node>, usize);

impl Waits {
    fn new(node: Arc<Node>, more: usize) -> Self {
        node.waiting.fetch_add(more, Ordering::Relaxed);
        Self(node, more)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// Counts one more for as long as it lives.
struct Gauged<'a>(&'a IntGauge);

impl<'a> Gauged<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Gauged<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The clock in milliseconds; it goes on while the machine is suspended, and is never 0.
pub(super) fn now_millis() -> u64 {
    u64::try_from(clock::now().as_millis()).unwrap_or(u64::MAX).max(1)
}
