//! The text of a file as UTF-8, whatever its encoding.
//!
//! A byte order mark decides. Without one, text in ASCII is the same in every encoding that is in question, so it
//! passes as it comes; the first other byte and the 64 KiB behind it decide between UTF-8 and Windows-1252. What is not
//! valid in the encoding becomes a byte that is not valid in UTF-8, and its row a reject.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use dataset::TextEncoding;
use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use crate::encoding::{self, Warning};
use crate::error::Fault;
use crate::{Error, format};

/// How much is read ahead: of the beginning, and where an encoding is guessed.
const AHEAD_BYTES: usize = 64 << 10;
/// How much is decoded at once.
const DECODE_BYTES: usize = 16 << 10;
/// Stands for what cannot be decoded: no UTF-8 contains it.
const UNDECODABLE: u8 = 0xff;
/// The byte order mark in UTF-8.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// Reads text as UTF-8.
pub(crate) struct Text<R> {
    reader: R,
    /// Bytes that were read ahead, and how many of them were handed on.
    ahead: Vec<u8>,
    taken: usize,
    /// Whether the reader is at its end.
    is_read: bool,
    state: State,
    setting: TextEncoding,
    warning: Option<Warning>,
}

enum State {
    /// Nothing but ASCII so far; the encoding is not decided.
    Ascii,
    Utf8,
    Decoding(Box<Decoding>),
}

/// Text in another encoding.
struct Decoding {
    decoder: Decoder,
    /// UTF-8, and how much of it was handed on.
    text: Vec<u8>,
    taken: usize,
    is_finished: bool,
}

/// The beginning of a file as UTF-8, for what its form can be recognised by.
pub(crate) struct Opening {
    pub(crate) text: Vec<u8>,
    /// Whether it is the whole file.
    pub(crate) is_whole: bool,
}

impl<R: AsyncRead + Unpin> Text<R> {
    /// Reads the beginning, and refuses it if it is not the text of a CSV.
    pub(crate) async fn open(mut reader: R, setting: TextEncoding) -> Result<(Self, Opening), Error> {
        let mut ahead = Vec::new();
        let mut start = (&mut reader).take(AHEAD_BYTES as u64);
        start.read_to_end(&mut ahead).await.map_err(|error| Error::of_reader(error, 1))?;
        let is_whole = ahead.len() < AHEAD_BYTES;
        format::check_binary(&ahead)?;
        let (encoding, mut taken) = encoding::of_start(&ahead, setting)?;
        let is_utf8 = encoding.is_none_or(|encoding| encoding == UTF_8);
        while is_utf8 && ahead[taken..].starts_with(MARK) {
            // A file that was put together from several has more of them.
            taken += MARK.len();
        }
        let text = match encoding.filter(|_| !is_utf8) {
            Some(encoding) => {
                encoding.decode_without_bom_handling(&ahead[taken..]).0.into_owned().into_bytes()
            }
            None => ahead[taken..].to_vec(),
        };
        format::check_text(&text)?;
        let state = encoding.map_or(State::Ascii, State::of);
        let reader = Self { reader, ahead, taken, is_read: is_whole, state, setting, warning: None };
        Ok((reader, Opening { text, is_whole }))
    }

    /// What the sender should know.
    pub(crate) fn warning(&self) -> Option<Warning> {
        self.warning
    }

    /// The reader below, to ask it what it counted.
    pub(crate) fn get_ref(&self) -> &R {
        &self.reader
    }

