//! Reading in MariaDB: every statement proves which version it read.
//!
//! A reader knows the live version of each dataset from a look every few milliseconds, and uses its columns to make
//! statements. If an answer turns out to be of another version, or the columns are gone, the knowledge is renewed and
//! the statement is made again. So a swap fails no request, and no answer is of two versions.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use dataset::Value;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::error::Elapsed;
use tracing::{error, info, warn};

use super::connect::{code, is_lost, server_code, timed_out};
use super::{Mariadb, ledger, rows, table};
use crate::{Error, Live, LookUp, Result};

/// How often the live versions are looked at: twice within the time that a publication waits for its readers.
const LOOK_EVERY: Duration = Duration::from_millis(crate::FOLLOW_MS / 2);
/// How often a look-up is tried: again after a swap, and once more on a new connection.
const ATTEMPTS: usize = 4;

/// Answers look-ups from the live tables.
#[derive(Debug)]
pub struct Reader {
    store: Arc<Mariadb>,
    seen: ArcSwap<Seen>,
    /// Who looks, with a connection of its own: two must not overtake each other.
    watch: Mutex<Option<Conn>>,
    /// The connections live in one runtime, whichever one asks.
    runtime: Handle,
}

/// What the last look found.
#[derive(Debug, Default, Clone)]
struct Seen {
    live: HashMap<String, Arc<Live>>,
    error: Option<String>,
}

/// What one statement found.
enum Found {
    /// The rows, all of the version that was expected.
    Rows(Vec<Option<Vec<u8>>>),
    /// Another version is live.
    Moved,
}

impl Reader {
    pub(super) fn start(store: Arc<Mariadb>) -> Arc<Self> {
        let seen = Seen { error: Some("the database was not reached yet".into()), ..Seen::default() };
        let runtime = Handle::current();
        let reader =
            Arc::new(Self { store, seen: ArcSwap::from_pointee(seen), watch: Mutex::default(), runtime });
        reader.runtime.spawn(follow(Arc::downgrade(&reader)));
        reader
    }

