//! The store in MariaDB.
//!
//! The live version of a dataset is the table of its name; other versions stand beside it as `promotions__v41`. A
//! version's number is part of its table: a virtual column, which costs no byte and moves with the table's name. So
//! every row that is read proves which version it is of. `RENAME TABLE` is the swap. A named lock makes one publisher,
//! and the swap runs on the connection that holds it. The ledger is the table `tableswap_versions`.

mod cache;
mod connect;
mod ledger;
mod load;
mod lock;
mod look;
mod node;
mod pace;
mod publisher;
mod queue;
mod read;
mod reservation;
mod rows;
mod scan;
mod select;
mod session;
mod space;
mod staging;
mod table;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use dataset::Dataset;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts};

use crate::ledger::Ledger;
use crate::publisher::LiveRows;
use crate::version::NewLoad;
use crate::{Entry, Error, Metrics, Result, Settings};
pub use connect::Address;
pub use publisher::Publisher;
pub use read::Reader;
pub use reservation::Reservation;
pub use staging::{Staged, Staging};

/// All datasets in one database.
#[derive(Debug)]
pub struct Mariadb {
    address: Address,
    settings: Settings,
    /// How a connection is made that writes.
    opts: Opts,
    timeout: Duration,
    swap_wait: Duration,
    metrics: Metrics,
}

impl Mariadb {
    pub(crate) fn open(address: &Address, settings: &Settings, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            address: address.clone(),
            settings: settings.clone(),
            opts: connect::opts(address),
            timeout: Duration::from_millis(settings.timeout_ms),
            swap_wait: Duration::from_millis(settings.swap_wait_ms),
            metrics: metrics.clone(),
        })
    }

    /// A connection outside of the pool.
    async fn connect(&self) -> Result<Conn> {
        let connected = tokio::time::timeout(self.timeout, Conn::new(self.opts.clone())).await;
        connected.map_err(connect::timed_out)?.map_err(Error::from)
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

    pub(crate) async fn versions(&self, dataset: &str) -> Result<Vec<Entry>> {
        let mut conn = self.connect().await?;
        let read = async {
            let mut ledger = Ledger::new(ledger::read(&mut conn, dataset).await?);
            // After a crash between a swap and its entry, the entry says so only from the next load on.
            ledger.see_live(table::live_version(&mut conn, dataset).await?);
            Ok(ledger.into_newest_first())
        };
        tokio::time::timeout(self.timeout, read).await.map_err(connect::timed_out)?
    }

    pub(crate) fn reader(self: &Arc<Self>) -> Arc<Reader> {
        Reader::start(&self.address, &self.settings, &self.metrics)
    }
}