    /// Reads ahead until there are so many bytes, or all.
    fn poll_ahead(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<io::Result<()>> {
        self.ahead.drain(..self.taken);
        self.taken = 0;
        while self.ahead.len() < bytes && !self.is_read {
            let before = self.ahead.len();
            self.ahead.resize(bytes, 0);
            let mut buf = ReadBuf::new(&mut self.ahead[before..]);
            let read = Pin::new(&mut self.reader).poll_read(cx, &mut buf);
            let count = buf.filled().len();
            self.ahead.truncate(before + count);
            ready!(read)?;
            self.is_read = count == 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Hands on what was read ahead, and then what the reader has.
    fn poll_pass(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let ahead = &self.ahead[self.taken..];
        if ahead.is_empty() && !self.is_read {
            return Pin::new(&mut self.reader).poll_read(cx, buf);
        }
        let count = ahead.len().min(buf.remaining());
        buf.put_slice(&ahead[..count]);
        self.taken += count;
        Poll::Ready(Ok(()))
    }

    /// Hands on ASCII. Says whether what comes next is not.
    fn poll_ascii(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        ready!(self.poll_pass(cx, buf))?;
        let passed = &buf.filled()[before..];
        let ascii = Encoding::ascii_valid_up_to(passed);
        if ascii == passed.len() {
            return Poll::Ready(Ok(false));
        }
        // The rest goes back to where it was read ahead.
        self.ahead.splice(..self.taken, passed[ascii..].iter().copied());
        self.taken = 0;
        buf.set_filled(before + ascii);
        Poll::Ready(Ok(ascii == 0))
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Text<R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while buf.remaining() > 0 {
            match &mut this.state {
                State::Utf8 => return this.poll_pass(cx, buf),
                State::Ascii => {
                    if !ready!(this.poll_ascii(cx, buf))? {
                        return Poll::Ready(Ok(()));
                    }
                    ready!(this.poll_ahead(cx, AHEAD_BYTES))?;
                    let (encoding, warning) = encoding::of_text(&this.ahead, this.setting)?;
                    (this.state, this.warning) = (State::of(encoding), warning);
                }
                State::Decoding(decoding) => {
                    if decoding.hand_on(buf) || decoding.is_finished {
                        return Poll::Ready(Ok(()));
                    }
                    ready!(this.poll_ahead(cx, DECODE_BYTES))?;
                    this.decode()?;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<R> Text<R> {
    /// Decodes what was read ahead.
    fn decode(&mut self) -> Result<(), Fault> {
        let State::Decoding(decoding) = &mut self.state else { return Ok(()) };
        let bytes = &self.ahead[self.taken..];
        // One stray byte may have decided, long before the first character of a text in UTF-8.
        if let Some(Warning::GuessedEncoding(guessed)) = self.warning
            && encoding::has_utf8(bytes)
        {
            return Err(Fault::MixedEncodings { guessed });
        }
        decoding.decode(bytes, self.is_read);
        self.taken = self.ahead.len();
        Ok(())
    }
}

impl State {
    fn of(encoding: &'static Encoding) -> Self {
        if encoding == UTF_8 {
            return Self::Utf8;
        }
        let decoder = encoding.new_decoder_without_bom_handling();
        Self::Decoding(Box::new(Decoding { decoder, text: Vec::new(), taken: 0, is_finished: false }))
    }
}

impl Decoding {
    /// Hands text on; says whether there was any.
    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let count = (self.text.len() - self.taken).min(buf.remaining());
        buf.put_slice(&self.text[self.taken..self.taken + count]);
        self.taken += count;
        count > 0
    }

    /// Decodes all of these bytes, the last ones of the file or not.
    fn decode(&mut self, bytes: &[u8], is_last: bool) {
        self.text.clear();
        self.taken = 0;
        let (mut read, mut is_decoded) = (0, false);
        while !is_decoded {
            let (before, left) = (self.text.len(), &bytes[read..]);
            let room = self.decoder.max_utf8_buffer_length_without_replacement(left.len());
            self.text.resize(before + room.unwrap_or(DECODE_BYTES), 0);
            let (result, count, written) =
                self.decoder.decode_to_utf8_without_replacement(left, &mut self.text[before..], is_last);
            self.text.truncate(before + written);
            read += count;
            is_decoded = result == DecoderResult::InputEmpty;
            if let DecoderResult::Malformed(..) = result {
                self.text.push(UNDECODABLE);
            }
        }
        self.is_finished = is_last;
    }
}