    pub(crate) fn live(&self) -> Vec<Live> {
        self.seen.load().live.values().map(|live| Live::clone(live)).collect()
    }

    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        self.seen.load().error.clone().map_or(Ok(()), Err)
    }

    pub(crate) async fn look_up(self: &Arc<Self>, dataset: &str, keys: &[&str]) -> Result<Option<LookUp>> {
        for attempt in 1..=ATTEMPTS {
            let seen = self.seen.load_full();
            let Some(live) = seen.live.get(dataset) else {
                return match &seen.error {
                    Some(error) => Err(Error::Unavailable(error.clone().into())),
                    None => Ok(None),
                };
            };
            let parsed: Vec<_> = keys.iter().map(|key| live.schema.parse_key(key)).collect();
            if parsed.iter().all(Option::is_none) {
                return Ok(Some(LookUp { version: live.version, rows: vec![None; keys.len()] }));
            }
            let (reader, expected) = (self.clone(), live.clone());
            // A request that is given up must not leave a connection in the middle of an answer.
            let found = self.runtime.spawn(async move { reader.select(&expected, &parsed).await }).await?;
            match found.map_err(timed_out)? {
                Ok(Found::Rows(rows)) => return Ok(Some(LookUp { version: live.version, rows })),
                Ok(Found::Moved) => self.renew_from(live).await?,
                Err(error) if attempt < ATTEMPTS && may_pass(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Unavailable("the live version changes too quickly".into()))
    }

    /// Reads keys from the live table, if it is still the expected version.
    async fn select(
        &self,
        live: &Live,
        keys: &[Option<Vec<u8>>],
    ) -> std::result::Result<mysql_async::Result<Found>, Elapsed> {
        let start = Instant::now();
        let found = tokio::time::timeout(self.store.timeout, self.select_on_pool(live, keys)).await;
        let metrics = &self.store.metrics;
        metrics.look_up_seconds.observe(start.elapsed().as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most thousands of keys")]
        metrics.look_up_batch_size.observe(keys.len() as f64);
        found
    }

    async fn select_on_pool(&self, live: &Live, keys: &[Option<Vec<u8>>]) -> mysql_async::Result<Found> {
        let metrics = &self.store.metrics;
        let waiting = Counted::new(&metrics.pool_waiting);
        let mut conn = self.store.pool.get_conn().await?;
        drop(waiting);
        let _in_use = Counted::new(&metrics.pool_in_use);
        let (statement, parameters) = statement(live, keys);
        let rows = match conn.exec::<Row, _, _>(statement, parameters).await {
            // The columns that this reader knows are not those of the table.
            Err(error) if server_code(&error) == Some(code::UNKNOWN_COLUMN) => return Ok(Found::Moved),
            rows => rows?,
        };
        answer(live, keys, rows).map_err(|error| mysql_async::Error::Other(error.into()))
    }

    /// Looks again because `known` was not live any more, unless somebody else has looked meanwhile.
    async fn renew_from(&self, known: &Arc<Live>) -> Result<()> {
        let watch = self.watch.lock().await;
        let newer = self.seen.load().live.get(&known.dataset).is_some_and(|live| !Arc::ptr_eq(live, known));
        if newer { Ok(()) } else { self.renew(watch).await }
    }

    /// Looks at the live versions, whoever holds the place to look from.
    async fn renew(&self, mut watch: MutexGuard<'_, Option<Conn>>) -> Result<()> {
        let looked = tokio::time::timeout(self.store.timeout, self.look(&mut watch)).await;
        let looked = looked.unwrap_or_else(|elapsed| Err(timed_out(elapsed)));
        let seen = self.seen.load();
        match looked {
            Ok(live) if seen.error.is_none() && live == seen.live => {}
            Ok(live) => {
                for (name, live) in live.iter().filter(|(name, live)| seen.live.get(*name) != Some(live)) {
                    info!(
                        dataset = name,
                        version = live.version,
                        rows = live.rows,
                        "reads a new live version"
                    );
                }
                self.seen.store(Arc::new(Seen { live, error: None }));
            }
            Err(error) => {
                *watch = None;
                let text = chain(&error);
                if seen.error.is_none() {
                    error!(error = text, "cannot follow the live versions");
                }
                self.seen.store(Arc::new(Seen { live: seen.live.clone(), error: Some(text) }));
                return Err(error);
            }
        }
        Ok(())
    }

    async fn look(&self, watch: &mut Option<Conn>) -> Result<HashMap<String, Arc<Live>>> {
        let conn = match watch {
            Some(conn) => conn,
            None => watch.insert(self.store.connect().await?),
        };
        let seen = self.seen.load();
        let mut found = HashMap::new();
        for dataset in ledger::datasets(conn).await? {
            if !dataset::is_dataset_name(&dataset) {
                continue;
            }
            let Some(version) = version(conn, &dataset).await? else { continue };
            let known = seen.live.get(&dataset).filter(|live| live.version == version);
            let live = match known {
                Some(known) => Some(known.clone()),
                None => read_entry(conn, &dataset, version).await?,
            };
            if let Some(live) = live {
                found.insert(dataset, live);
            }
        }
        Ok(found)
    }
}

/// Looks again and again, until the reader is gone.
async fn follow(reader: Weak<Reader>) {
    while let Some(reader) = reader.upgrade() {
        // What went wrong is kept for whoever asks, and was logged.
        let _ = reader.renew(reader.watch.lock().await).await;
        drop(reader);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The version of the live table; nothing while a dataset has none.
async fn version(conn: &mut Conn, dataset: &str) -> Result<Option<u32>> {
    match conn.query_first(format!("SELECT dataset_version FROM `{dataset}` LIMIT 1")).await {
        // A table of that name that somebody else made has no such column.
        Err(error) if matches!(server_code(&error), Some(code::NO_SUCH_TABLE | code::UNKNOWN_COLUMN)) => {
            Ok(None)
        }
        version => Ok(version?),
    }
}

async fn read_entry(conn: &mut Conn, dataset: &str, version: u32) -> Result<Option<Arc<Live>>> {
    let entry = ledger::read_one(conn, dataset, version).await?;
    if entry.is_none() {
        warn!(dataset, version, "the live table has no entry in tableswap_versions");
    }
    Ok(entry.map(|entry| Arc::new(Live::new(dataset, &entry))))
}

/// One statement reads the version and the rows, so that both are of one table.
fn statement(live: &Live, keys: &[Option<Vec<u8>>]) -> (String, Vec<mysql_async::Value>) {
    let (schema, key) = (&live.schema, live.schema.key());
    let value = |bytes: &Vec<u8>| schema.read_key(bytes).ok().map(|value| rows::parameter(key, value));
    let mut parameters: Vec<_> = keys.iter().flatten().filter_map(value).collect();
    // A statement is prepared for a few sizes only; the last key fills up the rest.
    let last = parameters.last().cloned().unwrap_or(mysql_async::Value::NULL);
    parameters.resize(parameters.len().next_power_of_two(), last);
    let columns = table::columns(schema);
    let places = vec![rows::placeholder(&key.kind); parameters.len()].join(", ");
    let (dataset, key) = (&live.dataset, &key.name);
    let statement = format!(
        "(SELECT 0, dataset_version, {columns} FROM `{dataset}` LIMIT 1) UNION ALL \
         SELECT 1, dataset_version, {columns} FROM `{dataset}` WHERE `{key}` IN ({places})"
    );
    (statement, parameters)
}

/// Puts the rows in the order of the keys. The first row only says the version.
fn answer(live: &Live, keys: &[Option<Vec<u8>>], found: Vec<Row>) -> Result<Found> {
    let mut rows = HashMap::with_capacity(found.len());
    let mut proved = false;
    for row in found {
        let sql = row.unwrap();
        let [marker, version, columns @ ..] = sql.as_slice() else {
            return Err(Error::corrupt("a row is short"));
        };
        if mysql_async::from_value_opt::<u32>(version.clone()).ok() != Some(live.version) {
            return Ok(Found::Moved);
        }
        proved = true;
        if mysql_async::from_value_opt::<i64>(marker.clone()).ok() == Some(0) {
            continue;
        }
        let (mut values, mut key, mut json): (Vec<Value<'_>>, _, _) =
            (Vec::new(), Vec::new(), Vec::with_capacity(256));
        rows::read(&live.schema, columns, &mut values)?;
        live.schema.write_key(&values, &mut key);
        dataset::write_row(&live.schema, &values, &mut json);
        rows.insert(key, json);
    }
    // A version always has a row; a table without one was not made by a publisher.
    if !proved {
        return Err(Error::corrupt(format!("the live table `{}` is empty", live.dataset)));
    }
    Ok(Found::Rows(keys.iter().map(|key| rows.get(key.as_ref()?).cloned()).collect()))
}

/// Whether the same statement may succeed on another connection.
fn may_pass(error: &mysql_async::Error) -> bool {
    is_lost(error) || server_code(error) == Some(code::NEED_REPREPARE)
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Counts for as long as it lives.
struct Counted<'a>(&'a prometheus::IntGauge);

impl<'a> Counted<'a> {
    fn new(gauge: &'a prometheus::IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
