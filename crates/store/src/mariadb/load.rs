//! Rows into a staging table, by `LOAD DATA LOCAL` from memory.
//!
//! The server answers OK to many things that are not: it turns bad values into others, and can even end with an empty
//! table. So values were checked before, and afterwards every statement must report exactly its rows and no warning.

use bytes::Bytes;
use dataset::{RowBatch, Schema};
use futures_util::{StreamExt, stream};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::{rows, table};
use crate::publisher::same_count;
use crate::{Error, Result};

/// One statement takes about so much; if it fails, there is little to roll back.
const STATEMENT_BYTES: usize = 16 << 20;
/// The pieces in which it is sent.
const PACKET_BYTES: usize = 1 << 20;

/// Loads rows into one table over one connection.
#[derive(Debug)]
pub(super) struct Loader {
    conn: Conn,
    statement: String,
    lines: Vec<u8>,
    lines_count: u64,
}

impl Loader {
    pub(super) fn new(conn: Conn, table: &str, schema: &Schema) -> Self {
        let statement = format!(
            "LOAD DATA LOCAL INFILE 'rows' INTO TABLE `{table}` CHARACTER SET binary \
             FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({})",
            table::columns(schema),
        );
        Self { conn, statement, lines: Vec::new(), lines_count: 0 }
    }

    /// Takes rows, and sends them when there are enough.
    pub(super) async fn append(&mut self, schema: &Schema, batch: &RowBatch) -> Result<()> {
        let mut row = Vec::new();
        for (key, rest) in batch.iter() {
            schema.read_row(key, rest, &mut row)?;
            rows::write_line(schema, &row, &mut self.lines);
        }
        self.lines_count += batch.len() as u64;
        if self.lines.len() >= STATEMENT_BYTES { self.send().await } else { Ok(()) }
    }

    /// Sends what is left and returns the connection.
    pub(super) async fn finish(mut self) -> Result<Conn> {
        self.send().await?;
        Ok(self.conn)
    }

    async fn send(&mut self) -> Result<()> {
        let (lines, count) =
            (Bytes::from(std::mem::take(&mut self.lines)), std::mem::take(&mut self.lines_count));
        if count == 0 {
            return Ok(());
        }
        let starts = (0..lines.len()).step_by(PACKET_BYTES);
        let packets: Vec<_> =
            starts.map(|start| Ok(lines.slice(start..lines.len().min(start + PACKET_BYTES)))).collect();
        self.conn.set_infile_handler(async move { Ok(stream::iter(packets).boxed()) });
        self.conn.query_drop(&self.statement).await?;
        let warnings = self.conn.get_warnings();
        if warnings > 0 {
            return Err(Error::Warnings(warnings.into()));
        }
        same_count(count, self.conn.affected_rows())
    }
}
