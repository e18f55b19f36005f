//! Reading in MariaDB: from which server, from which version, and what is answered from memory.
//!
//! The primary alone says which version is current. A replica is read while it has that very version and the last poll of
//! the primary is younger than the staleness bound; otherwise the primary is polled first, or read itself. Replicas answer
//! alone only while polls of the primary fail, and for a limited time.

mod servers;

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dataset::KeyBytes;
use mysql_async::SslOpts;

use self::servers::{Selection, ServedAlone};
use super::cache::{Cache, Kept};
use super::connect::Address;
use super::node::{Failure, Node, Shared, Table, Waiting};
use crate::{AnswerBytes, Error, Found, Live, LookUp, Lookup, Metrics, Outcome, Result, Settings, VersionId};

/// How often a look-up is tried: again after a swap, and again on another server; but no more than twice as long as one
/// may take.
const ATTEMPTS: usize = 4;

/// Answers look-ups from the live tables.
#[derive(Debug)]
pub struct Reader {
    primary: Arc<Node>,
    replicas: Vec<Arc<Node>>,
    cache: Option<Arc<Cache>>,
    metrics: Metrics,
    /// For how long replicas answer alone.
    alone_max: Duration,
    served_alone: Mutex<HashMap<String, ServedAlone>>,
    /// Whose turn it is among replicas.
    turn: AtomicUsize,
}

impl Reader {
    /// Must be called within the runtime in which all connections are to live.
    pub(super) fn start(
        primary: &Address,
        settings: &Settings,
        tls: Option<&SslOpts>,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let cache = Cache::new(settings.cache_bytes).map(Arc::new);
        let shared = Shared { cache: cache.clone(), metrics: metrics.clone(), tls: tls.cloned() };
        let primary = Node::start(primary, None, settings, &shared);
        let replica = |address| Node::start(address, Some(&primary), settings, &shared);
        Arc::new(Self {
            replicas: settings.read_urls.0.iter().map(replica).collect(),
            primary,
            cache,
            metrics: shared.metrics,
            alone_max: Duration::from_secs(settings.alone_seconds_max),
            served_alone: Mutex::default(),
            turn: AtomicUsize::default(),
        })
    }

    pub(crate) fn live(&self) -> Vec<Live> {
        let seen = self.primary.seen();
        let of_primary = seen.live.values().map(|table| table.live.clone());
        let mut live: Vec<_> = of_primary.collect();
        if self.primary.failing_for().is_some() && live.is_empty() {
            // The primary was never reached.
            let seen = self.replicas.iter().map(|node| node.seen()).find(|seen| !seen.live.is_empty());
            live.extend(seen.iter().flat_map(|seen| seen.live.values().map(|table| table.live.clone())));
        }
        live
    }

    pub(crate) async fn first_poll(&self) {
        self.primary.first_poll().await;
    }

    pub(crate) fn current(&self, dataset: &str) -> Option<VersionId> {
        self.fresh(dataset).map(|table| table.live.id())
    }

    /// The live table, where the primary said so within the staleness bound.
    fn fresh(&self, dataset: &str) -> Option<Arc<Table>> {
        self.primary.fresh(dataset)?.live.get(dataset).cloned()
    }

    pub(crate) fn get(self: &Arc<Self>, dataset: &str, key: &str) -> Lookup {
        if let Some(cache) = &self.cache {
            if let Some(table) = self.fresh(dataset) {
                let found = |row| Lookup::Ready(Ok(Some(Found { version: table.live.id(), row })));
                let Some(key) = table.live.schema.parse_key(key) else { return found(None) };
                if let Some(Kept(row)) = cache.get(table.content, &key) {
                    self.metrics.cache_hits.inc();
                    return found(row);
                }
            }
            self.metrics.cache_misses.inc();
        }
        let first = self.first_attempt(dataset, key);
        let (reader, dataset, key) = (self.clone(), dataset.to_owned(), key.to_owned());
        Lookup::Pending(Box::pin(async move {
            let mut tries = Tries::default();
            if let Some((node, version, waiting)) = first {
                match waiting.answer().await {
                    Ok(row) => return Ok(Some(Found { version, row })),
                    Err(failure) => tries.note(&node, failure)?,
                }
            }
            // A box of its own, so that the future of nearly every lookup stays small.
            Box::pin(reader.ask(&dataset, &key, tries)).await
        }))
    }

