//! Keys that are asked for at the same time go to the database in one statement.
//!
//! No key waits for a timer to be sent with others: the first one is sent at once; those that come while it is in flight
//! wait for each other, and go together when it is answered. A batch is of one version of one dataset, so that one statement answers it. A second
//! query for the same table begins only when the oldest one in flight is older than [`MORE_AFTER`]: then the database has
//! processors to spare, or the network is slow.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dataset::KeyBytes;

use super::delivery::{PendingAnswer, Waiter, channel};
use super::node::Table;

/// The age of a query in flight from which another one may begin. Beside the database a query takes less, so the keys of
/// the next batch collect; a millisecond of network away it takes more, so that several are in flight. Against a limit that
/// tuned itself by trying numbers out (A B A B, medians): 64 connections 1.17 of its throughput, 512 0.98; across the network
/// 1.22 and 0.94.
pub(super) const MORE_AFTER: Duration = Duration::from_millis(1);

/// After the server refused a connection, because it has too many, no further one is opened for this long.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct LookupBatcher {
    keys_max: usize,
    in_flight_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Keys that are not yet sent, of each table.
    pending: VecDeque<PendingBatch>,
    in_flight: Vec<InFlight>,
    workers: usize,
    /// A worker was started that has not yet taken its first batch.
    is_starting: bool,
    refused_at: Option<Instant>,
    last_number: u64,
}

#[derive(Debug)]
struct PendingBatch {
    table: Arc<Table>,
    keys: VecDeque<PendingKey>,
}

#[derive(Debug)]
struct PendingKey {
    key: KeyBytes,
    waiter: Waiter,
}

#[derive(Debug)]
struct InFlight {
    number: BatchNumber,
    table: Arc<Table>,
    since: Instant,
    /// Its worker gives the answers out and takes the next batch: nobody has to start another one.
    is_answered: bool,
}

/// A key that was taken.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) answer: PendingAnswer,
    /// A worker has to be started.
    pub(super) start: bool,
}

/// What a worker sends with one statement.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) table: Arc<Table>,
    /// In order, each once.
    pub(super) keys: Vec<KeyBytes>,
    /// Each waits for the key at a place.
    pub(super) waiters: Vec<(usize, Waiter)>,
    /// One more worker has to be started.
    pub(super) start: bool,
    pub(super) number: BatchNumber,
}

/// Tells the batches of a server apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchNumber(u64);

impl LookupBatcher {
    pub(super) fn new(keys_max: usize, in_flight_max: usize) -> Self {
        Self { keys_max: keys_max.max(1), in_flight_max: in_flight_max.max(1), state: Mutex::default() }
    }

    /// Takes a key that is asked for.
    pub(super) fn join(&self, table: &Arc<Table>, key: KeyBytes) -> Joined {
        let (waiter, answer) = channel();
        let key = PendingKey { key, waiter };
        let mut state = self.state();
        match state.pending.iter_mut().find(|batch| Arc::ptr_eq(&batch.table, table)) {
            Some(batch) => batch.keys.push_back(key),
            None => state.pending.push_back(PendingBatch { table: table.clone(), keys: [key].into() }),
        }
        Joined { answer, start: self.start_one(&mut state, Instant::now()) }
    }

    /// The next batch of a worker; nothing where none may be sent now. A worker that has none so far has no `last` one.
    pub(super) fn take(&self, last: Option<BatchNumber>) -> Option<Batch> {
        let (mut state, now) = (self.state(), Instant::now());
        state.is_starting &= last.is_some();
        let next = self.next(&state, last, now)?;
        state.leave(last);
        let mut pending = state.pending.remove(next)?;
        let table = pending.table.clone();
        let (keys, waiters) = pending.take(self.keys_max);
        if !pending.keys.is_empty() {
            state.pending.push_back(pending);
        }
        state.last_number += 1;
        let number = BatchNumber(state.last_number);
        state.in_flight.push(InFlight { number, table: table.clone(), since: now, is_answered: false });
        let start = self.start_one(&mut state, now);
        Some(Batch { table, keys, waiters, start, number })
    }

    /// Whether a worker has to be started for keys that wait behind slow queries.
    pub(super) fn needs_worker(&self) -> bool {
        self.start_one(&mut self.state(), Instant::now())
    }

    /// Notes that the query of a batch has ended, however it did.
    pub(super) fn complete(&self, number: BatchNumber) {
        let mut state = self.state();
        let batch = state.in_flight.iter_mut().find(|batch| batch.number == number);
        if let Some(batch) = batch {
            batch.is_answered = true;
        }
    }

    /// Whether a worker that has put its connection back may end. Until then no other one is started for its table, which
    /// would open a connection for want of that one.
    pub(super) fn may_end(&self, last: Option<BatchNumber>) -> bool {
        let mut state = self.state();
        let may_end = self.next(&state, last, Instant::now()).is_none();
        if may_end {
            state.leave(last);
        }
        may_end
    }

