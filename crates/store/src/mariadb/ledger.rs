//! The ledger as a table, `tableswap_versions`, one row for each version.

use chrono::DateTime;
use mysql_async::prelude::{FromValue, Queryable};
use mysql_async::{Conn, Params, Row, params};
use serde_json::Value as Json;

use super::connect::{code, server_code};
use super::store_table::{self, StoreRow};
use crate::ledger::Reserved;
use crate::{Actor, Entry, Error, Result, State};

const CREATE: &str = "CREATE TABLE IF NOT EXISTS tableswap_versions (
    dataset VARCHAR(48) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version INT UNSIGNED NOT NULL,
    state VARCHAR(16) CHARACTER SET ascii NOT NULL,
    row_count BIGINT UNSIGNED NOT NULL,
    rejected BIGINT UNSIGNED NOT NULL,
    duplicates BIGINT UNSIGNED NOT NULL,
    bytes BIGINT UNSIGNED NOT NULL,
    sha256 CHAR(64) CHARACTER SET ascii NOT NULL,
    definition_hash CHAR(64) CHARACTER SET ascii NOT NULL,
    source VARCHAR(255) NOT NULL,
    load_id VARCHAR(64) NOT NULL,
    host VARCHAR(255) NOT NULL,
    actor_json TEXT NULL,
    activated_by_json TEXT NULL,
    forced BOOLEAN NOT NULL,
    started_at BIGINT NOT NULL COMMENT 'seconds since 1970, UTC',
    published_at BIGINT NULL COMMENT 'seconds since 1970, UTC',
    withdrawn_at BIGINT NULL COMMENT 'seconds since 1970, UTC',
    reason TEXT NULL,
    swap_number BIGINT UNSIGNED NOT NULL,
    live_swap BIGINT UNSIGNED NOT NULL,
    content_id BIGINT UNSIGNED NOT NULL,
    columns_json MEDIUMTEXT NOT NULL,
    PRIMARY KEY (dataset, version)
) ENGINE = InnoDB, CHARACTER SET utf8mb4";

/// Adds the columns that the first layout did not have.
const UPGRADE: &str = "ALTER TABLE tableswap_versions
    ADD COLUMN IF NOT EXISTS definition_hash CHAR(64) CHARACTER SET ascii NOT NULL DEFAULT '' AFTER sha256,
    ADD COLUMN IF NOT EXISTS load_id VARCHAR(64) NOT NULL DEFAULT '' AFTER source,
    ADD COLUMN IF NOT EXISTS host VARCHAR(255) NOT NULL DEFAULT '' AFTER load_id,
    ADD COLUMN IF NOT EXISTS actor_json TEXT NULL AFTER host,
    ADD COLUMN IF NOT EXISTS activated_by_json TEXT NULL AFTER actor_json,
    ADD COLUMN IF NOT EXISTS withdrawn_at BIGINT NULL AFTER published_at,
    ADD COLUMN IF NOT EXISTS swap_number BIGINT UNSIGNED NOT NULL DEFAULT 0 AFTER reason,
    ADD COLUMN IF NOT EXISTS live_swap BIGINT UNSIGNED NOT NULL DEFAULT 0 AFTER swap_number,
    ADD COLUMN IF NOT EXISTS content_id BIGINT UNSIGNED NOT NULL DEFAULT 0 AFTER live_swap";

const COLUMNS: &str = "dataset, version, state, row_count, rejected, duplicates, bytes, sha256, definition_hash, \
    source, load_id, host, actor_json, activated_by_json, forced, started_at, published_at, withdrawn_at, \
    reason, swap_number, live_swap, content_id, columns_json";

const PLACES: &str = ":dataset, :version, :state, :row_count, :rejected, :duplicates, :bytes, :sha256, \
    :definition_hash, :source, :load_id, :host, :actor_json, :activated_by_json, :forced, :started_at, \
    :published_at, :withdrawn_at, :reason, :swap_number, :live_swap, :content_id, :columns_json";

/// How many of the newest numbers of a dataset keep their entries when their rows are gone: three weeks of half hours.
const GONE_MAX: u32 = 1000;

/// Entries that nothing needs any more but a person who looks at the history.
const IS_GONE: &str = "state IN ('dropped', 'failed', 'superseded') AND withdrawn_at IS NULL";

