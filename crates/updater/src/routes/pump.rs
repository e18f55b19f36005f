//! From a connection to a load.

use std::io;

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt};

use super::content::Patience;
use crate::body::BodySender;

/// How the bytes of a request came to their end.
pub(super) enum Pumped {
    /// All came.
    Whole,
    /// The load has ended, whatever its outcome.
    NotWanted,
    /// They cannot be read to their end.
    Broken(io::Error),
}

/// Hands the bytes of a stream to a load. What a client sends after that is not read here: the server takes the rest off
/// the connection, within its limits, once the answer is sent.
pub(super) async fn pump<S>(mut bytes: S, sender: &BodySender, patience: Patience) -> Pumped
where
    S: Stream<Item = io::Result<Bytes>> + Unpin,
{
    loop {
        let next = tokio::select! {
            // A client that is slow, or silent, learns at once that there is nothing more to send.
            () = sender.not_wanted() => return Pumped::NotWanted,
            next = patience.wait(bytes.next().map(Option::transpose)) => next,
        };
        match next {
            // If nobody takes it, the next turn sees that.
            Ok(Some(piece)) => drop(sender.send(piece).await),
            Ok(None) => return Pumped::Whole,
            Err(error) => return Pumped::Broken(error),
        }
    }
}
