//! The format of a file, recognised by how it begins. A known format that is not CSV is refused by its name and not as
//! ten thousand bad rows.

use crate::Error;

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The longest mark of a format that is recognised before the file is unpacked.
pub(crate) const MARK_BYTES: usize = 10;

/// Recognises how a file is packed by its first [`MARK_BYTES`].
pub(crate) fn packing(first: &[u8]) -> Result<Packing, Error> {
    match first {
        [0x1f, 0x8b, ..] => Ok(Packing::Gzip),
        // A frame of zstd, or the skippable frame that some writers put before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Packing::Zstd),
        _ => binary(first).map_or(Ok(Packing::Plain), |name| Err(Error::Unsupported(name))),
    }
}

/// The name of a binary format.
fn binary(first: &[u8]) -> Option<&'static str> {
    match first {
        // The second is an empty archive, the third a part of a divided one.
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] | [b'P', b'K', 7, 8, ..] => Some("zip or xlsx"),
        [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1, ..] => Some("xls"),
        [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => Some("7z"),
        [b'R', b'a', b'r', b'!', 0x1a, 7, ..] => Some("rar"),
        // The last six bytes are digits of pi, which begin its first block.
        [b'B', b'Z', b'h', _, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => Some("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some("lz4"),
        // A footer's Thrift header follows the mark; a row may begin with the same letters.
        [b'P', b'A', b'R', b'1', 0x15, ..] => Some("parquet"),
        [b'%', b'P', b'D', b'F', b'-', ..] => Some("PDF"),
        _ => None,
    }
}
