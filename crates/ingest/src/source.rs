//! The bytes as they come: counted, hashed and unpacked.

use std::fmt::Write as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_compression::codecs::{DecodeV2, GzipDecoder, ZstdDecoder};
use async_compression::core::util::{PartialBuffer, WriteBuffer};
use async_compression::zstd::DParameter;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, ReadBuf};

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
    let (mut first, mut is_ended) = (BytesMut::with_capacity(MARK_BYTES), false);
    while first.len() < MARK_BYTES && !is_ended {
        match body.next().await {
            Some(piece) => {
                first.extend_from_slice(&piece.map_err(|error| Error::of_reader(error, 1))?);
            }
            None => is_ended = true,
        }
    }
    let packing = format::packing(&first[..first.len().min(MARK_BYTES)])?;
    Ok(Unpacked {
        packing,
        body,
        piece: first.freeze(),
        is_ended,
        member: decoder(packing).map(Member::new),
        bytes: 0,
        bytes_max: limits.unpacked_bytes_max,
        ratio_max: limits.unpacked_ratio_max,
    })
}

fn decoder(packing: Packing) -> Option<Box<dyn DecodeV2 + Send>> {
    match packing {
        Packing::Plain => None,
        Packing::Gzip => Some(Box::new(GzipDecoder::new())),
        Packing::Zstd => {
            let window = DParameter::window_log_max(ZSTD_WINDOW_LOG_MAX);
            Some(Box::new(ZstdDecoder::new_with_params(&[window])))
        }
    }
}

/// The bytes of the CSV.
pub(crate) struct Unpacked<B> {
    packing: Packing,
    body: Counted<B>,
    /// What is left of a piece of the body.
    piece: Bytes,
    /// Whether no piece follows.
    is_ended: bool,
    /// Nothing where the file is not packed.
    member: Option<Member>,
    /// Bytes that were unpacked.
    bytes: u64,
    bytes_max: u64,
    ratio_max: u64,
}

/// A member of a packed file: a file may have several, one after the other.
///
/// What follows a member is judged by its first byte. The readers of the library join members by themselves, but how much
/// of what is no member they have consumed when they say so depends on how the file was cut into pieces. The decoder is
/// used again for each member: a million new ones of zstd take 8 s.
struct Member {
    decoder: Box<dyn DecodeV2 + Send>,
    /// Whether the member has ended, and the next one has not begun.
    is_over: bool,
    /// Whether a member came before.
    is_later: bool,
    /// Whether the decoder may have output for which there was no room.
    is_full: bool,
    /// What is wrong behind the output that was handed on.
    error: Option<io::Error>,
}

impl Member {
    fn new(decoder: Box<dyn DecodeV2 + Send>) -> Self {
        Self { decoder, is_over: false, is_later: false, is_full: false, error: None }
    }

    /// Unpacks as much of a piece as there is room for, and takes that off the piece.
    fn decode(&mut self, piece: &mut Bytes, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let mut input = PartialBuffer::new(&piece[..]);
        let mut output = WriteBuffer::new_initialized(buf.initialize_unfilled());
        let result = self.decoder.decode(&mut input, &mut output);
        let (read, written) = (input.written_len(), output.written_len());
        let is_full = output.has_no_spare_space();
        // Without input it is asked only for output that is left, and having none is an error to some.
        let result = if piece.is_empty() { Ok(matches!(result, Ok(true))) } else { result };
        piece.advance(read);
        buf.advance(written);
        self.is_over = matches!(result, Ok(true));
        self.is_full = is_full && !self.is_over;
        match result {
            Err(error) if written == 0 => return Err(error),
            Err(error) => self.error = Some(error),
            Ok(_) => {}
        }
        Ok(())
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

    /// Unpacks more of the piece, or hands it on as it is.
    fn advance(&mut self, buf: &mut ReadBuf<'_>) -> Result<(), Fault> {
        let Some(member) = &mut self.member else {
            let length = self.piece.len().min(buf.remaining());
            buf.put_slice(&self.piece.split_to(length));
            return Ok(());
        };
        let format = self.packing.name();
        if let (true, Some(&first)) = (member.is_over, self.piece.first()) {
            if !self.packing.begins_with(first) {
                return Err(Fault::TrailingData { format, is_zeros: first == 0 });
            }
            member.decoder.reinit().map_err(|source| Fault::Unpack { format, source })?;
            (member.is_over, member.is_later) = (false, true);
        }
        let is_later = member.is_later;
        member.decode(&mut self.piece, buf).map_err(|error| self.fault(error, is_later))
    }

    /// What an error of the decoder says about the file.
    fn fault(&self, source: io::Error, is_later: bool) -> Fault {
        let format = self.packing.name();
        // The libraries tell their errors apart only by their texts.
        match source.to_string().as_str() {
            "Frame requires too much memory for decoding" => {
                Fault::Unsupported("zstd with a window above 8 MiB")
            }
            "Dictionary mismatch" => Fault::Unsupported("zstd with a dictionary"),
            "Invalid gzip header" | "Unknown frame descriptor" if is_later => {
                Fault::TrailingData { format, is_zeros: false }
            }
            _ => Fault::Unpack { format, source },
        }
    }

    /// Checks that the file does not end inside a member.
    fn end(&self) -> Result<(), Fault> {
        if self.member.as_ref().is_none_or(|member| member.is_over) {
            return Ok(());
        }
        Err(Fault::Unpack { format: self.packing.name(), source: io::ErrorKind::UnexpectedEof.into() })
    }
}

impl<B: Stream<Item = io::Result<Bytes>> + Unpin> AsyncRead for Unpacked<B> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        while buf.filled().len() == before && buf.remaining() > 0 {
            let has_more = |member: &Member| member.is_full || member.error.is_some();
            if this.piece.is_empty() && !this.member.as_ref().is_some_and(has_more) {
                if this.is_ended {
                    return Poll::Ready(this.end().map_err(io::Error::from));
                }
                match ready!(this.body.poll_next_unpin(cx)).transpose()? {
                    Some(piece) => this.piece = piece,
                    None => this.is_ended = true,
                }
            } else {
                this.advance(buf)?;
            }
        }
        this.count(buf.filled().len() - before)?;
        Poll::Ready(Ok(()))
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
