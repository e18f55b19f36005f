//! A connection as the server of uploads sees it. It adds two things that the HTTP library does not do:
//!
//! - A chunked body with a broken frame ends there and keeps its fault. The library drops such a connection, and the
//!   client never learns why; to the end of a body, a route gives an answer.
//! - `100 Continue` is not sent in front of an answer that is there already, which is a refusal.
//!
//! The bytes pass unchanged. Requests are only followed as far as is needed to know where a chunked body begins.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::chunks::FramingFault;
use crate::framing::{Framing, Step};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const DISCARD_BYTES: usize = 8 << 10;

/// Any stream of bytes, encrypted or not.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Socket for T {}

/// What is wrong with the framing of the last body on a connection.
#[derive(Debug, Clone, Default)]
pub struct BodyFault(Rc<Cell<Option<FramingFault>>>);

impl BodyFault {
    /// The fault, if there is one.
    pub fn get(&self) -> Option<FramingFault> {
        self.0.get()
    }
}

/// The connection.
pub(crate) struct Connection {
    socket: Box<dyn Socket>,
    /// Not there for HTTP/2, and no longer there after bytes that are not a request.
    framing: Option<Framing>,
    fault: BodyFault,
    /// Whether `100 Continue` is the next answer that the client waits for.
    continue_is_due: bool,
    unread_wait: Duration,
    discard: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    /// What a client still sends behind a broken frame is discarded for at most `unread_wait`.
    pub(crate) fn new(socket: impl Socket + 'static, is_http_1: bool, unread_wait: Duration) -> Self {
        Self {
            socket: Box::new(socket),
            framing: is_http_1.then(Framing::default),
            fault: BodyFault::default(),
            continue_is_due: false,
            unread_wait,
            discard: None,
        }
    }

    pub(crate) fn fault(&self) -> BodyFault {
        self.fault.clone()
    }

    /// Returns how many of the bytes that were read may be seen.
    fn follow(&mut self, bytes: &[u8]) -> usize {
        let Some(framing) = &mut self.framing else { return bytes.len() };
        let mut position = 0;
        while position < bytes.len() {
            match framing.advance(&bytes[position..]) {
                Step::Read { length, expects_continue } => {
                    position += length;
                    self.continue_is_due |= expects_continue;
                }
                Step::Lost => {
                    self.framing = None;
                    return bytes.len();
                }
                Step::Broken(fault) => {
                    self.fault.0.set(Some(fault));
                    return position;
                }
            }
        }
        position
    }

    /// Reads what the client still sends: closing a connection with unread bytes would discard the answer, too.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let unread_wait = self.unread_wait;
        let end = self.discard.get_or_insert_with(|| Box::pin(sleep(unread_wait)));
        if end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut bytes = [0; DISCARD_BYTES];
        loop {
            let mut buf = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.fault.get().is_some() {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        let length = this.follow(&buf.filled()[before..]);
        buf.set_filled(before + length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let is_answered = this.continue_is_due && bytes.len() > CONTINUE.len() && bytes.starts_with(CONTINUE);
        let skipped = if is_answered { CONTINUE.len() } else { 0 };
        let written = ready!(Pin::new(&mut this.socket).poll_write(cx, &bytes[skipped..]))?;
        this.continue_is_due &= written == 0;
        Poll::Ready(Ok(if written == 0 { 0 } else { skipped + written }))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.discard.is_none() {
            ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
        }
        if this.fault.get().is_some() {
            ready!(this.poll_discard(cx));
        }
        Poll::Ready(Ok(()))
    }
}
