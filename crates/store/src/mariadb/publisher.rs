//! Publishing in MariaDB: a named lock, a staging table, one `RENAME TABLE`.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataset::Dataset;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tracing::warn;

use super::connect::{in_time, in_time_of, is_lost, timed_out};
use super::reservation::{self, Reservation, Watched, lock_dataset};
use super::session::{ConnectionId, Session, count, kill};
use super::staging::Staging;
use super::{Mariadb, ledger, lock, space, table};
use crate::error::chain;
use crate::ledger::{Found, Ledger, Reserved};
use crate::publisher::Ending;
use crate::version::{Entry, NewVersion, State};
use crate::{Error, FOLLOW_MS, Manners, Published, Result};

/// Long enough for the server to notice that a connection was closed whose load has just been answered.
const LOCK_WAIT_SECONDS: u32 = 1;
/// The lock of a publisher whose connection broke during its swap is free as soon as the server notices that.
const LOCK_AGAIN_SECONDS: u32 = 5;
/// A swap that was sent has ended, one way or the other, when this is over: the server bounds it to a second.
const RENAME_TIMEOUT: Duration = Duration::from_secs(30);
/// Counting a billion rows takes a few minutes.
const COUNT_TIMEOUT: Duration = Duration::from_mins(10);
/// Dropping a table of a terabyte takes seconds; longer than this, somebody is in the way.
pub(super) const DROP_TIMEOUT: Duration = Duration::from_mins(1);
/// What is left of a version that is discarded while the database hangs stays there for the next publisher.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(10);

/// Pauses between attempts to swap grow from the first to the last, so that readers behind a slow one hardly notice them.
/// Beginning with 100 ms look-ups kept 0.87 and 0.90 of their throughput in the first six seconds.
const SWAP_PAUSE_MIN: Duration = Duration::from_millis(200);
const SWAP_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often it is seen during a pause or a count whether the version is still wanted.
const WANTED_INTERVAL: Duration = Duration::from_millis(100);

/// Holds the lock of a dataset, on the session on which it swaps.
#[derive(Debug)]
pub struct Publisher {
    pub(super) store: Arc<Mariadb>,
    pub(super) dataset: Arc<Dataset>,
    session: Session,
    pub(super) ledger: Ledger,
    live: Option<u32>,
    reserved: Option<Reserved>,
    pub(super) watched: Watched,
}

/// How an attempt to swap ended.
enum Attempt {
    Swapped,
    /// A reader was in the way.
    Blocked,
}

impl Publisher {
    pub(super) async fn lock(store: Arc<Mariadb>, dataset: Arc<Dataset>) -> Result<Self> {
        let session = Session::open(&store).await?;
        let mut conn = session.begin().await?;
        let ready = in_time(async {
            require_mariadb(conn.conn()).await?;
            ledger::create(conn.conn()).await
        });
        let ready = ready.await;
        conn.done(ready)?;
        lock_dataset(&session, &dataset.name, None, LOCK_WAIT_SECONDS).await?;
        let watched = Watched::start(&store);
        Self::recover(store, dataset, session, None, watched).await
    }

    /// Puts the ledger right and drops tables that no version needs any more. The session holds the lock.
    pub(super) async fn recover(
        store: Arc<Mariadb>,
        dataset: Arc<Dataset>,
        session: Session,
        reserved: Option<Reserved>,
        watched: Watched,
    ) -> Result<Self> {
        let (ledger, live) = (Ledger::default(), None);
        let mut publisher = Self { store, dataset, session, ledger, live, reserved, watched };
        let orphans = publisher.reload().await?;
        publisher.refuse_what_is_in_the_way()?;
        publisher.rebuild().await?;
        for version in orphans {
            if let Err(error) = publisher.drop_orphan(version).await {
                publisher.leave_behind(version, &error);
            }
        }
        publisher.write_ledger().await?;
        Ok(publisher)
    }

