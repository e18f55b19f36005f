//! Answers that are asked for again and again, kept in memory; also that a key is not there.
//!
//! An answer is kept for the content of one version, so it never gets wrong: after a swap others are asked for, and
//! after a rollback those of before are right again. What is not asked for any more makes room.

use std::fmt;

use bytes::Bytes;
use dataset::KeyBytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache as Answers;

/// What an answer takes beside its own bytes, about.
const OVERHEAD_BYTES: u64 = 160;

pub(super) struct Cache(Answers<Key, Option<Bytes>, Bytewise>);

/// A row as it is kept; nothing where there is no such key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept(pub(super) Option<Bytes>);

/// A key in the content of one version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key(u64, KeyBytes);

#[derive(Debug, Clone)]
struct Bytewise;

impl Weighter<Key, Option<Bytes>> for Bytewise {
    fn weight(&self, Key(_, key): &Key, row: &Option<Bytes>) -> u64 {
        let key = if key.spilled() { key.len() } else { 0 };
        OVERHEAD_BYTES + (key + row.as_ref().map_or(0, Bytes::len)) as u64
    }
}

impl Cache {
    /// Keeps about so many bytes; nothing where that is 0.
    pub(super) fn new(bytes: u64) -> Option<Self> {
        let items = usize::try_from(bytes / (OVERHEAD_BYTES + 100)).unwrap_or(usize::MAX).max(1);
        (bytes > 0).then(|| Self(Answers::with_weighter(items, bytes, Bytewise)))
    }

    pub(super) fn get(&self, content: u64, key: &KeyBytes) -> Option<Kept> {
        self.0.get(&Key(content, key.clone())).map(Kept)
    }

    /// What is kept, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.0.weight()
    }

    pub(super) fn insert(&self, content: u64, key: KeyBytes, row: Option<Bytes>) {
        self.0.insert(Key(content, key), row);
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> KeyBytes {
        KeyBytes::from_slice(&number.to_be_bytes())
    }

    #[test]
    fn an_answer_is_kept_for_the_content_of_its_version() {
        let cache = Cache::new(1 << 20).unwrap();
        cache.insert(1, key(7), Some(Bytes::from_static(b"old")));
        cache.insert(2, key(7), Some(Bytes::from_static(b"new")));
        cache.insert(2, key(8), None);
        assert_eq!(cache.get(1, &key(7)), Some(Kept(Some(Bytes::from_static(b"old")))));
        assert_eq!(cache.get(2, &key(7)), Some(Kept(Some(Bytes::from_static(b"new")))));
        assert_eq!((cache.get(2, &key(8)), cache.get(1, &key(8))), (Some(Kept(None)), None));
        assert!(Cache::new(0).is_none());
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let cache = Cache::new(100_000).unwrap();
        for number in 0..10_000 {
            cache.insert(1, key(number), Some(vec![0; 100].into()));
        }
        assert!((10_000..=100_000).contains(&cache.bytes()), "{}", cache.bytes());
    }
}
