//! One database server that is read: what is live there, and the look-ups that are under way in it.
//!
//! What is live is known from a look every few milliseconds. If an answer turns out to be of another version, or the
//! columns are gone, that is looked at again and the question is asked again. So a swap fails no request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as Lock, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use dataset::KeyBytes;
use mysql_async::{Conn, Opts, Pool};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::cache::Cache;
use super::connect::{self, Address, chain, timed_out};
use super::look::{self, Floors};
use super::queue::{Answer, Queue, Stalled, Task, Waiting};
use super::select::{self, Selected};
use crate::{Error, Live, Metrics, Result, Settings};

/// How often the live versions are looked at: twice within the time that a publication waits for its readers.
const LOOK_EVERY: Duration = Duration::from_millis(crate::FOLLOW_MS / 2);
/// Whether a server can be trusted is looked at once in so many looks.
const LOOKS_PER_CHECK: u64 = 20;
/// How long it is waited for a server that did not answer before: it must be found again within a second.
const KNOCK_WAIT: Duration = Duration::from_millis(400);

/// A live table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) live: Live,
    /// The number of the swap by which it became live.
    pub(super) swap: u64,
    /// Tells its rows from those of every other version, also of one with the same number.
    pub(super) content: u64,
    /// A key that is there: a statement that asks for it always gets a row, and each row says its version.
    pub(super) proof: mysql_async::Value,
}

