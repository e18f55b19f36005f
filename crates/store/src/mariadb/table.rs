//! Tables: their names, their columns, and which version they are.
//!
//! Two virtual columns, which cost no byte and move with the table's name, say in every row which version it is of:
//! `dataset_version` its number, `dataset_content` its content id. The number alone could come again, where a database
//! was restored or made anew.

use std::collections::BTreeSet;
use std::str::FromStr;

use dataset::{Column, ColumnType, Schema};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, params};

use super::connect::{code, server_code};
use crate::{Entry, Error, Result};

/// The table of a version that is not live.
pub(super) fn name(dataset: &str, version: u32) -> String {
    format!("{dataset}__v{version}")
}

/// The version of a table that is not live.
fn version_of(dataset: &str, table: &str) -> Option<u32> {
    table.strip_prefix(dataset)?.strip_prefix("__v")?.parse().ok()
}

/// The statement that makes the table of a version.
pub(super) fn create(dataset: &str, version: u32, content: u64, schema: &Schema) -> String {
    let columns: String = schema.columns().iter().map(|column| format!("{}, ", definition(column))).collect();
    format!(
        "CREATE TABLE `{table}` ({columns}\
         `dataset_version` INT UNSIGNED AS ({version}) VIRTUAL INVISIBLE, {content}, PRIMARY KEY (`{key}`)) \
         ENGINE = InnoDB, ROW_FORMAT = DYNAMIC, CHARACTER SET utf8mb4, COLLATE utf8mb4_nopad_bin",
        table = name(dataset, version),
        content = content_column(content),
        key = schema.key().name,
    )
}

fn definition(column: &Column) -> String {
    let null = if column.optional { "NULL" } else { "NOT NULL" };
    format!("`{}` {} {null}", column.name, sql_type(&column.column_type))
}

fn sql_type(kind: &ColumnType) -> String {
    match kind {
        ColumnType::Uuid => "BINARY(16)".into(),
        // Longer ones would not fit the size of a row together.
        ColumnType::Text { max } if *max <= 255 => format!("VARCHAR({max})"),
        ColumnType::Text { max } if *max <= 16_000 => "TEXT".into(),
        ColumnType::Text { max } if *max <= 4_000_000 => "MEDIUMTEXT".into(),
        ColumnType::Text { .. } => "LONGTEXT".into(),
        ColumnType::Integer => "BIGINT".into(),
        ColumnType::Decimal { precision, scale } => format!("DECIMAL({precision},{scale})"),
        ColumnType::Float => "DOUBLE".into(),
        ColumnType::Boolean => "BOOLEAN".into(),
        ColumnType::Date => "DATE".into(),
        ColumnType::Timestamp(format) if format.has_fraction() => "DATETIME(6)".into(),
        ColumnType::Timestamp(_) => "DATETIME".into(),
    }
}

/// The names of all columns, for a list in a statement.
pub(super) fn columns(schema: &Schema) -> String {
    let names: Vec<_> = schema.columns().iter().map(|column| format!("`{}`", column.name)).collect();
    names.join(", ")
}

/// What a table says of itself by the constants of its two virtual columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TableIdentity {
    pub(super) version: u32,
    /// Nothing for a table of an earlier layout.
    pub(super) content: Option<u64>,
}

impl TableIdentity {
    /// Whether the table holds what the entry describes.
    pub(super) fn is_of(self, entry: &Entry) -> bool {
        self.version == entry.version && self.content.is_none_or(|content| content == entry.content_id())
    }
}

