//! The body of an answer with many rows, written from the rows themselves.
//!
//! It is made piece by piece while it is sent, so that it needs no second copy of all rows. A client of HTTP/2 can keep
//! its window closed while its connection lives; then the rows are dropped after a while, and the answer breaks off.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::{Bytes, BytesMut};
use store::AnswerBytes;
use tokio::time::Instant;

/// What is made at once: the write buffer of a connection has about half of it.
const PIECE_BYTES: usize = 64 << 10;

/// An answer with rows.
pub(crate) struct RowsBody {
    size: usize,
    rest: Rc<RefCell<Rest>>,
}

/// What is still to be sent.
#[derive(Debug)]
struct Rest {
    parts: VecDeque<Bytes>,
    /// When the last piece was taken.
    taken_at: Instant,
    was_dropped: bool,
    held: Option<Arc<AnswerBytes>>,
}

impl RowsBody {
    /// A body of these parts, one behind the other, which hold bytes of a budget. Must be made by a worker.
    pub(crate) fn new(parts: VecDeque<Bytes>, held: Arc<AnswerBytes>, send_timeout: Duration) -> Self {
        let size = parts.iter().map(Bytes::len).sum();
        let rest = Rc::new(RefCell::new(Rest {
            parts,
            taken_at: Instant::now(),
            was_dropped: false,
            held: Some(held),
        }));
        if size > PIECE_BYTES {
            actix_web::rt::spawn(drop_unread(Rc::downgrade(&rest), send_timeout));
        }
        Self { size, rest }
    }
}

/// Drops the rows of which nothing was taken for the length of the timeout.
async fn drop_unread(rest: Weak<RefCell<Rest>>, send_timeout: Duration) {
    let mut due = Instant::now() + send_timeout;
    loop {
        tokio::time::sleep_until(due).await;
        let Some(rest) = rest.upgrade() else { return };
        let mut rest = rest.borrow_mut();
        due = rest.taken_at + send_timeout;
        if due <= Instant::now() {
            rest.parts = VecDeque::new();
            rest.held = None;
            rest.was_dropped = true;
            return;
        }
    }
}

impl Rest {
    fn next_piece(&mut self) -> Option<Bytes> {
        let first = self.parts.pop_front()?;
        self.taken_at = Instant::now();
        if first.len() >= PIECE_BYTES || self.parts.is_empty() {
            return Some(first);
        }
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        piece.extend_from_slice(&first);
        while let Some(part) = self.parts.pop_front_if(|part| piece.len() + part.len() <= PIECE_BYTES) {
            piece.extend_from_slice(&part);
        }
        Some(piece.freeze())
    }
}

impl MessageBody for RowsBody {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.size as u64)
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut rest = self.rest.borrow_mut();
        if rest.was_dropped {
            return Poll::Ready(Some(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client reads nothing",
            ))));
        }
        let piece = rest.next_piece();
        if piece.is_none() {
            rest.held = None;
        }
        Poll::Ready(piece.map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use store::AnswerBudget;

    use super::*;

    fn body(parts: &[usize], budget: &AnswerBudget, timeout: Duration) -> RowsBody {
        let held = budget.begin();
        held.hold(parts.iter().sum()).unwrap();
        let parts = parts.iter();
        let parts = parts.zip(b'a'..).map(|(bytes, letter)| vec![letter; *bytes].into()).collect();
        RowsBody::new(parts, held, timeout)
    }

    async fn next(body: &mut Pin<Box<RowsBody>>) -> Option<io::Result<Bytes>> {
        std::future::poll_fn(|context| body.as_mut().poll_next(context)).await
    }

    #[actix_web::test]
    async fn parts_are_sent_in_their_order_and_small_ones_together() {
        let budget = AnswerBudget::new(usize::MAX, 400_000);
        let mut body =
            Box::pin(body(&[10, 20, 100_000, 30, 40, 65_500, 7], &budget, Duration::from_secs(30)));
        assert_eq!(body.size(), BodySize::Sized(165_607));
        let mut sizes = Vec::new();
        let mut all = Vec::new();
        while let Some(piece) = next(&mut body).await {
            let piece = piece.unwrap();
            sizes.push(piece.len());
            all.extend_from_slice(&piece);
        }
        assert_eq!(sizes, [30, 100_000, 70, 65_507]);
        assert!(all.is_sorted() && all.len() == 165_607);
        assert!(budget.begin().hold(400_000).is_ok(), "all bytes were given back");
    }

    #[actix_web::test]
    async fn rows_that_nobody_reads_are_dropped_and_the_answer_breaks_off() {
        let budget = AnswerBudget::new(usize::MAX, 400_000);
        let mut body = Box::pin(body(&[100_000, 100_000], &budget, Duration::from_millis(20)));
        assert!(next(&mut body).await.unwrap().is_ok());
        while !body.rest.borrow().was_dropped {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(budget.begin().hold(400_000).is_ok(), "all bytes were given back");
        assert!(next(&mut body).await.unwrap().is_err());
    }
}
