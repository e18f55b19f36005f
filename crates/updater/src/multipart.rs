//! The form of an upload (`multipart/form-data`), as it comes in pieces.
//!
//! Only a boundary ends a part. The `Content-Length` of a part ends nothing: a client that counts characters instead of
//! bytes states too little, and what is cut off there would be missing from the file. Where a part states a length that is
//! not its own, that is an error. A library that takes the stated length for the end, as actix-multipart does, cannot be
//! used.

use actix_web::http::header::{ContentDisposition, HeaderValue};
use bytes::{Bytes, BytesMut};
use memchr::memmem::{self, Finder};

/// The headers of one part: far more than any client sends.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// What may stand before the first boundary.
const PREAMBLE_BYTES_MAX: usize = 64 << 10;

/// Why a form cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormError {
    /// There is no boundary at all.
    #[error("the body does not begin with the boundary that the header Content-Type names")]
    NoBoundary,
    /// The boundary stands at the start of a line, and the line goes on.
    #[error("the form has other text behind its boundary")]
    TextBehindBoundary,
    /// The headers of a part do not end.
    #[error("the headers of a part of the form are longer than {HEAD_BYTES_MAX} bytes")]
    LongHead,
    /// The stated length is no number.
    #[error("the header Content-Length of a part of the form is not a number")]
    LengthIsNoNumber,
    /// The stated length is not that of the part.
    #[error(
        "the part `{name}` of the form has the header Content-Length: {stated}, but {found} bytes stand before the next boundary; leave the header out or count bytes, not characters"
    )]
    WrongLength { name: String, stated: u64, found: u64 },
    /// The body ends before the form does.
    #[error("the form ends without its closing boundary")]
    NoClosingBoundary,
}

/// What comes next in a form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// More bytes are needed.
    NeedsBytes,
    /// A part begins.
    Part(Head),
    /// Bytes of the part.
    Data(Bytes),
    /// The part has ended, at a boundary.
    PartEnd,
    /// The form has ended; what follows does not count.
    End,
}

/// What the headers of a part say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) name: Option<String>,
    pub(crate) filename: Option<String>,
    length: Option<u64>,
}

#[derive(Debug)]
enum State {
    Preamble,
    /// Directly behind a boundary.
    Boundary,
    Head,
    Data {
        name: String,
        stated: Option<u64>,
        found: u64,
    },
    End,
}

/// Splits the bytes of a form into parts.
#[derive(Debug)]
pub(crate) struct FormReader {
    /// The line break before a boundary belongs to the boundary.
    delimiter: Finder<'static>,
    buffer: BytesMut,
    state: State,
    is_part_over: bool,
}

impl FormReader {
    pub(crate) fn new(boundary: &str) -> Self {
        let delimiter = format!("\r\n--{boundary}");
        // The first boundary stands at the start of the body, with no line break before it.
        let buffer = BytesMut::from(&b"\r\n"[..]);
        Self {
            delimiter: Finder::new(delimiter.as_bytes()).into_owned(),
            buffer,
            state: State::Preamble,
            is_part_over: false,
        }
    }

    /// Takes the next bytes of the body.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::End) {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// What is wrong where the body ends before [`Event::End`].
    pub(crate) fn unfinished(&self) -> FormError {
        match self.state {
            State::Preamble => FormError::NoBoundary,
            _ => FormError::NoClosingBoundary,
        }
    }

