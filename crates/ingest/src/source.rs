//! The bytes as they come: counted, hashed, recognised by how they begin, and unpacked.

use std::fmt::Write as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio_util::io::StreamReader;

use crate::error::Fault;
use crate::{Error, Progress};

/// How a file is packed, as its first bytes say.
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
}

/// As many first bytes as tell the formats apart.
const SNIFF_BYTES: usize = 4;

/// Recognises a format; a known one that is not CSV is refused by its name and not as ten thousand bad rows.
fn sniff(first: &[u8]) -> Result<Packing, Error> {
    match first {
        [0x1f, 0x8b, ..] => Ok(Packing::Gzip),
        // A frame of zstd, or the skippable frame that some writers put before it.
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Ok(Packing::Zstd),
        [b'P', b'K', 3, 4] => Err(Error::Unsupported("zip and xlsx")),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(Error::Unsupported("UTF-16")),
        [b'B', b'Z', b'h', _] => Err(Error::Unsupported("bzip2")),
        [0xfd, b'7', b'z', b'X'] => Err(Error::Unsupported("xz")),
        [b'P', b'A', b'R', b'1'] => Err(Error::Unsupported("parquet")),
        _ => Ok(Packing::Plain),
    }
}

/// Sees how the bytes are packed and returns them unpacked.
pub(crate) async fn unpack<B>(body: Counted<B>) -> Result<(Packing, Unpacked<B>), Error>
where
    B: Stream<Item = io::Result<Bytes>> + Unpin,
{
    let mut reader = StreamReader::new(body);
    let mut first = Vec::with_capacity(SNIFF_BYTES);
    let mut start = (&mut reader).take(SNIFF_BYTES as u64);
    start.read_to_end(&mut first).await.map_err(|error| match Fault::take(error) {
        Ok(fault) => fault.into_error(0),
        Err(error) => Error::BrokenOff(error),
    })?;
    let packing = sniff(&first)?;
    let whole = io::Cursor::new(first).chain(reader);
    Ok((
        packing,
        match packing {
            Packing::Plain => Unpacked::Plain(whole),
            Packing::Gzip => {
                let mut decoder = GzipDecoder::new(whole);
                decoder.multiple_members(true);
                Unpacked::Gzip(Box::new(decoder))
            }
            Packing::Zstd => {
                let mut decoder = ZstdDecoder::new(whole);
                decoder.multiple_members(true);
                Unpacked::Zstd(Box::new(decoder))
            }
        },
    ))
}

impl Fault {
    /// The error for the outside, where the record being read starts on `line`.
    pub(crate) fn into_error(self, line: u64) -> Error {
        match self {
            Self::BrokenOff(source) => Error::BrokenOff(source),
            Self::TooLarge { max, unpacked } => Error::TooLarge { max, unpacked },
            Self::RecordTooLong { max } => Error::RecordTooLong { line, max },
        }
    }
}

type Whole<B> = tokio::io::Chain<io::Cursor<Vec<u8>>, StreamReader<Counted<B>, Bytes>>;

/// The bytes of the CSV.
pub(crate) enum Unpacked<B: Stream<Item = io::Result<Bytes>> + Unpin> {
    Plain(Whole<B>),
    Gzip(Box<GzipDecoder<Whole<B>>>),
    Zstd(Box<ZstdDecoder<Whole<B>>>),
}

impl<B: Stream<Item = io::Result<Bytes>> + Unpin> Unpacked<B> {
    /// What was counted below, once everything is read.
    pub(crate) fn counted(&self) -> &Counted<B> {
        let whole = match self {
            Self::Plain(whole) => whole,
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.get_ref(),
        };
        whole.get_ref().1.get_ref()
    }
}

impl<B: Stream<Item = io::Result<Bytes>> + Unpin> AsyncRead for Unpacked<B> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(reader) => Pin::new(reader).poll_read(cx, buf),
            Self::Gzip(reader) => Pin::new(reader.as_mut()).poll_read(cx, buf),
            Self::Zstd(reader) => Pin::new(reader.as_mut()).poll_read(cx, buf),
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
