//! Rows in memory that are still to be sorted.

use std::cmp::Ordering;
use std::hint::black_box;
use std::ops::Range;

use super::row::{RowRef, prefix, same_bytes};

/// Rows as they came, and an index of them that is sorted in their place.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    index: Vec<Entry>,
    /// Both together hold so much at most.
    bytes_max: usize,
    /// Where the key of the last row stands.
    last_key: Range<usize>,
    /// No row came behind one that belongs behind it.
    is_sorted: bool,
    /// Each came with a key above the one before.
    came_in_order: bool,
    /// With so many bytes all keys begin alike.
    same: usize,
}

/// Where a row stands, with the first bytes of its key in which keys differ: they settle nearly every comparison
/// without a look at it.
#[derive(Debug, Clone, Copy)]
struct Entry {
    prefix: u64,
    at: u32,
}

/// From so many rows on it is known how long rows are, and memory is taken for as many as there may be: a buffer that
/// grew by doubling would take twice what it may.
const ROWS_KNOWN: usize = 4096;
/// So many rows are asked for at once.
const ASKED_FOR: usize = 32;
/// Places in the bytes are u32.
const BYTES_MAX: usize = u32::MAX as usize;

impl Buffer {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, is_sorted: true, came_in_order: true, ..Self::default() }
    }

    /// Whether one more row fits; into an empty buffer any row does.
    pub(crate) fn has_room(&self, key: &[u8], rest: &[u8]) -> bool {
        let bytes = self.bytes.len() + RowRef::bytes_max(key, rest);
        if self.index.len() >= ROWS_KNOWN {
            return bytes <= self.bytes.capacity() && self.index.len() < self.index.capacity();
        }
        let all = bytes + (self.index.len() + 1) * size_of::<Entry>();
        self.is_empty() || (all <= self.bytes_max && bytes <= BYTES_MAX)
    }

    pub(crate) fn push(&mut self, key: &[u8], rest: &[u8], line: u64) {
        if self.is_empty() {
            self.same = key.len();
        } else if self.is_sorted || self.same > 0 {
            let last = &self.bytes[self.last_key.clone()];
            let order = last.cmp(key);
            self.is_sorted = self.is_sorted && order.is_le();
            self.came_in_order = self.came_in_order && order.is_lt();
            self.same = same_bytes(last, key).min(self.same);
        }
        self.reserve(RowRef::bytes_max(key, rest));
        // `has_room` has seen to it that the place fits.
        let at = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.index.push(Entry { prefix: prefix(key), at });
        RowRef { key, rest, line }.encode(&mut self.bytes);
        let key_end = self.bytes.len() - rest.len();
        self.last_key = key_end - key.len()..key_end;
    }

    /// Takes memory for a row, and for those that may still come.
    fn reserve(&mut self, row: usize) {
        let (len, rows) = (self.bytes.len(), self.index.len());
        if rows + 1 == ROWS_KNOWN {
            let each = (len + row).div_ceil(ROWS_KNOWN) + size_of::<Entry>();
            let rows_max = (self.bytes_max / each).max(ROWS_KNOWN);
            self.index.reserve_exact(rows_max - rows);
            let bytes = self.bytes_max.saturating_sub(rows_max * size_of::<Entry>()).min(BYTES_MAX);
            self.bytes.reserve_exact(row.max(bytes.saturating_sub(len)));
        } else if self.bytes.capacity() < len + row {
            self.bytes.reserve_exact(row.max(len.min(self.bytes_max.saturating_sub(len))));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether the keys came in their order, each once.
    pub(crate) fn came_in_order(&self) -> bool {
        self.came_in_order
    }

    /// All rows as they came, as they are written where they came in order.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Brings the index into the order of the keys; rows with the same key stay as they came.
    pub(crate) fn sort(&mut self) {
        if self.is_sorted {
            return;
        }
        let bytes = &self.bytes;
        if self.same > 0 {
            for entry in &mut self.index {
                entry.prefix = prefix(&row(bytes, *entry).key[self.same..]);
            }
        }
        self.index.sort_unstable_by(|a, b| a.prefix.cmp(&b.prefix).then_with(|| compare(bytes, *a, *b)));
        self.is_sorted = true;
    }

    /// The row at a place of the index.
    pub(crate) fn get(&self, at: usize) -> RowRef<'_> {
        row(&self.bytes, self.index[at])
    }

    /// Hands all rows on. Once sorted, they stand anywhere in memory: each is asked for a little before it is needed,
    /// so that the processor waits for several at once.
    pub(crate) fn try_for_each<E>(&self, mut take: impl FnMut(RowRef<'_>) -> Result<(), E>) -> Result<(), E> {
        for entries in self.index.chunks(ASKED_FOR) {
            black_box(entries.iter().fold(0, |all, entry| all ^ self.bytes[entry.at as usize]));
            entries.iter().try_for_each(|entry| take(row(&self.bytes, *entry)))?;
        }
        Ok(())
    }

    /// A row about every so many bytes, with its place in all bytes; of rows that came in order.
    pub(crate) fn marks(&self, every_bytes: u64) -> impl Iterator<Item = (&[u8], u64)> {
        let mut next = 0;
        self.index.iter().filter_map(move |entry| {
            let at = u64::from(entry.at);
            (at >= next).then(|| {
                next = at + every_bytes;
                (row(&self.bytes, *entry).key, at)
            })
        })
    }

    /// The first key of those that are sorted.
    pub(crate) fn first_key(&self) -> Option<&[u8]> {
        self.index.first().map(|entry| row(&self.bytes, *entry).key)
    }

    /// The last key of those that are sorted.
    pub(crate) fn last_key(&self) -> Option<&[u8]> {
        self.index.last().map(|entry| row(&self.bytes, *entry).key)
    }

    /// The places of the rows from one key on and below another.
    pub(crate) fn range(&self, from: Option<&[u8]>, to: Option<&[u8]>) -> Range<usize> {
        let place = |key: &[u8]| self.index.partition_point(|entry| row(&self.bytes, *entry).key < key);
        from.map_or(0, place)..to.map_or(self.len(), place)
    }

    /// Forgets all rows and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.index.clear();
        (self.is_sorted, self.came_in_order) = (true, true);
    }
}

fn row(bytes: &[u8], entry: Entry) -> RowRef<'_> {
    RowRef::decode(&bytes[entry.at as usize..])
}

/// The order of two rows whose keys begin alike; rows that came earlier stand earlier in the bytes.
fn compare(bytes: &[u8], a: Entry, b: Entry) -> Ordering {
    row(bytes, a).key.cmp(row(bytes, b).key).then(a.at.cmp(&b.at))
}
