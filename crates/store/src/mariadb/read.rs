//! Reading in MariaDB: from which server, from which version, and what is answered from memory.
//!
//! Where there are replicas they are read from, each in its turn: those that answer, and that are not behind what was
//! live anywhere before. While none of them is so far, their primary is asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dataset::KeyBytes;
use futures_util::future::join_all;

use super::cache::{Cache, Kept};
use super::connect::Address;
use super::look::Floors;
use super::node::{Failure, Node, Shared, Table};
use crate::{Error, Found, Live, LookUp, Looked, Metrics, Outcome, Question, Result, Settings};

/// How often a look-up is tried: again after a swap, and again on another server.
const ATTEMPTS: usize = 4;

/// Answers look-ups from the live tables.
#[derive(Debug)]
pub struct Reader {
    primary: Arc<Node>,
    replicas: Vec<Arc<Node>>,
    floors: Arc<Floors>,
    cache: Option<Arc<Cache>>,
    metrics: Metrics,
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

    /// Whether any server can be read from.
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        let trouble = |node: &Arc<Node>| node.trouble(&node.seen()).map(str::to_owned);
        let of_primary = trouble(&self.primary);
        if self.replicas.iter().any(|node| trouble(node).is_none()) {
            Ok(())
        } else {
            of_primary.map_or(Ok(()), Err)
        }
    }

    pub(crate) fn current(&self, dataset: &str) -> Option<u32> {
        self.fresh(dataset).map(|table| table.live.version)
    }

    /// The live table, where it is known that no other was live 100 ms ago.
    fn fresh(&self, dataset: &str) -> Option<Arc<Table>> {
        self.nodes().find_map(|node| {
            let seen = node.seen();
            let table = seen.live.get(dataset).filter(|table| !self.is_behind(table))?;
            node.is_fresh(&seen).then(|| table.clone())
        })
    }

    /// A server that is alone is never behind.
    fn is_behind(&self, table: &Table) -> bool {
        !self.replicas.is_empty() && self.floors.is_behind(table)
    }

    pub(crate) fn look_up_one(&self, dataset: &str, key: &str) -> Looked {
        if let (Some(cache), Some(table)) = (&self.cache, self.fresh(dataset)) {
            let found = |row| Looked::Now(Ok(Some(Found { version: table.live.version, row })));
            let Some(key) = table.live.schema.parse_key(key) else { return found(None) };
            if let Some(Kept(row)) = cache.get(table.content, &key) {
                self.metrics.cache_hits.inc();
                return found(row);
            }
            self.metrics.cache_misses.inc();
        }
        Looked::Together(Question { dataset: dataset.to_owned(), key: key.to_owned() })
    }

    /// Each dataset's keys go together. What fails there is asked again by itself.
    pub(crate) async fn ask_together(&self, questions: Vec<Question>) -> Vec<Outcome> {
        let mut datasets: Vec<&str> = questions.iter().map(|question| question.dataset.as_str()).collect();
        datasets.sort_unstable();
        datasets.dedup();
        let mut outcomes: Vec<Outcome> = questions.iter().map(|_| Ok(None)).collect();
        for asked in join_all(datasets.into_iter().map(|dataset| self.ask_dataset(dataset, &questions))).await
        {
            for (place, outcome) in asked {
                outcomes[place] = outcome;
            }
        }
        outcomes
    }

    /// The outcomes for the questions of one dataset, each with its place among all.
    async fn ask_dataset(&self, dataset: &str, questions: &[Question]) -> Vec<(usize, Outcome)> {
        let of_dataset = || questions.iter().enumerate().filter(|(_, question)| question.dataset == dataset);
        let chosen = self.choose(dataset, &Tries::default());
        let Ok(Some((node, table))) = chosen else {
            let outcome = || self.choose(dataset, &Tries::default()).map(|_| None);
            return of_dataset().map(|(place, _)| (place, outcome())).collect();
        };
        let found = |row| Ok(Some(Found { version: table.live.version, row }));
        let (mut outcomes, mut places, mut keys) =
            (Vec::with_capacity(questions.len()), Vec::new(), Vec::new());
        for (place, question) in of_dataset() {
            match table.live.schema.parse_key(&question.key) {
                Some(key) => {
                    places.push(place);
                    keys.push(key);
                }
                None => outcomes.push((place, found(None))),
            }
        }
        let answers = if keys.is_empty() { Vec::new() } else { node.ask(&table, keys).await };
        let answers = places.into_iter().zip(answers).map(async |(place, answer)| match answer {
            Ok(row) => (place, found(row)),
            Err(failure) => (place, self.ask_again(&questions[place], &node, failure).await),
        });
        outcomes.extend(join_all(answers).await);
        outcomes
    }

    /// Asks for one key after a failure.
    async fn ask_again(&self, question: &Question, node: &Arc<Node>, failure: Failure) -> Outcome {
        let mut tries = Tries::default();
        tries.note(node, failure)?;
        while let Some((node, table)) = self.choose(&question.dataset, &tries)? {
            let version = table.live.version;
            let Some(key) = table.live.schema.parse_key(&question.key) else {
                return Ok(Some(Found { version, row: None }));
            };
            match node.ask(&table, vec![key]).await.pop() {
                Some(Ok(row)) => return Ok(Some(Found { version, row })),
                Some(Err(failure)) => tries.note(&node, failure)?,
                None => break,
            }
        }
        Ok(None)
    }

    pub(crate) async fn look_up(&self, dataset: &str, keys: &[&str]) -> Result<Option<LookUp>> {
        let mut tries = Tries::default();
        while let Some((node, table)) = self.choose(dataset, &tries)? {
            let version = table.live.version;
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
        // The one with the fewest look-ups waiting; it is the quickest, too.
        let replicas = self.replicas.iter().filter_map(|node| well(&node));
        let least = replicas.min_by_key(|(node, _)| node.waiting.load(Ordering::Relaxed));
        if let Some(chosen) = least.or_else(|| well(&&self.primary)) {
            return Ok(Some(chosen));
        }
        if let Some(why) = &tries.last {
            return Err(Error::Unavailable(why.to_string().into()));
        }
        let seen = self.primary.seen();
        let behind = self.nodes().any(|node| node.seen().live.contains_key(dataset));
        match self.primary.trouble(&seen) {
            Some(why) => Err(Error::Unavailable(why.into())),
            None if behind => Err(Error::Unavailable("every database that answers is behind".into())),
            None => Ok(None),
        }
    }
}

/// What was tried for one question.
#[derive(Default)]
struct Tries {
    count: usize,
    failed: Vec<Arc<Node>>,
    last: Option<Arc<str>>,
}

impl Tries {
    fn has_failed(&self, node: &Arc<Node>) -> bool {
        self.failed.iter().any(|failed| Arc::ptr_eq(failed, node))
    }

    /// Takes note of a failure; it is the answer where there is no sense in another try.
    fn note(&mut self, node: &Arc<Node>, failure: Failure) -> Result<()> {
        self.count += 1;
        match failure {
            Failure::Moved if self.count < ATTEMPTS => Ok(()),
            Failure::Moved => Err(Error::Unavailable("the live version changes too quickly".into())),
            Failure::Away(why) if self.count < ATTEMPTS => {
                self.failed.push(node.clone());
                self.last = Some(why);
                Ok(())
            }
            Failure::Away(why) => Err(Error::Unavailable(why.to_string().into())),
            Failure::Other(why) => Err(Error::Other(why.to_string().into())),
        }
    }
}
