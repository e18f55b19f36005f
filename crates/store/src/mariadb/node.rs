//! One database server that is read: what is live there, and the look-ups that are under way in it.
//!
//! What is live is known from a look every few milliseconds. If an answer turns out to be of another version, or the
//! columns are gone, that is looked at again and the question is asked again. So a swap fails no request.

mod take;

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as Lock, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use dataset::KeyBytes;
use futures_util::FutureExt;
use mysql_async::{Conn, Opts, Pool};
use prometheus::IntGauge;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore, watch};
use tracing::{error, info, warn};

use super::cache::Cache;
use super::connect::{self, Address, timed_out};
use super::look::{self, Floors, Lost};
use super::queue::{Answer, Queue, Stalled};
use super::select::{self, Selected};
use crate::error::chain;
use crate::{Error, Live, Metrics, Result, Settings, clock};

/// How often the live versions are looked at: twice within the time that a publication waits for its readers.
const LOOK_EVERY: Duration = Duration::from_millis(crate::FOLLOW_MS / 2);
/// Whether a server can be trusted is looked at once in so many looks.
const LOOKS_PER_CHECK: u64 = 20;
/// Of troubles that come again and again, one goes into the log in so long.
const COMPLAIN_EVERY: Duration = Duration::from_secs(1);
/// How long it is waited for a server that did not answer before: it must be found again within a second.
const KNOCK_WAIT: Duration = Duration::from_millis(400);

/// A live table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) live: Live,
    /// The number of the swap by which it became live.
    pub(super) swap: u64,
    /// Tells it from another one with the same numbers: where another server has taken the address, it may be there.
    pub(super) mark: String,
    /// Tells its rows from those of every other version, also of one with the same number.
    pub(super) content: u64,
    /// A key that is there: a statement that asks for it always gets a row, and each row says its version.
    pub(super) proof: mysql_async::Value,
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
}

/// What the last look found.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    pub(super) live: HashMap<String, Arc<Table>>,
    /// Datasets that were live once and cannot be read, each with the reason.
    pub(super) lost: BTreeMap<String, Lost>,
    pub(super) error: Option<String>,
    /// Why the server is not to be read from, although it answers.
    pub(super) unfit: Option<String>,
}

#[derive(Debug)]
pub(super) struct Node {
    name: String,
    /// One that follows another: it can be behind, and be unfit.
    is_replica: bool,
    opts: Opts,
    pool: Pool,
    /// Places for look-ups of many keys, which do not wait for those of one.
    lists: Semaphore,
    pub(super) timeout: Duration,
    seen: ArcSwap<Seen>,
    /// When the last look began that was answered, in milliseconds since the start.
    looked_at: AtomicU64,
    start: Duration,
    /// Whether there was a first poll.
    polled: watch::Sender<bool>,
    /// A look-up was not answered since the last look.
    is_suspect: AtomicBool,
    /// When something went into the log, in milliseconds since the start.
    complained_at: AtomicU64,
    /// Who looks, with a connection of its own: two must not overtake each other.
    watch: Mutex<Option<Conn>>,
    floors: Arc<Floors>,
    queue: Lock<Queue>,
    /// How many look-ups wait for it.
    pub(super) waiting: AtomicUsize,
    cache: Option<Arc<Cache>>,
    pub(super) metrics: Metrics,
    /// The connections live in one runtime, whichever one asks.
    runtime: Handle,
}

/// What all servers of a reader share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) floors: Arc<Floors>,
    pub(super) cache: Option<Arc<Cache>>,
    pub(super) metrics: Metrics,
}

