//! All rows of the live version, to compare a file with.

use std::sync::Arc;

use dataset::{RowBatch, Schema};
use futures_util::StreamExt;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value as Sql};
use tokio::sync::mpsc;

use super::connect::in_time;
use super::session::{ConnectionId, kill};
use super::{Mariadb, ledger, rows, table};
use crate::ledger::Ledger;
use crate::publisher::LiveRows;
use crate::{Entry, Error, Result};

/// How many live rows are given out at once.
const SCAN_ROWS: usize = 4096;

pub(super) async fn live_rows(store: &Arc<Mariadb>, dataset: &str) -> Result<Option<(Entry, LiveRows)>> {
    let mut conn = store.connect().await?;
    let read = async {
        let mut ledger = Ledger::new(ledger::read(&mut conn, dataset).await?);
        ledger.see_live(table::live(&mut conn, dataset).await?.map(|live| live.version));
        Ok::<_, Error>((ledger.live().cloned(), ConnectionId::of(&mut conn).await?))
    };
    let (Some(live), id) = in_time(read).await? else { return Ok(None) };
    // A task of its own, because rows arrive while those before them are compared; the bounded channel holds the server
    // back.
    let (sender, receiver) = mpsc::channel(2);
    let (entry, store, dataset) = (live.clone(), store.clone(), dataset.to_owned());
    tokio::spawn(async move {
        if let Err(error) = scan(&mut conn, &dataset, &entry, &sender).await {
            // The receiver may be gone.
            let _ = sender.send(Err(error)).await;
        }
        // Where nobody took all rows, the rest would be read for nothing, and a swap would wait for it.
        if let Ok(mut other) = store.connect().await {
            let _ = in_time(kill(&mut other, &[id])).await;
        }
    });
    Ok(Some((live, receiver)))
}

async fn scan(
    conn: &mut Conn,
    dataset: &str,
    live: &Entry,
    sender: &mpsc::Sender<Result<RowBatch>>,
) -> Result<()> {
    let schema: &Schema = &live.schema;
    let (columns, key) = (table::columns(schema), &schema.key().name);
    let select =
        format!("SELECT dataset_version, dataset_content, {columns} FROM `{dataset}` ORDER BY `{key}`");
    let mut found = conn.exec_stream::<Row, _, _>(select, ()).await?;
    let (mut batch, mut key, mut rest) = (RowBatch::default(), Vec::new(), Vec::new());
    while let Some(row) = found.next().await {
        let sql = row?.unwrap();
        let [version, content, sql @ ..] = sql.as_slice() else {
            return Err(Error::internal("a row without the columns that were selected"));
        };
        if !is_number(version, live.version.into()) || !is_number(content, live.content_id()) {
            return Err(Error::Unavailable("another version became live meanwhile".into()));
        }
        let values = rows::read(schema, sql)?;
        key.clear();
        rest.clear();
        schema.encode_key(&values, &mut key);
        schema.encode_payload(&values, &mut rest);
        batch.push(&key, &rest);
        if batch.len() >= SCAN_ROWS && sender.send(Ok(std::mem::take(&mut batch))).await.is_err() {
            return Ok(());
        }
    }
    if !batch.is_empty() {
        let _ = sender.send(Ok(batch)).await;
    }
    Ok(())
}

fn is_number(value: &Sql, expected: u64) -> bool {
    match value {
        Sql::Int(found) => u64::try_from(*found) == Ok(expected),
        Sql::UInt(found) => *found == expected,
        _ => false,
    }
}
