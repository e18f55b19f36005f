//! Those who take batches from the queue of a server, answer them, and are there for no longer than there are any.

use std::sync::Arc;
use std::time::Instant;

use dataset::KeyBytes;

use super::super::connect::{self, timed_out};
use super::super::queue::{Asker, Askers, Taken, Task};
use super::super::select::Wanted;
use super::{Failure, Node, Selection, Table};

impl Node {
    /// Gives each who waits for a key of a batch its row.
    fn answer(&self, table: &Table, keys: &[KeyBytes], found: Selection, askers: Askers) {
        let mut rows = match found {
            Ok(rows) => rows,
            Err(failure) => return refuse(askers.into_iter().map(|(_, asker)| asker), &failure),
        };
        if let Some(cache) = &self.cache {
            for (key, row) in keys.iter().zip(&rows) {
                cache.insert(table.content, key.clone(), row.clone());
            }
        }
        let one_each = askers.len() == keys.len();
        for (place, asker) in askers {
            let row = if one_each { rows[place].take() } else { rows[place].clone() };
            asker.answer(Ok(row));
        }
    }

    /// Tells all who wait that there is no sense in it: nobody waits for a server that does not answer looks either.
    pub(super) fn give_up(&self) {
        let given_up = self.queue().give_up();
        refuse(given_up, &Failure::Away("the database does not answer".into()));
    }
}

fn refuse(askers: impl IntoIterator<Item = Asker>, failure: &Failure) {
    askers.into_iter().for_each(|asker| asker.answer(Err(failure.clone())));
}

pub(super) fn start_taking(node: &Arc<Node>) {
    node.runtime.spawn(take(node.clone()));
}

/// Takes batches until there are no more.
async fn take(node: Arc<Node>) {
    let mut taker = Taker { node: &node, under_way: None, is_done: false };
    let mut conn = None;
    loop {
        let connected = tokio::time::timeout(node.timeout, node.connection(&mut conn)).await;
        if let Err(error) = connected.unwrap_or_else(|elapsed| Err(timed_out(elapsed))) {
            let failure = node.away(&error);
            let nobody_left = node.queue().dismiss(connect::is_too_many(&error));
            refuse(nobody_left, &failure);
            break;
        }
        let Taken { task, expired } = node.queue().take(Instant::now());
        if !expired.is_empty() {
            node.log_failure("none was under way in time");
            refuse(expired, &Failure::Away("no answer in time".into()));
        }
        let Some(Task { number, table, keys, start }) = task else { break };
        taker.under_way = Some(number);
        if start {
            start_taking(&node);
        }
        let found = node.select(&mut conn, &table, Wanted { keys: &keys, bytes: None }).await;
        let askers = node.queue().land(number, found.is_ok(), Instant::now());
        taker.under_way = None;
        node.answer(&table, &keys, found, askers);
    }
    taker.is_done = true;
    if let Some(conn) = conn {
        node.connections.put_back(conn);
    }
}

/// Who takes batches. If that breaks off, nobody may wait for it.
struct Taker<'a> {
    node: &'a Node,
    under_way: Option<u64>,
    is_done: bool,
}

impl Drop for Taker<'_> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let failure = Failure::Away("the look-up broke off".into());
        if let Some(number) = self.under_way {
            let askers = self.node.queue().land(number, false, Instant::now());
            refuse(askers.into_iter().map(|(_, asker)| asker), &failure);
        }
        let nobody_left = self.node.queue().dismiss(false);
        refuse(nobody_left, &failure);
    }
}