/// Makes the tables of the ledger, or brings them to this layout. A layout of another program is an error.
pub(super) async fn create(conn: &mut Conn, store_id: Option<&str>) -> Result<StoreRow> {
    let known = store_table::read(conn).await?;
    if !has_column(conn, "content_id").await? || !has_column(conn, "activated_by_json").await? {
        let knew_live_swap = has_column(conn, "live_swap").await?;
        conn.query_drop(CREATE).await?;
        conn.query_drop(UPGRADE).await?;
        if !knew_live_swap {
            let live_swap = "UPDATE tableswap_versions SET live_swap = swap_number WHERE live_swap = 0";
            conn.query_drop(live_swap).await?;
        }
        // As `Entry::content_id` computes it.
        let content_id = "UPDATE tableswap_versions SET content_id = \
            CONV(LEFT(SHA2(CONCAT(sha256, definition_hash), 256), 16), 16, 10) WHERE content_id = 0";
        conn.query_drop(content_id).await?;
    }
    if let Some(known) = known {
        return Ok(known);
    }
    store_table::create(conn, store_id).await?;
    store_table::read(conn).await?.ok_or_else(|| Error::corrupt("tableswap_store has no row"))
}

/// Removes the oldest entries of a dataset whose rows are gone.
pub(super) async fn remove_old(conn: &mut Conn, dataset: &str) -> Result<()> {
    let newest = newest(conn, dataset).await?;
    let delete = format!("DELETE FROM tableswap_versions WHERE dataset = ? AND version <= ? AND {IS_GONE}");
    Ok(conn.exec_drop(delete, (dataset, newest.saturating_sub(GONE_MAX))).await?)
}

async fn has_column(conn: &mut Conn, column: &str) -> Result<bool> {
    let select = "SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() \
                  AND TABLE_NAME = 'tableswap_versions' AND COLUMN_NAME = ?";
    Ok(conn.exec_first::<u64, _, _>(select, (column,)).await? > Some(0))
}

/// Enters a version whose number is not in use. Says whether it was not.
pub(super) async fn insert(conn: &mut Conn, dataset: &str, entry: &Entry) -> Result<bool> {
    let insert = format!("INSERT INTO tableswap_versions ({COLUMNS}) VALUES ({PLACES})");
    match conn.exec_drop(insert, parameters(dataset, entry)?).await {
        Err(error) if server_code(&error) == Some(code::DUPLICATE_KEY) => Ok(false),
        inserted => Ok(inserted.map(|()| true)?),
    }
}

/// The datasets that have entries.
pub(super) async fn datasets(conn: &mut Conn) -> Result<Vec<String>> {
    or_empty(conn.query("SELECT dataset FROM tableswap_versions GROUP BY dataset").await)
}

/// The highest number that has an entry, or 0.
pub(super) async fn newest(conn: &mut Conn, dataset: &str) -> Result<u32> {
    let select =
        "SELECT CAST(COALESCE(MAX(version), 0) AS UNSIGNED) FROM tableswap_versions WHERE dataset = ?";
    Ok(conn.exec_first(select, (dataset,)).await?.unwrap_or(0))
}

/// Enters how a version ended that was reserved and not staged.
pub(super) async fn end(
    conn: &mut Conn,
    (dataset, reserved): (&str, &Reserved),
    state: State,
    reason: &str,
) -> Result<()> {
    let update = "UPDATE tableswap_versions SET state = ?, reason = ? \
                  WHERE dataset = ? AND version = ? AND load_id = ? AND state = 'loading'";
    let Reserved { version, load } = reserved;
    Ok(conn.exec_drop(update, (state.as_str(), reason, dataset, version, load)).await?)
}

/// Forgets a version that was reserved and not staged.
pub(super) async fn forget(conn: &mut Conn, dataset: &str, reserved: &Reserved) -> Result<()> {
    let delete = "DELETE FROM tableswap_versions WHERE dataset = ? AND version = ? AND load_id = ? \
                  AND state = 'loading'";
    Ok(conn.exec_drop(delete, (dataset, reserved.version, &reserved.load)).await?)
}

/// The entries of a dataset, oldest first; none where there is no ledger yet.
pub(super) async fn read(conn: &mut Conn, dataset: &str) -> Result<Vec<Entry>> {
    let select = format!("SELECT {COLUMNS} FROM tableswap_versions WHERE dataset = ? ORDER BY version");
    let rows = conn.exec::<Row, _, _>(select, (dataset,)).await;
    or_empty(rows)?.iter().map(entry).collect()
}

