//! Rows in a snapshot stand together in blocks, each of which fills a page.
//!
//! A tree of single rows is four levels deep for ten million of them, and at every level a look-up waits for memory.
//! The tree of blocks is small enough to stay near the processor; and within a block keys of one length stand side by
//! side, so that the place of a key can be guessed from its value. It also makes the file a third smaller.
//!
//! A block is: how many rows; the length of each key, or [`VARIABLE`]; the length of all keys; the keys; where each
//! key ends, if they are of different lengths; where the other bytes of each row end; and these bytes. All numbers are
//! u16, little-endian. Ends are counted from where their part begins, and the last row needs none.

use std::cmp::Ordering;

use crate::{Error, Result};

/// What fits into a page of LMDB beside its header. A row that is larger has a block of its own.
const BLOCK_BYTES: usize = 4096 - 16;
const HEAD_BYTES: usize = 6;
const VARIABLE: u16 = u16::MAX;

/// A block that is being filled.
#[derive(Debug, Default)]
pub(super) struct Builder {
    keys: Vec<u8>,
    key_ends: Vec<usize>,
    rests: Vec<u8>,
    rest_ends: Vec<usize>,
    same_length: bool,
}

impl Builder {
    /// Whether one more row fits; into an empty block any row does.
    pub(super) fn has_room(&self, key: &[u8], rest: &[u8]) -> bool {
        let ends = 4 * (self.key_ends.len() + 1);
        let bytes = HEAD_BYTES + self.keys.len() + key.len() + self.rests.len() + rest.len() + ends;
        self.is_empty() || bytes <= BLOCK_BYTES
    }

    /// Adds a row, whose key must be above all before it.
    pub(super) fn push(&mut self, key: &[u8], rest: &[u8]) {
        self.same_length = self.is_empty() || (self.same_length && self.key_ends[0] == key.len());
        self.keys.extend_from_slice(key);
        self.key_ends.push(self.keys.len());
        self.rests.extend_from_slice(rest);
        self.rest_ends.push(self.rests.len());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.key_ends.is_empty()
    }

    /// The highest key, which is the block's name.
    pub(super) fn last_key(&self) -> &[u8] {
        let start = self.key_ends.len().checked_sub(2).map_or(0, |before| self.key_ends[before]);
        &self.keys[start..]
    }

    /// Puts the block into `out`, and begins anew.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let number =
            |number: usize| Ok::<_, Error>(u16::try_from(number).map_err(Error::corrupt)?.to_le_bytes());
        let rows = self.key_ends.len();
        let key_length = if self.same_length { number(self.key_ends[0])? } else { VARIABLE.to_le_bytes() };
        out.clear();
        out.extend([number(rows)?, key_length, number(self.keys.len())?].as_flattened());
        out.extend_from_slice(&self.keys);
        let key_ends = if self.same_length { &[][..] } else { &self.key_ends[..rows - 1] };
        for end in key_ends.iter().chain(&self.rest_ends[..rows - 1]) {
            out.extend_from_slice(&number(*end)?);
        }
        out.extend_from_slice(&self.rests);
        for part in [&mut self.keys, &mut self.rests] {
            part.clear();
        }
        for ends in [&mut self.key_ends, &mut self.rest_ends] {
            ends.clear();
        }
        Ok(())
    }
}

/// A block that is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    rows: usize,
    /// The highest key.
    last: &'a [u8],
    /// Nothing where keys are of different lengths.
    key_length: Option<usize>,
    keys: &'a [u8],
    key_ends: &'a [[u8; 2]],
    rest_ends: &'a [[u8; 2]],
    rests: &'a [u8],
}

impl<'a> Block<'a> {
    /// Takes a block and its name.
    pub(super) fn read((name, bytes): (&'a [u8], &'a [u8])) -> Result<Self> {
        Self::split(name, bytes).ok_or_else(|| Error::corrupt("a block of rows is cut off"))
    }

    fn split(last: &'a [u8], bytes: &'a [u8]) -> Option<Self> {
        let (head, bytes) = bytes.split_at_checked(HEAD_BYTES)?;
        let number = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let (rows, key_length) = (usize::from(number(0)), number(2));
        let (keys, bytes) = bytes.split_at_checked(number(4).into())?;
        let ends = rows.checked_sub(1)?;
        let key_ends = if key_length == VARIABLE { ends } else { 0 };
        let (key_ends, bytes) = bytes.split_at_checked(2 * key_ends)?;
        let (rest_ends, rests) = bytes.split_at_checked(2 * ends)?;
        let key_length = (key_length != VARIABLE).then_some(usize::from(key_length));
        let (key_ends, rest_ends) = (key_ends.as_chunks().0, rest_ends.as_chunks().0);
        Some(Self { rows, last, key_length, keys, key_ends, rest_ends, rests })
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The row at a place: its key and its other bytes.
    pub(super) fn get(&self, at: usize) -> Result<(&'a [u8], &'a [u8])> {
        Ok((self.key(at)?, self.rest(at)?))
    }

    /// The other bytes of the row of a key.
    pub(super) fn find(&self, key: &[u8]) -> Result<Option<&'a [u8]>> {
        // The row is in low..high. The first place is a guess; from there it is felt for in growing steps, until there
        // is a place known on either side of it.
        let (mut low, mut high) = (0, self.rows);
        let (mut at, mut step, mut side) = (self.guess(key), 1, Ordering::Equal);
        while low < high {
            let order = key.cmp(self.key(at)?);
            match order {
                Ordering::Equal => return self.rest(at).map(Some),
                Ordering::Less => high = at,
                Ordering::Greater => low = at + 1,
            }
            step = if side == Ordering::Equal || side == order { step } else { 0 };
            at = match order {
                _ if step == 0 => usize::midpoint(low, high),
                Ordering::Less => high.saturating_sub(step).max(low),
                _ => (low + step - 1).min(high.saturating_sub(1)),
            };
            (step, side) = (step * 2, order);
        }
        Ok(None)
    }

