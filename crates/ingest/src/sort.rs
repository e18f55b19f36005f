//! The external sort: rows go in as they come and come out in the order of their keys, with bounded memory.
//!
//! Rows fill a buffer; a full one is sorted and written out as a run by a thread of its own while the next one fills.
//! So arrival, parsing and sorting overlap, and memory is two buffers. A file that fits into one buffer never touches
//! the disk. Rows with the same key stay in the order of their lines.

mod buffer;
mod merge;
mod run;

use std::path::{Path, PathBuf};

use tokio::task::JoinHandle;

use crate::Error;
use buffer::Buffer;
pub(crate) use merge::{Row, Sorted};
use run::Run;

/// At most so many runs are open at once; each costs a file descriptor and a read buffer.
const RUNS_MAX: usize = 256;

/// Takes rows in any order.
pub(crate) struct Sort {
    work_dir: PathBuf,
    /// How much one of the two buffers holds.
    buffer_bytes: usize,
    filling: Buffer,
    /// The buffer that is being sorted and written, if one is.
    writing: Option<JoinHandle<Result<Run, Error>>>,
    runs: Vec<Run>,
}

impl Sort {
    pub(crate) fn new(work_dir: &Path, memory_bytes: usize) -> Self {
        let buffer_bytes = memory_bytes / 2;
        let work_dir = work_dir.to_owned();
        Self { work_dir, buffer_bytes, filling: Buffer::default(), writing: None, runs: Vec::new() }
    }

    /// Takes a row; waits for the disk when it is slower than the rows come.
    pub(crate) async fn push(&mut self, key: &[u8], rest: &[u8], line: u64) -> Result<(), Error> {
        self.filling.push(key, rest, line);
        if self.filling.memory_bytes() >= self.buffer_bytes { self.spill().await } else { Ok(()) }
    }

    /// Ends the input.
    pub(crate) async fn finish(mut self) -> Result<Sorted, Error> {
        if self.runs.is_empty() && self.writing.is_none() {
            let mut buffer = self.filling;
            let sort = tokio::task::spawn_blocking(move || {
                buffer.sort();
                buffer
            });
            return Ok(Sorted::memory(sort.await.map_err(|_| Error::Panicked)?));
        }
        self.spill().await?;
        self.written().await?;
        Sorted::merge(self.runs, self.buffer_bytes).map_err(Error::Work)
    }

    async fn spill(&mut self) -> Result<(), Error> {
        self.written().await?;
        if self.runs.len() >= RUNS_MAX {
            self.unite().await?;
        }
        let mut buffer = std::mem::take(&mut self.filling);
        let work_dir = self.work_dir.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || {
            buffer.sort();
            Run::write(&work_dir, |write| buffer.each(write)).map_err(Error::Work)
        }));
        Ok(())
    }

    /// Waits for the run that is being written.
    async fn written(&mut self) -> Result<(), Error> {
        if let Some(writing) = self.writing.take() {
            self.runs.push(writing.await.map_err(|_| Error::Panicked)??);
        }
        Ok(())
    }

    /// Makes one run of all.
    async fn unite(&mut self) -> Result<(), Error> {
        let (runs, work_dir, bytes) =
            (std::mem::take(&mut self.runs), self.work_dir.clone(), self.buffer_bytes);
        let unite = move || {
            let mut sorted = Sorted::merge(runs, bytes)?;
            Run::write(&work_dir, |write| {
                let mut row = Row::default();
                while sorted.next(&mut row)? {
                    write(row.as_ref())?;
                }
                Ok(())
            })
        };
        let run = tokio::task::spawn_blocking(unite).await.map_err(|_| Error::Panicked)?;
        self.runs.push(run.map_err(Error::Work)?);
        Ok(())
    }
}
