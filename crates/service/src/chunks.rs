//! Checks how a body is framed by `Transfer-Encoding: chunked` (RFC 9112, 7.1), without keeping any of it.

/// Why a chunked body cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingFault {
    /// There is no digit where a chunk must begin.
    #[error("a chunk does not begin with its size in hexadecimal digits")]
    NoSize,
    /// The size has more digits than a number of 64 bits.
    #[error("the size of a chunk is not a number of 64 bits")]
    LargeSize,
    /// Something else follows the size.
    #[error("the size of a chunk is not followed by CRLF")]
    SizeEnd,
    /// The chunk has more or fewer bytes than its size says.
    #[error("the data of a chunk is not followed by CRLF where its size says that it ends")]
    DataEnd,
    /// A trailer, or the line behind the last chunk, is broken.
    #[error("the last chunk is not followed by CRLF")]
    End,
}

/// The place in a chunked body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Chunks {
    state: State,
    /// The size of the chunk, then what is left of it.
    size: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    SizeStart,
    Size,
    /// Spaces or an extension behind the size.
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The start of a line behind the last chunk: a trailer, or the end.
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    Ended,
}

impl Chunks {
    pub(crate) fn is_ended(self) -> bool {
        self.state == State::Ended
    }

    /// Takes bytes off the front, at least one of those given: those of a chunk together, others one by one.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Result<usize, FramingFault> {
        let Some(&byte) = bytes.first() else { return Ok(0) };
        if self.state == State::Data {
            let length = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len());
            self.size -= length as u64;
            if self.size == 0 {
                self.state = State::DataCr;
            }
            return Ok(length);
        }
        self.state = self.next_state(byte)?;
        Ok(1)
    }

    fn next_state(&mut self, byte: u8) -> Result<State, FramingFault> {
        Ok(match (self.state, byte) {
            (State::SizeStart, _) => {
                self.size = hex(byte).ok_or(FramingFault::NoSize)?;
                State::Size
            }
            (State::Size | State::Extension, b'\r') => State::SizeLf,
            (State::Size, b' ' | b'\t' | b';') => State::Extension,
            (State::Size, _) => {
                let digit = hex(byte).ok_or(FramingFault::SizeEnd)?;
                self.size = self.size.checked_mul(16).ok_or(FramingFault::LargeSize)? + digit;
                State::Size
            }
            (State::Extension, 0..=8 | 10..=31 | 127) => return Err(FramingFault::SizeEnd),
            (State::Extension, _) => State::Extension,
            (State::SizeLf, b'\n') if self.size == 0 => State::TrailerStart,
            (State::SizeLf, b'\n') => State::Data,
            (State::SizeLf, _) => return Err(FramingFault::SizeEnd),
            (State::Data | State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::SizeStart,
            (State::Data | State::DataCr | State::DataLf, _) => return Err(FramingFault::DataEnd),
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerStart | State::Trailer, _) => State::Trailer,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') | (State::Ended, _) => State::Ended,
            (State::TrailerLf | State::EndLf, _) => return Err(FramingFault::End),
        })
    }
}

fn hex(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes of a text belong to a chunked body.
    fn read(text: &[u8], piece_bytes: usize) -> Result<usize, FramingFault> {
        let (mut chunks, mut position) = (Chunks::default(), 0);
        while position < text.len() && !chunks.is_ended() {
            position += chunks.advance(&text[position..text.len().min(position + piece_bytes)])?;
        }
        Ok(position)
    }

    #[test]
    fn a_chunked_body_ends_behind_its_trailers() {
        for body in
            ["0\r\n\r\n", "5\r\nb,2,\n\r\n0\r\n\r\n", "A ;x=\"y\"\r\n0123456789\r\n000\r\na: b\r\n\r\n"]
        {
            for piece_bytes in [1, 3, 100] {
                let text = format!("{body}PUT /next");
                assert_eq!(read(text.as_bytes(), piece_bytes), Ok(body.len()), "{body:?}");
            }
        }
    }

    #[test]
    fn each_fault_of_the_framing_is_told_apart() {
        for (body, fault) in [
            ("\r\n", FramingFault::NoSize),
            ("-1\r\n", FramingFault::NoSize),
            ("5\r\nb,2,\n\r\nzz\r\n", FramingFault::NoSize),
            ("11112222333344445\r\n", FramingFault::LargeSize),
            ("5x\r\n", FramingFault::SizeEnd),
            ("5\n", FramingFault::SizeEnd),
            ("5;a\n", FramingFault::SizeEnd),
            ("5\r\r", FramingFault::SizeEnd),
            ("5\r\nb,2,\nXX", FramingFault::DataEnd),
            ("5\r\nb,2,\n\rX", FramingFault::DataEnd),
            ("0\r\n\rX", FramingFault::End),
            ("0\r\na: b\rX", FramingFault::End),
        ] {
            for piece_bytes in [1, 100] {
                assert_eq!(read(body.as_bytes(), piece_bytes), Err(fault), "{body:?}");
            }
        }
    }
}
