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

    /// Whether a member of such a file can begin with this byte.
    pub(crate) fn begins_with(self, byte: u8) -> bool {
        match self {
            Self::Plain => false,
            Self::Gzip => byte == 0x1f,
            Self::Zstd => matches!(byte, 0x28 | 0x50..=0x5f),
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

/// Refuses an unpacked file that begins as a binary format does.
pub(crate) fn check_binary(start: &[u8]) -> Result<(), Error> {
    match packing(start)? {
        Packing::Plain if start.get(257..262) == Some(b"ustar") => Err(Error::Unsupported("tar")),
        Packing::Plain => Ok(()),
        Packing::Gzip | Packing::Zstd => Err(Error::Unsupported("a packed file in a packed file")),
    }
}

/// Refuses a text that is known and not CSV.
pub(crate) fn check_text(start: &[u8]) -> Result<(), Error> {
    markup(start).map_or(Ok(()), |name| Err(Error::Unsupported(name)))
}

/// The name of a format of text.
fn markup(start: &[u8]) -> Option<&'static str> {
    let text = start.trim_ascii_start();
    let begins_with =
        |mark: &str| text.get(..mark.len()).is_some_and(|text| text.eq_ignore_ascii_case(mark.as_bytes()));
    if ["<!doctype", "<html", "<head", "<body"].into_iter().any(begins_with) {
        return Some("HTML");
    }
    if begins_with("<?xml") {
        return Some("XML");
    }
    is_json(text).then_some("JSON")
}

/// Whether a text begins as an object or an array does. A field of CSV may begin with either bracket, as a UUID in
/// braces does, so what follows the bracket counts too.
fn is_json(text: &[u8]) -> bool {
    let Some((bracket, rest)) = text.split_first() else { return false };
    match (bracket, rest.trim_ascii_start().first()) {
        (b'{', Some(next)) => *next == b'"',
        (b'[', Some(next)) => matches!(next, b'{' | b'[' | b'"'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(start: &[u8]) -> Option<&'static str> {
        match check_binary(start).and_then(|()| check_text(start)) {
            Err(Error::Unsupported(name)) => Some(name),
            _ => None,
        }
    }

    #[test]
    fn text_that_is_no_csv_is_known_by_its_name() {
        for (start, name) in [
            ("\n <!DOCTYPE html>", "HTML"),
            ("<HTML lang=en>", "HTML"),
            ("<?xml version=\"1.0\"?>", "XML"),
            ("{ \"id\": 1 }", "JSON"),
            ("[\n {\"id\": 1}]", "JSON"),
            ("[[1,2]]", "JSON"),
        ] {
            assert_eq!(content(start.as_bytes()), Some(name), "{start:?}");
        }
        let tar = [&[b'a'; 257][..], b"ustar\0"].concat();
        assert_eq!(content(&tar), Some("tar"));
        assert_eq!(content(&[0x1f, 0x8b, 8]), Some("a packed file in a packed file"));
    }

    #[test]
    fn a_row_that_begins_alike_is_csv() {
        for start in [
            "{d018ef0b-dbd9-48f1-ac1a-eb4d90e57118},1",
            "[a],1",
            "<b>,1",
            "BZhang,1",
            "PAR1,1",
            "PK,1",
            "7z,1",
            "{",
            "",
        ] {
            assert_eq!(content(start.as_bytes()), None, "{start:?}");
        }
    }
}
