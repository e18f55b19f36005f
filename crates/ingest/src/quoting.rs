//! Follows the quotes of a CSV file, for what its parser accepts without a word.
//!
//! The parser takes text behind a closing quote as part of the field, and the end of the file for the end of a quoted
//! field, so a damaged or cut file would pass as whole. It also reads a file whose lines end with CR as one record.
//! This follows the same bytes, skips from quote to quote, and remembers where they are wrong. A file without quotes
//! costs one search through its bytes.

use std::collections::VecDeque;

/// Follows the quotes of one file.
#[derive(Debug)]
pub(crate) struct QuoteScanner {
    separator: u8,
    /// Bytes that were scanned.
    bytes: u64,
    state: State,
    /// The last byte; before the first one it is the end of a line.
    last: u8,
    first_line: LineEnd,
    /// Where text after a closing quote, as far as no record behind it was read.
    text_behind_quotes: VecDeque<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unquoted,
    Quoted,
    /// Behind a quote in a quoted field: it closes the field unless another quote follows.
    Quote,
    /// Behind a CR that follows a closing quote: a line ends here if LF follows.
    QuoteCr,
}

/// How the first line ends, as far as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    None,
    Cr,
    Lf,
}

impl QuoteScanner {
    pub(crate) fn new(separator: u8) -> Self {
        Self {
            separator,
            bytes: 0,
            state: State::Unquoted,
            last: b'\n',
            first_line: LineEnd::None,
            text_behind_quotes: VecDeque::new(),
        }
    }

    /// How many bytes were scanned.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the last byte stands inside a quoted field.
    pub(crate) fn is_in_quotes(&self) -> bool {
        self.state == State::Quoted
    }

    /// Whether CR ends the first line, and no line ends with LF.
    pub(crate) fn has_only_cr(&self) -> bool {
        self.first_line == LineEnd::Cr
    }

    /// Whether text after a closing quote before this place; earlier places are forgotten.
    pub(crate) fn has_text_behind_quote(&mut self, before: u64) -> bool {
        let mut found = false;
        while self.text_behind_quotes.front().is_some_and(|place| *place < before) {
            self.text_behind_quotes.pop_front();
            found = true;
        }
        found
    }

    /// Takes the next bytes of the file.
    pub(crate) fn scan(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            at = match self.state {
                State::Unquoted => self.scan_unquoted(bytes, at),
                State::Quoted => match memchr::memchr(b'"', &bytes[at..]) {
                    Some(quote) => {
                        self.state = State::Quote;
                        at + quote + 1
                    }
                    None => bytes.len(),
                },
                State::Quote => self.scan_behind_quote(bytes[at], at),
                State::QuoteCr => {
                    if bytes[at] != b'\n' {
                        self.text_behind_quotes.push_back(self.bytes + at as u64);
                    }
                    self.state = State::Unquoted;
                    at
                }
            };
            // What follows looks at the byte before it.
            if let Some(last) = at.checked_sub(1) {
                self.last = bytes[last];
            }
        }
        self.bytes += bytes.len() as u64;
    }

    /// Scans from a place outside of quotes; returns the place behind the next quote.
    fn scan_unquoted(&mut self, bytes: &[u8], at: usize) -> usize {
        let quote = memchr::memchr(b'"', &bytes[at..]).map(|quote| at + quote);
        let end = quote.unwrap_or(bytes.len());
        self.find_line_end(&bytes[at..end]);
        let Some(quote) = quote else { return bytes.len() };
        let before = if quote > at { bytes[quote - 1] } else { self.last };
        // Elsewhere in a field a quote is a character like any other.
        if before == self.separator || before == b'\n' {
            self.state = State::Quoted;
        }
        quote + 1
    }

    /// Looks at the byte behind a quote in a quoted field; returns the place of the next byte to look at.
    fn scan_behind_quote(&mut self, byte: u8, at: usize) -> usize {
        self.state = match byte {
            b'"' => State::Quoted,
            b'\r' => {
                self.find_line_end(b"\r");
                State::QuoteCr
            }
            // The state that follows looks at these itself.
            b'\n' => State::Unquoted,
            byte if byte == self.separator => State::Unquoted,
            _ => {
                self.text_behind_quotes.push_back(self.bytes + at as u64);
                State::Unquoted
            }
        };
        if matches!(byte, b'"' | b'\r') { at + 1 } else { at }
    }

    fn find_line_end(&mut self, unquoted: &[u8]) {
        if self.first_line == LineEnd::Lf {
            return;
        }
        if memchr::memchr(b'\n', unquoted).is_some() {
            self.first_line = LineEnd::Lf;
        } else if self.first_line == LineEnd::None && memchr::memchr(b'\r', unquoted).is_some() {
            self.first_line = LineEnd::Cr;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(file: &[u8], chunk_bytes: usize) -> (Vec<u64>, bool, bool) {
        let mut scanner = QuoteScanner::new(b',');
        file.chunks(chunk_bytes).for_each(|chunk| scanner.scan(chunk));
        assert_eq!(scanner.bytes(), file.len() as u64);
        let (in_quotes, only_cr) = (scanner.is_in_quotes(), scanner.has_only_cr());
        (scanner.text_behind_quotes.into(), in_quotes, only_cr)
    }

    #[test]
    fn text_behind_a_closing_quote_is_found() {
        for (file, places) in [
            ("\"8\"4.5,\"a\"\n", &[3][..]),
            ("\"a\" ,\"b\" \n", &[3, 8]),
            ("\"a\"\rb\n", &[4]),
            ("\"a\"\"b\",\"\"\"\"\r\n\"\"\n", &[]),
            ("a\"b\",c \"d\"\n\"e\"", &[]),
            ("\"a\"b\"c\",\"d\"\n", &[3]),
            ("\"a\n\"\"\n\",\"b\"x", &[11]),
        ] {
            for chunk_bytes in [1, 2, 100] {
                assert_eq!(scan(file.as_bytes(), chunk_bytes).0, places, "{file:?}");
            }
        }
    }

    #[test]
    fn a_field_that_is_open_at_the_end_is_found() {
        for (file, is_open) in
            [("a,\"b", true), ("a,\"", true), ("a,\"b\"", false), ("a,\"b\"\"", true), ("a,b\"", false)]
        {
            assert_eq!(scan(file.as_bytes(), 1).1, is_open, "{file:?}");
        }
    }

    #[test]
    fn lines_that_end_with_cr_alone_are_found() {
        for (file, only_cr) in [
            ("a\rb\r", true),
            ("\"a\n\"\rb", true),
            ("\"a\"\r", true),
            ("\"a\r\"", false),
            ("a\r\nb\r\n", false),
            ("a\rb\nc", false),
            ("\"a\"\r\nb", false),
            ("a", false),
        ] {
            for chunk_bytes in [1, 100] {
                assert_eq!(scan(file.as_bytes(), chunk_bytes).2, only_cr, "{file:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_pieces_in_which_a_file_comes_do_not_matter(
            file in proptest::collection::vec(proptest::sample::select(b"a\",\r\n".as_slice()), 0..40),
            chunk_bytes in 1usize..40,
        ) {
            prop_assert_eq!(scan(&file, chunk_bytes), scan(&file, 40));
        }
    }
}