    /// Reads the ledger and puts it right by the tables that are there. Returns those that no version needs any more.
    async fn reload(&mut self) -> Result<Vec<u32>> {
        let mut conn = self.session.begin().await?;
        let read = in_time(read(conn.conn(), &self.dataset.name, self.reserved())).await;
        let (entries, found) = conn.done(read)?;
        self.ledger = Ledger::new(entries);
        self.ledger.reconcile(&found);
        self.live = found.live;
        let orphans = found.present.into_iter().filter(|version| self.ledger.is_orphan(*version));
        Ok(orphans.collect())
    }

    /// A swap needs the name that the live version will have; what has it would fail every load in its last step.
    fn refuse_what_is_in_the_way(&self) -> Result<()> {
        let Some(live) = self.live.filter(|live| self.ledger.is_taken(*live)) else { return Ok(()) };
        Err(Error::Setup(format!(
            "the database has a table `{}`, whose name the live version {live} of `{}` needs when it is replaced: \
             rename that table or drop it",
            table::name(&self.dataset.name, live),
            self.dataset.name,
        )))
    }

    /// Enters the live version again where its entry is gone.
    async fn rebuild(&mut self) -> Result<()> {
        let Some(live) = self.live.filter(|live| self.ledger.get(*live).is_none()) else { return Ok(()) };
        let name = &self.dataset.name;
        let mut conn = self.session.begin().await?;
        let seen = in_time_of(COUNT_TIMEOUT, async {
            let fits = table::has_columns(conn.conn(), name, &self.dataset.schema).await?;
            Ok::<_, Error>((fits, table::count_live(conn.conn(), name, live).await?))
        });
        let seen = seen.await;
        let (fits, rows) = conn.done(seen)?;
        if !fits {
            return Err(Error::Setup(format!(
                "the ledger has no entry of the live table `{name}` (version {live}), and the table has not the columns of \
                 the definition: restore tableswap_versions, or give the dataset its former definition"
            )));
        }
        warn!(
            dataset = name,
            version = live,
            rows,
            "the ledger had no entry of the live version: rebuilt it"
        );
        self.ledger.rebuild(live, &self.dataset, rows);
        Ok(())
    }

    /// An updater that vanished with its machine can have left statements behind that still wait for its rows.
    async fn drop_orphan(&mut self, version: u32) -> Result<()> {
        let mut conn = self.session.begin().await?;
        let dropped = in_time_of(DROP_TIMEOUT, async {
            let loading = table::loading(conn.conn(), &self.dataset.name, version).await?;
            for id in loading {
                // The list is of this moment, so the numbers are those of this server.
                let _ = conn.conn().query_drop(format!("KILL CONNECTION {id}")).await;
            }
            table::drop(conn.conn(), &self.dataset.name, version).await
        });
        let dropped = dropped.await;
        conn.done(dropped)
    }