    /// Ends a worker. Gives back who waits, unless another worker comes for them.
    pub(super) fn end_worker(&self, last: Option<BatchNumber>) -> Vec<Waiter> {
        let mut state = self.state();
        state.leave(last);
        state.workers = state.workers.saturating_sub(1);
        if state.workers > 0 { Vec::new() } else { state.give_up(|_| true) }
    }

    /// The server has too many connections: no more are opened for a while.
    pub(super) fn pause(&self) {
        self.state().refused_at = Some(Instant::now());
    }

    /// Gives back all who wait for a batch that is not in flight: there is no sense in going on.
    pub(super) fn give_up(&self) -> Vec<Waiter> {
        self.state().give_up(|_| true)
    }

    /// Gives back who waits for a table that does not answer.
    pub(super) fn give_up_table(&self, table: &Arc<Table>) -> Vec<Waiter> {
        self.state().give_up(|batch| Arc::ptr_eq(&batch.table, table))
    }

    fn start_one(&self, state: &mut State, now: Instant) -> bool {
        let start = !state.is_starting && self.next(state, None, now).is_some();
        state.is_starting |= start;
        state.workers += usize::from(start);
        start
    }

    /// Which of the pending batches may be sent now. A table with nothing in flight always gets its turn, so that a table
    /// that is held concerns no other; beyond that the tables share what may be in flight. The worker that asks has done with
    /// its `last` batch.
    fn next(&self, state: &State, last: Option<BatchNumber>, now: Instant) -> Option<usize> {
        let is_refused = state.refused_at.is_some_and(|at| now.duration_since(at) < PAUSE_AFTER_REFUSAL);
        let in_flight = || state.in_flight.iter().filter(|it| Some(it.number) != last);
        let may_have_more = in_flight().count() < self.in_flight_max && !is_refused;
        let fair_share = self.in_flight_max.div_ceil(state.pending.len().max(1));
        state.pending.iter().position(|batch| {
            let own = || in_flight().filter(|it| Arc::ptr_eq(&it.table, &batch.table));
            let Some(oldest) = own().next() else { return true };
            let is_slow = now.duration_since(oldest.since) >= MORE_AFTER;
            may_have_more && is_slow && own().count() < fair_share && own().all(|it| !it.is_answered)
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Removes the last batch of a worker; one that has none was just started.
    fn leave(&mut self, last: Option<BatchNumber>) {
        match last {
            Some(last) => self.in_flight.retain(|batch| batch.number != last),
            None => self.is_starting = false,
        }
    }

    fn give_up(&mut self, is_given_up: impl Fn(&PendingBatch) -> bool) -> Vec<Waiter> {
        let (given_up, kept) = self.pending.drain(..).partition(|batch| is_given_up(batch));
        self.pending = kept;
        let keys = VecDeque::into_iter(given_up).flat_map(|batch: PendingBatch| batch.keys);
        keys.map(|key| key.waiter).collect()
    }
}

impl PendingBatch {
    /// Takes the oldest keys, in order, each once, with all that come next and ask for one of them, too.
    fn take(&mut self, keys_max: usize) -> (Vec<KeyBytes>, Vec<(usize, Waiter)>) {
        let count = self.keys.len().min(keys_max);
        let mut pending: Vec<_> = self.keys.drain(..count).collect();
        pending.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        let (mut keys, mut waiters) = (Vec::<KeyBytes>::with_capacity(count), Vec::with_capacity(count));
        for PendingKey { key, waiter } in pending {
            if keys.last() != Some(&key) {
                keys.push(key);
            }
            waiters.push((keys.len() - 1, waiter));
        }
        while let Some(place) = self.keys.front().and_then(|next| keys.binary_search(&next.key).ok())
            && let Some(next) = self.keys.pop_front()
        {
            waiters.push((place, next.waiter));
        }
        (keys, waiters)
    }
}

#[cfg(test)]
mod tests {
    use dataset::{Column, ColumnType, JsonNumber, Schema};

    use super::*;
    use crate::Live;

    fn table(dataset: &str) -> Arc<Table> {
        let id = Column {
            name: "id".into(),
            column_type: ColumnType::Text { max: 9 },
            optional: false,
            json: JsonNumber::Number,
        };
        let schema = Arc::new(Schema::new("id", vec![id]).unwrap());
        let live =
            Live { dataset: dataset.to_owned(), version: 1, content: 1, rows: 1, published_at: None, schema };
        Arc::new(Table::new(live, 1, String::new(), mysql_async::Value::NULL))
    }

    fn key(text: &str) -> KeyBytes {
        KeyBytes::from_slice(text.as_bytes())
    }

    fn text(batch: &Batch) -> String {
        batch.keys.iter().map(|key| char::from(key[0])).collect()
    }

    /// Makes the queries in flight old enough for another one.
    fn wait(batcher: &LookupBatcher) {
        for in_flight in &mut batcher.state().in_flight {
            in_flight.since -= MORE_AFTER;
        }
    }

    #[test]
    fn keys_that_come_while_a_query_is_in_flight_go_together_in_order_and_each_once() {
        let (batcher, items) = (LookupBatcher::new(3, 4), table("items"));
        assert!(batcher.join(&items, key("d")).start);
        let first = batcher.take(None).unwrap();
        assert_eq!(text(&first), "d");
        let joined = ["c", "a", "c", "b"].map(|text| batcher.join(&items, key(text)));
        assert!(joined.iter().all(|joined| !joined.start), "the query is young");
        batcher.complete(first.number);
        assert!(!batcher.join(&items, key("c")).start, "the worker that answers comes for it");
        let second = batcher.take(Some(first.number)).unwrap();
        assert_eq!((text(&second), second.waiters.len()), ("ac".into(), 3));
        batcher.complete(second.number);
        let third = batcher.take(Some(second.number)).unwrap();
        assert_eq!(text(&third), "bc");
        batcher.complete(third.number);
        assert!(batcher.take(Some(third.number)).is_none());
        assert!(!batcher.join(&items, key("d")).start, "the worker puts its connection back");
        assert!(!batcher.may_end(Some(third.number)), "a key came meanwhile");
        let fourth = batcher.take(Some(third.number)).unwrap();
        batcher.complete(fourth.number);
        assert!(batcher.take(Some(fourth.number)).is_none() && batcher.may_end(Some(fourth.number)));
        assert!(batcher.join(&items, key("e")).start, "no worker is left");
    }

    #[test]
    fn another_query_begins_when_the_one_in_flight_is_slow_up_to_the_maximum() {
        let (batcher, items) = (LookupBatcher::new(9, 2), table("items"));
        let _first = batcher.join(&items, key("a"));
        let one = batcher.take(None).unwrap();
        assert!(!batcher.join(&items, key("b")).start);
        wait(&batcher);
        assert!(batcher.join(&items, key("c")).start);
        assert!(!batcher.join(&items, key("d")).start, "one worker at a time is started");
        let two = batcher.take(None).unwrap();
        assert_eq!(text(&two), "bcd");
        wait(&batcher);
        assert!(!batcher.join(&items, key("e")).start, "no more may be in flight");
        batcher.complete(one.number);
        assert_eq!(text(&batcher.take(Some(one.number)).unwrap()), "e");
    }

    #[test]
    fn keys_that_wait_behind_a_slow_query_need_a_worker_though_none_comes_after_them() {
        let (batcher, items) = (LookupBatcher::new(9, 2), table("items"));
        let _first = batcher.join(&items, key("a"));
        batcher.take(None).unwrap();
        assert!(!batcher.join(&items, key("b")).start);
        assert!(!batcher.needs_worker(), "the query is young");
        wait(&batcher);
        assert!(batcher.needs_worker());
    }

    #[test]
    fn a_table_that_is_held_concerns_no_other() {
        let (batcher, items, others) = (LookupBatcher::new(9, 2), table("items"), table("others"));
        for text in ["a", "b"] {
            let _ = batcher.join(&items, key(text));
            batcher.take(None).unwrap();
            wait(&batcher);
        }
        let waiting = batcher.join(&items, key("c"));
        assert!(!waiting.start);
        assert!(batcher.join(&others, key("x")).start);
        assert_eq!(batcher.take(None).unwrap().table.live.dataset, "others");
        assert_eq!(batcher.give_up_table(&items).len(), 1);
        assert!(batcher.take(None).is_none());
    }

    #[test]
    fn who_waits_is_given_back_where_no_worker_is_left() {
        let (batcher, items) = (LookupBatcher::new(9, 4), table("items"));
        let _first = batcher.join(&items, key("a"));
        let one = batcher.take(None).unwrap();
        wait(&batcher);
        assert!(batcher.join(&items, key("b")).start);
        assert!(batcher.end_worker(None).is_empty(), "the other worker comes for it");
        batcher.pause();
        assert!(!batcher.join(&items, key("c")).start, "the server has too many connections");
        batcher.complete(one.number);
        let two = batcher.take(Some(one.number)).unwrap();
        assert_eq!(text(&two), "bc");
        batcher.complete(two.number);
        assert!(batcher.take(Some(two.number)).is_none() && batcher.end_worker(Some(two.number)).is_empty());
        assert!(batcher.join(&items, key("d")).start);
        assert_eq!(batcher.end_worker(None).len(), 1);
    }
}