/// The tables and views that a condition selects, each with its identity if it has one.
async fn identities(
    conn: &mut Conn,
    condition: &str,
    name: &str,
) -> Result<Vec<(String, Option<TableIdentity>)>> {
    let select = format!(
        "SELECT t.TABLE_NAME, MAX(IF(c.COLUMN_NAME = 'dataset_version', c.GENERATION_EXPRESSION, NULL)), \
         MAX(IF(c.COLUMN_NAME = 'dataset_content', c.GENERATION_EXPRESSION, NULL)) \
         FROM information_schema.TABLES t LEFT JOIN information_schema.COLUMNS c \
         ON c.TABLE_SCHEMA = t.TABLE_SCHEMA AND c.TABLE_NAME = t.TABLE_NAME \
         AND c.COLUMN_NAME IN ('dataset_version', 'dataset_content') \
         WHERE t.TABLE_SCHEMA = DATABASE() AND {condition} GROUP BY t.TABLE_NAME"
    );
    let tables: Vec<(String, Option<String>, Option<String>)> =
        conn.exec(select, params! { "name" => name }).await?;
    let identity = |version: Option<String>, content: Option<String>| {
        let version = constant(&version?)?;
        Some(TableIdentity { version, content: content.and_then(|content| constant(&content)) })
    };
    Ok(tables.into_iter().map(|(table, version, content)| (table, identity(version, content))).collect())
}

/// The number that a generated column always has.
fn constant<T: FromStr>(expression: &str) -> Option<T> {
    expression.trim_matches(['(', ')']).parse().ok()
}

/// What the live table says of itself: which version is live.
pub(super) async fn live(conn: &mut Conn, dataset: &str) -> Result<Option<TableIdentity>> {
    let found = identities(conn, "t.TABLE_NAME = :name", dataset).await?;
    let Some((_, identity)) = found.into_iter().next() else { return Ok(None) };
    identity.map(Some).ok_or_else(|| {
        Error::InTheWay(format!(
            "the database has a table `{dataset}` that this service did not make: give it another database"
        ))
    })
}

/// The tables and views that have the name of a version of a dataset that is not live.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// The numbers that are taken, by whatever.
    pub(super) taken: BTreeSet<u32>,
    /// Tables that prove to be this version of this dataset.
    pub(super) ours: Vec<TableIdentity>,
}

pub(super) async fn named(conn: &mut Conn, dataset: &str) -> Result<Named> {
    let prefix = format!("{dataset}__v");
    let mut named = Named::default();
    for (table, identity) in
        identities(conn, "LEFT(t.TABLE_NAME, CHAR_LENGTH(:name)) = :name", &prefix).await?
    {
        let Some(version) = version_of(dataset, &table) else { continue };
        named.taken.insert(version);
        named.ours.extend(identity.filter(|identity| identity.version == version));
    }
    Ok(named)
}

/// The identity of a version's table while it is not live; nothing where the table is not ours.
async fn kept(conn: &mut Conn, dataset: &str, version: u32) -> Result<Option<TableIdentity>> {
    let found = identities(conn, "t.TABLE_NAME = :name", &name(dataset, version)).await?;
    let identity = found.into_iter().find_map(|(_, identity)| identity);
    Ok(identity.filter(|identity| identity.version == version))
}

/// A table of ours without a content id.
pub(super) struct EarlierTable {
    pub(super) name: String,
    pub(super) version: u32,
}

/// The tables of a dataset, live and kept, that have no content id yet.
pub(super) async fn of_earlier_layout(conn: &mut Conn, dataset: &str) -> Result<Vec<EarlierTable>> {
    let live = live(conn, dataset).await?.map(|live| (dataset.to_owned(), live));
    let kept = named(conn, dataset).await?.ours;
    let kept = kept.into_iter().map(|table| (name(dataset, table.version), table));
    let earlier = live.into_iter().chain(kept).filter(|(_, table)| table.content.is_none());
    Ok(earlier.map(|(name, table)| EarlierTable { name, version: table.version }).collect())
}

/// Adds the content id to a table of an earlier layout. The column is virtual, so no row is written.
pub(super) async fn add_content(conn: &mut Conn, table: &str, content: u64) -> Result<()> {
    let alter = format!("ALTER TABLE `{table}` WAIT 1 ADD COLUMN {}", content_column(content));
    Ok(conn.query_drop(alter).await?)
}

fn content_column(content: u64) -> String {
    format!("`dataset_content` BIGINT UNSIGNED AS ({content}) VIRTUAL INVISIBLE")
}

/// The connections that still load a version that is not live. Those of others are not seen without a right for it.
pub(super) async fn loading(conn: &mut Conn, dataset: &str, version: u32) -> Result<Vec<u32>> {
    let table = format!("`{}`", name(dataset, version));
    let loading = "SELECT ID FROM information_schema.PROCESSLIST \
                   WHERE DB = DATABASE() AND INFO LIKE 'LOAD DATA %' AND LOCATE(?, INFO) > 0";
    Ok(conn.exec(loading, (table,)).await?)
}

