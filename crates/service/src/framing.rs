//! Where the requests of a connection over HTTP/1.1 begin and end.
//!
//! It reads a head with the parser that the HTTP library uses, so that both agree. Whatever is unusual, such as a
//! request to upgrade, is left to the library from there on.

use crate::chunks::{Chunks, FramingFault};

/// The limits of the HTTP library: a head with more is refused there.
const HEAD_BYTES_MAX: usize = 128 << 10;
const HEADERS_MAX: usize = 96;

/// The place in the requests of a connection.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    /// What has come of a head.
    head: Vec<u8>,
    body: Body,
}

/// What is left of a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Body {
    #[default]
    None,
    Bytes(u64),
    Chunks(Chunks),
}

/// What some bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many of them belong to a request.
    Read { length: usize, expects_continue: bool },
    /// They are not followed any further.
    Lost,
    /// The frame of a chunk is broken.
    Broken(FramingFault),
}

impl Framing {
    /// Reads bytes, of which there must be some.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Step {
        let length = match &mut self.body {
            Body::None => return self.advance_head(bytes),
            Body::Bytes(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= length as u64;
                length
            }
            Body::Chunks(chunks) => match chunks.advance(bytes) {
                Ok(length) => length,
                Err(fault) => return Step::Broken(fault),
            },
        };
        let is_ended = match self.body {
            Body::None => true,
            Body::Bytes(left) => left == 0,
            Body::Chunks(chunks) => chunks.is_ended(),
        };
        if is_ended {
            self.body = Body::None;
        }
        Step::Read { length, expects_continue: false }
    }

    fn advance_head(&mut self, bytes: &[u8]) -> Step {
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let end = match request.parse(&self.head) {
            Ok(httparse::Status::Complete(end)) => end,
            Ok(httparse::Status::Partial) if self.head.len() <= HEAD_BYTES_MAX => {
                return Step::Read { length: bytes.len(), expects_continue: false };
            }
            _ => return Step::Lost,
        };
        let Some(body) = body(&request) else { return Step::Lost };
        let expects_continue =
            values(&request, "expect").any(|value| value.eq_ignore_ascii_case(b"100-continue"));
        self.body = body;
        self.head.clear();
        Step::Read { length: end - before, expects_continue }
    }
}

/// The body that a request announces, where that is told in the usual way.
fn body(request: &httparse::Request<'_, '_>) -> Option<Body> {
    let mut encodings = values(request, "transfer-encoding");
    if let Some(encoding) = encodings.next() {
        let is_chunked = encoding.eq_ignore_ascii_case(b"chunked") && encodings.next().is_none();
        return is_chunked.then(|| Body::Chunks(Chunks::default()));
    }
    if request.method == Some("CONNECT") || values(request, "upgrade").next().is_some() {
        return None;
    }
    let Some(length) = values(request, "content-length").next() else { return Some(Body::None) };
    let length = std::str::from_utf8(length).ok()?.parse().ok()?;
    Some(if length == 0 { Body::None } else { Body::Bytes(length) })
}

/// The values of the headers of a name.
fn values<'a>(request: &'a httparse::Request<'_, '_>, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    let headers: &'a [httparse::Header<'_>] = request.headers;
    let named = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.map(|header| header.value.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How the reading of a connection ends: with a fault behind this many bytes, or with what it waits for.
    fn read(bytes: &[u8], piece_bytes: usize) -> Result<String, (usize, FramingFault)> {
        let (mut framing, mut end) = (Framing::default(), 0);
        for piece in bytes.chunks(piece_bytes) {
            let mut position = 0;
            while position < piece.len() {
                match framing.advance(&piece[position..]) {
                    Step::Read { length, .. } => {
                        assert!(length > 0 && position + length <= piece.len());
                        position += length;
                    }
                    Step::Lost => return Ok("lost".to_owned()),
                    Step::Broken(fault) => return Err((end + position, fault)),
                }
            }
            end += piece.len();
        }
        let head = if framing.head.is_empty() { "" } else { "in a head " };
        Ok(format!("{head}{:?}", framing.body))
    }

    fn follow(text: &str, piece_bytes: usize) -> Option<FramingFault> {
        match read(text.as_bytes(), piece_bytes) {
            Ok(end) => {
                assert!(["lost", "None"].contains(&end.as_str()), "{end}");
                None
            }
            Err((_, fault)) => Some(fault),
        }
    }

    const CHUNKED: &str = "PUT / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n";

    #[test]
    fn requests_that_follow_each_other_are_told_apart() {
        let requests = [
            "GET / HTTP/1.1\r\n\r\n",
            "\r\nPUT / HTTP/1.1\r\ncontent-length: 7\r\n\r\n\r\n\r\nzz\n",
            "PUT / HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
            &format!("{CHUNKED}2\r\nzz\r\n0\r\n\r\n"),
            "GET / HTTP/1.1\n\n",
        ];
        for piece_bytes in [1, 2, 7, 1000] {
            assert_eq!(follow(&requests.repeat(2).concat(), piece_bytes), None);
            let broken = format!("{}{CHUNKED}zz\r\n", requests.concat());
            assert_eq!(follow(&broken, piece_bytes), Some(FramingFault::NoSize));
        }
    }

    #[test]
    fn only_a_body_that_is_chunked_and_nothing_else_is_checked() {
        for head in [
            "PUT / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "PUT / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
            "CONNECT / HTTP/1.1\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\n",
            "no request\r\n",
        ] {
            assert_eq!(follow(&format!("{head}zz\r\n"), 1), None, "{head}");
        }
    }

    #[test]
    fn a_client_that_waits_to_be_told_to_go_on_is_seen() {
        let head = "PUT / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n";
        let expected = Step::Read { length: head.len(), expects_continue: true };
        assert_eq!(Framing::default().advance(head.as_bytes()), expected);
    }

    #[test]
    fn p10_any_bytes_give_the_same_fault_in_pieces_of_any_size() {
        let seeds: [&[u8]; 3] = [
            b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nb,2,\n\r\n0\r\na: b\r\n\r\n",
            b"PUT / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nb,2,\n",
            b"GET / HTTP/1.1\r\n\r\nPUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz",
        ];
        let tokens: [&[u8]; 10] = [
            b"\r\n",
            b"\n",
            b"\r",
            b"0\r\n\r\n",
            b"5;x=y\r\n",
            b"ffffffffffffffff",
            b"Transfer-Encoding: chunked\r\n",
            b"Content-Length: 3\r\n",
            b"Upgrade: websocket\r\n",
            b"GET / HTTP/1.1\r\n",
        ];
        testkit::fuzz("framing", &seeds, &tokens, |bytes| {
            let whole = read(bytes, bytes.len().max(1));
            for piece_bytes in [1, 2, 7] {
                assert_eq!(read(bytes, piece_bytes), whole, "pieces of {piece_bytes}");
            }
            match whole {
                Ok(end) => end.replace(|char: char| char.is_ascii_digit(), ""),
                Err((_, fault)) => format!("{fault:?}"),
            }
        });
    }
}
