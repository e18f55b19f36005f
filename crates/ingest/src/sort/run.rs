//! A sorted run on disk, and the form of a row in it: the lengths of its parts, its line, its key, its rest.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use super::merge::Row;

/// How much is written at once.
const WRITE_BYTES: usize = 1 << 20;

/// A row that stands somewhere in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowRef<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) rest: &'a [u8],
    /// The line of the file that it came from.
    pub(crate) line: u64,
}

impl<'a> RowRef<'a> {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        for number in [self.key.len() as u128, self.rest.len() as u128, self.line.into()] {
            dataset::write_varint(number, out);
        }
        out.extend_from_slice(self.key);
        out.extend_from_slice(self.rest);
    }

    /// Reads a row that [`RowRef::encode`] wrote into this same memory.
    pub(crate) fn decode(mut bytes: &'a [u8]) -> Self {
        let mut number = || {
            let (mut number, mut shift) = (0, 0);
            loop {
                let byte = bytes[0];
                bytes = &bytes[1..];
                number |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    return number;
                }
                shift += 7;
            }
        };
        let [key_len, rest_len, line] = [number(), number(), number()];
        // Lengths of what was in memory fit into memory.
        let (key, bytes) = bytes.split_at(usize::try_from(key_len).unwrap_or(usize::MAX));
        Self { key, rest: &bytes[..usize::try_from(rest_len).unwrap_or(usize::MAX)], line }
    }
}

/// Rows in key order in a file without a name, which goes with its last handle.
#[derive(Debug)]
pub(crate) struct Run(File);

impl Run {
    /// Writes what `rows` hands to its argument.
    pub(crate) fn write(
        work_dir: &Path,
        rows: impl FnOnce(&mut dyn FnMut(RowRef<'_>) -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(WRITE_BYTES, tempfile::tempfile_in(work_dir)?);
        let mut encoded = Vec::new();
        rows(&mut |row| {
            encoded.clear();
            row.encode(&mut encoded);
            file.write_all(&encoded)
        })?;
        file.into_inner().map(Self).map_err(io::IntoInnerError::into_error)
    }

    /// Reads it from its beginning.
    pub(crate) fn read(mut self, buffer_bytes: usize) -> io::Result<RunReader> {
        self.0.rewind()?;
        Ok(RunReader(BufReader::with_capacity(buffer_bytes, self.0)))
    }
}

#[derive(Debug)]
pub(crate) struct RunReader(BufReader<File>);

impl RunReader {
    /// Reads the next row into `row`; says whether there was one.
    pub(crate) fn next(&mut self, row: &mut Row) -> io::Result<bool> {
        if self.0.fill_buf()?.is_empty() {
            return Ok(false);
        }
        let [key_len, rest_len, line] = [self.number()?, self.number()?, self.number()?];
        let length =
            |number: u64| usize::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
        row.line = line;
        row.key_len = length(key_len)?;
        row.bytes.resize(row.key_len + length(rest_len)?, 0);
        self.0.read_exact(&mut row.bytes)?;
        Ok(true)
    }

    fn number(&mut self) -> io::Result<u64> {
        let (mut number, mut byte) = (0, [0]);
        for shift in (0..64).step_by(7) {
            self.0.read_exact(&mut byte)?;
            number |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(number);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}
