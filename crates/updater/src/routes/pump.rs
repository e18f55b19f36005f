//! From a connection to a load: bytes in their order, with patience, and an end that is told for what it is.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, timeout, timeout_at};

use crate::body::BodySender;

/// Of a file that is not wanted any more so much is still read, and for so long, because a client that is cut off while
/// it sends does not see the answer.
const DRAIN_BYTES: usize = 64 << 20;
pub(super) const DRAIN_WAIT: Duration = Duration::from_secs(10);
const DRAIN_PAUSE: Duration = Duration::from_millis(200);

/// How long a client may take.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    idle: Duration,
    end: Instant,
}

impl Patience {
    /// From now on, so long without a byte and so long in all.
    pub(super) fn new(idle: Duration, all: Duration) -> Self {
        Self { idle, end: Instant::now() + all }
    }

    /// Until when the next bytes must come.
    pub(super) fn next(self) -> Instant {
        self.end.min(Instant::now() + self.idle)
    }
}

/// How the bytes of a request came to their end.
pub(super) enum Pumped {
    /// All came.
    Whole,
    /// The load has ended, whatever its outcome.
    NotWanted,
    /// They cannot be read to their end.
    Broken(io::Error),
}

/// Hands the bytes of a stream to a load.
pub(super) async fn pump<S, E>(mut bytes: S, sender: &BodySender, patience: Patience) -> Pumped
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    loop {
        let next = tokio::select! {
            // A client that is slow, or silent, learns at once that there is nothing more to send.
            () = sender.not_wanted() => None,
            next = timeout_at(patience.next(), bytes.next()) => Some(next),
        };
        let Some(next) = next else {
            drain(bytes).await;
            return Pumped::NotWanted;
        };
        match next {
            // If nobody takes it, the next turn sees that.
            Ok(Some(Ok(piece))) => drop(sender.send(piece).await),
            Ok(Some(Err(error))) => return Pumped::Broken(io::Error::other(error.to_string())),
            Ok(None) => return Pumped::Whole,
            Err(_) => {
                let idle = patience.idle.as_secs();
                let text =
                    format!("the client was too slow: no byte came for {idle} seconds, or all took too long");
                return Pumped::Broken(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        }
    }
}

/// Reads on without keeping anything, within limits.
pub(super) async fn drain<S, E>(mut bytes: S)
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    let all = async {
        let mut left = DRAIN_BYTES;
        // A client that pauses is waiting, or will read its answer when it goes on.
        while let Ok(Some(Ok(piece))) = timeout(DRAIN_PAUSE, bytes.next()).await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                return;
            }
        }
    };
    // A client that is slower than this is cut off.
    let _ = timeout(DRAIN_WAIT, all).await;
}
