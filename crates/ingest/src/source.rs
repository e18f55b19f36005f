//! The bytes as they come: counted, hashed and unpacked.

use std::fmt::Write as _;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

use crate::error::Fault;
use crate::format::{self, MARK_BYTES, Packing};
use crate::{Error, Limits, Progress};

/// The largest window of a zstd frame, 8 MiB: what every level up to 19 keeps within, and what RFC 8878 asks a decoder
/// to support. A window is memory that the sender decides on.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Detects how the bytes are packed and returns a reader of the unpacked bytes.
pub(crate) async fn unpack<B>(mut body: Counted<B>, limits: &Limits) -> Result<Unpacked<B>, Error>
where
    B: Stream<Item = io::Result<Bytes>> + Unpin,
{
    let (mut first, mut ended) = (BytesMut::with_capacity(MARK_BYTES), false);
    while first.len() < MARK_BYTES && !ended {
        match body.next().await {
            Some(piece) => {
                first.extend_from_slice(&piece.map_err(|error| Error::of_reader(error, 1))?);
            }
            None => ended = true,
        }
    }
    let packing = format::packing(&first[..first.len().min(MARK_BYTES)])?;
    let input = Input { piece: first.freeze(), ended };
    Ok(Unpacked {
        packing,
        body,
        decoder: Decoder::new(packing, input),
        members: 0,
        bytes: 0,
        bytes_max: limits.unpacked_bytes_max,
        ratio_max: limits.unpacked_ratio_max,
    })
}

/// The bytes of the CSV.
///
/// A packed file can have several members, one after the other. A decoder reads one member, and what follows is judged
/// here by its first byte: the decoders of the library join members by themselves, but how much of what is no member
/// they have consumed when they report it depends on how the file was cut into pieces.
pub(crate) struct Unpacked<B> {
    packing: Packing,
    body: Counted<B>,
    decoder: Decoder,
    /// Members that were unpacked to their end.
    members: u64,
    /// Bytes that were unpacked.
    bytes: u64,
    bytes_max: u64,
    ratio_max: u64,
}

/// The piece of the body that is being unpacked.
#[derive(Default)]
struct Input {
    piece: Bytes,
    ended: bool,
}

