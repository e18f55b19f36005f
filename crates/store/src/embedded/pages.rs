//! Large pages of the kernel's memory for a file.
//!
//! Where the kernel keeps a file in large pieces a look-up needs fewer steps to find its page. It does so for what it
//! reads or sets aside for a mapping that asks for it; what is in memory in small pages stays so. None of it is needed:
//! what the file system or the kernel does not give is done without.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};

/// A large page. The kernel is asked for one at a time: while it is, that counts as this process's memory.
pub(super) const LARGE_BYTES: u64 = 2 << 20;
/// The smallest page that a kernel has.
const SMALL_BYTES: usize = 4096;

/// Has the kernel take large pages for a part of a file, read from the disk where they are not in memory.
pub(super) fn fill(file: impl AsFd, from: u64, to: u64) -> nix::Result<()> {
    pieces(from, to).try_for_each(|(at, len)| Mapping::new(&file, at, len)?.fill())
}

/// The same where some of a piece is not in memory. What is there of it in small pages is let go of first. Returns how
/// many bytes of the piece were read.
pub(super) fn restore(file: impl AsFd, from: u64, to: u64) -> nix::Result<usize> {
    let mut read = 0;
    for (at, len) in pieces(from, to) {
        let mapping = Mapping::new(&file, at, len)?;
        if mapping.is_in_memory()? {
            continue;
        }
        drop(mapping);
        let (offset, bytes) = (offset(at)?, offset(len.get() as u64)?);
        posix_fadvise(file.as_fd(), offset, bytes, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        Mapping::new(&file, at, len)?.fill()?;
        read += len.get();
    }
    Ok(read)
}

/// A part of a file as pieces of a large page each, the last one smaller: where each begins and how long it is.
fn pieces(from: u64, to: u64) -> impl Iterator<Item = (u64, NonZeroUsize)> {
    let starts =
        std::iter::successors(Some(from), |at| Some(at + LARGE_BYTES)).take_while(move |at| *at < to);
    starts
        .filter_map(move |at| Some((at, NonZeroUsize::new(usize::try_from(LARGE_BYTES.min(to - at)).ok()?)?)))
}

fn offset(bytes: u64) -> nix::Result<i64> {
    i64::try_from(bytes).map_err(|_| Errno::EOVERFLOW)
}

/// A part of a file in the address space, only to speak with the kernel about it.
struct Mapping {
    at: NonNull<c_void>,
    len: usize,
}

#[expect(unsafe_code, reason = "only a mapping can ask for large pages")]
impl Mapping {
    fn new(file: impl AsFd, at: u64, len: NonZeroUsize) -> nix::Result<Self> {
        let (kind, offset) = (MapFlags::MAP_SHARED, offset(at)?);
        // SAFETY: a new mapping, at an address of the kernel's choice, from which nothing is read.
        let at = unsafe { mmap(None, len, ProtFlags::PROT_READ, kind, file, offset) }?;
        Ok(Self { at, len: len.get() })
    }

    fn fill(&self) -> nix::Result<()> {
        // SAFETY: of the mapping, which nothing else knows, nothing is read here.
        unsafe {
            madvise(self.at, self.len, MmapAdvise::MADV_HUGEPAGE)
                .and_then(|()| madvise(self.at, self.len, MmapAdvise::MADV_POPULATE_READ))
        }
    }

    fn is_in_memory(&self) -> nix::Result<bool> {
        // Where pages are larger there are fewer, and the kernel leaves the rest of the list as it is.
        let mut pages = vec![1_u8; self.len.div_ceil(SMALL_BYTES)];
        // SAFETY: there is a place for each page of the mapping.
        Errno::result(unsafe { libc::mincore(self.at.as_ptr(), self.len, pages.as_mut_ptr()) })?;
        Ok(pages.iter().all(|page| page & 1 == 1))
    }
}

impl Drop for Mapping {
    #[expect(unsafe_code, reason = "what was mapped is unmapped")]
    fn drop(&mut self) {
        // SAFETY: nothing points there any more.
        let _ = unsafe { munmap(self.at, self.len) };
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs::File;

    use super::*;

    /// A file that can leave the memory: one of a file system in memory cannot.
    pub(in crate::embedded) fn on_disk() -> tempfile::TempDir {
        tempfile::tempdir_in("/var/tmp").unwrap()
    }

    /// Puts a file on disk and takes it out of memory, or most of it.
    pub(in crate::embedded) fn forget(file: &File) {
        file.sync_all().unwrap();
        posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
    }

    pub(in crate::embedded) fn is_in_memory(file: &File) -> bool {
        let len = file.metadata().unwrap().len();
        pieces(0, len).all(|(at, len)| Mapping::new(file, at, len).unwrap().is_in_memory().unwrap())
    }

    #[test]
    fn what_is_not_in_memory_is_read_and_the_rest_is_not() {
        let dir = on_disk();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![7; 5 << 20]).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!((restore(&file, 0, 5 << 20), is_in_memory(&file)), (Ok(0), true));
        forget(&file);
        assert!(!is_in_memory(&file));
        assert!(restore(&file, 0, 5 << 20).unwrap() > 0 && is_in_memory(&file));
        posix_fadvise(&file, 3 << 20, 4096, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
        restore(&file, 0, 5 << 20).unwrap();
        assert!(is_in_memory(&file));
    }

    #[test]
    fn pieces_are_the_whole() {
        let lens = |from, to| pieces(from, to).map(|(at, len)| (at, len.get())).collect::<Vec<_>>();
        assert_eq!(lens(0, 1), [(0, 1)]);
        assert_eq!(lens(7, 7), []);
        let large = usize::try_from(LARGE_BYTES).unwrap();
        assert_eq!(lens(LARGE_BYTES, 2 * LARGE_BYTES + 5), [(LARGE_BYTES, large), (2 * LARGE_BYTES, 5)]);
    }
}
