//! Look-ups that arrive together: while some are under way in the database, the next collect.
//!
//! There is no timer. The first look-up is under way at once; those that come meanwhile wait for each other until it is
//! answered, and then go together. A batch is of one version of one dataset, so that one statement answers it. Its keys
//! are in order, which is easier for the database, and a key that is asked for twice is in it once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dataset::KeyBytes;
use tokio::sync::oneshot;

use super::node::{Failure, Table};
use super::pace::Pace;

/// What becomes of a key that was asked for.
pub(super) type Answer = Result<Option<Bytes>, Failure>;

/// A look-up joins one that is under way only for so long after that began: it must not see what was live before it
/// was asked, but for the bound that all readers have.
const SHARED_FOR: Duration = Duration::from_millis(crate::FOLLOW_MS / 2);

/// A swap holds readers up for a second at most.
const SWAP_HOLDS_UP: Duration = Duration::from_millis(1100);
/// What is under way for so long waits for something, such as a swap of its table. Others need not wait for that, too.
const HELD_UP: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Queue {
    keys_max: usize,
    /// After so long without any answer from the database nobody else begins to wait for it...
    patience: Duration,
    /// ... and who has waited for so long without being under way does not wait any longer.
    timeout: Duration,
    pace: Pace,
    /// What is not yet under way, of each table.
    piles: VecDeque<Pile>,
    under_way: Vec<UnderWay>,
    /// How many tasks take batches from here.
    takers: usize,
    last_number: u64,
    last_answer: Instant,
}

#[derive(Debug)]
struct Pile {
    table: Arc<Table>,
    asked: VecDeque<Asked>,
}

#[derive(Debug)]
struct Asked {
    key: KeyBytes,
    asker: Asker,
    came: Instant,
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    since: Instant,
    table: Arc<Table>,
    keys: Arc<[KeyBytes]>,
    askers: Askers,
    came: Came,
}

/// When those came who wait, for the time that they waited.
#[derive(Debug)]
struct Came {
    count: u32,
    first: Instant,
    /// What had passed since the first came, all together.
    after: Duration,
}

/// Who waits for a key.
#[derive(Debug)]
pub(super) struct Asker {
    group: Arc<Group>,
    place: usize,
}

/// Who waits for a batch: each for the key at a place in it.
pub(super) type Askers = Vec<(usize, Asker)>;

/// What a task has to look up.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) number: u64,
    pub(super) table: Arc<Table>,
    /// In order, each once.
    pub(super) keys: Arc<[KeyBytes]>,
    /// One more has to be started that takes batches.
    pub(super) start: bool,
}

/// What a task got.
#[derive(Debug)]
pub(super) struct Taken {
    /// The next batch; nothing where the task is to end.
    pub(super) task: Option<Task>,
    /// Those who have waited for too long.
    pub(super) expired: Vec<Asker>,
}

/// Keys that were asked for at once, by one thread, which is woken once for all of them.
#[derive(Debug)]
struct Group(Mutex<Answers>);

#[derive(Debug)]
struct Answers {
    of_keys: Vec<Answer>,
    missing: usize,
    done: Option<oneshot::Sender<Vec<Answer>>>,
}

impl Group {
    fn new(keys: usize) -> (Arc<Self>, oneshot::Receiver<Vec<Answer>>) {
        let (done, answers) = oneshot::channel();
        let of_keys = vec![Ok(None); keys];
        (Arc::new(Self(Mutex::new(Answers { of_keys, missing: keys, done: Some(done) }))), answers)
    }
}

impl Asker {
    pub(super) fn answer(self, answer: Answer) {
        let mut answers = self.group.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.of_keys[self.place] = answer;
        answers.missing -= 1;
        if answers.missing == 0
            && let Some(done) = answers.done.take()
        {
            // Who is gone needs no answer.
            let _ = done.send(std::mem::take(&mut answers.of_keys));
        }
    }
}

/// How look-ups were taken.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) answers: oneshot::Receiver<Vec<Answer>>,
    /// A task has to be started that takes batches.
    pub(super) start: bool,
}

/// The database has not answered for too long.
#[derive(Debug)]
pub(super) struct Stalled;

