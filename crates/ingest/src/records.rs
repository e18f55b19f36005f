//! CSV records with the lines on which they stand, out of a stream of bytes that may be hostile.
//!
//! csv-async grows its record for as long as no record ends, so the bytes since the last one are counted below it.
//! What it accepts although the file is damaged is found by a [`QuoteScanner`] over the same bytes; the two are matched
//! by the place at which a record ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use csv_async::{AsyncReader, AsyncReaderBuilder, ByteRecord, ErrorKind, Terminator};
use tokio::io::{AsyncRead, ReadBuf};

use crate::error::Fault;
use crate::quoting::QuoteScanner;
use crate::{Error, Limits};

/// How much is read at once.
const BUFFER_BYTES: usize = 128 << 10;

/// Where a record was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// The line on which the record starts.
    pub(crate) line: u64,
    /// Whether text follows the closing quote of one of its fields.
    pub(crate) has_text_behind_quote: bool,
}

pub(crate) struct Records<R> {
    csv: AsyncReader<Guarded<R>>,
    /// The line on which the next record starts, or a blank line before it.
    line: u64,
}

impl<R: AsyncRead + Unpin + Send> Records<R> {
    pub(crate) fn new(reader: R, separator: u8, limits: &Limits) -> Self {
        let guarded = Guarded {
            reader,
            record_bytes: 0,
            record_bytes_max: limits.record_bytes_max,
            quotes: QuoteScanner::new(separator),
            end: End::Ahead,
        };
        // Only LF ends a line; the CR before it is taken off here. So lines are counted the same way in both kinds
        // of files.
        let csv = AsyncReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(separator)
            .buffer_capacity(BUFFER_BYTES)
            .terminator(Terminator::Any(b'\n'))
            .create_reader(guarded);
        Self { csv, line: 1 }
    }

    /// Reads the next record, or nothing at the end.
    pub(crate) async fn next(&mut self, record: &mut ByteRecord) -> Result<Option<Found>, Error> {
        loop {
            let found = self.csv.read_byte_record(record).await;
            if !found.map_err(|error| self.error(error))? {
                return Ok(None);
            }
            let (end_line, end) = (self.csv.position().line(), self.csv.position().byte());
            let guarded = self.csv.get_mut();
            guarded.record_bytes = 0;
            if guarded.quotes.has_only_cr() {
                return Err(Error::CarriageReturns);
            }
            let has_text_behind_quote = guarded.quotes.has_text_behind_quote(end);
            // Only the line end that was added stands behind the last byte of the file.
            let is_last = end > guarded.quotes.bytes();
            let breaks = || memchr::memchr_iter(b'\n', record.as_slice()).count() as u64;
            if is_last && guarded.quotes.is_in_quotes() {
                return Err(Error::OpenQuote { line: end_line - breaks() });
            }
            // Otherwise there are blank lines before the record, or breaks in its fields.
            let is_one_line = end_line == self.line + 1;
            let line = if is_one_line { self.line } else { end_line - 1 - breaks() };
            self.line = end_line;
            if record.as_slice() != b"\r" {
                return Ok(Some(Found { line, has_text_behind_quote }));
            }
        }
    }

    /// The reader below, to ask it what it counted.
    pub(crate) fn get_ref(&self) -> &R {
        &self.csv.get_ref().reader
    }

    fn error(&self, error: csv_async::Error) -> Error {
        let (line, why) = (self.line, error.to_string());
        let ErrorKind::Io(error) = error.into_kind() else { return Error::UnreadableRecord { line, why } };
        match Error::of_reader(error, line) {
            // Without LF the whole file is one record.
            Error::RecordTooLong { .. } if self.csv.get_ref().quotes.has_only_cr() => Error::CarriageReturns,
            error => error,
        }
    }
}

/// Counts what passes, and ends the last line where the file does not.
struct Guarded<R> {
    reader: R,
    record_bytes: usize,
    record_bytes_max: usize,
    quotes: QuoteScanner,
    end: End,
}

/// Whether the file was read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Ahead,
    /// It was, and the added line end was read too.
    Passed,
}

impl<R: AsyncRead + Unpin> AsyncRead for Guarded<R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.end == End::Passed {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut this.reader).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        if read.is_empty() {
            this.end = End::Passed;
            // With it every record ends with a line end, and one that holds it has an open quote.
            buf.put_slice(b"\n");
            return Poll::Ready(Ok(()));
        }
        this.quotes.scan(read);
        Poll::Ready(this.count(read.len()))
    }
}

impl<R> Guarded<R> {
    fn count(&mut self, count: usize) -> io::Result<()> {
        // What came with the end of the record before may be one buffer more than the record.
        if self.record_bytes > self.record_bytes_max {
            return Err(Fault::RecordTooLong { max: self.record_bytes_max }.into());
        }
        self.record_bytes += count;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_of_the_csv_reader_is_one_of_the_record_and_not_a_panic() {
        // Our own reader takes any number of fields.
        let mut strict = AsyncReaderBuilder::new().has_headers(false).create_reader(&b"a,b\nc\n"[..]);
        let mut record = ByteRecord::new();
        assert!(strict.read_byte_record(&mut record).await.unwrap());
        let error = strict.read_byte_record(&mut record).await.unwrap_err();
        let records = Records::new(&b""[..], b',', &Limits::default());
        let error = records.error(error);
        assert_eq!((error.code(), error.is_of_the_file()), ("unreadable-record", true));
        assert!(error.to_string().starts_with("line 1: the record cannot be read: CSV error"), "{error}");
    }
}
