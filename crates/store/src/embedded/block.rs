//! Rows in a snapshot stand together in blocks, each of which fills a page.
//!
//! A tree of single rows is four levels deep for ten million of them, and at every level a look-up waits for memory.
//! The tree of blocks is small enough to stay near the processor; and within a block keys of one length stand side by
//! side, so that the place of a key can be guessed from its value. It also makes the file a third smaller.
//!
//! A block begins with how many rows there are; the length of each key, or [`VARIABLE`]; and the length of all keys, or
//! [`SLOTS`]. Rows in slots have one after the other the same number of bytes each: the key, the length of the other
//! bytes as one byte, and these; so a look-up waits for memory only once more. Where rows are too different for that,
//! there are all keys; where each key ends, if they are of different lengths; where the other bytes of each row end; and
//! these bytes. All numbers but those in slots are u16, little-endian. Ends are counted from where their part begins,
//! and the last row needs none.

use std::cmp::Ordering;
use std::ops::Range;

use crate::{Error, Result};

/// What fits into a page of LMDB beside its header. A row that is larger has a block of its own.
const BLOCK_BYTES: usize = 4096 - 16;
const HEAD_BYTES: usize = 6;
const VARIABLE: u16 = u16::MAX;
/// In the place of the length of all keys, which is never 0.
const SLOTS: u16 = 0;

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

    /// Puts the block into `out`, and begins anew.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        match self.slot() {
            Some(slot) => self.write_slots(slot, out)?,
            None => self.write_parts(out)?,
        }
        for part in [&mut self.keys, &mut self.rests] {
            part.clear();
        }
        for ends in [&mut self.key_ends, &mut self.rest_ends] {
            ends.clear();
        }
        Ok(())
    }

    /// How many bytes a slot has, if the rows are so alike that slots fit.
    fn slot(&self) -> Option<usize> {
        let rests = (0..self.rest_ends.len()).map(|at| piece(at, &self.rest_ends).len());
        let slot = self.key_ends[0] + 1 + rests.max().filter(|longest| *longest <= 255)?;
        let fits = self.same_length && HEAD_BYTES + slot * self.key_ends.len() <= BLOCK_BYTES;
        fits.then_some(slot)
    }

    fn write_slots(&self, slot: usize, out: &mut Vec<u8>) -> Result<()> {
        out.extend(
            [number(self.key_ends.len())?, number(self.key_ends[0])?, SLOTS.to_le_bytes()].as_flattened(),
        );
        for at in 0..self.key_ends.len() {
            let end = out.len() + slot;
            let rest = &self.rests[piece(at, &self.rest_ends)];
            out.extend_from_slice(&self.keys[piece(at, &self.key_ends)]);
            out.push(u8::try_from(rest.len()).map_err(Error::internal)?);
            out.extend_from_slice(rest);
            out.resize(end, 0);
        }
        Ok(())
    }

    fn write_parts(&self, out: &mut Vec<u8>) -> Result<()> {
        let rows = self.key_ends.len();
        let key_length = if self.same_length { number(self.key_ends[0])? } else { VARIABLE.to_le_bytes() };
        out.extend([number(rows)?, key_length, number(self.keys.len())?].as_flattened());
        out.extend_from_slice(&self.keys);
        let key_ends = if self.same_length { &[][..] } else { &self.key_ends[..rows - 1] };
        for end in key_ends.iter().chain(&self.rest_ends[..rows - 1]) {
            out.extend_from_slice(&number(*end)?);
        }
        out.extend_from_slice(&self.rests);
        Ok(())
    }
}

fn number(number: usize) -> Result<[u8; 2]> {
    Ok(u16::try_from(number).map_err(Error::internal)?.to_le_bytes())
}

/// Where the piece at a place stands.
fn piece(at: usize, ends: &[usize]) -> Range<usize> {
    at.checked_sub(1).map_or(0, |before| ends[before])..ends[at]
}

/// A name for the block whose last key is `last`, before one that begins with `next`: not below all that is in the
/// block, below all that comes after it, and short, so that many names stand together.
pub(super) fn name<'a>(last: &'a [u8], next: &'a [u8]) -> &'a [u8] {
    let same = last.iter().zip(next).take_while(|(one, other)| one == other).count();
    next.get(..=same).filter(|short| short.len() < next.len()).unwrap_or(last)
}

/// A block that is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    rows: usize,
    /// Values between which those of its keys lie.
    bounds: (u64, u64),
    places: Places<'a>,
}

/// What has to be known of a block of slots to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slots {
    pub(super) rows: usize,
    pub(super) key_length: usize,
    pub(super) slot: usize,
}

impl Slots {
    /// How many bytes such a block has at least.
    pub(super) fn block_bytes(&self) -> usize {
        HEAD_BYTES + self.rows * self.slot
    }
}

/// Where its rows stand.
#[derive(Debug, Clone, Copy)]
enum Places<'a> {
    Slots {
        key_length: usize,
        slot: usize,
        slots: &'a [u8],
    },
    Parts {
        /// Nothing where keys are of different lengths.
        key_length: Option<usize>,
        keys: &'a [u8],
        key_ends: &'a [[u8; 2]],
        rest_ends: &'a [[u8; 2]],
        rests: &'a [u8],
    },
}

