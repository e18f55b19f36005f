//! Reading in MariaDB: from which server, from which version, and what is answered from memory.
//!
//! Where there are replicas they are read from, always the one with the fewest waiting of those that answer and that are
//! not behind what was live anywhere before. While none of them is so far, their primary is asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use dataset::KeyBytes;
use futures_util::future::join_all;

use super::cache::{Cache, Kept};
use super::connect::Address;
use super::look::{Floors, Lost};
use super::node::{Failure, Node, Shared, Table};
use crate::error::chain;
use crate::reader::Servers;
use crate::{
    Error, Found, Live, LookUp, Looked, Metrics, Outcome, Question, Result, Settings, StoreHealth, Unwell,
    VersionId,
};

/// How often a look-up is tried: again after a swap, and again on another server; but no more than twice as long as one
/// may take.
const ATTEMPTS: usize = 4;
const BEHIND: &str = "every database that answers is behind";

/// Answers look-ups from the live tables.
#[derive(Debug)]
pub struct Reader {
    primary: Arc<Node>,
    replicas: Vec<Arc<Node>>,
    floors: Arc<Floors>,
    cache: Option<Arc<Cache>>,
    metrics: Metrics,
    /// No look-up waits for another.
    is_each_alone: bool,
    /// Whose turn it is among replicas.
    turn: AtomicUsize,
}

impl Reader {
    /// Must be called within the runtime in which all connections are to live.
    pub(super) fn start(primary: &Address, settings: &Settings, metrics: &Metrics) -> Arc<Self> {
        let cache = Cache::new(settings.cache_bytes).map(Arc::new);
        let shared = Shared { floors: Arc::default(), cache: cache.clone(), metrics: metrics.clone() };
        let replica = |address| Node::start(address, true, settings, &shared);
        Arc::new(Self {
            primary: Node::start(primary, false, settings, &shared),
            replicas: settings.read_urls.0.iter().map(replica).collect(),
            floors: shared.floors,
            cache,
            metrics: shared.metrics,
            is_each_alone: settings.batch_keys_max == 1,
            turn: AtomicUsize::default(),
        })
    }

    fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        std::iter::once(&self.primary).chain(&self.replicas)
    }

    pub(crate) fn live(&self) -> Vec<Live> {
        let mut newest: HashMap<String, Arc<Table>> = HashMap::new();
        for node in self.nodes() {
            for (name, table) in &node.seen().live {
                let known = newest.get(name);
                if known.is_none_or(|known| known.swap < table.swap) {
                    newest.insert(name.clone(), table.clone());
                }
            }
        }
        newest.into_values().map(|table| table.live.clone()).collect()
    }

    pub(crate) async fn first_poll(&self) {
        self.primary.first_poll().await;
    }

    pub(crate) fn health(&self) -> StoreHealth {
        let seen = self.primary.seen();
        let unwell = |(dataset, lost): (&String, &Lost)| Unwell {
            dataset: dataset.clone(),
            why: lost.why.to_owned(),
            was_served: lost.was_served,
        };
        StoreHealth { error: self.check().err(), unwell: seen.lost.iter().map(unwell).collect() }
    }

    /// Whether any server can be read from.
    fn check(&self) -> std::result::Result<(), String> {
        let is_well = |node: &Arc<Node>| self.check_node(node).is_ok();
        if self.replicas.iter().any(is_well) { Ok(()) } else { self.check_node(&self.primary) }
    }

    fn check_node(&self, node: &Node) -> std::result::Result<(), String> {
        let seen = node.seen();
        match node.trouble(&seen) {
            Some(why) => Err(why.to_owned()),
            None if seen.live.values().any(|table| self.is_behind(table)) => Err(BEHIND.to_owned()),
            None => Ok(()),
        }
    }

    pub(crate) fn servers(&self) -> Servers {
        self.nodes().fold(Servers::default(), |servers, node| match self.check_node(node) {
            Ok(()) => Servers { fit: servers.fit + 1, ..servers },
            Err(_) => Servers { unfit: servers.unfit + 1, ..servers },
        })
    }

    pub(crate) fn current(&self, dataset: &str) -> Option<VersionId> {
        self.fresh(dataset).map(|table| table.live.id())
    }

    /// The live table of a server that could be asked, where it is known that no other was live there 100 ms ago.
    fn fresh(&self, dataset: &str) -> Option<Arc<Table>> {
        self.nodes().find_map(|node| {
            let seen = node.fresh()?;
            let table = seen.live.get(dataset).filter(|table| !self.is_behind(table))?;
            node.trouble(&seen).is_none().then(|| table.clone())
        })
    }

    /// A server that is alone is never behind.
    fn is_behind(&self, table: &Table) -> bool {
        !self.replicas.is_empty() && self.floors.is_behind(table)
    }

    pub(crate) fn look_up_one(self: &Arc<Self>, dataset: &str, key: &str) -> Looked {
        if let Some(cache) = &self.cache {
            if let Some(table) = self.fresh(dataset) {
                let found = |row| Looked::Now(Ok(Some(Found { version: table.live.id(), row })));
                let Some(key) = table.live.schema.parse_key(key) else { return found(None) };
                if let Some(Kept(row)) = cache.get(table.content, &key) {
                    self.metrics.cache_hits.inc();
                    return found(row);
                }
            }
            self.metrics.cache_misses.inc();
        }
        let question = Question { dataset: dataset.to_owned(), key: key.to_owned() };
        if self.is_each_alone {
            let reader = self.clone();
            return Looked::Later(Box::pin(async move { reader.ask(&question, Tries::default()).await }));
        }
        Looked::Together(question)
    }

    /// Each dataset's keys go together. What fails there is asked again by itself.
    pub(crate) async fn ask_together(&self, questions: Vec<Question>, answer: impl Fn(usize, Outcome)) {
        let mut datasets: Vec<&str> = questions.iter().map(|question| question.dataset.as_str()).collect();
        datasets.sort_unstable();
        datasets.dedup();
        join_all(datasets.into_iter().map(|dataset| self.ask_dataset(dataset, &questions, &answer))).await;
    }

    /// Asks the questions of one dataset.
    async fn ask_dataset(&self, dataset: &str, questions: &[Question], answer: &impl Fn(usize, Outcome)) {
        let of_dataset = questions.iter().enumerate().filter(|(_, question)| question.dataset == dataset);
        let tries = Tries::default();
        let (node, table) = match self.choose(dataset, &tries) {
            Ok(Some(chosen)) => chosen,
            Ok(None) => return of_dataset.for_each(|(place, _)| answer(place, Ok(None))),
            Err(error) => {
                let why = chain(&error);
                return of_dataset
                    .for_each(|(place, _)| answer(place, Err(Error::Unavailable(why.clone().into()))));
            }
        };
        let found = |row| Ok(Some(Found { version: table.live.id(), row }));
        let (mut places, mut keys) =
            (Vec::with_capacity(questions.len()), Vec::with_capacity(questions.len()));
        for (place, question) in of_dataset {
            match table.live.schema.parse_key(&question.key) {
                Some(key) => {
                    places.push(place);
                    keys.push(key);
                }
                None => answer(place, found(None)),
            }
        }
        if keys.is_empty() {
            return;
        }
        let mut again = Vec::new();
        for (place, answered) in places.into_iter().zip(node.ask(&table, keys).await) {
            match answered {
                Ok(row) => answer(place, found(row)),
                Err(failure) => again.push((place, failure)),
            }
        }
        let again = again.into_iter().map(async |(place, failure)| {
            let mut tries = tries.clone();
            let outcome = match tries.note(&node, failure) {
                Ok(()) => self.ask(&questions[place], tries).await,
                Err(error) => Err(error),
            };
            answer(place, outcome);
        });
        join_all(again).await;
    }

    /// Asks for one key, until there is an answer or no sense in another try.
    async fn ask(&self, question: &Question, mut tries: Tries) -> Outcome {
        while let Some((node, table)) = self.choose(&question.dataset, &tries)? {
            let version = table.live.id();
            let Some(key) = table.live.schema.parse_key(&question.key) else {
                return Ok(Some(Found { version, row: None }));
            };
            match node.ask(&table, vec![key]).await.pop() {
                Some(Ok(row)) => return Ok(Some(Found { version, row })),
                Some(Err(failure)) => tries.note(&node, failure)?,
                None => return Err(Error::Other("a look-up without an answer".into())),
            }
        }
        Ok(None)
    }

    pub(crate) async fn look_up(&self, dataset: &str, keys: &[&str]) -> Result<Option<LookUp>> {
        let mut tries = Tries::default();
        while let Some((node, table)) = self.choose(dataset, &tries)? {
            let version = table.live.id();
            let keys: Vec<_> = keys.iter().map(|key| table.live.schema.parse_key(key)).collect();
            let mut different: Vec<KeyBytes> = keys.iter().flatten().cloned().collect();
            different.sort_unstable();
            different.dedup();
            if different.is_empty() {
                return Ok(Some(LookUp { version, rows: vec![None; keys.len()] }));
            }
            match node.ask_all(&table, different.clone()).await {
                Ok(found) => {
                    let row = |key: &Option<_>| found[different.binary_search(key.as_ref()?).ok()?].clone();
                    return Ok(Some(LookUp { version, rows: keys.iter().map(row).collect() }));
                }
                Err(failure) => tries.note(&node, failure)?,
            }
        }
        Ok(None)
    }

    /// The server that is asked next, with its live table; nothing where there is no such dataset.
    fn choose(&self, dataset: &str, tries: &Tries) -> Result<Option<(Arc<Node>, Arc<Table>)>> {
        let well = |node: &&Arc<Node>| {
            let seen = node.seen();
            let table = seen.live.get(dataset).filter(|table| !self.is_behind(table));
            table
                .filter(|_| !tries.has_failed(node) && node.trouble(&seen).is_none())
                .cloned()
                .map(|table| ((*node).clone(), table))
        };
        // The one with the fewest look-ups waiting, which is the quickest, too; among equals each has its turn.
        let (count, turn) = (self.replicas.len(), self.turn.fetch_add(1, Ordering::Relaxed));
        let replicas = (0..count).filter_map(|place| well(&&self.replicas[turn.wrapping_add(place) % count]));
        let least = replicas.min_by_key(|(node, _)| node.waiting.load(Ordering::Relaxed));
        if let Some(chosen) = least.or_else(|| well(&&self.primary)) {
            return Ok(Some(chosen));
        }
        match &tries.last {
            Some(Failure::Other(why)) => return Err(Error::Other(why.to_string().into())),
            Some(Failure::Away(why)) => return Err(Error::Unavailable(why.to_string().into())),
            Some(Failure::Moved) | None => {}
        }
        let seen = self.primary.seen();
        let behind = self.nodes().any(|node| node.seen().live.contains_key(dataset));
        match self.primary.trouble(&seen) {
            Some(why) => Err(Error::Unavailable(why.into())),
            None if behind => {
                self.primary.complain(BEHIND);
                Err(Error::Unavailable(BEHIND.into()))
            }
            None => match self.nodes().find_map(|node| node.seen().lost.get(dataset).map(|lost| lost.why)) {
                Some(why) => Err(Error::Unavailable(why.into())),
                None => Ok(None),
            },
        }
    }
}