    /// What the bytes so far say.
    pub(crate) fn next(&mut self) -> Result<Event, FormError> {
        loop {
            if std::mem::take(&mut self.is_part_over) {
                return Ok(Event::PartEnd);
            }
            let event = match &mut self.state {
                State::Preamble => self.preamble()?,
                State::Boundary => self.boundary()?,
                State::Head => self.head()?,
                State::Data { .. } => self.data()?,
                State::End => return Ok(Event::End),
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    fn preamble(&mut self) -> Result<Option<Event>, FormError> {
        if let Some(at) = self.delimiter.find(&self.buffer) {
            let _ = self.buffer.split_to(at + self.delimiter.needle().len());
            self.state = State::Boundary;
            return Ok(None);
        }
        if self.buffer.len() > PREAMBLE_BYTES_MAX {
            return Err(FormError::NoBoundary);
        }
        Ok(Some(Event::NeedsBytes))
    }

    fn boundary(&mut self) -> Result<Option<Event>, FormError> {
        if self.buffer.starts_with(b"--") {
            self.buffer.clear();
            self.state = State::End;
            return Ok(None);
        }
        // Spaces may follow a boundary (RFC 2046).
        let padding = self.buffer.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let rest = self.buffer.get(padding..).unwrap_or_default();
        let is_short = rest.len() < 2 && padding < HEAD_BYTES_MAX;
        if is_short && (b"\r\n".starts_with(rest) || padding == 0 && b"--".starts_with(rest)) {
            return Ok(Some(Event::NeedsBytes));
        }
        if !rest.starts_with(b"\r\n") {
            return Err(FormError::TextBehindBoundary);
        }
        // The line break stays: with it the end of a head without any header looks like that of another one.
        let _ = self.buffer.split_to(padding);
        self.state = State::Head;
        Ok(None)
    }

    fn head(&mut self) -> Result<Option<Event>, FormError> {
        const END: &[u8] = b"\r\n\r\n";
        let Some(at) = memmem::find(&self.buffer, END) else {
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(FormError::LongHead);
            }
            return Ok(Some(Event::NeedsBytes));
        };
        let head = self.buffer.split_to(at + END.len());
        let head = Head::parse(&head)?;
        let name = head.name.clone().unwrap_or_default();
        self.state = State::Data { name, stated: head.length, found: 0 };
        Ok(Some(Event::Part(head)))
    }

    fn data(&mut self) -> Result<Option<Event>, FormError> {
        let State::Data { name, stated, found } = &mut self.state else { return Ok(None) };
        let length = self.delimiter.needle().len();
        let (data, is_over) = match self.delimiter.find(&self.buffer) {
            Some(at) => {
                let data = self.buffer.split_to(at).freeze();
                let _ = self.buffer.split_to(length);
                (data, true)
            }
            // The last bytes may be the beginning of a boundary.
            None => (self.buffer.split_to(self.buffer.len().saturating_sub(length - 1)).freeze(), false),
        };
        *found += data.len() as u64;
        if is_over {
            if let Some(stated) = stated.filter(|stated| stated != found) {
                return Err(FormError::WrongLength { name: std::mem::take(name), stated, found: *found });
            }
            self.state = State::Boundary;
            self.is_part_over = true;
        }
        match (data.is_empty(), is_over) {
            (false, _) => Ok(Some(Event::Data(data))),
            (true, true) => Ok(None),
            (true, false) => Ok(Some(Event::NeedsBytes)),
        }
    }
}

impl Head {
    /// Reads header lines, each of which ends with a line break. What is no header is passed over.
    fn parse(bytes: &[u8]) -> Result<Self, FormError> {
        let mut head = Self::default();
        for line in bytes.split(|byte| *byte == b'\n') {
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"content-length") {
                let length = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
                head.length = Some(length.ok_or(FormError::LengthIsNoNumber)?);
            } else if name.eq_ignore_ascii_case(b"content-disposition")
                && let Ok(value) = HeaderValue::from_bytes(value)
                && let Ok(disposition) = ContentDisposition::from_raw(&value)
            {
                head.name = disposition.get_name().map(str::to_owned);
                head.filename = disposition.get_filename().map(str::to_owned);
            }
        }
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "content-disposition: form-data; name=\"data\"; filename=\"a.csv\"\r\n";

    /// The data of all parts, where the body comes in pieces of this size.
    fn read(body: &[u8], piece_bytes: usize) -> Result<Vec<Vec<u8>>, FormError> {
        let (mut reader, mut parts) = (FormReader::new("XyZ"), Vec::new());
        let mut pieces = body.chunks(piece_bytes.max(1));
        loop {
            match reader.next()? {
                Event::NeedsBytes => match pieces.next() {
                    Some(piece) => reader.feed(piece),
                    None => return Err(reader.unfinished()),
                },
                Event::Part(_) => parts.push(Vec::new()),
                Event::Data(data) => parts.last_mut().unwrap().extend_from_slice(&data),
                Event::PartEnd => {}
                Event::End => return Ok(parts),
            }
        }
    }

    fn form(head: &str, data: &[u8]) -> Vec<u8> {
        [format!("--XyZ\r\n{head}\r\n").as_bytes(), data, b"\r\n--XyZ--\r\n"].concat()
    }

    #[test]
    fn a_part_without_data_or_without_headers_is_read() {
        assert_eq!(read(&form(HEAD, b""), 1), Ok(vec![vec![]]));
        assert_eq!(read(&form("", b"a"), 1), Ok(vec![b"a".to_vec()]));
    }

    #[test]
    fn what_is_around_the_parts_and_behind_a_boundary_does_not_count() {
        let body = b"preamble\r\n--XyZ \t\r\n\r\na\r\n--XyZ\r\n\r\n\r\n\r\n--XyZ--epilogue";
        assert_eq!(read(body, 1), Ok(vec![b"a".to_vec(), b"\r\n".to_vec()]));
    }

    #[test]
    fn p10_a_part_with_a_length_that_is_not_its_own_is_an_error() {
        for (stated, is_right) in [("4", false), ("5", true), ("6", false), ("0", false), ("99", false)] {
            let body = form(&format!("{HEAD}Content-Length: {stated}\r\n"), b"a,1\n\n");
            for piece in 1..body.len() {
                let read = read(&body, piece);
                assert_eq!(read.is_ok(), is_right, "{stated} in pieces of {piece}: {read:?}");
            }
        }
        assert_eq!(read(&form("content-length: x\r\n", b""), 9), Err(FormError::LengthIsNoNumber));
    }

    #[test]
    fn each_way_to_be_broken_has_its_own_error() {
        let long = vec![b'x'; PREAMBLE_BYTES_MAX + 1];
        assert_eq!(read(b"a,1\n", 2), Err(FormError::NoBoundary));
        assert_eq!(read(&long, 1000), Err(FormError::NoBoundary));
        assert_eq!(read(b"--XyZ\r\n\r\na\r\n--XyZ-", 3), Err(FormError::NoClosingBoundary));
        assert_eq!(read(b"--XyZ\r\n\r\na\r\n--Xy", 3), Err(FormError::NoClosingBoundary));
        assert_eq!(read(b"--XyZ\r\n\r\na\r\n--XyZa", 3), Err(FormError::TextBehindBoundary));
        let head = [b"--XyZ\r\n", long.as_slice()].concat();
        assert_eq!(read(&head, 1000), Err(FormError::LongHead));
    }

    #[test]
    fn p10_any_bytes_give_the_same_parts_or_error_in_pieces_of_any_size() {
        let with_length = form(&format!("{HEAD}Content-Length: 4\r\n"), b"a,1\n");
        let seeds: [&[u8]; 3] = [
            &form(HEAD, b"a,1\r\nb,2\r\n"),
            &with_length,
            b"preamble\r\n--XyZ  \r\n\r\na\r\n--XyZ\r\ncontent-length: 0\r\n\r\n\r\n--XyZ--rest",
        ];
        let tokens: [&[u8]; 10] = [
            b"\r\n--XyZ",
            b"--XyZ--",
            b"\r\n",
            b"\r",
            b"--",
            b"--Xy",
            b"\r\n\r\n",
            b"Content-Length: 3\r\n",
            b"name=\"",
            b":",
        ];
        testkit::fuzz("multipart", &seeds, &tokens, |body| {
            let whole = read(body, body.len());
            for piece in [1, 2, 7] {
                assert_eq!(read(body, piece), whole, "pieces of {piece}");
            }
            let Ok(parts) = whole else {
                return format!("{:?}", whole.unwrap_err()).chars().take(12).collect();
            };
            for data in &parts {
                let framed = [b"\r\n\r\n", data.as_slice(), b"\r\n--XyZ"].concat();
                assert!(memmem::find(body, &framed).is_some(), "a part that is not whole");
            }
            format!("{} parts", parts.len().min(5))
        });
    }

    proptest! {
        #[test]
        fn a_file_comes_out_as_it_went_in_however_the_form_is_cut(
            data in "([a-c\r\n-]|\r\n--|--Xy|XyZ){0,60}",
            piece in 1..80_usize,
        ) {
            prop_assume!(!format!("\r\n{data}").contains("\r\n--XyZ"));
            prop_assert_eq!(read(&form(HEAD, data.as_bytes()), piece), Ok(vec![data.into_bytes()]));
        }
    }
}
