//! A look at what is live in a database, and at whether it can be trusted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Value};

use super::ledger;
use super::node::Table;
use super::table::is_not_there;
use crate::{Entry, Live, Result};

/// A version that becomes live while it is looked at is looked at again, so often.
const TRIES: u32 = 3;

/// The number of the last swap of each dataset that was seen on any server. One whose live version became live before
/// that is behind.
#[derive(Debug, Default)]
pub(super) struct Floors(ArcSwap<HashMap<String, u64>>);

impl Floors {
    pub(super) fn is_behind(&self, table: &Table) -> bool {
        self.0.load().get(&table.live.dataset).is_some_and(|floor| table.swap < *floor)
    }

    fn raise(&self, dataset: &str, swap: u64) {
        self.0.rcu(|floors| {
            let mut floors = HashMap::clone(floors);
            let floor = floors.entry(dataset.to_owned()).or_default();
            *floor = swap.max(*floor);
            floors
        });
    }
}

/// Which version of a dataset is live, and what the ledger says of it.
type Standing = (String, Option<u32>, Option<String>);

/// What a look finds.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) live: HashMap<String, Arc<Table>>,
    /// Datasets that were live once and cannot be read, each with the reason.
    pub(super) lost: BTreeMap<String, Lost>,
}

/// Why a dataset that was live once cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) why: &'static str,
    /// Whether it was read before by this process.
    pub(super) was_served: bool,
}

const NO_TABLE: &str = "its live table is missing, empty or not ours";
const NO_ENTRY: &str = "its live table has no entry in tableswap_versions";

/// The live tables; those that are known already are given back.
pub(super) async fn live(
    conn: &mut Conn,
    known: &HashMap<String, Arc<Table>>,
    lost_before: &BTreeMap<String, Lost>,
    floors: &Floors,
) -> Result<Found> {
    let mut found = Found::default();
    let Standings { standings, published } = standings(conn, known).await?;
    // What was live once is never taken for a dataset that does not exist.
    let once_live = published.iter().chain(known.keys()).chain(lost_before.keys());
    let was_served = |dataset: &str| {
        known.contains_key(dataset) || lost_before.get(dataset).is_some_and(|lost| lost.was_served)
    };
    let lost = |dataset: &str, why| Lost { why, was_served: was_served(dataset) };
    found.lost.extend(once_live.map(|dataset| (dataset.clone(), lost(dataset, NO_TABLE))));
    for (dataset, version, mark) in standings {
        let Some(version) = version else { continue };
        let Some(mark) = mark else {
            let why = lost(&dataset, NO_ENTRY);
            found.lost.insert(dataset, why);
            continue;
        };
        let same = |table: &&Arc<Table>| table.live.version == version && table.mark == mark;
        let table = if let Some(known) = known.get(&dataset).filter(same) {
            known.clone()
        } else {
            let Some(table) = read(conn, &dataset).await? else { continue };
            floors.raise(&dataset, table.swap);
            table
        };
        found.lost.remove(&dataset);
        found.live.insert(dataset, table);
    }
    Ok(found)
}

/// What is live by the tables, and which datasets were published once by the ledger.
struct Standings {
    standings: Vec<Standing>,
    published: Vec<String>,
}

const NAMES: &str =
    "SELECT dataset, NULL, CAST(COUNT(published_at) > 0 AS CHAR) FROM tableswap_versions GROUP BY dataset";

