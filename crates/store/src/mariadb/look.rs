//! A look at what is live in a database, and at whether it can be trusted.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arc_swap::ArcSwap;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Value};

use super::connect::{code, server_code};
use super::ledger;
use super::node::Table;
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

/// The live tables; those that are known already are given back. And the datasets whose live table the ledger does not
/// know.
pub(super) async fn live(
    conn: &mut Conn,
    known: &HashMap<String, Arc<Table>>,
    floors: &Floors,
) -> Result<(HashMap<String, Arc<Table>>, BTreeSet<String>)> {
    let (mut live, mut unknown) = (HashMap::new(), BTreeSet::new());
    for (dataset, version, mark) in standings(conn, known).await? {
        let Some(version) = version else { continue };
        let Some(mark) = mark else {
            unknown.insert(dataset);
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
        live.insert(dataset, table);
    }
    Ok((live, unknown))
}

/// All datasets. With one statement, where those that are known are still there; one by one, where not.
async fn standings(conn: &mut Conn, known: &HashMap<String, Arc<Table>>) -> Result<Vec<Standing>> {
    let mut all = "SELECT DISTINCT dataset, NULL, NULL FROM tableswap_versions".to_owned();
    for dataset in known.keys() {
        all.push_str(" UNION ALL (");
        all.push_str(&standing_of(dataset));
        all.push(')');
    }
    let found: mysql_async::Result<Vec<Standing>> = conn.query(all).await;
    let found = match found {
        Err(error) if is_not_there(&error) => {
            let names = conn.query("SELECT DISTINCT dataset, NULL, NULL FROM tableswap_versions").await;
            if names.as_ref().is_err_and(is_not_there) { Vec::new() } else { names? }
        }
        found => found?,
    };
    let (mut standings, names): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| found.1.is_some());
    for (dataset, ..) in names {
        let is_new = standings.iter().all(|(other, ..)| *other != dataset);
        if is_new && dataset::is_dataset_name(&dataset) {
            standings.extend(standing(conn, &dataset).await?);
        }
    }
    Ok(standings)
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

/// There is no version yet; or somebody else made a table of that name, which has no version.
fn is_not_there(error: &mysql_async::Error) -> bool {
    matches!(server_code(error), Some(code::NO_SUCH_TABLE | code::UNKNOWN_COLUMN))
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
            let content = content(dataset, &entry);
            return Ok(Some(Arc::new(Table { live, swap, mark, content, proof })));
        }
    }
    Ok(None)
}

/// A number that no other version has: where a database was set back, another one can have this one's number.
fn content(dataset: &str, entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    (dataset, entry.version, &entry.sha256, entry.started_at, entry.rows).hash(&mut hasher);
    hasher.finish()
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
