//! Workers, which take batches, answer them, and end when there are no more.

use std::sync::Arc;

use super::super::batcher::{Batch, BatchNumber, MORE_AFTER};
use super::super::connect::{self, timed_out};
use super::super::connections::Connection;
use super::super::delivery::{Waiter, deliver};
use super::super::select::Wanted;
use super::{Failure, Node, Selection};

impl Node {
    /// Gives each waiter of a batch its row.
    fn answer(&self, batch: Batch, found: Selection) {
        let mut rows = match found {
            Ok(rows) => rows,
            Err(failure) => return refuse(batch.waiters.into_iter().map(|(_, waiter)| waiter), &failure),
        };
        if let Some(cache) = &self.cache {
            for (key, row) in batch.keys.iter().zip(&rows) {
                cache.insert(batch.table.content, key.clone(), row.clone());
            }
        }
        let one_each = batch.waiters.len() == batch.keys.len();
        deliver(batch.waiters.into_iter().map(|(place, waiter)| {
            let row = if one_each { rows[place].take() } else { rows[place].clone() };
            (waiter, Ok(row))
        }));
    }

    /// Tells all who wait that there is no sense in it: nobody waits for a server that does not answer polls either.
    pub(super) fn give_up(&self) {
        refuse(self.batcher.give_up(), &Failure::Away("the database does not answer".into()));
    }
}

pub(super) fn refuse(waiters: impl IntoIterator<Item = Waiter>, failure: &Failure) {
    deliver(waiters.into_iter().map(|waiter| (waiter, Err(failure.clone()))));
}

pub(super) fn start_worker(node: &Arc<Node>) {
    node.runtime.spawn(work(node.clone()));
}

/// Takes batches until there are no more.
async fn work(node: Arc<Node>) {
    let mut worker =
        Worker { node: &node, last: None, failure: Failure::Away("the lookup broke off".into()) };
    let mut conn = None;
    loop {
        let connected = tokio::time::timeout(node.timeout, node.connection(&mut conn)).await;
        if let Err(error) = connected.unwrap_or_else(|elapsed| Err(timed_out(elapsed))) {
            if connect::is_too_many(&error) {
                node.batcher.pause();
            }
            worker.failure = node.away(&error);
            return;
        }
        let Some(batch) = node.batcher.take(worker.last) else {
            if let Some(conn) = conn.take() {
                node.connections.put_back(conn);
            }
            if node.batcher.may_end(worker.last) {
                return;
            }
            continue;
        };
        worker.last = Some(batch.number);
        if batch.start {
            start_worker(&node);
        }
        run(&node, &mut conn, batch).await;
    }
}

/// A worker, which ends in one way or another.
struct Worker<'a> {
    node: &'a Arc<Node>,
    /// The batch that it took last.
    last: Option<BatchNumber>,
    /// What those are told who wait and for whom no other worker comes.
    failure: Failure,
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        refuse(self.node.batcher.end_worker(self.last), &self.failure);
    }
}

async fn run(node: &Arc<Node>, conn: &mut Option<Connection>, batch: Batch) {
    let found = query(node, conn, &batch).await;
    node.batcher.complete(batch.number);
    if let Err(failure @ Failure::Away(_)) = &found {
        // The others would wait for as long.
        refuse(node.batcher.give_up_table(&batch.table), failure);
    }
    node.answer(batch, found);
}

/// Sends a query. Where it is slow, another one may begin for the keys that wait behind it.
async fn query(node: &Arc<Node>, conn: &mut Option<Connection>, batch: &Batch) -> Selection {
    let query = node.select(conn, &batch.table, Wanted { keys: &batch.keys, bytes: None });
    let mut query = std::pin::pin!(query);
    if let Ok(found) = tokio::time::timeout(MORE_AFTER, &mut query).await {
        return found;
    }
    // Keys that came before this query was slow start no worker themselves.
    if node.batcher.needs_worker() {
        start_worker(node);
    }
    query.await
}
