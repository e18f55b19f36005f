//! The one row of `tableswap_store`: which store this database is, and the heartbeat by which the age of a replica is seen.
//!
//! The store id tells one store from another that has the same datasets. The history id changes when a person declares
//! that the database was set back and is right as it is: readers then forget which versions they saw before.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::connect::{code, server_code};
use crate::{Error, Result};

/// The layout of the tables that this program reads and writes.
const LAYOUT: u64 = 2;

const CREATE: &str = "CREATE TABLE IF NOT EXISTS tableswap_store (
    only_row TINYINT UNSIGNED NOT NULL PRIMARY KEY,
    layout INT UNSIGNED NOT NULL,
    store_id CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    history_id CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    last_swap BIGINT UNSIGNED NOT NULL,
    heartbeat BIGINT UNSIGNED NOT NULL COMMENT 'microseconds since 1970, UTC'
) ENGINE = InnoDB, CHARACTER SET utf8mb4";

/// What a database says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoreRow {
    pub(super) store_id: String,
    pub(super) history_id: String,
    /// When an updater last wrote here, in microseconds of the primary's clock.
    pub(super) heartbeat: u64,
}

/// The row as a text, to be read together with other things by [`StoreRow::parse`].
pub(super) const SELECT: &str =
    "SELECT '', layout, heartbeat, CONCAT(store_id, ' ', history_id) FROM tableswap_store";

impl StoreRow {
    /// Reads what [`SELECT`] gives; a layout of another program is an error.
    pub(super) fn parse(layout: u64, heartbeat: u64, ids: &str) -> Result<Self> {
        check_layout(layout)?;
        let (store_id, history_id) = ids.split_once(' ').ok_or_else(|| Error::corrupt("tableswap_store"))?;
        Ok(Self { store_id: store_id.to_owned(), history_id: history_id.to_owned(), heartbeat })
    }
}

fn check_layout(layout: u64) -> Result<()> {
    if layout == LAYOUT {
        return Ok(());
    }
    let remedy =
        if layout < LAYOUT { "start an updater of this version first" } else { "upgrade this program" };
    Err(Error::Setup(format!(
        "the database has tables of layout {layout}, and this program reads layout {LAYOUT}: {remedy}"
    )))
}

/// Reads the row; nothing where there is none yet.
pub(super) async fn read(conn: &mut Conn) -> Result<Option<StoreRow>> {
    let row: mysql_async::Result<Option<(String, u64, u64, String)>> = conn.query_first(SELECT).await;
    let row = match row {
        Err(error) if server_code(&error) == Some(code::NO_SUCH_TABLE) => None,
        row => row?,
    };
    row.map(|(_, layout, heartbeat, ids)| StoreRow::parse(layout, heartbeat, &ids)).transpose()
}

/// Makes the table and its row. A database that was emptied under a running updater stays the same store, with another
/// history.
pub(super) async fn create(conn: &mut Conn, store_id: Option<&str>) -> Result<()> {
    conn.query_drop(CREATE).await?;
    let store_id = store_id.map_or_else(random_id, str::to_owned);
    let insert = "INSERT IGNORE INTO tableswap_store (only_row, layout, store_id, history_id, last_swap, heartbeat) \
                  VALUES (1, ?, ?, ?, 0, 0)";
    Ok(conn.exec_drop(insert, (LAYOUT, store_id, random_id())).await?)
}

/// The highest number of a swap of any dataset: it goes on where somebody lost the ledger.
pub(super) async fn last_swap(conn: &mut Conn) -> Result<u64> {
    Ok(conn.query_first("SELECT last_swap FROM tableswap_store").await?.unwrap_or(0))
}

/// Notes a swap before it is tried.
pub(super) async fn write_last_swap(conn: &mut Conn, swap: u64) -> Result<()> {
    let update = format!("UPDATE tableswap_store SET last_swap = {swap} WHERE last_swap < {swap}");
    Ok(conn.query_drop(update).await?)
}

/// Writes the time of the server, which replicas get like everything else. It never goes back, whichever server is the
/// primary, and the clocks of updaters do not count.
pub(super) async fn write_heartbeat(conn: &mut Conn) -> Result<()> {
    let update = "UPDATE tableswap_store SET heartbeat = \
        GREATEST(heartbeat + 1, CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS UNSIGNED)) WHERE only_row = 1";
    Ok(conn.query_drop(update).await?)
}

fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}
