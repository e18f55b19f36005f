//! All rows in order, to be given out in one or several ranges of their keys.

use std::io;
use std::sync::Arc;

use super::buffer::Buffer;
use super::merge::{Merge, Source};
use super::row::same_bytes;
use super::run::Run;

/// A run is read in pieces between these sizes, however many share the memory; larger ones make it no quicker.
pub(super) const READ_BYTES: std::ops::RangeInclusive<usize> = (8 << 10)..=(32 << 10);

/// The sorted rows of a file: runs in the order in which they came, and the last buffer.
#[derive(Debug)]
pub(crate) struct Sorted {
    runs: Vec<Run>,
    last: Arc<Buffer>,
    /// With how many bytes all keys begin alike.
    same: usize,
}

impl Sorted {
    /// `last` is sorted.
    pub(super) fn new(runs: Vec<Run>, last: Arc<Buffer>) -> Self {
        let firsts = runs.iter().filter_map(|run| run.keys().next()).chain(last.first_key());
        let lasts = runs.iter().map(Run::last_key).chain(last.last_key());
        let same = same_bytes(firsts.min().unwrap_or_default(), lasts.max().unwrap_or_default());
        Self { runs, last, same }
    }

    /// All rows, read with so much memory.
    pub(super) fn merge(&self, memory_bytes: usize) -> io::Result<Merge> {
        self.range(None, None, memory_bytes)
    }

    /// Splits the rows at keys into `count` ranges with about as many bytes each; into fewer where there are few rows, or
    /// where the memory, which they take together, is not enough to read all runs for each.
    pub(crate) fn split(&self, count: usize, memory_bytes: usize) -> io::Result<Vec<Merge>> {
        let each_min = READ_BYTES.start() * self.runs.len().max(1);
        let bounds = self.bounds(count.min(memory_bytes / each_min).max(1));
        let each = memory_bytes / (bounds.len() + 1);
        let froms = std::iter::once(None).chain(bounds.iter().map(|bound| Some(bound.as_slice())));
        let tos = bounds.iter().map(|bound| Some(bound.as_slice())).chain([None]);
        froms.zip(tos).map(|(from, to)| self.range(from, to, each)).collect()
    }

    /// The keys with which all ranges but the first begin.
    fn bounds(&self, count: usize) -> Vec<Vec<u8>> {
        if self.runs.is_empty() && self.last.is_empty() {
            return Vec::new();
        }
        let places = |len: usize| (1..count).map(move |n| len * n / count);
        let mut bounds: Vec<Vec<u8>> = if self.runs.is_empty() {
            places(self.last.len()).map(|at| self.last.get(at).key.to_vec()).collect()
        } else {
            let mut keys: Vec<&[u8]> = self.runs.iter().flat_map(Run::keys).collect();
            keys.sort_unstable();
            places(keys.len()).map(|at| keys[at].to_vec()).collect()
        };
        bounds.dedup();
        bounds
    }

    /// The rows from one key on and below another.
    fn range(&self, from: Option<&[u8]>, to: Option<&[u8]>, memory_bytes: usize) -> io::Result<Merge> {
        let read_bytes = memory_bytes / self.runs.len().max(1);
        let read_bytes = read_bytes.clamp(*READ_BYTES.start(), *READ_BYTES.end());
        let runs = self.runs.iter().map(|run| run.read(from, to, read_bytes).map(Source::Run));
        let last = Source::Memory(self.last.clone(), self.last.range(from, to));
        Ok(Merge::new(runs.chain([Ok(last)]).collect::<io::Result<_>>()?, self.same))
    }
}
