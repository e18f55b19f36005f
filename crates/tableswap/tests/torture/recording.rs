//! A disk that remembers every write and every flush, and what it holds after a power cut at any of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::dice::Dice;
use crate::fuse::Disk;

/// A disk writes so much at once or not at all.
const SECTOR_BYTES: usize = 4096;

pub(crate) struct Recording {
    bytes: usize,
    state: Mutex<State>,
}

struct State {
    image: Vec<u8>,
    events: Vec<Event>,
}

enum Event {
    Write {
        offset: usize,
        data: Vec<u8>,
    },
    /// All writes before it are on the medium once it is done.
    Flush,
}

/// What becomes of writes that were not flushed when the power went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unflushed {
    All,
    None,
    /// Each sector by lot.
    Some,
}

impl Recording {
    pub(crate) fn new(bytes: usize) -> Recording {
        Recording { bytes, state: Mutex::new(State { image: vec![0; bytes], events: Vec::new() }) }
    }

    /// How many writes and flushes there were.
    pub(crate) fn length(&self) -> usize {
        self.state().events.len()
    }

    pub(crate) fn flushes(&self) -> usize {
        self.state().events.iter().filter(|event| matches!(event, Event::Flush)).count()
    }

    /// What is on the disk when the power goes behind this number of events.
    pub(crate) fn image_at(&self, cut: usize, unflushed: Unflushed, dice: &mut Dice) -> Vec<u8> {
        let state = self.state();
        let events = &state.events[..cut];
        let is_flush = |event: &Event| matches!(event, Event::Flush);
        let flushed = events.iter().rposition(is_flush).unwrap_or_default();
        let mut image = vec![0; self.bytes];
        for (at, event) in events.iter().enumerate() {
            let Event::Write { offset, data } = event else { continue };
            for (piece, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                let stays = at < flushed
                    || match unflushed {
                        Unflushed::All => true,
                        Unflushed::None => false,
                        Unflushed::Some => dice.below(2) == 0,
                    };
                if stays {
                    let start = offset + piece * SECTOR_BYTES;
                    image[start..start + sector.len()].copy_from_slice(sector);
                }
            }
        }
        image
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for Recording {
    fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        let end = self.bytes.min(offset + length);
        self.state().image.get(offset..end).unwrap_or_default().to_vec()
    }

    fn write(&self, offset: usize, data: &[u8]) {
        let mut state = self.state();
        state.image[offset..offset + data.len()].copy_from_slice(data);
        state.events.push(Event::Write { offset, data: data.to_vec() });
    }

    fn flush(&self) {
        self.state().events.push(Event::Flush);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_keeps_what_was_flushed_and_of_the_rest_what_the_mode_says() {
        let disk = Recording::new(4 * SECTOR_BYTES);
        disk.write(0, &[1; SECTOR_BYTES]);
        disk.flush();
        disk.write(SECTOR_BYTES, &[2; 2 * SECTOR_BYTES]);
        let mut dice = Dice::new(1, 1);
        let mut first_bytes = |cut, unflushed| {
            let image = disk.image_at(cut, unflushed, &mut dice);
            [0, 1, 2].map(|sector| image[sector * SECTOR_BYTES])
        };
        assert_eq!(first_bytes(0, Unflushed::All), [0, 0, 0]);
        assert_eq!(first_bytes(3, Unflushed::None), [1, 0, 0]);
        assert_eq!(first_bytes(3, Unflushed::All), [1, 2, 2]);
        assert!((0..50).any(|_| first_bytes(3, Unflushed::Some) == [1, 0, 2]));
    }
}
