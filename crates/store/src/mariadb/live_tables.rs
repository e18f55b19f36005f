//! What a database says is live: its store, its datasets, and the table of each.
//!
//! One statement tells all while nothing changes. Where it fails, each dataset is asked for by itself, so that the trouble
//! of one is not that of the others.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Value};

use super::connect::is_lost;
use super::ledger;
use super::node::{Seen, Table, now_millis};
use super::rows;
use super::store_table::{self, StoreRow};
use super::table::is_not_there;
use crate::error::chain;
use crate::{Entry, Error, Live, Result};

/// A version that becomes live while it is read is read again, this many times.
const TRIES: u32 = 3;

/// Why a dataset that was live once cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) why: String,
    /// Whether it was read before by this process.
    pub(super) was_served: bool,
}

const NO_TABLE: &str = "its live table is missing, empty or not ours";
const NO_ENTRY: &str = "its live table has no entry in tableswap_versions";

/// Which datasets there are.
#[derive(Debug, Default)]
pub(super) struct Overview {
    pub(super) store: Option<StoreRow>,
    pub(super) datasets: BTreeSet<String>,
    /// Those that were published once.
    published: BTreeSet<String>,
    /// Those whose live table was asked for already.
    standings: HashMap<String, Standing>,
}

/// What the live table of a dataset says of itself, and what the ledger says of that version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    version: u32,
    content: u64,
    mark: Option<String>,
}

/// What is known of a dataset after a poll.
pub(super) enum Status {
    Live(Arc<Table>),
    /// It has no live table, or one that cannot be read.
    Unreadable(String),
    /// The poll was not answered in time.
    Silent,
}

/// A row of the one statement: the store has an empty name and says its layout, heartbeat and ids; a dataset of the
/// ledger says whether it was published; a live table says its version, its content and what the ledger has of it.
type Row = (String, Option<u64>, Option<u64>, Option<String>);

/// The names are found by the primary key without reading every entry.
const NAMES: &str = "SELECT d.dataset, NULL, NULL, CAST(EXISTS(SELECT 1 FROM tableswap_versions p \
    WHERE p.dataset = d.dataset AND p.published_at IS NOT NULL) AS CHAR) \
    FROM (SELECT dataset FROM tableswap_versions GROUP BY dataset) d";

/// The name of a dataset needs no escape.
fn standing_of(dataset: &str) -> String {
    format!(
        "SELECT '{dataset}', t.dataset_version, t.dataset_content, \
         (SELECT CONCAT(v.swap_number, ' ', v.started_at, ' ', v.content_id) FROM tableswap_versions v \
         WHERE v.dataset = '{dataset}' AND v.version = t.dataset_version AND v.content_id = t.dataset_content) \
         FROM `{dataset}` t LIMIT 1"
    )
}

/// What the ledger says of a version, as `standing_of` selects it.
fn mark(entry: &Entry) -> String {
    format!("{} {} {}", entry.swap, entry.started_at.timestamp(), entry.content_id())
}

/// Asks for everything at once: the store, the names, and the live tables of the datasets that are known.
pub(super) async fn overview(conn: &mut Conn, known: &Seen) -> Result<Overview> {
    let mut all = format!("{} UNION ALL {NAMES}", store_table::SELECT);
    for dataset in known.live.keys() {
        all.push_str(" UNION ALL (");
        all.push_str(&standing_of(dataset));
        all.push(')');
    }
    match conn.query(all).await {
        Ok(rows) => read_overview(rows),
        Err(error) if is_lost(&error) => Err(error.into()),
        Err(_) => names(conn).await,
    }
}

/// Asks for the store and the names alone.
pub(super) async fn names(conn: &mut Conn) -> Result<Overview> {
    let store = store_table::read(conn).await?;
    let names: mysql_async::Result<Vec<Row>> = conn.query(NAMES).await;
    let names = match names {
        Err(error) if is_not_there(&error) => return Ok(Overview { store, ..Overview::default() }),
        names => names?,
    };
    if store.is_none() {
        return Err(Error::Setup(
            "the database has tables of an earlier layout: start an updater of this version first".into(),
        ));
    }
    Ok(Overview { store, ..read_overview(names)? })
}

fn read_overview(rows: Vec<Row>) -> Result<Overview> {
    let mut overview = Overview::default();
    for row in rows {
        match row {
            (name, Some(layout), Some(heartbeat), Some(ids)) if name.is_empty() => {
                overview.store = Some(StoreRow::parse(layout, heartbeat, &ids)?);
            }
            (dataset, Some(version), Some(content), mark) => {
                let version = u32::try_from(version).map_err(Error::corrupt)?;
                overview.standings.insert(dataset, Standing { version, content, mark });
            }
            (dataset, None, None, published) if dataset::is_dataset_name(&dataset) => {
                if published.as_deref() == Some("1") {
                    overview.published.insert(dataset.clone());
                }
                overview.datasets.insert(dataset);
            }
            _ => {}
        }
    }
    Ok(overview)
}

