//! The body of an upload on its connection: its bytes in their order, and the cause where they do not come to their end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::{Version, header};
use actix_web::{HttpMessage, HttpRequest, web};
use bytes::Bytes;
use futures_util::Stream;
use service::BodyFault;
use tokio::time::{Instant, timeout_at};

/// The number in the header Content-Length.
pub(super) fn stated_length(request: &HttpRequest) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The body of a request.
pub(super) struct Content {
    payload: web::Payload,
    /// How many bytes it has, where that is known before they come.
    stated: Option<u64>,
    received: u64,
    /// Why the connection ended the body, where its chunks are broken.
    fault: Option<BodyFault>,
}

impl Content {
    pub(super) fn new(request: &HttpRequest, payload: web::Payload) -> Self {
        // With `Upgrade: websocket` actix reads to the end of the connection, whatever the length says. A server that does
        // not upgrade ignores that header (RFC 9110, 7.8), so the length is counted here.
        let is_without = request.version() < Version::HTTP_2 && !request.chunked().unwrap_or(false);
        let stated = stated_length(request).or_else(|| is_without.then_some(0));
        let fault = request.conn_data::<BodyFault>().cloned();
        Self { payload, stated, received: 0, fault }
    }

    fn cut_off(&self) -> io::Error {
        let received = self.received;
        if let Some(fault) = self.fault.as_ref().and_then(BodyFault::get) {
            return io::Error::other(format!(
                "the framing of the body (Transfer-Encoding: chunked) is broken: {fault}"
            ));
        }
        let text = match self.stated {
            Some(stated) => format!(
                "the connection ended after {received} of the {stated} bytes that the header Content-Length states"
            ),
            None => format!("the connection ended after {received} bytes, before the end of the body"),
        };
        io::Error::new(io::ErrorKind::UnexpectedEof, text)
    }

    fn error(&self, error: &PayloadError) -> io::Error {
        match error {
            PayloadError::EncodingCorrupted => {
                io::Error::other("the body is not framed as Transfer-Encoding: chunked demands")
            }
            PayloadError::Http2Payload(error) => {
                io::Error::other(format!("the client gave up sending over HTTP/2: {error}"))
            }
            _ => self.cut_off(),
        }
    }
}

impl Stream for Content {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let left = self.stated.map(|stated| stated - self.received);
        if left == Some(0) {
            return Poll::Ready(None);
        }
        let next = ready!(Pin::new(&mut self.payload).poll_next(cx));
        Poll::Ready(match next {
            Some(Ok(mut bytes)) => {
                let left = left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX);
                bytes.truncate(left);
                self.received += bytes.len() as u64;
                Some(Ok(bytes))
            }
            Some(Err(error)) => Some(Err(self.error(&error))),
            None if left.is_some() => Some(Err(self.cut_off())),
            None => None,
        })
    }
}

/// How long a client may take.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    idle: Duration,
    all: Duration,
    end: Instant,
}

impl Patience {
    /// From now on: the time without a byte, and the time for the whole file.
    pub(super) fn new(idle: Duration, all: Duration) -> Self {
        Self { idle, all, end: Instant::now() + all }
    }

    /// Waits for what a client sends next.
    pub(super) async fn wait<T>(self, next: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let idle_end = Instant::now() + self.idle;
        if let Ok(next) = timeout_at(self.end.min(idle_end), next).await {
            return next;
        }
        let text = if idle_end < self.end {
            format!("the client sent nothing for {} s", self.idle.as_secs())
        } else {
            format!("the file did not arrive within {} s", self.all.as_secs())
        };
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    }
}
