//! Publishing in MariaDB: a named lock, a staging table, one `RENAME TABLE`.

mod swap;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dataset::Dataset;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tracing::warn;

use super::connect::{in_time, in_time_of, timed_out};
use super::reservation::{self, Reservation, Watched, lock_dataset};
use super::session::{ConnectionId, Session, count, kill};
use super::staging::Staging;
use super::table::TableIdentity;
use super::watermarks::{LiveSwap, SET_BACK};
use super::{Mariadb, ledger, lock, space, store_table, table};
use crate::error::chain;
use crate::ledger::{Found, Ledger, Reserved};
use crate::publisher::Ending;
use crate::retry::until_unwanted;
use crate::version::{Entry, NewVersion, State};
use crate::{Actor, Error, FOLLOW_MS, Manners, Published, Result};

/// Long enough for the server to notice that a connection was closed whose load has just been answered.
const LOCK_WAIT_SECONDS: u32 = 1;
/// Counting a billion rows takes a few minutes.
const COUNT_TIMEOUT: Duration = Duration::from_mins(10);
/// Dropping a table of a terabyte takes seconds; longer than this, somebody is in the way.
pub(super) const DROP_TIMEOUT: Duration = Duration::from_mins(1);
/// What is left of a version that is discarded while the database hangs stays there for the next publisher.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(10);

/// Holds the lock of a dataset, on the session on which it swaps.
#[derive(Debug)]
pub struct Publisher {
    pub(super) store: Arc<Mariadb>,
    pub(super) dataset: Arc<Dataset>,
    session: Session,
    pub(super) ledger: Ledger,
    live: Option<TableIdentity>,
    reserved: Option<Reserved>,
    pub(super) watched: Watched,
}