/// The rows of the keys that are there, as JSON.
type Selection = std::result::Result<HashMap<KeyBytes, Bytes>, Failure>;

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
    pub(super) timeout: Duration,
    seen: ArcSwap<Seen>,
    /// When the last look began that was answered, in milliseconds since the start.
    looked_at: AtomicU64,
    start: Instant,
    /// A look-up was not answered since the last look.
    is_suspect: AtomicBool,
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
        let node = Arc::new(Self {
            name: address.host(),
            is_replica,
            pool: connect::pool(&opts, settings.connections_max),
            opts,
            timeout,
            seen: ArcSwap::from_pointee(seen),
            looked_at: AtomicU64::new(0),
            start: Instant::now(),
            is_suspect: AtomicBool::new(false),
            watch: Mutex::default(),
            floors: shared.floors.clone(),
            // A swap holds readers up for a second at most.
            queue: Lock::new(Queue::new(settings.batch_keys_max, settings.connections_max, timeout * 3 / 5)),
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

    /// Whether no other version was live 100 ms ago than the one that is known.
    pub(super) fn is_fresh(&self, seen: &Seen) -> bool {
        let since = self.millis().saturating_sub(self.looked_at.load(Ordering::Relaxed));
        since <= crate::FOLLOW_MS && seen.error.is_none()
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks keys up, together with those that others ask for at the same time.
    pub(super) async fn ask(self: &Arc<Self>, table: &Arc<Table>, keys: &[KeyBytes]) -> Vec<Answer> {
        let all = |failure: Failure| vec![Err(failure); keys.len()];
        let joined = match self.queue().join(table, keys, Instant::now()) {
            Ok(joined) => joined,
            Err(Stalled) => return all(self.suspect("it does not answer")),
        };
        if joined.start {
            start_taking(self);
        }
        let waiting = Waits::new(&self.waiting, keys.len());
        let answers = joined.answers.await;
        drop(waiting);
        answers.unwrap_or_else(|_| all(Failure::Away("the look-up was given up".into())))
    }

    /// Looks many keys up with one statement.
    pub(super) async fn ask_all(self: &Arc<Self>, table: &Arc<Table>, keys: Vec<KeyBytes>) -> Selection {
        let (node, table) = (self.clone(), table.clone());
        let task = async move { node.select(&mut None, &table, &keys).await };
        self.runtime.spawn(task).await.unwrap_or_else(|error| Err(Failure::Other(error.to_string().into())))
    }

    /// Reads keys from the live table, if it is still the expected version. The connection is kept for the next time.
    async fn select(&self, conn: &mut Option<Conn>, table: &Arc<Table>, keys: &[KeyBytes]) -> Selection {
        let start = Instant::now();
        let selected = match tokio::time::timeout(self.timeout, self.select_twice(conn, table, keys)).await {
            Ok(selected) => selected,
            Err(_) if conn.is_none() => return Err(Failure::Away("no connection was free in time".into())),
            Err(_) => {
                *conn = None;
                return Err(self.suspect("no answer in time"));
            }
        };
        self.metrics.observe(start.elapsed(), keys.len());
        match selected {
            Ok(Selected::Rows(rows)) => Ok(rows),
            Ok(Selected::Moved) => match self.renew_from(table).await {
                Ok(()) => Err(Failure::Moved),
                Err(error) => Err(Failure::Away(chain(&error).into())),
            },
            Err(error) => {
                *conn = None;
                let lost = connect::is_lost(&error);
                match Error::from(error) {
                    error @ Error::Unavailable(_) if lost => Err(self.suspect(&chain(&error))),
                    error @ Error::Unavailable(_) => Err(Failure::Away(chain(&error).into())),
                    error => Err(Failure::Other(chain(&error).into())),
                }
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
        let first = match self.connection(conn).await {
            Ok(conn) => select::select(conn, table, keys).await,
            Err(error) => Err(error),
        };
        match first {
            Err(error) if connect::may_pass(&error) => {
                let fresh = conn.insert(Conn::new(self.opts.clone()).await?);
                select::select(fresh, table, keys).await
            }
            first => first,
        }
    }

    async fn connection<'a>(&self, conn: &'a mut Option<Conn>) -> mysql_async::Result<&'a mut Conn> {
        if conn.is_none() {
            self.metrics.pool_waiting.inc();
            let got = self.pool.get_conn().await;
            self.metrics.pool_waiting.dec();
            *conn = Some(got?);
        }
        conn.as_mut().ok_or_else(|| mysql_async::Error::Other("no connection".into()))
    }

    /// Nobody else is sent here until a look is answered.
    fn suspect(&self, why: &str) -> Failure {
        if !self.is_suspect.swap(true, Ordering::Relaxed) {
            warn!(database = self.name, why, "look-ups are not answered");
        }
        self.give_up();
        Failure::Away(why.into())
    }

    /// Looks again because `known` was not live any more, unless somebody else has looked meanwhile.
    pub(super) async fn renew_from(&self, known: &Arc<Table>) -> Result<()> {
        let look = async {
            let mut watch = self.watch.lock().await;
            let seen = self.seen.load();
            let newer = seen.live.get(&known.live.dataset).is_none_or(|table| !Arc::ptr_eq(table, known));
            if newer { Ok(()) } else { self.renew(&mut watch, false).await }
        };
        tokio::time::timeout(self.timeout, look).await.map_err(timed_out)?
    }

    /// Looks at the live versions, whoever holds the place to look from.
    async fn renew(&self, watch: &mut Option<Conn>, check: bool) -> Result<()> {
        let (seen, began) = (self.seen.load_full(), self.millis());
        let well = seen.error.is_none() && !self.is_suspect.load(Ordering::Relaxed);
        let wait = if well { self.timeout } else { self.timeout.min(KNOCK_WAIT) };
        let looked = tokio::time::timeout(wait, self.look(watch, &seen, check)).await;
        let looked = looked.unwrap_or_else(|elapsed| Err(timed_out(elapsed)));
        match looked {
            Ok(found) => {
                self.tell(&seen, &found);
                let same = |(name, table): (&String, &Arc<Table>)| {
                    seen.live.get(name).is_some_and(|before| Arc::ptr_eq(before, table))
                };
                let changed = found.live.len() != seen.live.len() || !found.live.iter().all(same);
                if changed || seen.error != found.error || seen.unfit != found.unfit {
                    self.seen.store(Arc::new(found));
                }
                if let Some(cache) = &self.cache {
                    self.metrics.cache_bytes.set(i64::try_from(cache.bytes()).unwrap_or(i64::MAX));
                }
                self.looked_at.store(began, Ordering::Relaxed);
                self.is_suspect.store(false, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                *watch = None;
                let text = chain(&error);
                if seen.error.is_none() {
                    tracing::error!(error = text, database = self.name, "cannot follow the live versions");
                }
                self.seen.store(Arc::new(Seen { error: Some(text), ..Seen::clone(&seen) }));
                self.give_up();
                Err(error)
            }
        }
    }

    /// A connection may have been closed while nobody used it, so it is looked once more on a fresh one.
    async fn look(&self, watch: &mut Option<Conn>, seen: &Seen, check: bool) -> Result<Seen> {
        if let Some(conn) = watch {
            match self.look_on(conn, seen, check).await {
                Err(Error::Unavailable(_)) => {}
                looked => return looked,
            }
        }
        *watch = None;
        let fresh = watch.insert(Conn::new(self.opts.clone()).await?);
        self.look_on(fresh, seen, check).await
    }

    async fn look_on(&self, conn: &mut Conn, seen: &Seen, check: bool) -> Result<Seen> {
        let live = look::live(conn, &seen.live, &self.floors).await?;
        let unfit = if self.is_replica && (check || seen.error.is_some()) {
            look::unfit(conn).await?
        } else {
            seen.unfit.clone()
        };
        Ok(Seen { live, error: None, unfit })
    }

    /// Puts into the log what changed.
    fn tell(&self, before: &Seen, after: &Seen) {
        for (name, table) in &after.live {
            if before.live.get(name).is_none_or(|before| before.swap != table.swap) {
                let (version, rows) = (table.live.version, table.live.rows);
                info!(dataset = name, version, rows, database = self.name, "reads a new live version");
            }
        }
        match (&before.unfit, &after.unfit) {
            (None, Some(why)) => warn!(database = self.name, why, "the database is not read from"),
            (Some(_), None) => info!(database = self.name, "the database is read from again"),
            _ => {}
        }
    }

    /// Gives each who waits for a key of a batch its row.
    fn answer(&self, table: &Table, mut found: Selection, waiting: Waiting) {
        for (key, groups) in waiting {
            let answer = match &mut found {
                Ok(rows) => Ok(rows.remove(&key)),
                Err(failure) => Err(failure.clone()),
            };
            if let (Some(cache), Ok(row)) = (&self.cache, &answer) {
                cache.insert(table.content, key, row.clone());
            }
            for (group, place) in groups {
                group.answer(place, answer.clone());
            }
        }
    }

    /// Tells all who wait that there is no sense in it: nobody waits for a server that does not answer looks either.
    fn give_up(&self) {
        let given_up = self.queue().give_up();
        for (group, place) in given_up.into_iter().flatten().flat_map(|(_, groups)| groups) {
            group.answer(place, Err(Failure::Away("the database does not answer".into())));
        }
    }
}

/// Starts to take batches. A request that is given up must not leave a connection in the middle of an answer.
fn start_taking(node: &Arc<Node>) {
    node.runtime.spawn(take(node.clone()));
}

/// Takes batches until there are no more.
async fn take(node: Arc<Node>) {
    let mut conn = None;
    node.metrics.pool_in_use.inc();
    loop {
        let task = node.queue().take(Instant::now());
        let Some(Task { number, table, keys, start }) = task else { break };
        if start {
            start_taking(&node);
        }
        let found = node.select(&mut conn, &table, &keys).await;
        let waiting = node.queue().land(number, found.is_ok(), Instant::now());
        node.answer(&table, found, waiting);
    }
    node.metrics.pool_in_use.dec();
}

/// Looks again and again, until the node is gone.
async fn follow(node: Weak<Node>) {
    let mut looks = 0_u64;
    while let Some(node) = node.upgrade() {
        // What went wrong is kept for whoever asks, and was logged.
        let _ = node.renew(&mut *node.watch.lock().await, looks.is_multiple_of(LOOKS_PER_CHECK)).await;
        drop(node);
        looks += 1;
        tokio::time::sleep(LOOK_EVERY).await;
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