impl Queue {
    pub(super) fn new(keys_max: usize, limit_max: usize, timeout: Duration) -> Self {
        let now = Instant::now();
        Self {
            keys_max: keys_max.max(1),
            patience: (timeout * 3 / 5).max(SWAP_HOLDS_UP),
            timeout,
            pace: Pace::new(limit_max, now),
            piles: VecDeque::new(),
            under_way: Vec::new(),
            takers: 0,
            last_number: 0,
            last_answer: now,
        }
    }

    /// Takes keys that are asked for.
    pub(super) fn join(
        &mut self,
        table: &Arc<Table>,
        keys: Vec<KeyBytes>,
        now: Instant,
    ) -> Result<Joined, Stalled> {
        // Who is on a pile may wait for a connection.
        let on_piles = self.piles.iter().filter_map(|pile| Some(pile.asked.front()?.came));
        let oldest = self.under_way.iter().map(|under_way| under_way.since).chain(on_piles).min();
        if oldest.is_some_and(|since| now.duration_since(since.max(self.last_answer)) > self.patience) {
            return Err(Stalled);
        }
        let (group, answers) = Group::new(keys.len());
        for (place, key) in keys.into_iter().enumerate() {
            self.join_one(table, key, Asker { group: group.clone(), place }, now);
        }
        Ok(Joined { answers, start: self.start_one(now) })
    }

    /// Puts a key beside the same one that is under way, or onto the pile.
    fn join_one(&mut self, table: &Arc<Table>, key: KeyBytes, asker: Asker, now: Instant) {
        let young =
            |it: &&mut UnderWay| Arc::ptr_eq(&it.table, table) && now.duration_since(it.since) < SHARED_FOR;
        for under_way in self.under_way.iter_mut().filter(young) {
            if let Ok(place) = under_way.keys.binary_search(&key) {
                return under_way.askers.push((place, asker));
            }
        }
        let one_more = Asked { key, asker, came: now };
        match self.piles.iter_mut().find(|pile| Arc::ptr_eq(&pile.table, table)) {
            Some(pile) => pile.asked.push_back(one_more),
            None => self.piles.push_back(Pile { table: table.clone(), asked: [one_more].into() }),
        }
    }

    /// Whether one more may take batches, and there is one for it.
    fn start_one(&mut self, now: Instant) -> bool {
        let may_start = self.takers < self.limit(now) && self.next(now).is_some();
        self.takers += usize::from(may_start);
        may_start
    }

    /// How many tasks may take batches, those that are held up included.
    fn limit(&self, now: Instant) -> usize {
        let held_up = self.under_way.iter().filter(|it| it.is_held_up(now)).count();
        (self.pace.limit() + held_up).min(self.pace.max())
    }

    /// Where the next pile is that does not wait for the same as one that is held up.
    fn next(&self, now: Instant) -> Option<usize> {
        let waits_for =
            |pile: &Pile, it: &UnderWay| Arc::ptr_eq(&pile.table, &it.table) && it.is_held_up(now);
        self.piles.iter().position(|pile| !self.under_way.iter().any(|it| waits_for(pile, it)))
    }

    /// The next batch for a task.
    pub(super) fn take(&mut self, now: Instant) -> Taken {
        let expired = self.expired(now);
        let next = if self.takers > self.limit(now) { None } else { self.next(now) };
        let Some(mut pile) = next.and_then(|next| self.piles.remove(next)) else {
            self.takers -= 1;
            return Taken { task: None, expired };
        };
        let (table, number) = (pile.table.clone(), self.last_number + 1);
        let (keys, askers, came) = pile.take(self.keys_max);
        if !pile.asked.is_empty() {
            self.piles.push_back(pile);
        }
        let keys: Arc<[_]> = keys.into();
        let under_way =
            UnderWay { number, since: now, table: table.clone(), keys: keys.clone(), askers, came };
        self.under_way.push(under_way);
        self.last_number = number;
        Taken { task: Some(Task { number, table, keys, start: self.start_one(now) }), expired }
    }

    fn expired(&mut self, now: Instant) -> Vec<Asker> {
        let mut expired = Vec::new();
        for pile in &mut self.piles {
            let is_old = |asked: &Asked| now.duration_since(asked.came) > self.timeout;
            let old = pile.asked.iter().take_while(|asked| is_old(asked)).count();
            expired.extend(pile.asked.drain(..old).map(|asked| asked.asker));
        }
        self.piles.retain(|pile| !pile.asked.is_empty());
        expired
    }