impl Node {
    /// Starts to follow a server.
    pub(super) fn start(
        address: &Address,
        is_replica: bool,
        settings: &Settings,
        shared: &Shared,
    ) -> Arc<Self> {
        let timeout = Duration::from_millis(settings.timeout_ms);
        let seen = Seen { error: Some("the database was not reached yet".into()), ..Seen::default() };
        let opts = connect::reading(address, settings.timeout_ms);
        let (connections, lists) = (settings.connections_max, settings.connections_max.div_ceil(4));
        let node = Arc::new(Self {
            name: address.host(),
            is_replica,
            pool: connect::pool(&opts, connections + lists),
            lists: Semaphore::new(lists),
            opts,
            timeout,
            seen: ArcSwap::from_pointee(seen),
            looked_at: AtomicU64::new(0),
            start: clock::now(),
            polled: watch::Sender::default(),
            is_suspect: AtomicBool::new(false),
            complained_at: AtomicU64::new(0),
            watch: Mutex::default(),
            floors: shared.floors.clone(),
            queue: Lock::new(Queue::new(settings.batch_keys_max, connections, timeout)),
            waiting: AtomicUsize::new(0),
            cache: shared.cache.clone(),
            metrics: shared.metrics.clone(),
            runtime: Handle::current(),
        });
        node.runtime.spawn(follow(Arc::downgrade(&node)));
        node
    }

    pub(super) fn seen(&self) -> arc_swap::Guard<Arc<Seen>> {
        self.seen.load()
    }

