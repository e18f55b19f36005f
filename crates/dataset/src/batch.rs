//! Rows on their way from the sort into a store: many rows in one piece of memory.
//!
//! The checksum covers the time between two others: a run of the sort has its own, and so has what a store keeps.

use crc32fast::Hasher;

/// Rows in key order, each as key bytes and the compact bytes of the other columns.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RowBatch {
    bytes: Vec<u8>,
    /// Where each row's key and each row end.
    ends: Vec<(usize, usize)>,
    /// Of all rows, from the time when they were complete.
    checksum: Option<u32>,
}

/// The rows of a batch are not what they were when it was sealed.
#[derive(Debug, thiserror::Error)]
#[error("rows changed in memory between the sort and the store")]
pub struct DamagedBatch;

impl RowBatch {
    /// A batch that need not grow before it holds so many bytes of rows that are not too short.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes + bytes / 8),
            ends: Vec::with_capacity(bytes / 16),
            checksum: None,
        }
    }

    /// Adds a row at the end.
    pub fn push(&mut self, key: &[u8], rest: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(rest);
        self.ends.push((key_end, self.bytes.len()));
    }

    /// Takes the checksum of the rows; no others may follow.
    pub fn seal(&mut self) {
        self.checksum = Some(self.checksum_now());
    }

    /// Compares the rows with their checksum. A batch that was not sealed has none.
    pub fn check(&self) -> Result<(), DamagedBatch> {
        let is_damaged = self.checksum.is_some_and(|checksum| checksum != self.checksum_now());
        if is_damaged { Err(DamagedBatch) } else { Ok(()) }
    }

    /// Whether the batch has a checksum.
    pub fn is_sealed(&self) -> bool {
        self.checksum.is_some()
    }

    fn checksum_now(&self) -> u32 {
        let mut hasher = Hasher::new();
        hasher.update(&self.bytes);
        for (key_end, end) in &self.ends {
            hasher.update(&key_end.to_le_bytes());
            hasher.update(&end.to_le_bytes());
        }
        hasher.finalize()
    }

    /// The row at a place: its key bytes and the bytes of the other columns.
    pub fn get(&self, at: usize) -> Option<(&[u8], &[u8])> {
        let (key_end, end) = *self.ends.get(at)?;
        let start = if at == 0 { 0 } else { self.ends[at - 1].1 };
        Some((&self.bytes[start..key_end], &self.bytes[key_end..end]))
    }

    /// All rows, as [`RowBatch::get`] gives them.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many bytes the rows take.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p6_a_bit_that_changes_in_a_sealed_batch_is_found() {
        let mut batch = RowBatch::default();
        batch.push(b"a", b"1");
        batch.push(b"b", b"2");
        assert!(!batch.is_sealed());
        batch.seal();
        assert!(batch.is_sealed() && batch.check().is_ok());
        for at in 0..batch.bytes.len() {
            batch.bytes[at] ^= 0x10;
            assert!(batch.check().is_err(), "byte {at}");
            batch.bytes[at] ^= 0x10;
        }
        batch.ends[0] = (2, 2);
        assert!(batch.check().is_err());
    }
}
