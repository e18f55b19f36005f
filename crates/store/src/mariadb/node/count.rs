//! Whether a replica has all rows of a version. Replication does not say so by itself: a replica that skipped an error, or
//! that somebody wrote to, goes on without a word.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use tracing::{error, info, warn};

use super::{Node, Table};
use crate::error::chain;
use crate::mariadb::{connect, table};
use crate::{Result, clock};

/// Counting a billion rows takes a few minutes.
const COUNT_TIMEOUT: Duration = Duration::from_mins(10);
/// A count that failed, or found too few rows, is repeated after this.
const INTERVAL: Duration = Duration::from_secs(5);

/// What is known of the rows of a table; nothing at first.
#[derive(Debug, Default)]
pub(super) struct RowCount(AtomicU8);

impl RowCount {
    const EQUAL: u8 = 1;
    const DIFFERENT: u8 = 2;

    pub(super) fn is_equal(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::EQUAL
    }

    pub(super) fn is_different(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::DIFFERENT
    }

    fn note(&self, is_equal: bool) {
        self.0.store(if is_equal { Self::EQUAL } else { Self::DIFFERENT }, Ordering::Relaxed);
    }
}

impl Table {
    /// Whether the server from which this was read has been counted to have all rows.
    pub(in crate::mariadb) fn is_counted(&self) -> bool {
        self.row_count.is_equal()
    }

    /// The rows of the primary were counted when they were loaded.
    pub(super) fn set_counted(&self) {
        self.row_count.note(true);
    }

    pub(super) fn has_other_rows(&self) -> bool {
        self.row_count.is_different()
    }
}

/// Counts until the rows are those of the ledger, or the table is not live there any more.
pub(super) async fn count(node: Weak<Node>, table: Arc<Table>) {
    loop {
        let Some(node) = node.upgrade() else { return };
        let seen = node.seen();
        if seen.live.get(&table.live.dataset).is_none_or(|live| !Arc::ptr_eq(live, &table)) {
            return;
        }
        drop(seen);
        let start = clock::now();
        let (dataset, version, rows) = (&table.live.dataset, table.live.version, table.live.rows);
        let counted = connect::in_time_of(COUNT_TIMEOUT, count_once(&node, &table)).await;
        let seconds = clock::now().saturating_sub(start).as_secs_f64();
        match counted {
            Ok(found) if found == rows => {
                table.row_count.note(true);
                info!(dataset, version, rows, seconds, database = node.name, "counted the rows of a replica");
                return;
            }
            Ok(found) => {
                if !table.has_other_rows() {
                    error!(
                        dataset,
                        version,
                        rows,
                        found,
                        database = node.name,
                        "replica has other rows than the ledger says"
                    );
                }
                table.row_count.note(false);
            }
            Err(error) => {
                warn!(
                    dataset,
                    version,
                    error = chain(&error),
                    database = node.name,
                    "cannot count the rows of a replica"
                );
            }
        }
        drop(node);
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn count_once(node: &Node, table: &Table) -> Result<u64> {
    let mut conn = node.connections.open().await?;
    conn.query_drop("SET SESSION max_statement_time = 0").await?;
    table::count_live(&mut conn, &table.live.dataset, table.live.version, table.content).await
}
