//! Whether the rows of replicas are those of the primary: a digest of every row of the live version on each server.
//!
//! `CHECKSUM TABLE` differs between equal servers when a table has virtual columns. Both sums here are independent of the
//! order of the rows. Each server reads the whole table once, which takes it as long as a dump.

use std::time::Duration;

use dataset::Schema;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::connect::{self, Address};
use super::{Mariadb, ledger, store_table, table};
use crate::{Entry, Error, Result};

/// Reading a billion rows takes some minutes on a server that has nothing else to do.
const TIMEOUT: Duration = Duration::from_hours(6);

/// What a replica has of a dataset, beside what the primary has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The dataset.
    pub dataset: String,
    /// The live version of the primary.
    pub version: u32,
    /// The replica, as host and port.
    pub replica: String,
    /// Rows of the primary.
    pub rows: u64,
    /// What differs, if anything does.
    pub difference: Option<String>,
}

/// A digest of all rows of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Digest {
    rows: u64,
    xor: u64,
    sum: u64,
}

/// Compares the live version of each dataset on every replica with that of the primary.
pub(super) async fn compare(store: &Mariadb) -> Result<Vec<Comparison>> {
    let mut primary = store.connect().await?;
    let known = store_table::read(&mut primary).await?;
    let store_id = known.ok_or_else(|| Error::Setup("the database holds no store yet".into()))?.store_id;
    let mut comparisons = Vec::new();
    for dataset in ledger::datasets(&mut primary).await? {
        let Some(live) = table::live(&mut primary, &dataset).await? else { continue };
        let Some(entry) = ledger::read_one(&mut primary, &dataset, live.version).await? else { continue };
        let expected = digest(&mut primary, &dataset, &entry).await?.ok_or_else(moved)?;
        for address in &store.settings.read_urls.0 {
            let difference = difference(store, address, &store_id, (&dataset, &entry, expected)).await;
            comparisons.push(Comparison {
                dataset: dataset.clone(),
                version: entry.version,
                replica: address.host(),
                rows: expected.rows,
                difference: difference.unwrap_or_else(|error| Some(crate::error::chain(&error))),
            });
        }
    }
    Ok(comparisons)
}

fn moved() -> Error {
    Error::Unavailable("another version became live meanwhile: compare again".into())
}

async fn difference(
    store: &Mariadb,
    address: &Address,
    store_id: &str,
    (dataset, entry, expected): (&str, &Entry, Digest),
) -> Result<Option<String>> {
    let opts = connect::reading(address, store.tls.clone(), 1000);
    let (mut conn, _) = connect::in_time(connect::open(&opts)).await?;
    conn.query_drop("SET SESSION max_statement_time = 0").await?;
    let own = store_table::read(&mut conn).await?;
    if own.is_none_or(|own| own.store_id != store_id) {
        return Ok(Some("it is another store".into()));
    }
    let Some(found) = digest(&mut conn, dataset, entry).await? else {
        return Ok(Some("it has another version, or is behind".into()));
    };
    Ok((found != expected).then(|| {
        let what = if found.rows == expected.rows { "other values" } else { "another number of rows" };
        format!("{what}: {} rows", found.rows)
    }))
}

/// The digest of the live version; nothing where another one is live.
async fn digest(conn: &mut Conn, dataset: &str, entry: &Entry) -> Result<Option<Digest>> {
    let (row, content) = (row_text(&entry.schema), entry.content_id());
    let version = entry.version;
    let select = format!(
        "SELECT COUNT(*), COALESCE(BIT_XOR(CRC32(r)), 0), COALESCE(CAST(SUM(CRC32(r)) AS UNSIGNED), 0), \
         COALESCE(SUM(is_other), 0) FROM (SELECT {row} AS r, \
         dataset_version <> {version} OR dataset_content <> {content} AS is_other FROM `{dataset}`) AS all_rows"
    );
    let found: mysql_async::Result<Option<(u64, u64, u64, u64)>> =
        tokio::time::timeout(TIMEOUT, conn.query_first(select)).await.map_err(connect::timed_out)?;
    match found {
        Err(error) if table::is_not_there(&error) => Ok(None),
        found => Ok(found?.filter(|found| found.3 == 0).map(|(rows, xor, sum, _)| Digest { rows, xor, sum })),
    }
}

/// A row as one text that no other row has.
fn row_text(schema: &Schema) -> String {
    let quoted: Vec<_> = schema.columns().iter().map(|column| format!("QUOTE(`{}`)", column.name)).collect();
    format!("CONCAT_WS(',', {})", quoted.join(", "))
}
