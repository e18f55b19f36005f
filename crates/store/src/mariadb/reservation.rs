//! Version numbers of loads that have begun and hold no dataset's lock yet.
//!
//! The number is a row of the ledger; a named lock on the load's session tells whether the load is alive.

use std::sync::Arc;
use std::time::Duration;

use dataset::Dataset;
use mysql_async::Conn;
use tokio::task::JoinSet;
use tracing::warn;

use super::connect::in_time;
use super::publisher::{Publisher, require_mariadb};
use super::session::Session;
use super::turns::watch;
use super::{Mariadb, ledger, lock, table};
use crate::ledger::{Ledger, Reserved};
use crate::publisher::Ending;
use crate::version::{NewLoad, State};
use crate::{Backoff, Entry, Error, Manners, Result, Retry};

/// How often the lock is tried while another publisher has it.
const LOCK_BACKOFF: Backoff = Backoff::Constant(Duration::from_millis(100));

/// A number that a load reserved.
#[derive(Debug)]
pub struct Reservation {
    store: Arc<Mariadb>,
    dataset: Arc<Dataset>,
    reserved: Reserved,
    session: Session,
    watched: Watched,
}

/// How a load gives way to readers; it is seen whether there are any for as long as this lives.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) manners: Manners,
    _watch: JoinSet<()>,
}

impl Watched {
    pub(super) fn start(store: &Arc<Mariadb>) -> Self {
        let manners = Manners::new(store.settings.load_share_percent);
        let mut watching = JoinSet::new();
        watching.spawn(watch(store.clone(), manners.clone()));
        Self { manners, _watch: watching }
    }
}

impl Reservation {
    pub(super) async fn make(store: Arc<Mariadb>, dataset: &Arc<Dataset>, load: &NewLoad) -> Result<Self> {
        let session = Session::open(&store).await?;
        let mut conn = session.begin().await?;
        let reserved = in_time(reserve(&store, conn.conn(), dataset, load)).await;
        let version = conn.done(reserved)?;
        let watched = Watched::start(&store);
        let reserved = Reserved { version, load: load.id.clone() };
        Ok(Self { store, dataset: dataset.clone(), reserved, session, watched })
    }

    /// The reservation of a publisher that stages nothing.
    pub(super) fn with(
        store: Arc<Mariadb>,
        dataset: Arc<Dataset>,
        reserved: Reserved,
        session: Session,
        watched: Watched,
    ) -> Self {
        Self { store, dataset, reserved, session, watched }
    }

    pub(crate) fn version(&self) -> u32 {
        self.reserved.version
    }

    pub(crate) fn manners(&self) -> &Manners {
        &self.watched.manners
    }

    pub(crate) async fn lock(&mut self, wait: Duration, is_wanted: impl Fn() -> bool) -> Result<()> {
        let mut retry = Retry::new(wait, LOCK_BACKOFF);
        loop {
            match self.try_lock().await {
                Err(busy @ Error::Busy { .. }) => retry.pause(busy, &is_wanted).await?,
                locked => return locked,
            }
        }
    }

    async fn try_lock(&mut self) -> Result<()> {
        if self.session.is_broken() {
            // The database was away while the file arrived.
            self.session = Session::open(&self.store).await?;
        }
        lock_dataset(&self.session, &self.dataset.name, Some(self.reserved.version), 0).await
    }

    pub(crate) async fn into_publisher(self) -> Result<Publisher> {
        let Self { store, dataset, reserved, session, watched } = self;
        Publisher::recover(store, dataset, session, Some(reserved), watched).await
    }

    pub(crate) async fn end(self, ending: Ending<'_>) -> Result<()> {
        let session = if self.session.is_broken() { Session::open(&self.store).await? } else { self.session };
        end(&session, &self.dataset.name, &self.reserved, ending).await?;
        session.close(self.store.timeout).await;
        Ok(())
    }
}

/// Gives a number back, or remembers what became of it.
pub(super) async fn end(
    session: &Session,
    dataset: &str,
    reserved: &Reserved,
    ending: Ending<'_>,
) -> Result<()> {
    let (state, reason) = match ending {
        Ending::Told => {
            let mut conn = session.begin().await?;
            let forgotten = in_time(ledger::forget(conn.conn(), dataset, reserved)).await;
            return conn.done(forgotten);
        }
        Ending::Failed(reason) => (State::Failed, reason),
        Ending::Superseded(reason) => (State::Superseded, reason),
    };
    let mut conn = session.begin().await?;
    let ended = in_time(ledger::end(conn.conn(), (dataset, reserved), state, reason)).await;
    conn.done(ended)
}

/// Takes the lock of a dataset, and again that of the number, which a new session does not hold.
pub(super) async fn lock_dataset(
    session: &Session,
    dataset: &str,
    version: Option<u32>,
    wait_seconds: u32,
) -> Result<()> {
    let mut conn = session.begin().await?;
    let locked = in_time(async {
        if let Some(version) = version
            && !lock::number(conn.conn(), dataset, version).await?
        {
            warn!(dataset, version, "another session holds the number of this load");
        }
        if lock::dataset(conn.conn(), dataset, wait_seconds).await? {
            return Ok(());
        }
        let holder = lock::holder(conn.conn(), dataset).await.ok().flatten();
        Err(Error::Busy { dataset: dataset.to_owned(), holder })
    })
    .await;
    conn.done(locked)
}

/// Finds a number that nothing has, and enters it. The lock comes first: an entry without it is that of a crashed load.
async fn reserve(store: &Mariadb, conn: &mut Conn, dataset: &Dataset, load: &NewLoad) -> Result<u32> {
    require_mariadb(conn).await?;
    store.create_ledger(conn).await?;
    let name = dataset.name.as_str();
    let live = table::live(conn, name).await?.map_or(0, |live| live.version);
    let mut taken = table::named(conn, name).await?.taken;
    loop {
        let newest = ledger::newest(conn, name).await?.max(live);
        let mut numbers = Ledger::default();
        numbers.see_names(newest, taken.clone());
        let version = numbers.next_version()?;
        let entry = Entry::reserved(version, dataset, load);
        if lock::number(conn, name, version).await? && ledger::insert(conn, name, &entry).await? {
            ledger::remove_old(conn, name).await?;
            return Ok(version);
        }
        taken.insert(version);
    }
}