    /// Hands a key to the server that is asked first, where that can be told without waiting.
    fn first_attempt(&self, dataset: &str, key: &str) -> Option<(Arc<Node>, VersionId, Waiting)> {
        let Ok(Selection::Server(node, table)) = self.select_now(dataset, &Tries::default()) else {
            return None;
        };
        let key = table.live.schema.parse_key(key)?;
        let waiting = node.get(&table, key);
        Some((node, table.live.id(), waiting))
    }

    /// Asks for one key, until there is an answer or no sense in another try.
    async fn ask(&self, dataset: &str, key: &str, mut tries: Tries) -> Outcome {
        while let Some((node, table)) = self.select_server(dataset, &tries).await? {
            let version = table.live.id();
            let Some(key) = table.live.schema.parse_key(key) else {
                // Another version may have keys of another type.
                if !self.is_current(dataset, &table) {
                    self.primary.refresh(dataset).await;
                    tries.note(&node, Failure::Moved)?;
                    continue;
                }
                return Ok(Some(Found { version, row: None }));
            };
            match node.get(&table, key).answer().await {
                Ok(row) => return Ok(Some(Found { version, row })),
                Err(failure) => tries.note(&node, failure)?,
            }
        }
        Ok(None)
    }

    pub(crate) async fn look_up(
        &self,
        dataset: &str,
        keys: &[&str],
        bytes: &Arc<AnswerBytes>,
    ) -> Result<Option<LookUp>> {
        let mut tries = Tries::default();
        while let Some((node, table)) = self.select_server(dataset, &tries).await? {
            let version = table.live.id();
            let keys: Vec<_> = keys.iter().map(|key| table.live.schema.parse_key(key)).collect();
            let mut different: Vec<KeyBytes> = keys.iter().flatten().cloned().collect();
            different.sort_unstable();
            different.dedup();
            let has_no_key = keys.iter().any(Option::is_none);
            if has_no_key && !self.is_current(dataset, &table) {
                // Another version may have keys of another type.
                self.primary.refresh(dataset).await;
                tries.note(&node, Failure::Moved)?;
                continue;
            }
            if different.is_empty() {
                return Ok(Some(LookUp { version, rows: vec![None; keys.len()] }));
            }
            bytes.clear();
            match node.ask_all(&table, different.clone(), bytes).await {
                Ok(found) => {
                    let row = |key: &Option<_>| found[different.binary_search(key.as_ref()?).ok()?].clone();
                    return Ok(Some(LookUp { version, rows: keys.iter().map(row).collect() }));
                }
                Err(failure) => tries.note(&node, failure)?,
            }
        }
        Ok(None)
    }
}

/// What was tried for one key.
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
    /// Why the last try failed, if it did for a reason of its server.
    fn last_failure(&self) -> Option<Error> {
        match self.last.as_ref()? {
            Failure::Other(why) => Some(Error::Other(why.to_string().into())),
            Failure::Away(why) => Some(Error::Unavailable(why.to_string().into())),
            Failure::Moved | Failure::OverBudget(_) => None,
        }
    }

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
                node.log_failure(why);
                return Err(Error::Unavailable(why.into()));
            }
            Failure::Moved => return Ok(()),
            Failure::OverBudget(why) => return Err(why.into()),
            Failure::Away(why) if is_last => return Err(Error::Unavailable(why.to_string().into())),
            Failure::Other(why) if is_last => return Err(Error::Other(why.to_string().into())),
            Failure::Away(_) | Failure::Other(_) => {}
        }
        self.failed.push(node.clone());
        self.last = Some(failure);
        Ok(())
    }
}