    /// Ends a batch that was under way, and gives back who waits for it.
    pub(super) fn land(&mut self, number: u64, answered: bool, now: Instant) -> Askers {
        let Some(at) = self.under_way.iter().position(|it| it.number == number) else {
            return Askers::new();
        };
        let UnderWay { askers, came, .. } = self.under_way.swap_remove(at);
        if answered {
            self.last_answer = now;
            let waited = (now.duration_since(came.first) * came.count).saturating_sub(came.after);
            self.pace.record(came.count, waited, !self.piles.is_empty(), now);
        }
        askers
    }

    /// Ends a task that cannot go on, perhaps because there were too many. Gives back all who wait, if there is no
    /// other task that could take them.
    pub(super) fn dismiss(&mut self, were_too_many: bool) -> Vec<Asker> {
        self.takers -= 1;
        if self.takers == 0 {
            return self.give_up();
        }
        if were_too_many {
            self.pace.refused();
        }
        Vec::new()
    }

    /// Gives back all who wait for a batch that is not yet under way: there is no sense in going on.
    pub(super) fn give_up(&mut self) -> Vec<Asker> {
        self.piles.drain(..).flat_map(|pile| pile.asked).map(|asked| asked.asker).collect()
    }
}

impl UnderWay {
    fn is_held_up(&self, now: Instant) -> bool {
        now.duration_since(self.since) > HELD_UP
    }
}

impl Pile {
    /// Takes so many keys, the oldest, and all who come next and ask for one of them, too.
    fn take(&mut self, keys_max: usize) -> (Vec<KeyBytes>, Askers, Came) {
        let count = self.asked.len().min(keys_max);
        let mut asked: Vec<_> = self.asked.drain(..count).collect();
        let first = asked.first().map_or_else(Instant::now, |asked| asked.came);
        let mut came = Came { count: 0, first, after: Duration::ZERO };
        asked.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        let (mut keys, mut askers) = (Vec::<KeyBytes>::with_capacity(count), Askers::with_capacity(count));
        for asked in asked {
            came.count(asked.came);
            if keys.last() != Some(&asked.key) {
                keys.push(asked.key);
            }
            askers.push((keys.len() - 1, asked.asker));
        }
        while let Some(place) = self.asked.front().and_then(|asked| keys.binary_search(&asked.key).ok())
            && let Some(asked) = self.asked.pop_front()
        {
            came.count(asked.came);
            askers.push((place, asked.asker));
        }
        (keys, askers, came)
    }
}

