//! CSV records with the lines on which they stand, out of a stream of bytes that may be hostile.
//!
//! csv-async grows its record for as long as no record ends, so the bytes since the last one are counted below it.
//! It also takes the end of the input for the end of a quoted field; a file that was cut inside one would pass as
//! whole. Therefore a line of our own follows the last byte: if it comes out as a record, every quote was closed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use csv_async::{AsyncReader, AsyncReaderBuilder, ByteRecord, ErrorKind, Terminator};
use tokio::io::{AsyncRead, ReadBuf};

use crate::error::Fault;
use crate::{Error, Limits};

/// How much is read at once.
const BUFFER_BYTES: usize = 128 << 10;

/// What follows the last byte of a file. No text has a record separator (byte 1e) at both ends of a line.
const END: &[u8] = b"\n\x1etableswap-end-of-file\x1e\n";

pub(crate) struct Records<R> {
    csv: AsyncReader<Guarded<R>>,
    /// The line on which the next record starts, or a blank line before it.
    line: u64,
    packing: &'static str,
}

impl<R: AsyncRead + Unpin + Send> Records<R> {
    pub(crate) fn new(reader: R, packing: &'static str, limits: &Limits) -> Self {
        let guarded = Guarded {
            reader,
            unpacked_bytes: 0,
            unpacked_bytes_max: limits.unpacked_bytes_max,
            record_bytes: 0,
            record_bytes_max: limits.record_bytes_max,
            end: None,
        };
        // Only LF ends a line; the CR before it is taken off here. So lines are counted the same way in both kinds
        // of files.
        let csv = AsyncReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(BUFFER_BYTES)
            .terminator(Terminator::Any(b'\n'))
            .create_reader(guarded);
        Self { csv, line: 1, packing }
    }

    /// Reads the next record and returns the line on which it starts, or nothing at the end.
    pub(crate) async fn next(&mut self, record: &mut ByteRecord) -> Result<Option<u64>, Error> {
        loop {
            let found = self.csv.read_byte_record(record).await;
            let found = found.map_err(|error| self.error(error))?;
            self.csv.get_mut().record_bytes = 0;
            if !found {
                return Err(Error::OpenQuote { line: self.line });
            }
            let end = self.csv.position().line();
            let line = if end == self.line + 1 {
                self.line
            } else {
                // There are blank lines before it, or breaks in its fields.
                end - 1 - memchr::memchr_iter(b'\n', record.as_slice()).count() as u64
            };
            if record.len() == 1 && record.as_slice() == &END[1..END.len() - 1] && self.at_end() {
                return Ok(None);
            }
            if self.at_end() && memchr::memmem::find(record.as_slice(), &END[1..]).is_some() {
                // The end of the input ended this record, so no line break stands behind it.
                return Err(Error::OpenQuote { line: line + 1 });
            }
            self.line = end;
            if record.as_slice() != b"\r" {
                return Ok(Some(line));
            }
        }
    }

    /// The reader below, to ask it what it counted.
    pub(crate) fn get_ref(&self) -> &R {
        &self.csv.get_ref().reader
    }

    fn at_end(&self) -> bool {
        self.csv.get_ref().end.is_some()
    }

    fn error(&self, error: csv_async::Error) -> Error {
        let ErrorKind::Io(error) = error.into_kind() else { return Error::Panicked };
        match Fault::take(error) {
            Ok(fault) => fault.into_error(self.line),
            Err(source) => Error::Unpack { format: self.packing, source },
        }
    }
}

/// Counts what passes and puts [`END`] behind the last byte.
struct Guarded<R> {
    reader: R,
    unpacked_bytes: u64,
    unpacked_bytes_max: u64,
    record_bytes: usize,
    record_bytes_max: usize,
    /// How much of the last line has been given out, once the file is at its end.
    end: Option<usize>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Guarded<R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.end.is_none() {
            let before = buf.filled().len();
            std::task::ready!(Pin::new(&mut this.reader).poll_read(cx, buf))?;
            let count = buf.filled().len() - before;
            if count > 0 {
                return Poll::Ready(this.count(count));
            }
        }
        let given = this.end.unwrap_or(0);
        let part = &END[given..(given + buf.remaining()).min(END.len())];
        buf.put_slice(part);
        this.end = Some(given + part.len());
        Poll::Ready(Ok(()))
    }
}

impl<R> Guarded<R> {
    fn count(&mut self, count: usize) -> io::Result<()> {
        self.unpacked_bytes += count as u64;
        if self.unpacked_bytes > self.unpacked_bytes_max {
            return Err(Fault::TooLarge { max: self.unpacked_bytes_max, unpacked: true }.into());
        }
        // What came with the end of the record before may be one buffer more than the record.
        if self.record_bytes > self.record_bytes_max {
            return Err(Fault::RecordTooLong { max: self.record_bytes_max }.into());
        }
        self.record_bytes += count;
        Ok(())
    }
}