impl AsyncRead for Input {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let piece = ready!(Pin::new(&mut *this).poll_fill_buf(cx))?;
        let length = piece.len().min(buf.remaining());
        buf.put_slice(&piece[..length]);
        Pin::new(this).consume(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncBufRead for Input {
    /// Whoever polls the decoder polls the body next, which registers the waker.
    fn poll_fill_buf(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.piece.is_empty() && !this.ended {
            return Poll::Pending;
        }
        Poll::Ready(Ok(&this.piece))
    }

    fn consume(self: Pin<&mut Self>, length: usize) {
        self.get_mut().piece.advance(length);
    }
}

/// Unpacks one member.
enum Decoder {
    Plain(Input),
    Gzip(Box<GzipDecoder<Input>>),
    Zstd(Box<ZstdDecoder<Input>>),
}

impl Decoder {
    fn new(packing: Packing, input: Input) -> Self {
        match packing {
            Packing::Plain => Self::Plain(input),
            Packing::Gzip => Self::Gzip(Box::new(GzipDecoder::new(input))),
            Packing::Zstd => {
                let window = DParameter::window_log_max(ZSTD_WINDOW_LOG_MAX);
                Self::Zstd(Box::new(ZstdDecoder::with_params(input, &[window])))
            }
        }
    }

    fn input(&mut self) -> &mut Input {
        match self {
            Self::Plain(input) => input,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut(),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(input) => Pin::new(input).poll_read(cx, buf),
            Self::Gzip(decoder) => Pin::new(decoder.as_mut()).poll_read(cx, buf),
            Self::Zstd(decoder) => Pin::new(decoder.as_mut()).poll_read(cx, buf),
        }
    }
}

/// Bytes that may be unpacked whatever the ratio is: unpacking them takes a fraction of a second.
const UNPACKED_BYTES_FREE: u64 = 16 << 20;

impl<B: Stream<Item = io::Result<Bytes>> + Unpin> Unpacked<B> {
    /// What was counted below, once everything is read.
    pub(crate) fn counted(&self) -> &Counted<B> {
        &self.body
    }

    fn count(&mut self, bytes: usize) -> Result<(), Fault> {
        self.bytes += bytes as u64;
        if self.bytes > self.bytes_max {
            return Err(Fault::TooLarge { max: self.bytes_max, unpacked: true });
        }
        let is_small = self.packing == Packing::Plain || self.bytes <= UNPACKED_BYTES_FREE;
        if !is_small && self.bytes / self.ratio_max > self.body.bytes() {
            return Err(Fault::RatioTooHigh { max: self.ratio_max });
        }
        Ok(())
    }

    /// Begins the next member if bytes are left of the piece, and refuses them if they are none.
    fn next_member(&mut self) -> Result<(), Fault> {
        let format = self.packing.name();
        let input = self.decoder.input();
        let Some(&first) = input.piece.first() else { return Ok(()) };
        self.members += 1;
        if !self.packing.begins_with(first) {
            return Err(Fault::TrailingData { format, is_zeros: first == 0 });
        }
        let input = mem::take(input);
        self.decoder = Decoder::new(self.packing, input);
        Ok(())
    }

    /// What an error of the decoder says about the file.
    fn fault(&self, error: io::Error) -> Fault {
        let source = match Fault::take(error) {
            Ok(fault) => return fault,
            Err(source) => source,
        };
        let format = self.packing.name();
        // The libraries tell their errors apart only by their texts.
        match source.to_string().as_str() {
            "Frame requires too much memory for decoding" => {
                Fault::Unsupported("zstd with a window above 8 MiB")
            }
            "Dictionary mismatch" => Fault::Unsupported("zstd with a dictionary"),
            "Invalid gzip header" | "Unknown frame descriptor" if self.members > 0 => {
                Fault::TrailingData { format, is_zeros: false }
            }
            _ => Fault::Unpack { format, source },
        }
    }
}

impl<B: Stream<Item = io::Result<Bytes>> + Unpin> AsyncRead for Unpacked<B> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        loop {
            if let Poll::Ready(read) = this.decoder.poll_read(cx, buf) {
                read.map_err(|error| this.fault(error))?;
                let length = buf.filled().len() - before;
                this.count(length)?;
                if length > 0 || buf.remaining() == 0 {
                    return Poll::Ready(Ok(()));
                }
                // The member has ended.
                this.next_member()?;
            }
            let input = this.decoder.input();
            if !input.piece.is_empty() {
                continue;
            }
            if input.ended {
                return Poll::Ready(Ok(()));
            }
            match ready!(this.body.poll_next_unpin(cx)) {
                Some(Ok(piece)) => input.piece = piece,
                Some(Err(error)) => return Poll::Ready(Err(this.fault(error).into())),
                None => input.ended = true,
            }
        }
    }
}

/// Counts and hashes the bytes of a body on their way through.
pub(crate) struct Counted<B> {
    body: B,
    hash: Sha256,
    bytes: u64,
    bytes_max: u64,
    progress: Arc<Progress>,
}

impl<B> Counted<B> {
    pub(crate) fn new(body: B, bytes_max: u64, progress: Arc<Progress>) -> Self {
        Self { body, hash: Sha256::new(), bytes: 0, bytes_max, progress }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The SHA-256 of what came so far, in hexadecimal.
    pub(crate) fn sha256(&self) -> String {
        self.hash.clone().finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

impl<B: Stream<Item = io::Result<Bytes>> + Unpin> Stream for Counted<B> {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let this = self.get_mut();
        this.body.poll_next_unpin(cx).map(|next| {
            next.map(|chunk| {
                let chunk = chunk.map_err(Fault::BrokenOff)?;
                this.bytes += chunk.len() as u64;
                if this.bytes > this.bytes_max {
                    return Err(Fault::TooLarge { max: this.bytes_max, unpacked: false }.into());
                }
                this.hash.update(&chunk);
                this.progress.set_bytes(this.bytes);
                Ok(chunk)
            })
        })
    }
}
