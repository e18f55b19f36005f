//! Rows on their way from the sort into a store: many rows in one piece of memory.

/// Rows in key order, each as key bytes and the compact bytes of the other columns.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RowBatch {
    bytes: Vec<u8>,
    /// Where each row's key and each row end.
    ends: Vec<(usize, usize)>,
}

impl RowBatch {
    /// A batch that need not grow before it holds so many bytes of rows that are not too short.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes + bytes / 8), ends: Vec::with_capacity(bytes / 16) }
    }

    /// Adds a row at the end.
    pub fn push(&mut self, key: &[u8], rest: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(rest);
        self.ends.push((key_end, self.bytes.len()));
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