/// What is live of one dataset. Only a lost connection is an error: everything else is a status of this dataset.
pub(super) async fn status(
    conn: &mut Conn,
    dataset: &str,
    known: Option<&Arc<Table>>,
    standing: Option<Standing>,
) -> Result<Status> {
    match live_table(conn, dataset, known, standing).await {
        Ok(status) => Ok(status),
        Err(error @ Error::Unavailable(_)) if super::connect::is_broken(&error) => Err(error),
        Err(error) => Ok(Status::Unreadable(chain(&error))),
    }
}

async fn live_table(
    conn: &mut Conn,
    dataset: &str,
    known: Option<&Arc<Table>>,
    standing: Option<Standing>,
) -> Result<Status> {
    let found = match standing {
        Some(standing) => Some(standing),
        None => read_standing(conn, dataset).await?,
    };
    let Some(found) = found else { return Ok(Status::Unreadable(NO_TABLE.into())) };
    let Some(mark) = &found.mark else { return Ok(Status::Unreadable(NO_ENTRY.into())) };
    let is_same = |table: &&Arc<Table>| {
        (table.live.version, table.content) == (found.version, found.content) && table.mark == *mark
    };
    let known = known.filter(is_same);
    // The time of the publication is entered after the swap.
    if let Some(known) = known.filter(|known| known.live.published_at.is_some()) {
        return Ok(Status::Live(known.clone()));
    }
    Ok(match (read_table(conn, dataset).await?, known) {
        (Some(table), Some(known)) if table.live.published_at.is_none() => Status::Live(known.clone()),
        (Some(table), _) => Status::Live(Arc::new(table)),
        (None, _) => Status::Unreadable(NO_TABLE.into()),
    })
}

async fn read_standing(conn: &mut Conn, dataset: &str) -> Result<Option<Standing>> {
    let row: mysql_async::Result<Option<Row>> = conn.query_first(standing_of(dataset)).await;
    let row = match row {
        Err(error) if is_not_there(&error) => None,
        row => row?,
    };
    Ok(read_overview(row.into_iter().collect())?.standings.remove(dataset))
}

/// Reads what has to be known of the live version.
async fn read_table(conn: &mut Conn, dataset: &str) -> Result<Option<Table>> {
    for _ in 0..TRIES {
        let Some(standing) = read_standing(conn, dataset).await? else { return Ok(None) };
        let Some(entry) = ledger::read_one(conn, dataset, standing.version).await? else { return Ok(None) };
        let key = entry.schema.key();
        let proof =
            format!("SELECT dataset_version, dataset_content, `{}` FROM `{dataset}` LIMIT 1", key.name);
        let proof: Option<(u32, u64, Value)> = match conn.query_first(proof).await {
            Err(error) if is_not_there(&error) => None,
            proof => proof?,
        };
        // In between another one may have become live.
        let is_it = |(version, content, _): &(u32, u64, Value)| {
            (*version, *content) == (standing.version, entry.content_id())
        };
        if let Some((_, _, proof)) = proof.filter(is_it) {
            let proof = rows::key_parameter(key, &proof)?;
            return Ok(Some(Table::new(Live::new(dataset, &entry), entry.swap, mark(&entry), proof)));
        }
    }
    Ok(None)
}

impl Overview {
    /// Every dataset that can be live, known ones included: what was live once is never taken for one that does not exist.
    pub(super) fn all_datasets(&self, known: &Seen) -> BTreeSet<String> {
        let known = known.live.keys().chain(known.lost.keys());
        self.datasets.iter().chain(known).cloned().collect()
    }

    pub(super) fn take_standing(&mut self, dataset: &str) -> Option<Standing> {
        self.standings.remove(dataset)
    }

    /// Puts together what a poll found.
    pub(super) fn into_seen(self, known: &Seen, statuses: Vec<(String, Status)>) -> Seen {
        let mut seen = Seen { store: self.store, excluded: known.excluded.clone(), ..Seen::default() };
        for (dataset, status) in statuses {
            let before = known.live.get(&dataset);
            let was_lost = known.lost.get(&dataset);
            match status {
                Status::Live(table) => {
                    seen.live.insert(dataset, table);
                }
                Status::Silent => {
                    seen.live.extend(before.map(|table| (dataset.clone(), table.clone())));
                    seen.lost.extend(was_lost.map(|lost| (dataset.clone(), lost.clone())));
                    let since = known.silent.get(&dataset).copied().unwrap_or_else(now_millis);
                    seen.silent.insert(dataset, since);
                }
                Status::Unreadable(why) => {
                    let was_served = before.is_some() || was_lost.is_some_and(|lost| lost.was_served);
                    if was_served || was_lost.is_some() || self.published.contains(&dataset) {
                        seen.lost.insert(dataset, Lost { why, was_served });
                    }
                }
            }
        }
        seen
    }
}

/// The datasets that are unreadable because the database was set back.
pub(super) fn lose(seen: &mut Seen, dataset: &str, why: &str) {
    if let Some(table) = seen.live.remove(dataset) {
        let lost = Lost { why: why.to_owned(), was_served: true };
        seen.lost.insert(table.live.dataset.clone(), lost);
    }
}

/// Whether a server was started to be rescued: then it may have anything.
pub(super) async fn is_rescue(conn: &mut Conn) -> Result<bool> {
    let asked = "SELECT @@global.innodb_read_only <> 0 OR @@global.innodb_force_recovery <> 0";
    Ok(conn.query_first::<bool, _>(asked).await? == Some(true))
}
