//! Where the blocks of a snapshot stand, so that a look-up does not have to walk through the tree.
//!
//! The tree's pages, the head of the block and the row are each a wait for memory. Where rows stand in slots, sixteen
//! bytes of each block are enough to come to the row, or close to it, without the rest. They are in the order of the
//! keys, and the first bits of a key say where among them to look. It is made of snapshots that are in memory, and takes
//! about a two-hundredth of their size. Blocks that are laid out in another way are left to the tree, and so are keys
//! whose first bytes are those of a block's name.

use std::{ptr, slice};

use super::block::{Block, Slots, value};
use crate::Result;

/// Blocks stand a multiple of this apart.
const PAGE_BYTES: usize = 4096;
/// One block in so many may be left to the tree.
const UNKNOWN_PART: usize = 8;

#[derive(Debug)]
pub(super) struct Index {
    /// The address from which pages are counted.
    base: usize,
    key_length: usize,
    places: Vec<Place>,
    /// For each part of the values from `first` on, at which place its first one may be; and the end.
    starts: Vec<u32>,
    first: u64,
    shift: u32,
}

/// A block.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The value of its name: not below those of its keys, and not above those of the next one's.
    last: u64,
    /// The page, the number of rows and the bytes of a slot; 0 where only the tree knows.
    page_rows_slot: u64,
}

const BITS: u32 = 12;
const MASK: u64 = (1 << BITS) - 1;

impl Place {
    fn new(last: u64, base: usize, bytes: &[u8], slots: Slots) -> Option<Self> {
        let distance = bytes.as_ptr().expose_provenance().checked_sub(base)?;
        let (page, rows, slot) = ((distance / PAGE_BYTES) as u64, slots.rows as u64, slots.slot as u64);
        let fits = page >> (u64::BITS - 2 * BITS) == 0 && rows <= MASK && slot <= MASK;
        let is_known = fits && distance.is_multiple_of(PAGE_BYTES) && slots.block_bytes() <= bytes.len();
        is_known.then_some(Self { last, page_rows_slot: page << (2 * BITS) | rows << BITS | slot })
    }

    fn page(self) -> usize {
        low(self.page_rows_slot >> (2 * BITS))
    }

    fn slots(self, key_length: usize) -> Option<Slots> {
        let (rows, slot) = (low(self.page_rows_slot >> BITS & MASK), low(self.page_rows_slot & MASK));
        (rows > 0).then_some(Slots { rows, key_length, slot })
    }
}

