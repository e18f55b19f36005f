//! Look-ups that arrive together: while some are under way in the database, the next collect.
//!
//! There is no timer. The first look-up is under way at once; those that come meanwhile wait for each other until it is
//! answered, and then go together. Keys that are asked for twice share a place. A batch is of one version of one
//! dataset, so that one statement answers it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dataset::KeyBytes;
use smallvec::{SmallVec, smallvec};
use tokio::sync::oneshot;

use super::node::{Failure, Table};
use super::pace::Pace;

/// What becomes of a key that was asked for.
pub(super) type Answer = Result<Option<Bytes>, Failure>;
/// Those who wait for a key: a group, and the place of the key in it.
pub(super) type Waiting = HashMap<KeyBytes, SmallVec<[(Arc<Group>, usize); 1]>>;

/// A look-up joins one that is under way only for so long after that began: it must not see what was live before it
/// was asked, but for the bound that all readers have.
const SHARED_FOR: Duration = Duration::from_millis(crate::FOLLOW_MS / 2);

#[derive(Debug)]
pub(super) struct Queue {
    keys_max: usize,
    /// After so long without any answer from the database nobody else begins to wait for it.
    patience: Duration,
    pace: Pace,
    waiting: VecDeque<Batch>,
    under_way: Vec<UnderWay>,
    /// How many tasks take batches from here.
    takers: usize,
    last_number: u64,
    last_answer: Instant,
    /// Times are summed up as what passed since then.
    start: Instant,
}

#[derive(Debug)]
struct Batch {
    table: Arc<Table>,
    waiting: Waiting,
    /// For the mean time that they waited: how many they are, and the sum of when they came.
    came: (u32, Duration),
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    since: Instant,
    batch: Batch,
}

/// What a task has to look up.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) number: u64,
    pub(super) table: Arc<Table>,
    pub(super) keys: Vec<KeyBytes>,
    /// One more has to be started that takes batches.
    pub(super) start: bool,
}

/// Keys that were asked for at once, by one thread, which is woken once for all of them.
#[derive(Debug)]
pub(super) struct Group(Mutex<Answers>);

#[derive(Debug)]
struct Answers {
    answers: Vec<Answer>,
    missing: usize,
    done: Option<oneshot::Sender<Vec<Answer>>>,
}

impl Group {
    fn new(keys: usize) -> (Arc<Self>, oneshot::Receiver<Vec<Answer>>) {
        let (done, answers) = oneshot::channel();
        let none = vec![Ok(None); keys];
        (Arc::new(Self(Mutex::new(Answers { answers: none, missing: keys, done: Some(done) }))), answers)
    }

    /// Gives the answer for the key at a place, once.
    pub(super) fn answer(&self, place: usize, answer: Answer) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.answers[place] = answer;
        state.missing -= 1;
        if state.missing == 0
            && let Some(done) = state.done.take()
        {
            // Who is gone needs no answer.
            let _ = done.send(std::mem::take(&mut state.answers));
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
    pub(super) fn new(keys_max: usize, limit_max: usize, patience: Duration) -> Self {
        let now = Instant::now();
        Self {
            keys_max: keys_max.max(1),
            patience,
            pace: Pace::new(limit_max, now),
            waiting: VecDeque::new(),
            under_way: Vec::new(),
            takers: 0,
            last_number: 0,
            last_answer: now,
            start: now,
        }
    }

    /// Takes keys that are asked for.
    pub(super) fn join(
        &mut self,
        table: &Arc<Table>,
        keys: &[KeyBytes],
        now: Instant,
    ) -> Result<Joined, Stalled> {
        let oldest = self.under_way.iter().map(|under_way| under_way.since).min();
        if oldest.is_some_and(|since| now.duration_since(since.max(self.last_answer)) > self.patience) {
            return Err(Stalled);
        }
        let (group, answers) = Group::new(keys.len());
        for (place, key) in keys.iter().enumerate() {
            self.join_one(table, key, (group.clone(), place), now);
        }
        Ok(Joined { answers, start: self.start_one() })
    }

    /// Puts a key beside the same one, or into the batch that collects.
    fn join_one(&mut self, table: &Arc<Table>, key: &KeyBytes, who: (Arc<Group>, usize), now: Instant) {
        let young = self.under_way.iter_mut().filter(|it| now.duration_since(it.since) < SHARED_FOR);
        let mut batches = young.map(|it| &mut it.batch).chain(&mut self.waiting);
        let same = batches.find_map(|batch| {
            if Arc::ptr_eq(&batch.table, table) { batch.waiting.get_mut(key) } else { None }
        });
        if let Some(same) = same {
            return same.push(who);
        }
        let (keys_max, came) = (self.keys_max, now.duration_since(self.start));
        let open = |batch: &&mut Batch| Arc::ptr_eq(&batch.table, table) && batch.waiting.len() < keys_max;
        if let Some(batch) = self.waiting.iter_mut().find(open) {
            batch.push(key.clone(), who, came);
        } else {
            let mut batch =
                Batch { table: table.clone(), waiting: HashMap::new(), came: (0, Duration::ZERO) };
            batch.push(key.clone(), who, came);
            self.waiting.push_back(batch);
        }
    }

    /// Whether one more may take batches, and there is one for it.
    fn start_one(&mut self) -> bool {
        let start = self.takers < self.pace.limit() && !self.waiting.is_empty();
        self.takers += usize::from(start);
        start
    }

    /// The next batch for a task; nothing where the task is to end.
    pub(super) fn take(&mut self, now: Instant) -> Option<Task> {
        let next = if self.takers > self.pace.limit() { None } else { self.waiting.pop_front() };
        let Some(batch) = next else {
            self.takers -= 1;
            return None;
        };
        self.last_number += 1;
        let (number, table) = (self.last_number, batch.table.clone());
        let keys = batch.waiting.keys().cloned().collect();
        self.under_way.push(UnderWay { number, since: now, batch });
        Some(Task { number, table, keys, start: self.start_one() })
    }

    /// Ends a batch that was under way, and gives back who waits for it.
    pub(super) fn land(&mut self, number: u64, answered: bool, now: Instant) -> Waiting {
        let Some(at) = self.under_way.iter().position(|it| it.number == number) else {
            return Waiting::new();
        };
        let UnderWay { batch, .. } = self.under_way.swap_remove(at);
        if answered {
            self.last_answer = now;
            let (keys, came) = batch.came;
            let waited = (now.duration_since(self.start) * keys).saturating_sub(came);
            self.pace.record(keys, waited, !self.waiting.is_empty(), now);
        }
        batch.waiting
    }

    /// Gives back all who wait for a batch that is not yet under way: there is no sense in going on.
    pub(super) fn give_up(&mut self) -> Vec<Waiting> {
        self.waiting.drain(..).map(|batch| batch.waiting).collect()
    }
}

impl Batch {
    fn push(&mut self, key: KeyBytes, who: (Arc<Group>, usize), came: Duration) {
        self.waiting.insert(key, smallvec![who]);
        self.came = (self.came.0 + 1, self.came.1 + came);
    }
}