impl Publisher {
    pub(super) async fn lock(store: Arc<Mariadb>, dataset: Arc<Dataset>) -> Result<Self> {
        let session = Session::open(&store).await?;
        let mut conn = session.begin().await?;
        let ready = in_time(async {
            require_mariadb(conn.conn()).await?;
            store.create_ledger(conn.conn()).await
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
        publisher.upgrade_tables().await?;
        let orphans = publisher.reload().await?;
        publisher.refuse_what_is_in_the_way()?;
        publisher.rebuild().await?;
        for version in orphans {
            if let Err(error) = publisher.drop_orphan(version).await {
                publisher.leave_behind(version, &error);
            }
        }
        publisher.write_ledger().await?;
        publisher.check_history().await?;
        Ok(publisher)
    }

    /// Gives tables of an earlier layout their content id.
    async fn upgrade_tables(&self) -> Result<()> {
        let name = &self.dataset.name;
        let mut conn = self.session.begin().await?;
        let upgraded = in_time_of(DROP_TIMEOUT, async {
            let entries = Ledger::new(ledger::read(conn.conn(), name).await?);
            let content_of = |version| entries.get(version).map_or_else(rand::random, Entry::content_id);
            for old in table::of_earlier_layout(conn.conn(), name).await? {
                table::add_content(conn.conn(), &old.name, content_of(old.version)).await?;
            }
            Ok::<_, Error>(())
        });
        let upgraded = upgraded.await;
        conn.done(upgraded)
    }

    /// Refuses a database that holds an earlier swap than this updater has seen: its readers would refuse it, too.
    async fn check_history(&mut self) -> Result<()> {
        let Some(live) = self.ledger.live() else { return Ok(()) };
        let live = LiveSwap { swap: live.swap, version: live.version, content: live.content_id() };
        let mut conn = self.session.begin().await?;
        let store = in_time(store_table::read(conn.conn())).await;
        let store = conn.done(store)?.ok_or_else(|| Error::corrupt("tableswap_store has no row"))?;
        if self.store.watermarks.note(&store, &self.dataset.name, live) {
            return Ok(());
        }
        Err(Error::InTheWay(SET_BACK.into()))
    }

    /// Reads the ledger and puts it right by the tables that are there. Returns those that no version needs any more.
    async fn reload(&mut self) -> Result<Vec<u32>> {
        let mut conn = self.session.begin().await?;
        let read = in_time(async {
            let last_swap = store_table::last_swap(conn.conn()).await?;
            Ok::<_, Error>((last_swap, read(conn.conn(), &self.dataset.name, self.reserved()).await?))
        });
        let read = read.await;
        let (last_swap, (entries, found, live)) = conn.done(read)?;
        self.ledger = Ledger::new(entries);
        self.ledger.see_last_swap(last_swap);
        self.ledger.reconcile(&found);
        self.live = live;
        let orphans = found.present.into_iter().filter(|version| self.ledger.is_orphan(*version));
        Ok(orphans.collect())
    }

    /// A swap needs the name that the live version will have; what has it would fail every load in its last step.
    fn refuse_what_is_in_the_way(&self) -> Result<()> {
        let live = self.live.map(|live| live.version).filter(|live| self.ledger.is_taken(*live));
        let Some(live) = live else { return Ok(()) };
        Err(Error::InTheWay(format!(
            "the database has a table `{}`, whose name the live version {live} of `{}` needs when it is replaced: \
             rename that table or drop it",
            table::name(&self.dataset.name, live),
            self.dataset.name,
        )))
    }

    /// Enters the live version again where its entry is gone, or describes other content.
    async fn rebuild(&mut self) -> Result<()> {
        let is_entered =
            |live: &TableIdentity| self.ledger.get(live.version).is_some_and(|entry| live.is_of(entry));
        let Some(TableIdentity { version: live, content: Some(content) }) =
            self.live.filter(|live| !is_entered(live))
        else {
            return Ok(());
        };
        let name = &self.dataset.name;
        let mut conn = self.session.begin().await?;
        let seen = in_time_of(COUNT_TIMEOUT, async {
            let fits = table::has_columns(conn.conn(), name, &self.dataset.schema).await?;
            Ok::<_, Error>((fits, table::count_live(conn.conn(), name, live, content).await?))
        });
        let seen = seen.await;
        let (fits, rows) = conn.done(seen)?;
        if !fits {
            return Err(Error::InTheWay(format!(
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
        self.ledger.rebuild(live, &self.dataset, rows, content);
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

    /// Another connection to the server on which the lock is held.
    pub(super) async fn connect(&self) -> Result<Conn> {
        self.store.connect_to(self.session.server()).await
    }

    pub(super) fn is_lock_lost(&self) -> bool {
        self.session.is_broken()
    }

    pub(crate) async fn is_live_whole(&self, is_wanted: impl Fn() -> bool) -> Result<bool> {
        let Some(live) = self.ledger.live() else { return Ok(false) };
        let (version, rows, content) = (live.version, live.rows, live.content_id());
        let mut conn = self.session.begin().await?;
        let count = async {
            let counted = table::count_live(conn.conn(), &self.dataset.name, version, content);
            let counted = in_time_of(COUNT_TIMEOUT, counted).await;
            conn.done(counted)
        };
        let counted = tokio::select! {
            counted = count => counted?,
            () = until_unwanted(is_wanted) => {
                self.stop_count().await;
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

    /// Ends the session: the server would go on counting, and keep the lock for as long. If that fails it is logged, because
    /// the caller has to know that the count is not wanted.
    async fn stop_count(&self) {
        let killed = async {
            let mut other = self.store.connect().await?;
            in_time(kill(&mut other, &[self.session.id()])).await
        };
        if let Err(error) = killed.await {
            let (dataset, error) = (&self.dataset.name, chain(&error));
            warn!(dataset, error, "cannot stop a count, which holds the lock until it ends");
        }
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
        let content = self.ledger.get(version).map_or(0, Entry::content_id);
        let create = table::create(&self.dataset.name, version, content, &schema);
        let made = in_time(conn.conn().query_drop(create)).await;
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

    pub(crate) fn activate_for(&mut self, actor: Actor) {
        self.ledger.activate_for(actor);
    }

    pub(crate) async fn activate(mut self, version: u32) -> Result<Published> {
        let before = self.live_version();
        if Some(version) != before {
            if !self.is_readable(version).await? || !self.ledger.stays(version) {
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

    fn live_version(&self) -> Option<u32> {
        self.live.map(|live| live.version)
    }

    /// Whether a version that is not live has its table, with the content of its entry.
    async fn is_readable(&self, version: u32) -> Result<bool> {
        let Some(entry) = self.ledger.get(version) else { return Ok(false) };
        let mut conn = self.session.begin().await?;
        let readable = in_time(table::is_readable(conn.conn(), &self.dataset.name, entry)).await;
        conn.done(readable)
    }

    /// Lets others publish, before anybody is told that this is done.
    pub(super) async fn release(self) {
        self.session.close(self.store.timeout).await;
    }

    pub(super) fn published(&self, version: u32, before: Option<u32>) -> Result<Published> {
        let live = self.ledger.get(version).cloned();
        let live = live.ok_or_else(|| Error::internal("the ledger forgot the live version"))?;
        Ok(Published { live, before })
    }

    pub(super) async fn write_ledger(&mut self) -> Result<()> {
        let changed = self.ledger.take_changed();
        if changed.is_empty() {
            return Ok(());
        }
        let mut conn = self.session.begin().await?;
        let written = in_time(async {
            store_table::write_last_swap(conn.conn(), self.ledger.last_swap()).await?;
            ledger::write(conn.conn(), &self.dataset.name, changed).await
        });
        let written = written.await;
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
        if !self.ledger.is_discardable(version) || self.live_version() == Some(version) {
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
        let mut conn = self.session.begin().await?;
        let removed = in_time(ledger::remove_old(conn.conn(), &self.dataset.name)).await;
        conn.done(removed)
    }
}

/// The entries of a dataset, what is really there, and what the live table says of itself.
async fn read(
    conn: &mut Conn,
    dataset: &str,
    own: Option<u32>,
) -> Result<(Vec<Entry>, Found, Option<TableIdentity>)> {
    let live = table::live(conn, dataset).await?;
    let mut entries = ledger::read(conn, dataset).await?;
    let named = table::named(conn, dataset).await?;
    let mut receiving: BTreeSet<u32> = own.into_iter().collect();
    let loading: Vec<_> = entries.extract_if(.., |entry| entry.state == State::Loading).collect();
    for entry in loading {
        if lock::is_alive(conn, dataset, entry.version).await? {
            receiving.insert(entry.version);
            entries.push(entry);
            continue;
        }
        // A load that ends changes its entry before it gives its lock back. So it crashed only if the entry is still the
        // same; by now the number may also be that of another load.
        let current = ledger::read_one(conn, dataset, entry.version).await?;
        if current.as_ref().is_some_and(|current| current.load != entry.load) {
            receiving.insert(entry.version);
        }
        entries.extend(current);
    }
    // A table of other content than its entry says belongs to another history: it is neither kept nor removed.
    let is_of_its_entry = |table: &&TableIdentity| {
        entries.iter().find(|entry| entry.version == table.version).is_none_or(|entry| table.is_of(entry))
    };
    let present = named.ours.iter().filter(is_of_its_entry).map(|table| table.version).collect();
    let found = Found { live: live.map(|live| live.version), present, taken: named.taken, receiving };
    Ok((entries, found, live))
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
