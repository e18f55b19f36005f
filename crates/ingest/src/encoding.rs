//! How a text is encoded: what the setting of the dataset, a byte order mark and the bytes themselves say.

use std::fmt;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use dataset::TextEncoding;
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

use crate::Error;
use crate::error::Fault;

/// What the sender of a file should know although it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// The text is not UTF-8. It was read in this encoding, which was guessed.
    GuessedEncoding(&'static str),
    /// The text is not UTF-8 and seems to be in this encoding. It was read as UTF-8, and what is not became rejects.
    OtherEncoding(&'static str),
}

impl Warning {
    /// The warning as one word, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::GuessedEncoding(_) => "guessed-encoding",
            Self::OtherEncoding(_) => "other-encoding",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GuessedEncoding(name) => write!(f, "the text is not UTF-8 and was read as {name}"),
            Self::OtherEncoding(name) => {
                write!(f, "the text is not UTF-8 and seems to be {name}; the setting `encoding` reads it")
            }
        }
    }
}

/// The encoding of a text, as far as its beginning shows it, and the length of its byte order mark. Nothing where the
/// text is ASCII or something that contains it, and the first other byte will show which.
pub(crate) fn of_start(
    start: &[u8],
    setting: TextEncoding,
) -> Result<(Option<&'static Encoding>, usize), Error> {
    let mark = Encoding::for_bom(start);
    let found = mark.map(|(encoding, _)| encoding).or_else(|| utf16_without_mark(start));
    let encoding = match setting {
        TextEncoding::Auto if mark.is_none() && found.is_some() => {
            return Err(Error::Unsupported("UTF-16 without a byte order mark"));
        }
        TextEncoding::Auto => found,
        TextEncoding::Only(expected) => only(start, expected, found)?,
    };
    Ok((encoding, mark.map_or(0, |(_, bytes)| bytes)))
}

/// The same where the dataset sets the encoding; `found` is what the file says.
fn only(
    start: &[u8],
    expected: &'static Encoding,
    found: Option<&'static Encoding>,
) -> Result<Option<&'static Encoding>, Error> {
    let is_utf16 = |encoding| encoding == UTF_16LE || encoding == UTF_16BE;
    let wrong =
        |found: &'static Encoding| Error::WrongEncoding { expected: expected.name(), found: found.name() };
    match found {
        // A file says the order of its bytes itself.
        Some(found) if found == expected || (is_utf16(expected) && is_utf16(found)) => Ok(Some(found)),
        Some(found) => Err(wrong(found)),
        None if is_utf16(expected) && !start.is_empty() && is_utf8(start) => Err(wrong(UTF_8)),
        None if expected != UTF_8 && expected.is_ascii_compatible() => Ok(None),
        None => Ok(Some(expected)),
    }
}

/// The encoding of a text that contains ASCII, from its first byte that is none and what follows.
pub(crate) fn of_text(
    bytes: &[u8],
    setting: TextEncoding,
) -> Result<(&'static Encoding, Option<Warning>), Fault> {
    let is_utf8 = is_utf8(bytes);
    match setting {
        TextEncoding::Auto if is_utf8 => Ok((UTF_8, None)),
        TextEncoding::Only(expected) if is_utf8 && expected != UTF_8 => {
            Err(Fault::WrongEncoding { expected: expected.name(), found: UTF_8.name() })
        }
        TextEncoding::Only(expected) => Ok((expected, None)),
        TextEncoding::Auto => {
            let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
            detector.feed(bytes, true);
            let guess = detector.guess(None, Utf8Detection::Deny);
            if guess == WINDOWS_1252 {
                return Ok((guess, Some(Warning::GuessedEncoding(guess.name()))));
            }
            Ok((UTF_8, Some(Warning::OtherEncoding(guess.name()))))
        }
    }
}

/// Whether bytes are UTF-8, or were before a few of them were damaged.
fn is_utf8(bytes: &[u8]) -> bool {
    let counts = Utf8Counts::of(bytes);
    counts.damaged == 0 || counts.characters > counts.damaged
}

/// Whether bytes hold more characters in UTF-8 than anything else beside ASCII: other encodings hardly ever look like it.
pub(crate) fn has_utf8(bytes: &[u8]) -> bool {
    let counts = Utf8Counts::of(bytes);
    counts.characters > counts.damaged
}

struct Utf8Counts {
    /// Characters that are not ASCII.
    characters: usize,
    /// Places that are not UTF-8.
    damaged: usize,
}

impl Utf8Counts {
    fn of(bytes: &[u8]) -> Self {
        let mut counts = Self { characters: 0, damaged: 0 };
        for chunk in bytes.utf8_chunks() {
            counts.characters += chunk.valid().chars().filter(|character| !character.is_ascii()).count();
            counts.damaged += usize::from(!chunk.invalid().is_empty());
        }
        counts
    }
}

/// UTF-16 is known by its zero bytes, one in two for the characters of ASCII.
fn utf16_without_mark(start: &[u8]) -> Option<&'static Encoding> {
    let pairs = start.as_chunks::<2>().0;
    let zeros = |at: usize| pairs.iter().filter(|pair| pair[at] == 0).count();
    let (high, low) = (zeros(0), zeros(1));
    let is_most = |zeros: usize| pairs.len() >= 4 && zeros * 4 >= pairs.len() * 3;
    match (high, low) {
        (0, low) if is_most(low) => Some(UTF_16LE),
        (high, 0) if is_most(high) => Some(UTF_16BE),
        _ => None,
    }
}
