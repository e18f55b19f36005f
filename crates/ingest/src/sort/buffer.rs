//! Rows in memory that are still to be sorted.

use std::cmp::Ordering;
use std::io;

use super::run::RowRef;

/// Rows as they came, and an index of them that is sorted in their place.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    index: Vec<Entry>,
}

/// Where a row stands, with the first bytes of its key: they settle nearly every comparison without a look at it.
#[derive(Debug, Clone, Copy)]
struct Entry {
    prefix: u64,
    at: usize,
}

impl Buffer {
    pub(crate) fn push(&mut self, key: &[u8], rest: &[u8], line: u64) {
        let mut prefix = [0; 8];
        let len = key.len().min(8);
        prefix[..len].copy_from_slice(&key[..len]);
        self.index.push(Entry { prefix: u64::from_be_bytes(prefix), at: self.bytes.len() });
        RowRef { key, rest, line }.encode(&mut self.bytes);
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.index.len() * size_of::<Entry>()
    }

    pub(crate) fn sort(&mut self) {
        let bytes = &self.bytes;
        self.index.sort_unstable_by(|a, b| a.prefix.cmp(&b.prefix).then_with(|| compare(bytes, *a, *b)));
    }

    /// Gives out every row, as the index has them.
    pub(crate) fn each(&self, mut write: impl FnMut(RowRef<'_>) -> io::Result<()>) -> io::Result<()> {
        self.index.iter().try_for_each(|entry| write(RowRef::decode(&self.bytes[entry.at..])))
    }

    /// The row at a place of the index.
    pub(crate) fn get(&self, at: usize) -> Option<RowRef<'_>> {
        self.index.get(at).map(|entry| RowRef::decode(&self.bytes[entry.at..]))
    }
}

/// The order of two rows whose keys begin alike; rows that came earlier stand earlier in the bytes.
fn compare(bytes: &[u8], a: Entry, b: Entry) -> Ordering {
    let key = |entry: Entry| RowRef::decode(&bytes[entry.at..]).key;
    key(a).cmp(key(b)).then(a.at.cmp(&b.at))
}