    /// Says that rows of a version that nobody needs could not be removed: the next publisher tries again.
    fn leave_behind(&self, version: u32, error: &Error) {
        self.store.metrics.cleanup_failures.inc();
        let (dataset, error) = (&self.dataset.name, chain(error));
        warn!(dataset, version, error, "cannot remove the table of a discarded version");
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(crate) fn reserved(&self) -> Option<u32> {
        self.reserved.as_ref().map(|reserved| reserved.version)
    }

    /// How its load gives way to readers.
    pub fn manners(&self) -> &Manners {
        &self.watched.manners
    }

    pub(super) fn is_lock_lost(&self) -> bool {
        self.session.is_broken()
    }

    pub(crate) async fn is_live_whole(&self, is_wanted: impl Fn() -> bool) -> Result<bool> {
        let Some(live) = self.ledger.live() else { return Ok(false) };
        let (version, rows) = (live.version, live.rows);
        let mut conn = self.session.begin().await?;
        let count = async {
            let counted = table::count_live(conn.conn(), &self.dataset.name, version);
            let counted = in_time_of(COUNT_TIMEOUT, counted).await;
            conn.done(counted)
        };
        let counted = tokio::select! {
            counted = count => counted?,
            () = until_unwanted(is_wanted) => {
                // The server would go on counting, and keep the lock for as long.
                let mut other = self.store.connect().await?;
                in_time(kill(&mut other, &[self.session.id()])).await?;
                return Err(Error::Unwanted);
            }
        };
        if counted != rows {
            warn!(
                dataset = self.dataset.name,
                version, rows, counted, "the live version does not have its rows"
            );
        }
        Ok(counted == rows)
    }

    pub(crate) async fn stage(mut self, new: NewVersion) -> Result<Staging> {
        let (schema, keep_versions) = (new.schema.clone(), new.keep_versions);
        let mut conn = self.session.begin().await?;
        let bytes_max = self.store.settings.database_bytes_max;
        let checked = space::check(conn.conn(), &self.dataset.name, self.ledger.live(), new.rows, bytes_max);
        let checked = in_time(checked).await;
        if let Err(error) = conn.done(checked) {
            self.end_reserved(&error).await;
            return Err(error);
        }
        let version = self.ledger.stage(self.reserved.as_ref(), new)?;
        self.write_ledger().await?;
        let mut conn = self.session.begin().await?;
        let made = in_time(conn.conn().query_drop(table::create(&self.dataset.name, version, &schema))).await;
        match conn.done(made) {
            Ok(()) => Ok(Staging::new(self, version, keep_versions, schema)),
            Err(error) => {
                self.discard(version, &error.to_string(), &[]).await;
                Err(error)
            }
        }
    }

    /// Remembers why a load failed before it staged anything.
    async fn end_reserved(&self, error: &Error) {
        let Some(reserved) = &self.reserved else { return };
        let version = reserved.version;
        let reason = error.to_string();
        let ended =
            reservation::end(&self.session, &self.dataset.name, reserved, Ending::Failed(&reason)).await;
        if let Err(error) = ended {
            warn!(dataset = self.dataset.name, version, error = chain(&error), "cannot enter a failed load");
        }
    }

    pub(crate) async fn end(self, ending: Ending<'_>) -> Result<()> {
        let Self { store, dataset, session, reserved, watched, .. } = self;
        if let Some(reserved) = reserved {
            return Reservation::with(store, dataset, reserved, session, watched).end(ending).await;
        }
        session.close(store.timeout).await;
        Ok(())
    }

    pub(crate) async fn activate(mut self, version: u32) -> Result<Published> {
        let before = self.live;
        if Some(version) != before {
            let mut conn = self.session.begin().await?;
            let readable = in_time(table::is_readable(conn.conn(), &self.dataset.name, version)).await;
            if !conn.done(readable)? || !self.ledger.stays(version) {
                let dataset = self.dataset.name.clone();
                self.release().await;
                return Err(Error::NoSuchVersion { dataset, version });
            }
            self.swap(version, || true).await?;
        }
        tokio::time::sleep(Duration::from_millis(FOLLOW_MS)).await;
        let published = self.published(version, before);
        self.release().await;
        published
    }

    /// Lets others publish, before anybody is told that this is done.
    pub(super) async fn release(self) {
        self.session.close(self.store.timeout).await;
    }

    /// The swap, tried again while readers are in its way. Returns which version was live before.
    pub(super) async fn swap(&mut self, version: u32, is_wanted: impl Fn() -> bool) -> Result<Option<u32>> {
        let (start, before) = (Instant::now(), self.live);
        self.ledger.announce(version);
        self.write_ledger().await?;
        let mut pause = SWAP_PAUSE_MIN;
        while let Attempt::Blocked = self.try_swap(version).await? {
            if start.elapsed() > self.store.swap_wait {
                return Err(Error::SwapTimeout(
                    self.store.swap_wait.as_millis().try_into().unwrap_or(u64::MAX),
                ));
            }
            // Readers that queued behind the attempt get their turn; others do not try in step with us.
            let pause_now = pause.mul_f64(rand::random_range(0.5..1.5));
            if tokio::time::timeout(pause_now, until_unwanted(&is_wanted)).await.is_ok() {
                return Err(Error::Unwanted);
            }
            pause = (pause * 2).min(SWAP_PAUSE_MAX);
        }
        self.store.metrics.swap_seconds.observe(start.elapsed().as_secs_f64());
        Ok(before)
    }

    /// One attempt. Whatever the server answers, the live table says what happened.
    async fn try_swap(&mut self, version: u32) -> Result<Attempt> {
        if self.live == Some(version) {
            // Afterwards nobody could tell whose swap that was.
            return Err(Error::lock_lost(&self.dataset.name, "another version of this number is live"));
        }
        let rename = table::swap(&self.dataset.name, version, self.live);
        let mut conn = self.session.begin().await?;
        let renamed = tokio::time::timeout(RENAME_TIMEOUT, conn.conn().query_drop(rename)).await;
        let renamed = renamed.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        match renamed {
            Ok(()) => drop(conn.done(Ok(()))),
            Err(error) if is_lost(&error) => {
                // It stays broken.
                drop(conn);
                return self.read_back(version, error.into()).await;
            }
            Err(error) => {
                let live = in_time(table::live_version(conn.conn(), &self.dataset.name)).await;
                let live = match conn.done(live) {
                    Err(error) => return self.read_back(version, error).await,
                    Ok(live) => live,
                };
                if live != Some(version) {
                    return if table::is_blocked(&error) { Ok(Attempt::Blocked) } else { Err(error.into()) };
                }
            }
        }
        self.live = Some(version);
        self.ledger.swapped(version);
        self.enter_swap(version).await;
        Ok(Attempt::Swapped)
    }

    /// Enters a swap that is done. What cannot be entered now does not make it undone.
    async fn enter_swap(&mut self, version: u32) {
        if let Err(error) = self.write_ledger().await {
            let dataset = &self.dataset.name;
            warn!(dataset, version, %error, "the version is live, its entry follows with the next load");
        }
    }

    /// The connection broke during the swap: under the lock, the ledger and the live table say whether it happened, and
    /// whatever another publisher did since.
    async fn read_back(&mut self, version: u32, error: Error) -> Result<Attempt> {
        let (start, swap) = (Instant::now(), self.ledger.get(version).map_or(0, |entry| entry.swap));
        loop {
            match self.lock_again().await {
                Ok(()) if self.ledger.was_swapped(version, swap) => {
                    self.enter_swap(version).await;
                    return Ok(Attempt::Swapped);
                }
                Ok(()) => return Err(error),
                Err(away) if start.elapsed() > self.store.swap_wait => {
                    return Err(Error::OutcomeUnknown { version, source: away.into() });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// Takes the lock on a new session, and reads what others may have changed meanwhile.
    async fn lock_again(&mut self) -> Result<()> {
        let session = Session::open(&self.store).await?;
        let mut conn = session.begin().await?;
        let killed = in_time(kill(conn.conn(), &[self.session.id()])).await;
        conn.done(killed)?;
        lock_dataset(&session, &self.dataset.name, self.reserved(), LOCK_AGAIN_SECONDS).await?;
        self.session = session;
        self.reload().await.map(drop)
    }

    pub(super) fn published(&self, version: u32, before: Option<u32>) -> Result<Published> {
        let live = self.ledger.get(version).cloned();
        let live = live.ok_or_else(|| Error::corrupt("the ledger has no entry of the live version"))?;
        Ok(Published { live, before })
    }

    pub(super) async fn write_ledger(&mut self) -> Result<()> {
        let changed = self.ledger.take_changed();
        if changed.is_empty() {
            return Ok(());
        }
        let mut conn = self.session.begin().await?;
        let written = in_time(ledger::write(conn.conn(), &self.dataset.name, changed)).await;
        conn.done(written)
    }

    /// Whether the session still has the lock; what is done without it is not to be trusted.
    pub(super) async fn check_lock(&self) -> Result<()> {
        let name = &self.dataset.name;
        let lost = |_| Error::lock_lost(name, "its connection to the database broke");
        let mut conn = self.session.begin().await.map_err(lost)?;
        let held = in_time(lock::is_held(conn.conn(), name)).await;
        match conn.done(held) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::lock_lost(name, "its session does not hold it any more")),
            Err(error) => Err(lost(error)),
        }
    }

    /// How many of these connections the server still has.
    pub(super) async fn count_connections(&self, connections: &[ConnectionId]) -> Result<usize> {
        let mut conn = self.session.begin().await?;
        let counted = in_time(count(conn.conn(), connections)).await;
        conn.done(counted)
    }

    /// Enters that a version failed and drops its table, which nothing must hold any more: what still loads it is
    /// ended. What cannot be done now is done by the next publisher.
    pub(super) async fn discard(&mut self, version: u32, reason: &str, connections: &[ConnectionId]) {
        let discarded = self.try_to_discard(version, reason, connections);
        let discarded = tokio::time::timeout(DISCARD_TIMEOUT, discarded).await;
        if let Err(error) = discarded.unwrap_or_else(|elapsed| Err(timed_out(elapsed))) {
            self.leave_behind(version, &error);
        }
    }

    /// Only what the ledger, read under the lock, does not call published may be discarded.
    async fn try_to_discard(
        &mut self,
        version: u32,
        reason: &str,
        connections: &[ConnectionId],
    ) -> Result<()> {
        if self.session.is_broken() {
            self.lock_again().await?;
        }
        if !self.ledger.is_discardable(version) || self.live == Some(version) {
            return self.write_ledger().await;
        }
        self.ledger.failed(version, reason);
        let written = self.write_ledger().await;
        let mut conn = self.session.begin().await?;
        let dropped = in_time_of(DROP_TIMEOUT, async {
            kill(conn.conn(), connections).await?;
            table::drop(conn.conn(), &self.dataset.name, version).await
        });
        let dropped = dropped.await;
        written.and(conn.done(dropped))
    }

    /// Drops versions that no longer stay, one at a time. Each is entered as dropped first, so that nobody goes back to a
    /// version whose table is gone; a table that stays is an orphan, which the next publisher removes.
    pub(super) async fn prune(&mut self, keep_versions: u32) -> Result<()> {
        for version in self.ledger.expired(keep_versions) {
            self.ledger.dropped(version);
            self.write_ledger().await?;
            let mut conn = self.session.begin().await?;
            let dropped = table::drop(conn.conn(), &self.dataset.name, version);
            let dropped = in_time_of(DROP_TIMEOUT, dropped).await;
            conn.done(dropped)?;
        }
        Ok(())
    }
}

/// Waits until a load is not wanted any more.
async fn until_unwanted(is_wanted: impl Fn() -> bool) {
    while is_wanted() {
        tokio::time::sleep(WANTED_INTERVAL).await;
    }
}

/// The entries of a dataset, and what is really there.
async fn read(conn: &mut Conn, dataset: &str, own: Option<u32>) -> Result<(Vec<Entry>, Found)> {
    let live = table::live_version(conn, dataset).await?;
    let entries = ledger::read(conn, dataset).await?;
    let named = table::named(conn, dataset).await?;
    let mut receiving: BTreeSet<u32> = own.into_iter().collect();
    for entry in entries.iter().filter(|entry| entry.state == State::Loading) {
        if lock::is_alive(conn, dataset, entry.version).await? {
            receiving.insert(entry.version);
        }
    }
    Ok((entries, Found { live, present: named.ours, taken: named.taken, receiving }))
}

/// Refuses a server whose `RENAME TABLE` is not atomic in a crash, or that is no MariaDB.
pub(super) async fn require_mariadb(conn: &mut Conn) -> Result<()> {
    let version: Option<String> = conn.query_first("SELECT VERSION()").await?;
    let version = version.unwrap_or_default();
    let mut numbers = version.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let new_enough = (numbers.next(), numbers.next()) >= (Some(10), Some(6));
    if version.contains("MariaDB") && new_enough {
        return Ok(());
    }
    Err(Error::Setup(format!("the database is {version}: MariaDB 10.6 or later is needed")))
}