/// All datasets. With one statement, where those that are known are still there; one by one, where not.
async fn standings(conn: &mut Conn, known: &HashMap<String, Arc<Table>>) -> Result<Standings> {
    let mut all = NAMES.to_owned();
    for dataset in known.keys() {
        all.push_str(" UNION ALL (");
        all.push_str(&standing_of(dataset));
        all.push(')');
    }
    let found: mysql_async::Result<Vec<Standing>> = conn.query(all).await;
    let (found, ask_known) = match found {
        Err(error) if is_not_there(&error) => {
            let names = conn.query(NAMES).await;
            (if names.as_ref().is_err_and(is_not_there) { Vec::new() } else { names? }, true)
        }
        found => (found?, false),
    };
    let (mut standings, names): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| found.1.is_some());
    let mut to_ask: Vec<_> = names.iter().map(|(dataset, ..)| dataset.clone()).collect();
    if ask_known {
        to_ask.extend(known.keys().cloned());
    }
    to_ask.sort_unstable();
    to_ask.dedup();
    for dataset in to_ask {
        let is_new = standings.iter().all(|(other, ..)| *other != dataset);
        if is_new && dataset::is_dataset_name(&dataset) {
            standings.extend(standing(conn, &dataset).await?);
        }
    }
    let is_published =
        |(dataset, _, published): Standing| (published.as_deref() == Some("1")).then_some(dataset);
    Ok(Standings { standings, published: names.into_iter().filter_map(is_published).collect() })
}

async fn standing(conn: &mut Conn, dataset: &str) -> Result<Option<Standing>> {
    match conn.query_first(standing_of(dataset)).await {
        Err(error) if is_not_there(&error) => Ok(None),
        standing => Ok(standing?),
    }
}

/// The name of a dataset needs no escape.
fn standing_of(dataset: &str) -> String {
    format!(
        "SELECT '{dataset}', t.dataset_version, \
         (SELECT CONCAT(v.swap_number, ' ', v.started_at, ' ', v.sha256) FROM tableswap_versions v \
         WHERE v.dataset = '{dataset}' AND v.version = t.dataset_version) FROM `{dataset}` t LIMIT 1"
    )
}

/// What the ledger says of a version, as `standing_of` selects it.
fn mark(entry: &Entry) -> String {
    format!("{} {} {}", entry.swap, entry.started_at.timestamp(), entry.sha256)
}

/// Reads what has to be known of the live version.
async fn read(conn: &mut Conn, dataset: &str) -> Result<Option<Arc<Table>>> {
    for _ in 0..TRIES {
        let Some((_, Some(version), _)) = standing(conn, dataset).await? else { return Ok(None) };
        let Some(entry) = ledger::read_one(conn, dataset, version).await? else { return Ok(None) };
        let proof = format!("SELECT dataset_version, `{}` FROM `{dataset}` LIMIT 1", entry.schema.key().name);
        let proof: Option<(u32, Value)> = match conn.exec_first(proof, ()).await {
            Err(error) if is_not_there(&error) => None,
            proof => proof?,
        };
        // In between another one may have become live.
        if let Some((_, proof)) = proof.filter(|(proved, _)| *proved == version) {
            let (live, swap, mark) = (Live::new(dataset, &entry), entry.swap, mark(&entry));
            return Ok(Some(Arc::new(Table { content: live.content, live, swap, mark, proof })));
        }
    }
    Ok(None)
}

/// Why a server that follows another must not be read from, although it answers. What it has may be old: that is seen
/// by its versions. But one that takes no writes and follows nobody will never have anything new, and one that was
/// started to be rescued may have anything.
pub(super) async fn unfit(conn: &mut Conn) -> Result<Option<String>> {
    let asked = "SELECT CAST(@@global.read_only AS CHAR), CAST(@@global.innodb_read_only AS CHAR), \
        CAST(@@global.innodb_force_recovery AS CHAR), (SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS \
        WHERE VARIABLE_NAME = 'SLAVES_RUNNING')";
    let found: Option<(String, String, String, Option<String>)> = conn.query_first(asked).await?;
    let Some((read_only, innodb_read_only, rescue, following)) = found else { return Ok(None) };
    let off = |value: &str| matches!(value, "0" | "OFF");
    Ok(if !off(&innodb_read_only) || !off(&rescue) {
        Some("it was started to be rescued (innodb_read_only, innodb_force_recovery)".into())
    } else if !off(&read_only) && following.as_deref() == Some("0") {
        Some("it is read-only and its replication does not run".into())
    } else {
        None
    })
}