/// What was a usize before.
fn low(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Index {
    /// Makes an index of all `count` blocks, each with its name, in the order of their keys. Nothing where too few of them
    /// can be in it.
    pub(super) fn build<'a>(
        count: usize,
        blocks: impl Iterator<Item = Result<(&'a [u8], &'a [u8])>>,
    ) -> Result<Option<Self>> {
        let (mut base, mut key_length, mut unknown) = (None, None, 0);
        let mut places = Vec::with_capacity(count);
        for block in blocks {
            let (name, bytes) = block?;
            let slots = Block::read((name, bytes))?.slots();
            let place = slots.and_then(|slots| {
                let base = *base.get_or_insert_with(|| bytes.as_ptr().addr());
                let same = *key_length.get_or_insert(slots.key_length) == slots.key_length;
                same.then(|| Place::new(value(name), base, bytes, slots)).flatten()
            });
            unknown += usize::from(place.is_none());
            places.push(place.unwrap_or(Place { last: value(name), page_rows_slot: 0 }));
        }
        let (Some(base), Some(key_length)) = (base, key_length) else { return Ok(None) };
        let is_useful = unknown * UNKNOWN_PART <= places.len() && u32::try_from(places.len()).is_ok();
        let is_sound = places.is_sorted_by_key(|place| place.last);
        Ok((is_useful && is_sound).then(|| Self::over(places, base, key_length)))
    }

    fn over(places: Vec<Place>, base: usize, key_length: usize) -> Self {
        let (first, last) = (places[0].last, places[places.len() - 1].last);
        // At most as many parts as there are blocks, and no fewer than a quarter of that.
        let bits = places.len().ilog2();
        let shift = (u64::BITS - (last - first).leading_zeros()).saturating_sub(bits);
        let parts = low((last - first) >> shift) + 1;
        let mut starts = Vec::with_capacity(parts + 1);
        let mut at = 0;
        for part in 0..parts as u64 {
            while places[at].last < first + (part << shift) {
                at += 1;
            }
            starts.push(u32::try_from(at).unwrap_or(u32::MAX));
        }
        starts.push(u32::try_from(places.len()).unwrap_or(u32::MAX));
        Self { base, key_length, places, starts, first, shift }
    }

    /// The other bytes of the row of a key, if it has one. Nothing where the tree has to be asked.
    ///
    /// # Safety
    ///
    /// The map from whose blocks it was made must be there for as long as the answer.
    #[expect(unsafe_code, reason = "places are kept and not slices, which would be larger and borrowed")]
    pub(super) unsafe fn find<'a>(&self, key: &[u8]) -> Option<Result<Option<&'a [u8]>>> {
        let key_value = value(key);
        let at = self.place_of(key_value)?;
        let (place, before) =
            (self.places[at], at.checked_sub(1).map_or(0, |before| self.places[before].last));
        let slots = place.slots(self.key_length).filter(|_| place.last != key_value)?;
        let start = ptr::with_exposed_provenance::<u8>(self.base + place.page() * PAGE_BYTES);
        // SAFETY: so many bytes were there when the index was made; the map never changes, and it is still there.
        let bytes: &'a [u8] = unsafe { slice::from_raw_parts(start, slots.block_bytes()) };
        Some(Block::of_slots(slots, (before, place.last), bytes)?.find(key))
    }

    /// The first block whose name has this value or one above it.
    fn place_of(&self, value: u64) -> Option<usize> {
        let part = low(value.saturating_sub(self.first) >> self.shift);
        let (start, end) = (*self.starts.get(part)?, *self.starts.get(part + 1)?);
        let (start, end) = (start as usize, (end as usize + 1).min(self.places.len()));
        let at = start + self.places[start..end].partition_point(|place| place.last < value);
        (at < self.places.len()).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::block::{Builder, name};
    use super::*;

    type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

    /// Blocks as they stand in a map: each at the beginning of a page, with its name and its length.
    struct Map {
        pages: Vec<[u8; PAGE_BYTES]>,
        blocks: Vec<(Vec<u8>, usize)>,
    }

    impl Map {
        /// Blocks of so many rows at most.
        fn new(rows: &Rows, rows_max: usize) -> Self {
            let (mut pages, mut blocks, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
            let rows: Vec<_> = rows.iter().collect();
            let mut rest = rows.as_slice();
            while !rest.is_empty() {
                let (block, after) = rest.split_at(rows_max.min(rest.len()));
                let mut builder = Builder::default();
                for (key, row) in block {
                    builder.push(key, row);
                }
                builder.finish(&mut bytes).unwrap();
                let last = block[block.len() - 1].0.as_slice();
                let name = after.first().map_or(last, |(next, _)| name(last, next));
                blocks.push((name.to_vec(), bytes.len()));
                let mut page = [0; PAGE_BYTES];
                page[..bytes.len()].copy_from_slice(&bytes);
                pages.push(page);
                rest = after;
            }
            Self { pages, blocks }
        }

        fn index(&self) -> Option<Index> {
            let blocks = self.blocks.iter().zip(&self.pages);
            Index::build(
                self.blocks.len(),
                blocks.map(|((name, len), page)| Ok((name.as_slice(), &page[..*len]))),
            )
            .unwrap()
        }
    }

    #[derive(Debug, PartialEq)]
    struct LeftToTheTree;

    /// What the index says of a key.
    fn find(index: &Index, key: &[u8]) -> std::result::Result<Option<Vec<u8>>, LeftToTheTree> {
        // SAFETY: the pages from which it was made are there until the end of the test.
        #[expect(unsafe_code, reason = "as in a snapshot")]
        let found = unsafe { index.find(key) };
        found.map(|found| found.unwrap().map(<[u8]>::to_vec)).ok_or(LeftToTheTree)
    }

    fn is_right(rows: &Rows, rows_max: usize, others: &[Vec<u8>]) {
        let map = Map::new(rows, rows_max);
        let index = map.index().unwrap();
        for key in rows.keys().chain(others) {
            if let Ok(found) = find(&index, key) {
                assert_eq!(found.as_ref(), rows.get(key), "{key:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_it_knows_is_right(
            rows in proptest::collection::btree_map(any::<[u8; 16]>(), proptest::collection::vec(any::<u8>(), 0..8), 1..500),
            others in proptest::collection::vec(any::<[u8; 16]>(), 50),
            rows_max in 1_usize..40,
        ) {
            let rows = rows.into_iter().map(|(key, row)| (key.to_vec(), row)).collect();
            is_right(&rows, rows_max, &others.iter().map(|key| key.to_vec()).collect::<Vec<_>>());
        }

        #[test]
        fn keys_that_lie_close_together_are_found_too(
            keys in proptest::collection::btree_set(0_u64..2000, 1..500),
            base in any::<u64>(),
            rows_max in 1_usize..40,
        ) {
            let rows = keys.iter().map(|key| (base.saturating_add(*key).to_be_bytes().to_vec(), vec![1])).collect();
            let others = (0..2000).map(|n| base.saturating_add(n).to_be_bytes().to_vec());
            is_right(&rows, rows_max, &others.chain([vec![0; 8], vec![255; 8]]).collect::<Vec<_>>());
        }

        #[test]
        fn keys_that_differ_late_are_found_too(
            keys in proptest::collection::btree_set(0_u64..500, 1..300),
            alike in 1_u64..50,
            rows_max in 1_usize..40,
        ) {
            let key = |n: u64| [(n / alike).to_be_bytes(), n.to_be_bytes()].concat();
            let rows = keys.iter().map(|n| (key(*n), vec![1])).collect();
            is_right(&rows, rows_max, &(0..500).map(key).collect::<Vec<_>>());
        }
    }

    fn even(count: u128) -> Rows {
        (1..=count).map(|n| ((u128::MAX / (count + 1) * n).to_be_bytes().to_vec(), vec![7; 12])).collect()
    }

    #[test]
    fn next_to_all_keys_are_found_without_the_tree() {
        let rows = even(10_000);
        let map = Map::new(&rows, 100);
        let index = map.index().unwrap();
        let known = rows.keys().filter(|key| find(&index, key) == Ok(Some(vec![7; 12]))).count();
        assert!(known >= 9990, "{known}");
        assert!(index.starts.len() <= 1 + map.blocks.len());
    }

    #[test]
    fn blocks_that_are_laid_out_otherwise_are_left_to_the_tree() {
        let texts: Rows = (0..100_u32).map(|n| (format!("key {n}").into_bytes(), vec![7])).collect();
        assert!(Map::new(&texts, 10).index().is_none());
        let mut rows = even(1000);
        let (odd, _) = rows.pop_last().unwrap();
        rows.insert(odd.clone(), vec![7; 3000]);
        let map = Map::new(&rows, 10);
        let index = map.index().unwrap();
        assert_eq!(find(&index, &odd), Err(LeftToTheTree));
        assert_eq!(find(&index, rows.keys().next().unwrap()), Ok(Some(vec![7; 12])));
    }
}
