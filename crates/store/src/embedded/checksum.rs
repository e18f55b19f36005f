//! Whether a version's file is still what was written.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::catalog::FileFacts;
use crate::{Error, Result};

const PIECE_BYTES: usize = 1 << 20;
/// A scrub reads about 50 MB a second, a small part of what a disk can do: a mebibyte, then a rest.
const SCRUB_REST: Duration = Duration::from_millis(20);

/// What the file is now; with rests between the pieces, for who is in no hurry, as long as `go_on` says so.
fn read(path: &Path, rest: Duration, go_on: &dyn Fn() -> bool) -> io::Result<Option<FileFacts>> {
    let (mut file, mut hasher, mut bytes) = (File::open(path)?, crc32fast::Hasher::new(), 0);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(Some(FileFacts { bytes, crc32: hasher.finalize() }));
        }
        if !go_on() {
            return Ok(None);
        }
        hasher.update(&piece[..read]);
        bytes += read as u64;
        if !rest.is_zero() {
            sleep(rest);
        }
    }
}

/// What a file is that was just written.
pub(super) fn of(path: &Path) -> Result<FileFacts> {
    let facts = read(path, Duration::ZERO, &|| true)?;
    facts.ok_or_else(|| Error::internal("reading was given up"))
}

/// Why a file cannot be what was written, by its size alone. A file that is too short must not be mapped: reading behind
/// its end kills the process.
pub(super) fn wrong_size(path: &Path, expected: FileFacts) -> io::Result<Option<String>> {
    let bytes = path.metadata()?.len();
    Ok((bytes != expected.bytes).then(|| format!("it has {bytes} bytes and had {}", expected.bytes)))
}

/// Why a file is not what was written, by its size and its checksum.
pub(super) fn damage(path: &Path, expected: FileFacts) -> io::Result<Option<String>> {
    scrub(path, expected, Duration::ZERO, &|| true)
}

/// The same in no hurry; nothing is said where `go_on` ends it.
pub(super) fn scrub_damage(
    path: &Path,
    expected: FileFacts,
    go_on: &dyn Fn() -> bool,
) -> io::Result<Option<String>> {
    scrub(path, expected, SCRUB_REST, go_on)
}

fn scrub(
    path: &Path,
    expected: FileFacts,
    rest: Duration,
    go_on: &dyn Fn() -> bool,
) -> io::Result<Option<String>> {
    if let Some(why) = wrong_size(path, expected)? {
        return Ok(Some(why));
    }
    let found = read(path, rest, go_on)?;
    Ok(found.filter(|found| *found != expected).map(|_| "its checksum does not fit".to_owned()))
}
