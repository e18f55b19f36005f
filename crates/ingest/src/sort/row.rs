//! The form of a row while it is sorted, in memory and on disk: the lengths of its parts, its line, its key, its rest.

use std::io;

use crate::error::Fault;

/// A row that stands somewhere in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowRef<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) rest: &'a [u8],
    /// The line of the file that it came from.
    pub(crate) line: u64,
}

/// What stands before a row.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Head {
    pub(super) bytes: usize,
    pub(super) key: usize,
    pub(super) rest: usize,
    pub(super) line: u64,
}

impl<'a> RowRef<'a> {
    /// Before a row stand three numbers of ten bytes at most.
    pub(super) const HEAD_BYTES_MAX: usize = 30;

    /// So many bytes such a row takes at most.
    pub(super) fn bytes_max(key: &[u8], rest: &[u8]) -> usize {
        Self::HEAD_BYTES_MAX + key.len() + rest.len()
    }

    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        for number in [self.key.len() as u64, self.rest.len() as u64, self.line] {
            write_number(number, out);
        }
        out.extend_from_slice(self.key);
        out.extend_from_slice(self.rest);
    }

    /// Reads a row that [`RowRef::encode`] wrote into this same memory.
    pub(crate) fn decode(bytes: &'a [u8]) -> Self {
        Self::split(Head::read(bytes).unwrap_or_default(), bytes)
    }

    /// The row behind its head.
    pub(super) fn split(head: Head, bytes: &'a [u8]) -> Self {
        let (key, rest) = bytes[head.bytes..head.bytes + head.key + head.rest].split_at(head.key);
        Self { key, rest, line: head.line }
    }
}

impl Head {
    /// The bytes of the whole row.
    pub(super) fn row_bytes(&self) -> usize {
        self.bytes + self.key + self.rest
    }

    /// Reads what stands before a row; the row itself need not be there.
    pub(super) fn read(bytes: &[u8]) -> io::Result<Self> {
        let mut at = 0;
        let key = read_number(bytes, &mut at)?;
        let rest = read_number(bytes, &mut at)?;
        let line = read_number(bytes, &mut at)?;
        let length = |number: u64| usize::try_from(number).map_err(|_| Fault::Internal(BROKEN_ROW));
        Ok(Self { bytes: at, key: length(key)?, rest: length(rest)?, line })
    }
}

/// Seven bits at a time, the lowest first; every byte but the last has its highest bit set.
fn write_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn read_number(bytes: &[u8], at: &mut usize) -> io::Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or(Fault::Internal(BROKEN_ROW))?;
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Fault::Internal(BROKEN_ROW).into())
}

/// Rows are read from memory, and from blocks whose checksums fit: a row that cannot be read was written wrong.
pub(super) const BROKEN_ROW: &str = "a sorted row was written wrong";

/// The first eight bytes of a key as a number that sorts as they do.
pub(super) fn prefix(key: &[u8]) -> u64 {
    if let Some(first) = key.first_chunk() {
        return u64::from_be_bytes(*first);
    }
    let mut bytes = [0; 8];
    bytes[..key.len()].copy_from_slice(key);
    u64::from_be_bytes(bytes)
}

/// With how many bytes two keys begin alike.
pub(super) fn same_bytes(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}