impl Came {
    fn count(&mut self, came: Instant) {
        self.count += 1;
        self.after += came.duration_since(self.first);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use dataset::{Column, JsonNumber, Kind, Schema};

    use super::*;
    use crate::Live;

    const TIMEOUT: Duration = Duration::from_secs(4);

    fn table(dataset: &str) -> Arc<Table> {
        let id = Column {
            name: "id".into(),
            kind: Kind::Text { max: 9 },
            optional: false,
            json: JsonNumber::Number,
        };
        let schema = Arc::new(Schema::new("id", vec![id]).unwrap());
        let live =
            Live { dataset: dataset.to_owned(), version: 1, content: 1, rows: 1, published_at: None, schema };
        Arc::new(Table::new(live, 1, String::new(), mysql_async::Value::NULL))
    }

    fn keys(text: &str) -> Vec<KeyBytes> {
        text.bytes().map(|byte| KeyBytes::from_slice(&[byte])).collect()
    }

    fn text(task: &Task) -> String {
        task.keys.iter().map(|key| char::from(key[0])).collect()
    }

    /// Answers each key with itself.
    fn answer(queue: &mut Queue, task: &Task, now: Instant) {
        for (place, asker) in queue.land(task.number, true, now) {
            asker.answer(Ok(Some(Bytes::copy_from_slice(&task.keys[place]))));
        }
    }

    fn rows(joined: Joined) -> String {
        let answers = joined.answers.now_or_never().unwrap().unwrap();
        answers.into_iter().map(|answer| char::from(answer.unwrap().unwrap()[0])).collect()
    }

    #[test]
    fn a_batch_is_in_order_and_has_each_key_once() {
        let (now, items) = (Instant::now(), table("items"));
        let mut queue = Queue::new(4, 1, TIMEOUT);
        let first = queue.join(&items, keys("dbb"), now).unwrap();
        let second = queue.join(&items, keys("abbbce"), now).unwrap();
        assert!(first.start && !second.start);
        let task = queue.take(now).task.unwrap();
        assert_eq!(text(&task), "abd");
        // Those that come while it is under way share it, for a while.
        let third = queue.join(&items, keys("db"), now).unwrap();
        answer(&mut queue, &task, now);
        assert_eq!((rows(first), rows(third)), ("dbb".into(), "db".into()));
        let rest = queue.take(now).task.unwrap();
        assert_eq!(text(&rest), "ce");
        let late = queue.join(&items, keys("c"), now + SHARED_FOR).unwrap();
        answer(&mut queue, &rest, now);
        assert_eq!(rows(second), "abbbce");
        let again = queue.take(now).task.unwrap();
        answer(&mut queue, &again, now);
        assert_eq!((text(&again), rows(late)), ("c".into(), "c".into()));
        assert!(queue.take(now).task.is_none());
    }

    #[test]
    fn a_batch_is_of_one_table() {
        let (now, items, others) = (Instant::now(), table("items"), table("others"));
        let mut queue = Queue::new(4, 1, TIMEOUT);
        let joined = [("b", &items), ("x", &others), ("a", &items)]
            .map(|(text, table)| queue.join(table, keys(text), now).unwrap());
        let tasks: Vec<_> = std::iter::from_fn(|| queue.take(now).task).collect();
        assert_eq!(tasks.iter().map(text).collect::<Vec<_>>(), ["ab", "x"]);
        assert!(Arc::ptr_eq(&tasks[0].table, &items) && Arc::ptr_eq(&tasks[1].table, &others));
        drop(joined);
    }

    #[test]
    fn a_table_that_is_held_up_holds_up_no_other() {
        let (now, items, others) = (Instant::now(), table("items"), table("others"));
        let mut queue = Queue::new(4, 2, TIMEOUT);
        let _held_up = queue.join(&items, keys("a"), now).unwrap();
        assert_eq!(text(&queue.take(now).task.unwrap()), "a");
        let soon = queue.join(&others, keys("x"), now).unwrap();
        let later = now + HELD_UP * 2;
        let more = queue.join(&items, keys("b"), later).unwrap();
        assert!(!soon.start && more.start);
        assert_eq!(text(&queue.take(later).task.unwrap()), "x");
        assert!(queue.take(later).task.is_none());
    }

    #[test]
    fn who_waits_for_too_long_is_given_back() {
        let (now, items) = (Instant::now(), table("items"));
        let mut queue = Queue::new(4, 1, TIMEOUT);
        let _old = queue.join(&items, keys("ab"), now).unwrap();
        let _young = queue.join(&items, keys("c"), now + TIMEOUT / 2).unwrap();
        let Taken { task, expired } = queue.take(now + TIMEOUT / 4 * 5);
        assert_eq!((expired.len(), text(&task.unwrap())), (2, "c".into()));
    }

    #[test]
    fn nobody_waits_where_no_task_is_left() {
        let (now, items) = (Instant::now(), table("items"));
        let mut queue = Queue::new(4, 1, TIMEOUT);
        assert!(queue.join(&items, keys("ab"), now).unwrap().start);
        assert_eq!(queue.dismiss(true).len(), 2);
        assert!(queue.join(&items, keys("c"), now).unwrap().start);
    }

    #[test]
    fn nobody_begins_to_wait_for_a_database_that_is_silent() {
        let (now, items) = (Instant::now(), table("items"));
        let mut queue = Queue::new(4, 1, TIMEOUT);
        let _first = queue.join(&items, keys("a"), now).unwrap();
        let task = queue.take(now).task.unwrap();
        let _second = queue.join(&items, keys("b"), now + TIMEOUT / 2).unwrap();
        assert!(queue.join(&items, keys("c"), now + TIMEOUT).is_err());
        answer(&mut queue, &task, now + TIMEOUT);
        assert!(queue.join(&items, keys("c"), now + TIMEOUT).is_ok());
        // Nor for a connection that does not come.
        assert!(queue.join(&items, keys("c"), now + TIMEOUT * 2).is_err());
    }
}