impl<'a> Block<'a> {
    /// Takes a name and its block.
    pub(super) fn read((name, bytes): (&'a [u8], &'a [u8])) -> Result<Self> {
        Self::split(name, bytes).ok_or_else(|| Error::corrupt("a block of rows is cut off"))
    }

    fn split(name: &'a [u8], bytes: &'a [u8]) -> Option<Self> {
        let (head, bytes) = bytes.split_at_checked(HEAD_BYTES)?;
        let number = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let (rows, key_length) = (usize::from(number(0)), number(2));
        let ends = rows.checked_sub(1)?;
        if number(4) == SLOTS {
            let (key_length, slot) = (usize::from(key_length), bytes.len() / rows);
            let (bounds, places) =
                ((value(bytes), value(name)), Places::Slots { key_length, slot, slots: bytes });
            return (key_length < slot).then_some(Self { rows, bounds, places });
        }
        let (keys, bytes) = bytes.split_at_checked(number(4).into())?;
        let key_ends = if key_length == VARIABLE { ends } else { 0 };
        let (key_ends, bytes) = bytes.split_at_checked(2 * key_ends)?;
        let (rest_ends, rests) = bytes.split_at_checked(2 * ends)?;
        let key_length = (key_length != VARIABLE).then_some(usize::from(key_length));
        let (key_ends, rest_ends) = (key_ends.as_chunks().0, rest_ends.as_chunks().0);
        let (bounds, places) =
            ((value(keys), value(name)), Places::Parts { key_length, keys, key_ends, rest_ends, rests });
        Some(Self { rows, bounds, places })
    }

    /// Takes a block of slots without looking into it.
    pub(super) fn of_slots(slots: Slots, bounds: (u64, u64), bytes: &'a [u8]) -> Option<Self> {
        let Slots { rows, key_length, slot } = slots;
        let slots = bytes.get(HEAD_BYTES..)?;
        Some(Self { rows, bounds, places: Places::Slots { key_length, slot, slots } })
    }

    /// How it is laid out, if its rows stand in slots.
    pub(super) fn slots(&self) -> Option<Slots> {
        match self.places {
            Places::Slots { key_length, slot, .. } => Some(Slots { rows: self.rows, key_length, slot }),
            Places::Parts { .. } => None,
        }
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
        if matches!(self.places, Places::Parts { key_length: None, .. }) {
            return self.rows / 2;
        }
        let (key, (first, last)) = (value(key), self.bounds);
        let (above, span) = (key.clamp(first, last.max(first)) - first, last.saturating_sub(first).max(1));
        let at = u128::from(above) * (self.rows as u128 - 1) / u128::from(span);
        usize::try_from(at).unwrap_or(0)
    }

    fn key(&self, at: usize) -> Result<&'a [u8]> {
        let key = match self.places {
            Places::Slots { key_length, slot, slots } => slots.get(at * slot..at * slot + key_length),
            Places::Parts { key_length: Some(length), keys, .. } => keys.get(at * length..(at + 1) * length),
            Places::Parts { keys, key_ends, .. } => keys.get(part(at, key_ends, keys)),
        };
        key.ok_or_else(|| Error::corrupt("a block of rows has a key outside of it"))
    }

    fn rest(&self, at: usize) -> Result<&'a [u8]> {
        let rest = match self.places {
            Places::Slots { key_length, slot, slots } => slots
                .get(at * slot + key_length..(at + 1) * slot)
                .and_then(|slot| slot.split_first())
                .and_then(|(length, rest)| rest.get(..usize::from(*length))),
            Places::Parts { rest_ends, rests, .. } => rests.get(part(at, rest_ends, rests)),
        };
        rest.ok_or_else(|| Error::corrupt("a block of rows has a row outside of it"))
    }
}

/// The first bytes of a key or a name as a number.
pub(super) fn value(key: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = key.len().min(8);
    first[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(first)
}

/// Where the piece at a place stands.
fn part(at: usize, ends: &[[u8; 2]], all: &[u8]) -> Range<usize> {
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
        let name = rows.keys().next_back().unwrap().clone();
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
    fn rows_that_are_alike_stand_in_slots_and_others_do_not() {
        let row = |n: u32, length: usize| (n.to_be_bytes().to_vec(), vec![7; length]);
        let alike: Rows = (0..100).map(|n| row(n, if n == 0 { 8 } else { 9 })).collect();
        let different: Rows = (0..100).map(|n| row(n, if n == 0 { 200 } else { 9 })).collect();
        for (rows, in_slots) in [(&alike, true), (&different, false)] {
            let (name, bytes) = block(rows);
            let block = Block::read((&name, &bytes)).unwrap();
            assert_eq!(matches!(block.places, Places::Slots { .. }), in_slots);
            every_row_is_found(rows, &[100_u32.to_be_bytes().to_vec()]);
        }
    }

    #[test]
    fn a_name_is_short_and_between_two_blocks() {
        let names: [(&[u8], &[u8], &[u8]); 6] = [
            (b"abcd", b"abxyz", b"abx"),
            (b"abcd", b"abx", b"abcd"),
            (b"ab", b"abxy", b"abx"),
            (b"ab", b"abx", b"ab"),
            (b"a", b"b", b"a"),
            (b"a", b"bcdef", b"b"),
        ];
        for (last, next, expected) in names {
            assert_eq!(name(last, next), expected);
            assert!(last <= expected && expected < next);
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
