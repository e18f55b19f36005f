//! The bytes of an upload on their way from the connection to the load.
//!
//! A request and its load run in different tasks, so that neither can be half gone without the other knowing: the end
//! of a body is said, and a body whose sender vanishes before that did not arrive whole.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use store::Manners;
use tokio::sync::mpsc;

/// So many pieces may wait between the connection and the load.
const PIECES_WAITING: usize = 32;

/// A rest that is shorter is put off.
const REST_MIN: Duration = Duration::from_millis(2);

/// Makes the two ends. A channel, because a request and its load are two tasks; it is bounded, so a client that sends
/// faster than the load reads is held up by TCP and not collected in memory.
pub(crate) fn channel() -> (BodySender, Body) {
    let (sender, receiver) = mpsc::channel(PIECES_WAITING);
    (BodySender(sender), Body { receiver, ended: false })
}

enum Part {
    Piece(Bytes),
    Broken(io::Error),
    End,
}

/// Where a request puts its bytes.
pub(crate) struct BodySender(mpsc::Sender<Part>);

/// The load wants no more bytes: it has ended, whatever the outcome.
pub(crate) struct NotWanted;

impl BodySender {
    pub(crate) async fn send(&self, bytes: Bytes) -> Result<(), NotWanted> {
        self.0.send(Part::Piece(bytes)).await.map_err(|_| NotWanted)
    }

    /// Waits until the load wants no more.
    pub(crate) async fn not_wanted(&self) {
        self.0.closed().await;
    }

    /// Says that the body cannot be read to its end.
    pub(crate) async fn fail(self, error: io::Error) {
        // If the load has ended already, it needs no reason.
        let _ = self.0.send(Part::Broken(error)).await;
    }

    /// Says that this was all.
    pub(crate) async fn end(self) {
        let _ = self.0.send(Part::End).await;
    }
}

/// Where a load gets its bytes.
pub(crate) struct Body {
    receiver: mpsc::Receiver<Part>,
    ended: bool,
}

impl Body {
    /// Gives the bytes out with rests, for as long as there are readers: what is done with them in between is work.
    pub(crate) fn with_rests(
        self,
        manners: Option<Manners>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Unpin {
        let start = (self, Instant::now(), Duration::ZERO);
        Box::pin(stream::unfold(start, move |(mut body, since, mut rest)| {
            let manners = manners.clone();
            async move {
                rest += manners.map_or(Duration::ZERO, |manners| manners.rest_after(since.elapsed()));
                if rest >= REST_MIN {
                    tokio::time::sleep(std::mem::take(&mut rest)).await;
                }
                let piece = body.next().await?;
                Some((piece, (body, Instant::now(), rest)))
            }
        }))
    }
}

impl Stream for Body {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let part = std::task::ready!(self.receiver.poll_recv(cx));
        self.ended = !matches!(part, Some(Part::Piece(_)));
        Poll::Ready(match part {
            Some(Part::Piece(bytes)) => Some(Ok(bytes)),
            Some(Part::Broken(error)) => Some(Err(error)),
            Some(Part::End) => None,
            None => Some(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the request ended before its body did",
            ))),
        })
    }
}
