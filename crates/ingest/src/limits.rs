//! What a file may cost, handed in by whoever runs an ingest, and how far an ingest has come.

use std::sync::atomic::{AtomicU64, Ordering};

/// Limits on one file.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes as they come, before they are unpacked.
    pub bytes_max: u64,
    /// Bytes after they are unpacked.
    pub unpacked_bytes_max: u64,
    /// How many times its size a packed file may be when it is unpacked. CSV packs to a third or a tenth; repeated rows to
    /// a fiftieth. Without this limit a file of a megabyte keeps the ingest busy for minutes.
    pub unpacked_ratio_max: u64,
    /// Bytes in one record.
    pub record_bytes_max: usize,
    /// Rows in one file.
    pub rows_max: u64,
    /// Rejects after which the rest of the file is not read, unless the dataset allows more.
    pub rejects_max: u64,
    /// Rejects that the report keeps; all are counted.
    pub report_rows_max: u64,
    /// Memory for sorting.
    pub sort_memory_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_max: 1 << 40,
            unpacked_bytes_max: 1 << 40,
            unpacked_ratio_max: 100,
            record_bytes_max: 1 << 20,
            rows_max: 10_000_000_000,
            rejects_max: 1_000_000,
            report_rows_max: 10_000,
            sort_memory_bytes: 128 << 20,
        }
    }
}

/// How far an ingest has come; read by others while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    bytes_expected: AtomicU64,
    rows: AtomicU64,
    rejected: AtomicU64,
    given: AtomicU64,
}

impl Progress {
    /// Bytes that have come, packed as they came.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes that will have come in the end, about, where that is known.
    pub fn bytes_expected(&self) -> Option<u64> {
        Some(self.bytes_expected.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Says how many bytes will come.
    pub fn expect_bytes(&self, bytes: u64) {
        self.bytes_expected.store(bytes, Ordering::Relaxed);
    }

    /// Valid rows that were read.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Rows that were refused.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Rows that were given out in key order.
    pub fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    pub(crate) fn add_given(&self, rows: u64) {
        self.given.fetch_add(rows, Ordering::Relaxed);
    }

    pub(crate) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_rows(&self, rows: u64, rejected: u64) {
        self.rows.store(rows, Ordering::Relaxed);
        self.rejected.store(rejected, Ordering::Relaxed);
    }
}
