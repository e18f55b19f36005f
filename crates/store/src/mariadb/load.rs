//! Rows into a staging table, by `LOAD DATA LOCAL` from memory, over several connections at once.
//!
//! The server answers OK to many things that are not: it turns bad values into others, and can even end with an empty
//! table. So values were checked before, and afterwards every statement must report exactly its rows and no warning,
//! and every range of keys is counted in the table.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use dataset::{KeyBytes, RowBatch, Schema};
use futures_util::{Stream, StreamExt, stream};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Params};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::turns::{Turn, Turns};
use super::{rows, table};
use crate::publisher::{Rows, check_count};
use crate::{Error, Result};

/// One statement takes about so much; if it fails, or the load is given up, there is little to roll back.
const STATEMENT_BYTES: usize = 16 << 20;
/// With readers a statement is smaller, and comes in pieces for which the database takes about a millisecond.
const GENTLE_STATEMENT_BYTES: usize = 2 << 20;
const GENTLE_PIECE_BYTES: usize = 16 << 10;

/// Loads one range of the keys over one connection.
#[derive(Debug)]
pub(super) struct Lane {
    conn: Conn,
    table: String,
    statement: String,
    feed: Arc<Mutex<Feed>>,
    turns: Arc<Turns>,
}

/// The rows that a lane still has to send. A statement holds it for as long as it takes rows.
#[derive(Debug)]
struct Feed {
    schema: Arc<Schema>,
    rows: Rows,
    next: Option<RowBatch>,
    /// Lines that are not yet sent.
    lines: Bytes,
    /// So much the statement under way takes, in pieces of this size, and what it has taken.
    bytes_max: usize,
    piece_bytes: usize,
    sent: Sent,
    first_key: Option<KeyBytes>,
    last_key: KeyBytes,
}

#[derive(Debug, Default, Clone, Copy)]
struct Sent {
    rows: u64,
    bytes: usize,
}

impl Lane {
    pub(super) fn new(conn: Conn, table: &str, schema: &Arc<Schema>, rows: Rows, turns: &Arc<Turns>) -> Self {
        let statement = format!(
            "LOAD DATA LOCAL INFILE 'rows' INTO TABLE `{table}` CHARACTER SET binary \
             FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({})",
            table::columns(schema),
        );
        let feed = Feed {
            schema: schema.clone(),
            rows,
            next: None,
            lines: Bytes::new(),
            bytes_max: 0,
            piece_bytes: 0,
            sent: Sent::default(),
            first_key: None,
            last_key: KeyBytes::default(),
        };
        Self {
            conn,
            table: table.to_owned(),
            statement,
            feed: Arc::new(Mutex::new(feed)),
            turns: turns.clone(),
        }
    }

    /// Sends all rows, and returns how many of them are in the table.
    pub(super) async fn run(mut self) -> Result<u64> {
        let mut sent = 0;
        let turns = self.turns.clone();
        while self.feed.lock().await.has_more().await {
            let turn = turns.take().await;
            self.feed.lock().await.begin(&turn);
            let one = self.send().await?;
            sent += one.rows;
            turns.end(turn, one.bytes).await;
        }
        let staged = self.count().await?;
        check_count(sent, staged)?;
        Ok(staged)
    }

    /// Sends rows with one statement.
    async fn send(&mut self) -> Result<Sent> {
        let (feed, turns) = (self.feed.clone().lock_owned().await, self.turns.clone());
        self.conn.set_infile_handler(async move { Ok(lines(feed, turns).boxed()) });
        self.conn.query_drop(&self.statement).await?;
        let warnings = self.conn.get_warnings();
        if warnings > 0 {
            return Err(Error::Warnings(warnings.into()));
        }
        let sent = std::mem::take(&mut self.feed.lock().await.sent);
        check_count(sent.rows, self.conn.affected_rows())?;
        Ok(sent)
    }

    /// Counts the rows between the first and the last key that were sent.
    async fn count(&mut self) -> Result<u64> {
        let feed = self.feed.lock().await;
        let Some(first) = &feed.first_key else { return Ok(0) };
        let key = feed.schema.key();
        let place = rows::placeholder(&key.column_type);
        let bounds = [first, &feed.last_key].map(|bytes| feed.schema.decode_key(bytes).ok());
        let bounds = bounds.into_iter().flatten().map(|value| rows::parameter(key, value)).collect();
        let statement =
            format!("SELECT COUNT(*) FROM `{}` WHERE `{}` BETWEEN {place} AND {place}", self.table, key.name);
        let count: Option<u64> = self.conn.exec_first(statement, Params::Positional(bounds)).await?;
        Ok(count.unwrap_or(0))
    }
}

impl Feed {
    /// Whether there are rows that were not sent; waits for them.
    async fn has_more(&mut self) -> bool {
        while self.next.as_ref().is_none_or(RowBatch::is_empty) {
            self.next = self.rows.recv().await;
            if self.next.is_none() {
                return false;
            }
        }
        true
    }

    /// Begins a statement.
    fn begin(&mut self, turn: &Turn<'_>) {
        (self.bytes_max, self.piece_bytes) = match turn {
            Turn::Free => (STATEMENT_BYTES, usize::MAX),
            Turn::Trial(..) => (1, usize::MAX),
            Turn::Gentle(_) => (GENTLE_STATEMENT_BYTES, GENTLE_PIECE_BYTES),
        };
    }

    /// The next rows as lines, until there are enough for one statement.
    async fn lines(&mut self, turns: &Turns) -> Option<io::Result<Bytes>> {
        if self.lines.is_empty() {
            if self.sent.bytes >= self.bytes_max || !self.has_more().await {
                return None;
            }
            if let Err(error) = self.write_lines() {
                return Some(Err(io::Error::other(error)));
            }
        } else {
            tokio::time::sleep(turns.pause_after(self.piece_bytes)).await;
        }
        Some(Ok(self.lines.split_to(self.piece_bytes.min(self.lines.len()))))
    }

    fn write_lines(&mut self) -> Result<()> {
        let Some(batch) = self.next.take() else { return Ok(()) };
        batch.check()?;
        let mut lines = Vec::with_capacity(batch.bytes_len() * 5 / 2);
        self.write(&batch, &mut lines)?;
        self.sent.rows += batch.len() as u64;
        self.sent.bytes += lines.len();
        self.lines = lines.into();
        Ok(())
    }

    fn write(&mut self, batch: &RowBatch, lines: &mut Vec<u8>) -> Result<()> {
        let mut row = Vec::with_capacity(self.schema.columns().len());
        for (key, rest) in batch.iter() {
            self.schema.decode_row(key, rest, &mut row)?;
            rows::write_line(&self.schema, &row, lines);
        }
        if let (Some((first, _)), None) = (batch.get(0), &self.first_key) {
            self.first_key = Some(KeyBytes::from_slice(first));
        }
        if let Some((last, _)) = batch.get(batch.len() - 1) {
            self.last_key = KeyBytes::from_slice(last);
        }
        Ok(())
    }
}

/// The lines of one statement; they hold the feed until they are at their end.
fn lines(feed: OwnedMutexGuard<Feed>, turns: Arc<Turns>) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold((feed, turns), |(mut feed, turns)| async move {
        let lines = feed.lines(&turns).await?;
        Some((lines, (feed, turns)))
    })
}
