//! Rows that come in key order already, each key once: handed on while the rest of the file is still coming.
//!
//! It begins with the first full buffer, and ends with the first row that is out of order. Then what was handed on was
//! for nothing, and all rows are sorted as if nobody had wanted them early.

use std::mem;

use dataset::RowBatch;
use tokio::sync::{mpsc, oneshot};

use super::buffer::Buffer;
use crate::Range;
use crate::sorted::{BATCH_BYTES, BATCHES_WAITING};

/// Hands rows on for as long as they come in order.
#[derive(Debug)]
pub(super) enum Early {
    /// No buffer was full yet.
    Wanted(oneshot::Sender<Range>),
    /// All rows so far were handed on.
    Giving(Giving),
}

#[derive(Debug)]
pub(super) struct Giving {
    rows: mpsc::Sender<RowBatch>,
    batch: RowBatch,
    last_key: Vec<u8>,
}

impl Early {
    /// Hands the rows of a buffer on, and waits for whoever takes them. Nothing comes back if they are not in order, or
    /// nobody wants them any more.
    pub(super) fn give(self, buffer: &Buffer) -> Option<Self> {
        if !buffer.came_in_order() {
            return None;
        }
        let giving = match self {
            Self::Wanted(wanted) => Giving::start(wanted)?,
            Self::Giving(giving) => giving,
        };
        giving.give(buffer).map(Self::Giving)
    }

    /// Hands the last rows on, if it was ever begun; a file that is smaller than a buffer is not worth it. Says whether
    /// all rows were handed on.
    pub(super) fn finish(self, last: &Buffer) -> bool {
        match self {
            Self::Giving(giving) if last.came_in_order() => {
                giving.give(last).is_some_and(|mut giving| giving.send())
            }
            Self::Giving(_) | Self::Wanted(_) => false,
        }
    }
}

impl Giving {
    fn start(wanted: oneshot::Sender<Range>) -> Option<Self> {
        let (rows, range) = mpsc::channel(BATCHES_WAITING);
        wanted.send(range).ok()?;
        Some(Self { rows, batch: RowBatch::with_capacity(BATCH_BYTES), last_key: Vec::new() })
    }

    fn give(mut self, buffer: &Buffer) -> Option<Self> {
        let Some((first, last)) = buffer.first_key().zip(buffer.last_key()) else { return Some(self) };
        if !self.last_key.is_empty() && self.last_key.as_slice() >= first {
            return None;
        }
        self.last_key = last.to_vec();
        let given = buffer.try_for_each(|row| {
            self.batch.push(row.key, row.rest);
            if self.batch.bytes_len() < BATCH_BYTES || self.send() { Ok(()) } else { Err(()) }
        });
        given.is_ok().then_some(self)
    }

    /// Says whether the batch was taken.
    fn send(&mut self) -> bool {
        let batch = mem::replace(&mut self.batch, RowBatch::with_capacity(BATCH_BYTES));
        batch.is_empty() || self.rows.blocking_send(batch).is_ok()
    }
}
