//! How many requests one HTTP/2 connection may have open.
//!
//! actix-web accepts as many streams as a client opens and has no setting for it, so they are counted here. A stream
//! above the limit is answered 503 without a body: such an answer needs no room in the client's window and is gone at
//! once.

use std::any::Any;
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Extensions;
use actix_web::http::header;
use actix_web::web::Bytes;

/// Requests that one connection may have open, as RFC 9113 recommends at least.
const STREAMS_MAX: usize = 100;

/// The open streams of one connection.
#[derive(Debug, Clone, Default)]
pub struct Streams(Rc<Cell<usize>>);

/// An open stream, until it is dropped.
#[derive(Debug)]
pub struct Stream(Rc<Cell<usize>>);

impl Streams {
    /// Prepares a connection, for `HttpServer::on_connect`.
    pub fn on_connect(_: &dyn Any, connection: &mut Extensions) {
        connection.insert(Self::default());
    }

    /// Opens a stream, if the connection may have one more.
    pub fn open(&self) -> Result<Stream, TooManyStreams> {
        if self.0.get() >= STREAMS_MAX {
            return Err(TooManyStreams);
        }
        self.0.set(self.0.get() + 1);
        Ok(Stream(self.0.clone()))
    }
}

/// A connection has as many open requests as it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyStreams;

impl TooManyStreams {
    /// The answer to the request that is one too many.
    pub fn response(self) -> HttpResponse {
        HttpResponse::ServiceUnavailable().insert_header((header::RETRY_AFTER, 1)).finish()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Stream {
    /// A body that keeps the stream open until it was sent or given up.
    pub fn hold<B: MessageBody + 'static>(self, body: B) -> BoxBody {
        BoxBody::new(Held { body: Box::pin(body), _stream: self })
    }
}

struct Held<B> {
    body: Pin<Box<B>>,
    _stream: Stream,
}

impl<B: MessageBody> MessageBody for Held<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.body.as_mut().poll_next(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_counts_until_its_body_is_dropped() {
        let streams = Streams::default();
        let mut bodies: Vec<_> =
            (0..STREAMS_MAX).map(|_| streams.open().unwrap().hold(Bytes::from_static(b"a"))).collect();
        assert_eq!(streams.open().unwrap_err().response().status(), 503);
        bodies.pop();
        assert!(streams.open().is_ok());
    }
}
