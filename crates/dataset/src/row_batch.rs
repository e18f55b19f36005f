//! Encoded rows on their way from the sort into a store, many in one allocation.
//!
//! A checksum covers the time between that of the sort run and that of the store.

use crc32fast::Hasher;

/// Rows in key order. Each is two byte strings: its key, and its payload, which holds the other columns.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RowBatch {
    bytes: Vec<u8>,
    bounds: Vec<RowBounds>,
    /// Covers all rows once the batch is sealed.
    checksum: Option<u32>,
}

/// The rows of a batch are not what they were when it was sealed.
#[derive(Debug, thiserror::Error)]
#[error("rows changed in memory between the sort and the store")]
pub struct DamagedBatch;

/// Offsets into the bytes of the batch. A row starts where the row before it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RowBounds {
    key_end: usize,
    row_end: usize,
}

impl RowBatch {
    /// Allocates memory for about this many bytes of rows of at least 16 bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        // A batch is sent after the row that fills it, so it ends a little above the wanted size.
        Self {
            bytes: Vec::with_capacity(bytes + bytes / 8),
            bounds: Vec::with_capacity(bytes / 16),
            checksum: None,
        }
    }

    /// Appends a row.
    pub fn push(&mut self, key: &[u8], payload: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        self.bounds.push(RowBounds { key_end, row_end: self.bytes.len() });
    }

    /// Takes the checksum of the rows. No row may follow.
    pub fn seal(&mut self) {
        self.checksum = Some(self.compute_checksum());
    }

    /// Compares the rows with their checksum. A batch that is not sealed has none.
    pub fn check(&self) -> Result<(), DamagedBatch> {
        let is_damaged = self.checksum.is_some_and(|checksum| checksum != self.compute_checksum());
        if is_damaged { Err(DamagedBatch) } else { Ok(()) }
    }

    /// Whether the batch has a checksum.
    pub fn is_sealed(&self) -> bool {
        self.checksum.is_some()
    }

    fn compute_checksum(&self) -> u32 {
        let mut hasher = Hasher::new();
        hasher.update(&self.bytes);
        for RowBounds { key_end, row_end } in &self.bounds {
            hasher.update(&key_end.to_le_bytes());
            hasher.update(&row_end.to_le_bytes());
        }
        hasher.finalize()
    }

    /// The key and the payload of the row at an index.
    pub fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let RowBounds { key_end, row_end } = *self.bounds.get(index)?;
        let start = if index == 0 { 0 } else { self.bounds[index - 1].row_end };
        Some((&self.bytes[start..key_end], &self.bytes[key_end..row_end]))
    }

    /// The key and the payload of each row.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.bounds.len()
    }

    /// Whether the batch has no rows.
    pub fn is_empty(&self) -> bool {
        self.bounds.is_empty()
    }

    /// The size of all keys and payloads in bytes.
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
        batch.bounds[0] = RowBounds { key_end: 2, row_end: 2 };
        assert!(batch.check().is_err());
    }
}