    /// Why a look-up has no chance, if it has none.
    pub(super) fn trouble<'a>(&self, seen: &'a Seen) -> Option<&'a str> {
        let suspect = self.is_suspect.load(Ordering::Relaxed).then_some("look-ups are not answered");
        seen.error.as_deref().or(seen.unfit.as_deref()).or(suspect)
    }

    /// What was seen, if no other version was live 100 ms ago. The time is read first: what is read after it is at least
    /// as new.
    pub(super) fn fresh(&self) -> Option<arc_swap::Guard<Arc<Seen>>> {
        let looked_at = self.looked_at.load(Ordering::Acquire);
        let seen = self.seen();
        let since = self.millis().saturating_sub(looked_at);
        (since < crate::FOLLOW_MS && seen.error.is_none()).then_some(seen)
    }

    pub(super) async fn first_poll(&self) {
        // The sender lives as long as this does.
        let _ = self.polled.subscribe().wait_for(|polled| *polled).await;
    }

    /// Since the start; it goes on while the machine is suspended.
    fn millis(&self) -> u64 {
        u64::try_from((clock::now().saturating_sub(self.start)).as_millis()).unwrap_or(u64::MAX)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks keys up, together with those that others ask for at the same time.
    pub(super) async fn ask(self: &Arc<Self>, table: &Arc<Table>, keys: Vec<KeyBytes>) -> Vec<Answer> {
        let count = keys.len();
        let all = |failure: Failure| vec![Err(failure); count];
        // The queue must be free again before anything else is done.
        let joined = self.queue().join(table, keys, Instant::now());
        let joined = match joined {
            Ok(joined) => joined,
            Err(Stalled) => return all(self.suspect("it does not answer")),
        };
        if joined.start {
            take::start_taking(self);
        }
        let waiting = Waits::new(&self.waiting, count);
        let answers = joined.answers.await;
        drop(waiting);
        answers.unwrap_or_else(|_| all(Failure::Away("the look-up was given up".into())))
    }

    /// Looks many keys up with one statement; they are in order, each once. A request that is given up must not leave
    /// a connection in the middle of an answer.
    pub(super) async fn ask_all(self: &Arc<Self>, table: &Arc<Table>, keys: Vec<KeyBytes>) -> Selection {
        let (node, table) = (self.clone(), table.clone());
        let _waiting = Waits::new(&self.waiting, keys.len());
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
            node.select(&mut conn, &table, &keys, Self::complain).await
        };
        self.runtime.spawn(task).await.unwrap_or_else(|error| Err(Failure::Other(error.to_string().into())))
    }

    /// Reads keys from the live table, if it is still the expected version. The connection is kept for the next time;
    /// what is to be done where the database does not answer is up to the caller.
    async fn select(
        &self,
        conn: &mut Option<Conn>,
        table: &Arc<Table>,
        keys: &[KeyBytes],
        on_silence: impl Fn(&Self, &str),
    ) -> Selection {
        let (start, _in_use) = (Instant::now(), Gauged::new(&self.metrics.pool_in_use));
        let selected = tokio::time::timeout(self.timeout, self.select_twice(conn, table, keys)).await;
        self.metrics.observe(start.elapsed(), keys.len());
        let Ok(selected) = selected else {
            *conn = None;
            on_silence(self, "no answer in time");
            return Err(Failure::Away("no answer in time".into()));
        };
        match selected {
            Ok(Selected::Rows(rows)) => Ok(rows),
            Ok(Selected::Moved) => match self.renew_from(table).await {
                Ok(()) => Err(Failure::Moved),
                Err(error) => Err(self.away(&error)),
            },
            Err(error) => {
                *conn = None;
                let lost = connect::is_lost(&error);
                let error = Error::from(error);
                let text = chain(&error);
                if lost {
                    on_silence(self, &text);
                } else {
                    self.complain(&text);
                }
                Err(match error {
                    Error::Unavailable(_) | Error::Refused { .. } => Failure::Away(text.into()),
                    _ => Failure::Other(text.into()),
                })
            }
        }
    }

    /// A connection may have been closed while nobody used it, so the statement is tried once more on a fresh one.
    async fn select_twice(
        &self,
        conn: &mut Option<Conn>,
        table: &Arc<Table>,
        keys: &[KeyBytes],
    ) -> mysql_async::Result<Selected> {
        if let Some(conn) = conn {
            match select::select(conn, table, keys).await {
                Err(error) if connect::may_pass(&error) => {}
                selected => return selected,
            }
        }
        let fresh = conn.insert(Conn::new(self.opts.clone()).await?);
        select::select(fresh, table, keys).await
    }

    /// Gets a connection, where there is none yet.
    async fn connection(&self, conn: &mut Option<Conn>) -> Result<()> {
        if conn.is_none() {
            let _waiting = Gauged::new(&self.metrics.pool_waiting);
            *conn = Some(self.pool.get_conn().await?);
        }
        Ok(())
    }

    fn away(&self, error: &Error) -> Failure {
        let text = chain(error);
        self.complain(&text);
        Failure::Away(text.into())
    }

    /// Puts a trouble into the log, if there was none just now.
    pub(super) fn complain(&self, why: &str) {
        let (now, last) = (self.millis(), self.complained_at.load(Ordering::Relaxed));
        let is_due = last == 0 || u128::from(now.saturating_sub(last)) >= COMPLAIN_EVERY.as_millis();
        let mine =
            |at: u64| self.complained_at.compare_exchange(last, at, Ordering::Relaxed, Ordering::Relaxed);
        if is_due && mine(now.max(1)).is_ok() {
            warn!(database = self.name, why, "look-ups are not answered");
        }
    }

    /// Nobody else is sent here until a look is answered.
    fn suspect(&self, why: &str) -> Failure {
        self.is_suspect.store(true, Ordering::Relaxed);
        self.complain(why);
        self.give_up();
        Failure::Away(why.into())
    }

    /// Looks again because `known` was not live any more, unless somebody else has looked meanwhile.
    pub(super) async fn renew_from(&self, known: &Arc<Table>) -> Result<()> {
        let mut watch = tokio::time::timeout(self.timeout, self.watch.lock()).await.map_err(timed_out)?;
        let seen = self.seen.load_full();
        let newer = seen.live.get(&known.live.dataset).is_none_or(|table| !Arc::ptr_eq(table, known));
        if newer { Ok(()) } else { self.renew(&mut watch, false).await }
    }

    /// Looks at the live versions, whoever holds the place to look from. It must run to its end.
    async fn renew(&self, watch: &mut Option<Conn>, check: bool) -> Result<()> {
        let (seen, began) = (self.seen.load_full(), self.millis());
        let is_well = seen.error.is_none() && !self.is_suspect.load(Ordering::Relaxed);
        // The first look has most to read.
        let is_patient = is_well || seen.live.is_empty();
        let wait = if is_patient { self.timeout } else { self.timeout.min(KNOCK_WAIT) };
        let looked = tokio::time::timeout(wait, self.look(watch, &seen, check)).await;
        let looked = looked.unwrap_or_else(|elapsed| Err(timed_out(elapsed)));
        let renewed = self.take(&seen, looked, watch, began);
        self.polled.send_replace(true);
        renewed
    }

    /// Takes note of what a look found.
    fn take(&self, seen: &Seen, looked: Result<Seen>, watch: &mut Option<Conn>, began: u64) -> Result<()> {
        match looked {
            Ok(found) => {
                self.tell(seen, &found);
                let same = |(name, table): (&String, &Arc<Table>)| {
                    seen.live.get(name).is_some_and(|before| Arc::ptr_eq(before, table))
                };
                let changed = found.live.len() != seen.live.len() || !found.live.iter().all(same);
                let same_state =
                    (&seen.error, &seen.unfit, &seen.lost) == (&found.error, &found.unfit, &found.lost);
                if changed || !same_state {
                    self.seen.store(Arc::new(found));
                }
                if let Some(cache) = &self.cache {
                    self.metrics.cache_bytes.set(i64::try_from(cache.bytes()).unwrap_or(i64::MAX));
                }
                self.looked_at.store(began, Ordering::Release);
                self.is_suspect.store(false, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                *watch = None;
                let text = chain(&error);
                if seen.error.as_ref() != Some(&text) {
                    error!(error = text, database = self.name, "cannot follow the live versions");
                }
                self.seen.store(Arc::new(Seen { error: Some(text), ..Seen::clone(seen) }));
                self.give_up();
                Err(error)
            }
        }
    }

    /// A connection may have been closed while nobody used it, so it is looked once more on a fresh one.
    async fn look(&self, watch: &mut Option<Conn>, seen: &Seen, check: bool) -> Result<Seen> {
        if let Some(conn) = watch {
            // Whatever went wrong may be of this connection alone.
            if let Ok(found) = self.look_on(conn, seen, check).await {
                return Ok(found);
            }
        }
        *watch = None;
        let fresh = watch.insert(Conn::new(self.opts.clone()).await?);
        self.look_on(fresh, seen, check).await
    }

    async fn look_on(&self, conn: &mut Conn, seen: &Seen, check: bool) -> Result<Seen> {
        let look::Found { live, lost } = look::live(conn, &seen.live, &seen.lost, &self.floors).await?;
        let unfit = if self.is_replica && (check || seen.error.is_some()) {
            look::unfit(conn).await?
        } else {
            seen.unfit.clone()
        };
        Ok(Seen { live, lost, error: None, unfit })
    }

    /// Puts into the log what changed.
    fn tell(&self, before: &Seen, after: &Seen) {
        for (name, table) in &after.live {
            if before.live.get(name).is_none_or(|before| before.swap != table.swap) {
                let (version, rows) = (table.live.version, table.live.rows);
                info!(dataset = name, version, rows, database = self.name, "reads a new live version");
            }
        }
        for (dataset, lost) in &after.lost {
            if before.lost.get(dataset) != Some(lost) {
                error!(dataset, why = lost.why, database = self.name, "the live version cannot be read");
            }
        }
        if before.error.is_some() {
            info!(database = self.name, "follows the live versions");
        }
        match (&before.unfit, &after.unfit) {
            (None, Some(why)) => warn!(database = self.name, why, "the database is not read from"),
            (Some(_), None) => info!(database = self.name, "the database is read from again"),
            _ => {}
        }
    }
}

/// Looks again and again, until the node is gone.
async fn follow(node: Weak<Node>) {
    let mut looks = 0_u64;
    while let Some(node) = node.upgrade() {
        let next = tokio::time::Instant::now() + LOOK_EVERY;
        let check = looks.is_multiple_of(LOOKS_PER_CHECK);
        let look = async { node.renew(&mut *node.watch.lock().await, check).await };
        // What went wrong is kept for whoever asks, and was logged; but after a panic there must be a next time, too.
        if AssertUnwindSafe(look).catch_unwind().await.is_err() {
            *node.watch.lock().await = None;
        }
        drop(node);
        looks += 1;
        tokio::time::sleep_until(next).await;
    }
}

/// Counts who waits for as long as it lives.
struct Waits<'a>(&'a AtomicUsize, usize);

impl<'a> Waits<'a> {
    fn new(count: &'a AtomicUsize, more: usize) -> Self {
        count.fetch_add(more, Ordering::Relaxed);
        Self(count, more)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
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
