//! Named locks: one for each dataset, which makes its publisher, and one for each number that a load reserved.
//!
//! A lock's name holds for the whole server and has 64 characters at most, so it is a hash. Locks end with their session.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::{LockHolder, Result};

const DATASET: &str = "CONCAT('tableswap.', SHA1(CONCAT(DATABASE(), '.', ?)))";
const NUMBER: &str = "CONCAT('tableswap.', SHA1(CONCAT(DATABASE(), '.', ?, '.', ?)))";

/// Takes the lock of a dataset, for its publisher; says whether it is ours now.
pub(super) async fn dataset(conn: &mut Conn, dataset: &str, wait_seconds: u32) -> Result<bool> {
    let taken: Option<Option<i64>> =
        conn.exec_first(format!("SELECT GET_LOCK({DATASET}, ?)"), (dataset, wait_seconds)).await?;
    Ok(taken.flatten() == Some(1))
}

/// Whether this session still holds the lock of a dataset.
pub(super) async fn is_held(conn: &mut Conn, dataset: &str) -> Result<bool> {
    let select = format!("SELECT IS_USED_LOCK({DATASET}) = CONNECTION_ID()");
    let held: Option<Option<i64>> = conn.exec_first(select, (dataset,)).await?;
    Ok(held.flatten() == Some(1))
}

/// Takes the lock of a number, for the load that reserves it; says whether it is ours now.
pub(super) async fn number(conn: &mut Conn, dataset: &str, version: u32) -> Result<bool> {
    let taken: Option<Option<i64>> =
        conn.exec_first(format!("SELECT GET_LOCK({NUMBER}, 0)"), (dataset, version)).await?;
    Ok(taken.flatten() == Some(1))
}

/// Whether the load that reserved a number is alive.
pub(super) async fn is_alive(conn: &mut Conn, dataset: &str, version: u32) -> Result<bool> {
    let used: Option<Option<u64>> =
        conn.exec_first(format!("SELECT IS_USED_LOCK({NUMBER})"), (dataset, version)).await?;
    Ok(used.flatten().is_some())
}

/// The load whose session holds the lock of a dataset; a rollback has no load.
pub(super) async fn holder(conn: &mut Conn, dataset: &str) -> Result<Option<LockHolder>> {
    let number = "CONCAT('tableswap.', SHA1(CONCAT(DATABASE(), '.', dataset, '.', version)))";
    let select = format!(
        "SELECT host, load_id FROM tableswap_versions WHERE dataset = ? AND state IN ('loading', 'staged') \
         AND IS_USED_LOCK({number}) = IS_USED_LOCK({DATASET}) LIMIT 1"
    );
    let found: Option<(String, String)> = conn.exec_first(select, (dataset, dataset)).await?;
    Ok(found.map(|(host, load)| LockHolder { host, load }))
}
