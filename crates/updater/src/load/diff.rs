//! What a file would change: its rows beside the live ones, both in key order.

use std::cmp::Ordering;

use dataset::{RowBatch, Schema};
use ingest::SortedRows;
use serde::Serialize;
use store::LiveRows;

/// How many rows a file would add, remove and change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Changes {
    /// Keys that the live version does not have.
    pub(crate) added: u64,
    /// Keys that only the live version has.
    pub(crate) removed: u64,
    /// Keys of both whose rows differ.
    pub(crate) changed: u64,
}

/// Reads both to their ends. Rows of another layout are compared as the JSON that readers see.
pub(crate) async fn compare(
    rows: &mut SortedRows,
    schema: &Schema,
    live_rows: LiveRows,
    live_schema: &Schema,
) -> store::Result<Changes> {
    let mut changes = Changes::default();
    let (mut new, mut live) = (Cursor::default(), Cursor::default());
    let mut live_rows = live_rows;
    // Keys of another type have another order, and none of them is the same.
    let same_layout = schema == live_schema;
    let same_keys = schema.key().column_type == live_schema.key().column_type;
    loop {
        if new.is_spent() {
            new.refill(rows.next().await);
        }
        if live.is_spent() {
            live.refill(live_rows.recv().await.transpose()?);
        }
        let order = match (new.row(), live.row()) {
            (None, None) => return Ok(changes),
            (None, Some(_)) => Ordering::Greater,
            (Some((key, rest)), Some((live_key, live_rest))) if same_keys => {
                let order = key.cmp(live_key);
                if order.is_eq()
                    && !(same_layout && rest == live_rest)
                    && json(schema, key, rest) != json(live_schema, live_key, live_rest)
                {
                    changes.changed += 1;
                }
                order
            }
            (Some(_), _) => Ordering::Less,
        };
        changes.added += u64::from(order.is_lt());
        changes.removed += u64::from(order.is_gt());
        new.at += usize::from(order.is_le());
        live.at += usize::from(order.is_ge());
    }
}

fn json(schema: &Schema, key: &[u8], rest: &[u8]) -> Option<Vec<u8>> {
    let mut json = Vec::new();
    dataset::write_encoded_row_json(schema, key, rest, &mut json).ok()?;
    Some(json)
}

/// A place in a stream of batches.
#[derive(Default)]
struct Cursor {
    batch: RowBatch,
    at: usize,
}

impl Cursor {
    fn is_spent(&self) -> bool {
        self.at >= self.batch.len()
    }

    fn refill(&mut self, batch: Option<RowBatch>) {
        (self.batch, self.at) = (batch.unwrap_or_default(), 0);
    }

    fn row(&self) -> Option<(&[u8], &[u8])> {
        self.batch.get(self.at)
    }
}
