//! The bytes as they come: counted, hashed and unpacked.

use std::fmt::Write as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio_util::io::StreamReader;

use crate::error::Fault;
use crate::format::{self, MARK_BYTES, Packing};
use crate::{Error, Limits, Progress};

/// The largest window of a zstd frame, 8 MiB: what every level up to 19 keeps within, and what RFC 8878 asks a decoder
/// to support. A window is memory that the sender decides on.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Sees how the bytes are packed and returns them unpacked.
pub(crate) async fn unpack<B>(body: Counted<B>, limits: &Limits) -> Result<Unpacked<B>, Error>
where
    B: Stream<Item = io::Result<Bytes>> + Unpin,
{
    let mut reader = StreamReader::new(body);
    let mut first = Vec::with_capacity(MARK_BYTES);
    let mut start = (&mut reader).take(MARK_BYTES as u64);
    start.read_to_end(&mut first).await.map_err(|error| Error::of_reader(error, 1))?;
    let packing = format::packing(&first)?;
    let whole = io::Cursor::new(first).chain(reader);
    let decoder = match packing {
        Packing::Plain => Decoder::Plain(whole),
        Packing::Gzip => {
            let mut decoder = GzipDecoder::new(whole);
            decoder.multiple_members(true);
            Decoder::Gzip(Box::new(decoder))
        }
        Packing::Zstd => {
            let window = DParameter::window_log_max(ZSTD_WINDOW_LOG_MAX);
            let mut decoder = ZstdDecoder::with_params(whole, &[window]);
            decoder.multiple_members(true);
            Decoder::Zstd(Box::new(decoder))
        }
    };
    Ok(Unpacked {
        packing,
        decoder,
        bytes: 0,
        bytes_max: limits.unpacked_bytes_max,
        ratio_max: limits.unpacked_ratio_max,
    })
}

type Whole<B> = tokio::io::Chain<io::Cursor<Vec<u8>>, StreamReader<Counted<B>, Bytes>>;

/// The bytes of the CSV.
pub(crate) struct Unpacked<B: Stream<Item = io::Result<Bytes>> + Unpin> {
    packing: Packing,
    decoder: Decoder<B>,
    /// Bytes that were unpacked.
    bytes: u64,
    bytes_max: u64,
    ratio_max: u64,
}

enum Decoder<B: Stream<Item = io::Result<Bytes>> + Unpin> {
    Plain(Whole<B>),
    Gzip(Box<GzipDecoder<Whole<B>>>),
    Zstd(Box<ZstdDecoder<Whole<B>>>),
}

/// Bytes that may be unpacked whatever the ratio is: unpacking them takes a fraction of a second.
const UNPACKED_BYTES_FREE: u64 = 16 << 20;

impl<B: Stream<Item = io::Result<Bytes>> + Unpin> Unpacked<B> {
    /// What was counted below, once everything is read.
    pub(crate) fn counted(&self) -> &Counted<B> {
        let whole = match &self.decoder {
            Decoder::Plain(whole) => whole,
            Decoder::Gzip(decoder) => decoder.get_ref(),
            Decoder::Zstd(decoder) => decoder.get_ref(),
        };
        whole.get_ref().1.get_ref()
    }

    fn count(&mut self, bytes: usize) -> Result<(), Fault> {
        self.bytes += bytes as u64;
        if self.bytes > self.bytes_max {
            return Err(Fault::TooLarge { max: self.bytes_max, unpacked: true });
        }
        let is_small = self.packing == Packing::Plain || self.bytes <= UNPACKED_BYTES_FREE;
        if !is_small && self.bytes / self.ratio_max > self.counted().bytes() {
            return Err(Fault::RatioTooHigh { max: self.ratio_max });
        }
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
            "Invalid gzip header" | "Unknown frame descriptor" if self.bytes > 0 => {
                Fault::TrailingData { format, is_zeros: self.counted().ends_with_zero }
            }
            _ => Fault::Unpack { format, source },
        }
    }
}

impl<B: Stream<Item = io::Result<Bytes>> + Unpin> AsyncRead for Unpacked<B> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = match &mut this.decoder {
            Decoder::Plain(reader) => Pin::new(reader).poll_read(cx, buf),
            Decoder::Gzip(reader) => Pin::new(reader.as_mut()).poll_read(cx, buf),
            Decoder::Zstd(reader) => Pin::new(reader.as_mut()).poll_read(cx, buf),
        };
        read.map(|read| {
            read.map_err(|error| this.fault(error))?;
            this.count(buf.filled().len() - before)?;
            Ok(())
        })
    }
}

/// Counts and hashes the bytes of a body on their way through.
pub(crate) struct Counted<B> {
    body: B,
    hash: Sha256,
    bytes: u64,
    bytes_max: u64,
    progress: Arc<Progress>,
    /// Whether the last byte is zero.
    ends_with_zero: bool,
}

impl<B> Counted<B> {
    pub(crate) fn new(body: B, bytes_max: u64, progress: Arc<Progress>) -> Self {
        Self { body, hash: Sha256::new(), bytes: 0, bytes_max, progress, ends_with_zero: false }
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
                this.ends_with_zero = chunk.last().map_or(this.ends_with_zero, |last| *last == 0);
                this.hash.update(&chunk);
                this.progress.set_bytes(this.bytes);
                Ok(chunk)
            })
        })
    }
}