/// The entry of one version.
pub(super) async fn read_one(conn: &mut Conn, dataset: &str, version: u32) -> Result<Option<Entry>> {
    // Not prepared: readers must get along where no more statements can be.
    let select = format!(
        "SELECT {COLUMNS} FROM tableswap_versions WHERE dataset = '{dataset}' AND version = {version}"
    );
    let row: Option<Row> = conn.query_first(select).await?;
    row.as_ref().map(entry).transpose()
}

fn or_empty<T>(rows: mysql_async::Result<Vec<T>>) -> Result<Vec<T>> {
    match rows {
        Err(error) if server_code(&error) == Some(code::NO_SUCH_TABLE) => Ok(Vec::new()),
        rows => Ok(rows?),
    }
}

/// Writes entries that are new or changed.
pub(super) async fn write(conn: &mut Conn, dataset: &str, entries: Vec<Entry>) -> Result<()> {
    let insert = format!("REPLACE INTO tableswap_versions ({COLUMNS}) VALUES ({PLACES})");
    for entry in entries {
        conn.exec_drop(&insert, parameters(dataset, &entry)?).await?;
    }
    Ok(())
}

fn parameters(dataset: &str, entry: &Entry) -> Result<Params> {
    Ok(params! {
        "dataset" => dataset,
        "version" => entry.version,
        "state" => entry.state.as_str(),
        "row_count" => entry.rows,
        "rejected" => entry.rejected,
        "duplicates" => entry.duplicates,
        "bytes" => entry.bytes,
        "sha256" => &entry.sha256,
        "definition_hash" => &entry.definition_hash,
        "source" => entry.source.chars().take(255).collect::<String>(),
        "load_id" => &entry.load,
        "host" => entry.host.chars().take(255).collect::<String>(),
        "actor_json" => actor_json(entry.actor.as_ref())?,
        "activated_by_json" => actor_json(entry.activated_by.as_ref())?,
        "forced" => entry.forced,
        "started_at" => entry.started_at.timestamp(),
        "published_at" => entry.published_at.map(|time| time.timestamp()),
        "withdrawn_at" => entry.withdrawn_at.map(|time| time.timestamp()),
        "reason" => entry.reason.as_ref().map(|reason| reason.chars().take(4000).collect::<String>()),
        "swap_number" => entry.swap,
        "live_swap" => entry.live_swap,
        "content_id" => entry.content_id(),
        "columns_json" => serde_json::to_string(&entry.schema).map_err(Error::internal)?,
    })
}

fn entry(row: &Row) -> Result<Entry> {
    let schema: String = get(row, "columns_json")?;
    let time = |seconds: i64| DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    let sha256: String = get(row, "sha256")?;
    let content: u64 = get(row, "content_id")?;
    Ok(Entry {
        version: get(row, "version")?,
        state: serde_json::from_value(Json::String(get(row, "state")?)).map_err(Error::corrupt)?,
        rows: get(row, "row_count")?,
        rejected: get(row, "rejected")?,
        duplicates: get(row, "duplicates")?,
        bytes: get(row, "bytes")?,
        content: (sha256.is_empty() && content != 0).then_some(content),
        sha256,
        definition_hash: get(row, "definition_hash")?,
        source: get(row, "source")?,
        load: get(row, "load_id")?,
        host: get(row, "host")?,
        actor: actor(row, "actor_json")?,
        activated_by: actor(row, "activated_by_json")?,
        forced: get(row, "forced")?,
        started_at: time(get(row, "started_at")?),
        published_at: get::<Option<i64>>(row, "published_at")?.map(time),
        withdrawn_at: get::<Option<i64>>(row, "withdrawn_at")?.map(time),
        reason: get(row, "reason")?,
        swap: get(row, "swap_number")?,
        live_swap: get(row, "live_swap")?,
        schema: serde_json::from_str(&schema).map_err(Error::corrupt)?,
    })
}

fn actor_json(actor: Option<&Actor>) -> Result<Option<String>> {
    actor.map(serde_json::to_string).transpose().map_err(Error::internal)
}

fn actor(row: &Row, column: &str) -> Result<Option<Actor>> {
    let json: Option<String> = get(row, column)?;
    json.map(|json| serde_json::from_str(&json)).transpose().map_err(Error::corrupt)
}

fn get<T: FromValue>(row: &Row, column: &str) -> Result<T> {
    let value = row.get_opt(column).and_then(std::result::Result::ok);
    value.ok_or_else(|| Error::corrupt(format!("tableswap_versions.{column}")))
}