/// What was tried for one question.
#[derive(Clone)]
struct Tries {
    start: Instant,
    count: usize,
    failed: Vec<Arc<Node>>,
    last: Option<Failure>,
}

impl Default for Tries {
    fn default() -> Self {
        Self { start: Instant::now(), count: 0, failed: Vec::new(), last: None }
    }
}

impl Tries {
    fn has_failed(&self, node: &Arc<Node>) -> bool {
        self.failed.iter().any(|failed| Arc::ptr_eq(failed, node))
    }

    /// Takes note of a failure; it is the answer where there is no sense in another try.
    fn note(&mut self, node: &Arc<Node>, failure: Failure) -> Result<()> {
        self.count += 1;
        let is_last = self.count >= ATTEMPTS || self.start.elapsed() >= node.timeout * 2;
        match failure {
            Failure::Moved if is_last => {
                let why = "the live version changes too quickly";
                node.complain(why);
                return Err(Error::Unavailable(why.into()));
            }
            Failure::Moved => return Ok(()),
            Failure::Away(why) if is_last => return Err(Error::Unavailable(why.to_string().into())),
            Failure::Other(why) if is_last => return Err(Error::Other(why.to_string().into())),
            Failure::Away(_) | Failure::Other(_) => {}
        }
        self.failed.push(node.clone());
        self.last = Some(failure);
        Ok(())
    }
}
