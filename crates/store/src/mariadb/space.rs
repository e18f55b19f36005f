//! Whether a database has the space that a version needs.
//!
//! A disk that fills up while rows are staged can end the whole server: InnoDB aborts where a rollback finds no space. So
//! a load is refused before it stages anything, if the server can say how much is left, or a setting says how much there
//! may be.

use std::io;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::{Entry, Error, Result};

/// Bytes of a row of which nothing is known: those of a promotion in its table are 66.
const ROW_BYTES: u64 = 70;
/// A table of sorted rows is estimated from one like it; this much more is asked for, in percent.
const MARGIN_PERCENT: u64 = 10;

/// Refuses a version of so many rows that will not fit.
pub(super) async fn check(
    conn: &mut Conn,
    dataset: &str,
    live: Option<&Entry>,
    rows: u64,
    bytes_max: Option<u64>,
) -> Result<()> {
    let row_bytes = match live.filter(|live| live.rows > 0) {
        Some(live) => table_bytes(conn, dataset).await? / live.rows,
        None => ROW_BYTES,
    };
    let needed = rows.saturating_mul(row_bytes.max(1)).saturating_mul(100 + MARGIN_PERCENT) / 100;
    if let Some(max) = bytes_max {
        let used = database_bytes(conn).await?;
        if used.saturating_add(needed) > max {
            let text =
                format!("about {needed} bytes are needed, {used} of the {max} that are allowed are used");
            return Err(no_space(text));
        }
    }
    match free_bytes(conn).await {
        Some(free) if free < needed => {
            Err(no_space(format!("about {needed} bytes are needed, the database's disk has {free}")))
        }
        _ => Ok(()),
    }
}

fn no_space(text: String) -> Error {
    Error::NoSpace(io::Error::new(io::ErrorKind::StorageFull, text).into())
}

async fn table_bytes(conn: &mut Conn, dataset: &str) -> Result<u64> {
    let select = "SELECT CAST(COALESCE(DATA_LENGTH + INDEX_LENGTH, 0) AS UNSIGNED) FROM information_schema.TABLES \
                  WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?";
    Ok(conn.exec_first(select, (dataset,)).await?.unwrap_or(0))
}

async fn database_bytes(conn: &mut Conn) -> Result<u64> {
    let select = "SELECT CAST(COALESCE(SUM(DATA_LENGTH + INDEX_LENGTH), 0) AS UNSIGNED) \
                  FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()";
    Ok(conn.query_first(select).await?.unwrap_or(0))
}

/// What is left on the disk of the data directory, where the server has the plugin DISKS and this user may ask it.
async fn free_bytes(conn: &mut Conn) -> Option<u64> {
    let select = "SELECT CAST(Available * 1024 AS UNSIGNED) FROM information_schema.DISKS \
                  WHERE LEFT(@@datadir, CHAR_LENGTH(Path)) = Path ORDER BY CHAR_LENGTH(Path) DESC LIMIT 1";
    conn.query_first(select).await.ok()?
}