    /// Where a key should be if the keys lie evenly.
    fn guess(&self, key: &[u8]) -> usize {
        let value = |key: &[u8]| key.first_chunk().map(|first| u64::from_be_bytes(*first));
        let (Some(_), Some(key), Some(first), Some(last)) =
            (self.key_length, value(key), value(self.keys), value(self.last))
        else {
            return self.rows / 2;
        };
        let (above, span) = (key.clamp(first, last.max(first)) - first, last.saturating_sub(first).max(1));
        let at = u128::from(above) * (self.rows as u128 - 1) / u128::from(span);
        usize::try_from(at).unwrap_or(0)
    }

    fn key(&self, at: usize) -> Result<&'a [u8]> {
        let place = match self.key_length {
            Some(length) => at * length..(at + 1) * length,
            None => part(at, self.key_ends, self.keys),
        };
        self.keys.get(place).ok_or_else(|| Error::corrupt("a block of rows has a key outside of it"))
    }

    fn rest(&self, at: usize) -> Result<&'a [u8]> {
        let rest = self.rests.get(part(at, self.rest_ends, self.rests));
        rest.ok_or_else(|| Error::corrupt("a block of rows has a row outside of it"))
    }
}

/// Where the piece at a place stands.
fn part(at: usize, ends: &[[u8; 2]], all: &[u8]) -> std::ops::Range<usize> {
    let end = |at: usize| ends.get(at).map_or(all.len(), |end| u16::from_le_bytes(*end).into());
    at.checked_sub(1).map_or(0, end)..end(at)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

    fn block(rows: &Rows) -> (Vec<u8>, Vec<u8>) {
        let (mut builder, mut out) = (Builder::default(), Vec::new());
        for (key, rest) in rows {
            assert!(builder.has_room(key, rest));
            builder.push(key, rest);
        }
        let name = builder.last_key().to_vec();
        builder.finish(&mut out).unwrap();
        assert!(builder.is_empty() && out.len() <= BLOCK_BYTES);
        (name, out)
    }

    fn every_row_is_found(rows: &Rows, other: &[Vec<u8>]) {
        let (name, bytes) = block(rows);
        let block = Block::read((&name, &bytes)).unwrap();
        assert_eq!(block.rows(), rows.len());
        for (at, (key, rest)) in rows.iter().enumerate() {
            assert_eq!(block.get(at).unwrap(), (key.as_slice(), rest.as_slice()));
            assert_eq!(block.find(key).unwrap(), Some(rest.as_slice()));
        }
        for key in other {
            assert_eq!(block.find(key).unwrap(), rows.get(key).map(Vec::as_slice));
        }
    }

    proptest! {
        #[test]
        fn keys_of_one_length_are_found_and_others_are_not(
            rows in proptest::collection::btree_map(any::<[u8; 16]>(), proptest::collection::vec(any::<u8>(), 0..8), 1..100),
            near in any::<[u8; 16]>(),
        ) {
            let rows: Rows = rows.into_iter().map(|(key, rest)| (key.to_vec(), rest)).collect();
            let above = rows.keys().map(|key| { let mut key = key.clone(); key[15] ^= 1; key });
            every_row_is_found(&rows, &above.chain([near.to_vec(), vec![], vec![255; 40]]).collect::<Vec<_>>());
        }

        #[test]
        fn keys_of_different_lengths_are_found_and_others_are_not(
            rows in proptest::collection::btree_map(proptest::collection::vec(0_u8..4, 0..12), proptest::collection::vec(any::<u8>(), 0..8), 1..100),
            other in proptest::collection::vec(proptest::collection::vec(0_u8..4, 0..12), 20),
        ) {
            every_row_is_found(&rows, &other);
        }

        #[test]
        fn foreign_bytes_are_refused_without_a_panic(name: Vec<u8>, bytes: Vec<u8>, key: Vec<u8>) {
            if let Ok(block) = Block::read((&name, &bytes)) {
                let _ = block.find(&key);
                let _ = block.get(block.rows() / 2);
            }
        }
    }

    #[test]
    fn keys_that_lie_unevenly_are_found_too() {
        let rows: Rows = (0..60_u64).map(|n| ((1 << n).max(n).to_be_bytes().to_vec(), vec![7])).collect();
        every_row_is_found(&rows, &[vec![0; 8], vec![255; 8]]);
    }

    #[test]
    fn a_block_holds_what_fits_into_a_page_and_a_larger_row_alone() {
        let mut builder = Builder::default();
        let large = vec![7; 100_000];
        assert!(builder.has_room(b"a", &large));
        builder.push(b"a", &large);
        assert!(!builder.has_room(b"b", b""));
        let mut bytes = Vec::new();
        builder.finish(&mut bytes).unwrap();
        assert_eq!(Block::read((b"a", &bytes)).unwrap().find(b"a").unwrap(), Some(large.as_slice()));
    }
}
