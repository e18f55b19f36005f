//! The store in MariaDB.
//!
//! The live version of a dataset is the table of its name; other versions stand beside it as `promotions__v41`. A
//! version's number and its content id are part of its table: two virtual columns, which cost no byte and move with the table's
//! name. So every row that is read proves which version it is of. `RENAME TABLE` is the swap. A named lock makes one publisher,
//! and the swap runs on the connection that holds it. The ledger is the table `tableswap_versions`.

mod batcher;
mod cache;
mod compare;
mod connect;
mod connections;
mod delivery;
mod ledger;
mod live_tables;
mod load;
mod lock;
mod node;
mod publisher;
mod read;
mod reservation;
mod row_size;
mod rows;
mod scan;
mod select;
mod session;
mod space;
mod staging;
mod store_table;
mod table;
mod tls;
mod turns;
mod watermarks;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dataset::Dataset;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, SslOpts};
use tracing::warn;

use self::watermarks::SwapWatermarks;
use crate::error::chain;
use crate::ledger::Ledger;
use crate::publisher::LiveRows;
use crate::version::NewLoad;
use crate::{Entry, Error, Metrics, Result, Settings};
pub use compare::Comparison;
pub use connect::Address;
pub use publisher::Publisher;
pub use read::Reader;
pub use reservation::Reservation;
pub(crate) use row_size::check as check_schema;
pub use staging::{Staged, Staging};
pub(crate) use tls::DatabaseTls;
pub use tls::TlsMode;

/// All datasets in one database.
#[derive(Debug)]
pub struct Mariadb {
    address: Address,
    settings: Settings,
    /// How a connection is made that writes.
    opts: Opts,
    tls: Option<SslOpts>,
    timeout: Duration,
    swap_wait: Duration,
    metrics: Metrics,
    /// The store that the database was when it was first reached.
    store_id: OnceLock<String>,
    watermarks: SwapWatermarks,
}

/// From one heartbeat to the next: the age of a replica is known to the second.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

impl Mariadb {
    pub(crate) fn open(address: &Address, settings: &Settings, metrics: &Metrics) -> Result<Arc<Self>> {
        let tls = settings.tls().options()?;
        Ok(Arc::new(Self {
            address: address.clone(),
            settings: settings.clone(),
            opts: connect::opts(address, tls.clone()),
            tls,
            timeout: Duration::from_millis(settings.timeout_ms),
            swap_wait: Duration::from_millis(settings.swap_wait_ms),
            metrics: metrics.clone(),
            store_id: OnceLock::new(),
            watermarks: SwapWatermarks::default(),
        }))
    }

    /// Makes the ledger where it is missing, and refuses a database that is another store than before.
    async fn create_ledger(&self, conn: &mut Conn) -> Result<()> {
        let known = self.store_id.get();
        let store = ledger::create(conn, known.map(String::as_str)).await?;
        match known {
            Some(known) if *known != store.store_id => Err(another_store(known, &store.store_id)),
            _ => {
                // The first one stays.
                let _ = self.store_id.set(store.store_id);
                Ok(())
            }
        }
    }

    /// Writes a heartbeat every second, for as long as it is waited for.
    pub(crate) async fn send_heartbeats(&self) {
        let mut conn = None;
        let mut is_failing = false;
        loop {
            let sent = tokio::time::timeout(self.timeout, self.send_heartbeat(&mut conn)).await;
            let sent = sent.unwrap_or_else(|elapsed| Err(connect::timed_out(elapsed)));
            if let Err(error) = &sent {
                conn = None;
                if !is_failing {
                    warn!(error = chain(error), "cannot write the heartbeat that shows the age of replicas");
                }
            }
            is_failing = sent.is_err();
            tokio::time::sleep(HEARTBEAT_INTERVAL).await;
        }
    }

    async fn send_heartbeat(&self, kept: &mut Option<Conn>) -> Result<()> {
        let conn = if let Some(conn) = kept {
            conn
        } else {
            let mut conn = self.connect().await?;
            self.create_ledger(&mut conn).await?;
            kept.insert(conn)
        };
        store_table::write_heartbeat(conn).await
    }

    /// A connection outside of the pool.
    async fn connect(&self) -> Result<Conn> {
        Ok(self.open_connection().await?.0)
    }

    /// A connection, and which server it leads to.
    async fn open_connection(&self) -> Result<(Conn, String)> {
        let opened = tokio::time::timeout(self.timeout, connect::open(&self.opts));
        opened.await.map_err(connect::timed_out)?
    }

    /// A connection to a server that is known already: an address can lead to two.
    async fn connect_to(&self, server: &str) -> Result<Conn> {
        let (conn, found) = self.open_connection().await?;
        if found == server {
            return Ok(conn);
        }
        Err(Error::Unavailable(format!("the address leads to two servers: {server} and {found}").into()))
    }

    pub(crate) async fn check(&self) -> Result<()> {
        let mut conn = self.connect().await?;
        let answer = tokio::time::timeout(self.timeout, conn.query_drop("SELECT 1")).await;
        Ok(answer.map_err(connect::timed_out)??)
    }

    pub(crate) async fn reserve(
        self: &Arc<Self>,
        dataset: &Arc<Dataset>,
        load: NewLoad,
    ) -> Result<Reservation> {
        Reservation::make(self.clone(), dataset, &load).await
    }

    pub(crate) async fn publisher(self: &Arc<Self>, dataset: &Arc<Dataset>) -> Result<Publisher> {
        Publisher::lock(self.clone(), dataset.clone()).await
    }

    pub(crate) async fn live_rows(self: &Arc<Self>, dataset: &str) -> Result<Option<(Entry, LiveRows)>> {
        scan::live_rows(self, dataset).await
    }

    pub(crate) async fn compare_replicas(&self) -> Result<Vec<Comparison>> {
        compare::compare(self).await
    }

    pub(crate) async fn versions(&self, dataset: &str) -> Result<Vec<Entry>> {
        let mut conn = self.connect().await?;
        let read = async {
            let mut ledger = Ledger::new(ledger::read(&mut conn, dataset).await?);
            // After a crash between a swap and its entry, the entry says so only from the next load on.
            ledger.see_live(table::live(&mut conn, dataset).await?.map(|live| live.version));
            Ok(ledger.into_newest_first())
        };
        tokio::time::timeout(self.timeout, read).await.map_err(connect::timed_out)?
    }

    pub(crate) fn reader(self: &Arc<Self>) -> Arc<Reader> {
        Reader::start(&self.address, &self.settings, self.tls.as_ref(), &self.metrics)
    }
}

/// Refuses a database that is another store than the one that was reached first.
fn another_store(expected: &str, found: &str) -> Error {
    Error::Setup(format!(
        "the database is another store ({found}) than before ({expected}); if it replaces that one, run \
         UPDATE tableswap_store SET store_id = '{expected}', history_id = MD5(RAND())"
    ))
}
