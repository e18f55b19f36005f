//! Sorted rows on their way out: from one buffer, or merged from runs.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io;

use super::buffer::Buffer;
use super::run::{RowRef, Run, RunReader};

/// A row with memory of its own, which is used again for the next one.
#[derive(Debug, Default, Clone)]
pub(crate) struct Row {
    pub(super) bytes: Vec<u8>,
    pub(super) key_len: usize,
    pub(crate) line: u64,
}

impl Row {
    pub(crate) fn key(&self) -> &[u8] {
        &self.bytes[..self.key_len]
    }

    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.key_len..]
    }

    pub(super) fn as_ref(&self) -> RowRef<'_> {
        RowRef { key: self.key(), rest: self.rest(), line: self.line }
    }

    fn set(&mut self, row: RowRef<'_>) {
        self.bytes.clear();
        self.bytes.extend_from_slice(row.key);
        self.bytes.extend_from_slice(row.rest);
        (self.key_len, self.line) = (row.key.len(), row.line);
    }
}

/// All rows in the order of their keys, and of their lines where keys are equal.
#[derive(Debug)]
pub(crate) enum Sorted {
    Memory { buffer: Buffer, at: usize },
    Runs(BinaryHeap<Head>),
}

/// The first row of a run that was not given out yet.
#[derive(Debug)]
pub(crate) struct Head {
    row: Row,
    run: RunReader,
}

/// A run is read in pieces between these sizes, however many share the memory.
const READ_BYTES: std::ops::RangeInclusive<usize> = (16 << 10)..=(1 << 20);

impl Sorted {
    pub(super) fn memory(buffer: Buffer) -> Self {
        Self::Memory { buffer, at: 0 }
    }

    pub(super) fn merge(runs: Vec<Run>, memory_bytes: usize) -> io::Result<Self> {
        let read_bytes = (memory_bytes / runs.len().max(1)).clamp(*READ_BYTES.start(), *READ_BYTES.end());
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for run in runs {
            let mut head = Head { row: Row::default(), run: run.read(read_bytes)? };
            if head.run.next(&mut head.row)? {
                heads.push(head);
            }
        }
        Ok(Self::Runs(heads))
    }

    /// Puts the next row into `row`; says whether there was one.
    pub(crate) fn next(&mut self, row: &mut Row) -> io::Result<bool> {
        match self {
            Self::Memory { buffer, at } => {
                let Some(next) = buffer.get(*at) else { return Ok(false) };
                *at += 1;
                row.set(next);
            }
            Self::Runs(heads) => {
                let Some(mut head) = heads.peek_mut() else { return Ok(false) };
                std::mem::swap(row, &mut head.row);
                let Head { row: next, run } = &mut *head;
                if !run.next(next)? {
                    PeekMut::pop(head);
                }
            }
        }
        Ok(true)
    }
}

impl Ord for Head {
    /// The heap gives out its largest, so the order is turned over.
    fn cmp(&self, other: &Self) -> Ordering {
        other.row.key().cmp(self.row.key()).then(other.row.line.cmp(&self.row.line))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}