/// Drops a version that is not live, if the table that has its name proves to be that version.
pub(super) async fn drop(conn: &mut Conn, dataset: &str, version: u32) -> Result<()> {
    if kept(conn, dataset, version).await?.is_some() {
        conn.query_drop(format!("DROP TABLE IF EXISTS `{}`", name(dataset, version))).await?;
    }
    Ok(())
}

/// Whether a version that is not live can be read and holds what its entry describes.
pub(super) async fn is_readable(conn: &mut Conn, dataset: &str, entry: &Entry) -> Result<bool> {
    let identity = kept(conn, dataset, entry.version).await?;
    if !identity.is_some_and(|identity| identity.is_of(entry)) {
        return Ok(false);
    }
    let select = format!("SELECT dataset_version FROM `{}` LIMIT 1", name(dataset, entry.version));
    let found: mysql_async::Result<Option<u32>> = conn.query_first(select).await;
    match found {
        Err(error) if is_not_there(&error) => Ok(false),
        found => Ok(found? == Some(entry.version)),
    }
}

/// How many rows of this version the live table has; none where it is not there.
pub(super) async fn count_live(conn: &mut Conn, dataset: &str, version: u32, content: u64) -> Result<u64> {
    let select = format!(
        "SELECT COUNT(*) FROM `{dataset}` WHERE dataset_version = {version} AND dataset_content = {content}"
    );
    let count: mysql_async::Result<Option<u64>> = conn.query_first(select).await;
    match count {
        Err(error) if is_not_there(&error) => Ok(0),
        count => Ok(count?.unwrap_or(0)),
    }
}

/// There is no such table, or one without a version, which somebody else made.
pub(super) fn is_not_there(error: &mysql_async::Error) -> bool {
    matches!(server_code(error), Some(code::NO_SUCH_TABLE | code::UNKNOWN_COLUMN))
}

/// Whether the live table has just the columns of a schema.
pub(super) async fn has_columns(conn: &mut Conn, dataset: &str, schema: &Schema) -> Result<bool> {
    let found: Vec<(String, String, String, String)> = conn
        .exec(
            "SELECT COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_KEY FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND GENERATION_EXPRESSION IS NULL \
             ORDER BY ORDINAL_POSITION",
            (dataset,),
        )
        .await?;
    let expected = schema.columns().iter().map(|column| {
        let nullable = if column.optional { "YES" } else { "NO" };
        let key = if column.name == schema.key().name { "PRI" } else { "" };
        (column.name.clone(), shown_type(&column.column_type), nullable.to_owned(), key.to_owned())
    });
    Ok(expected.eq(found))
}

/// A column's type as the server shows it.
fn shown_type(kind: &ColumnType) -> String {
    match kind {
        ColumnType::Integer => "bigint(20)".into(),
        ColumnType::Boolean => "tinyint(1)".into(),
        kind => sql_type(kind).to_lowercase(),
    }
}

/// Whether a swap failed because a reader was in its way.
pub(super) fn is_blocked(error: &mysql_async::Error) -> bool {
    matches!(server_code(error), Some(code::LOCK_WAIT_TIMEOUT | code::DEADLOCK | code::STATEMENT_TIMEOUT))
}

/// How long a swap may hold new readers up behind a slow one: they wait while it waits.
const SWAP_SECONDS: &str = "0.1";

/// The swap: `version` becomes live, and what was live gets its own name. Only the limit on the statement's time is short
/// enough; `WAIT` counts whole seconds and bounds it where the limit does not hold.
pub(super) fn swap(dataset: &str, version: u32, live: Option<u32>) -> String {
    let new = name(dataset, version);
    let renames = match live {
        Some(live) => format!("`{dataset}` WAIT 1 TO `{}`, `{new}` TO `{dataset}`", name(dataset, live)),
        None => format!("`{new}` WAIT 1 TO `{dataset}`"),
    };
    format!("SET STATEMENT max_statement_time = {SWAP_SECONDS} FOR RENAME TABLE {renames}")
}
