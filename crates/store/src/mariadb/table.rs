//! Tables: their names, their columns, and which version they are.

use dataset::{Column, Kind, Schema};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::{Error, Result};

/// The table of a version that is not live.
pub(super) fn name(dataset: &str, version: u32) -> String {
    format!("{dataset}__v{version}")
}

/// The version of a table that is not live.
fn version_of(dataset: &str, table: &str) -> Option<u32> {
    table.strip_prefix(dataset)?.strip_prefix("__v")?.parse().ok()
}

/// The statement that makes the table of a version.
pub(super) fn create(dataset: &str, version: u32, schema: &Schema) -> String {
    let columns: String = schema.columns().iter().map(|column| format!("{}, ", definition(column))).collect();
    format!(
        "CREATE TABLE `{table}` ({columns}\
         `dataset_version` INT UNSIGNED AS ({version}) VIRTUAL INVISIBLE, PRIMARY KEY (`{key}`)) \
         ENGINE = InnoDB, ROW_FORMAT = DYNAMIC, CHARACTER SET utf8mb4, COLLATE utf8mb4_nopad_bin",
        table = name(dataset, version),
        key = schema.key().name,
    )
}

fn definition(column: &Column) -> String {
    let null = if column.optional { "NULL" } else { "NOT NULL" };
    format!("`{}` {} {null}", column.name, sql_type(&column.kind))
}

fn sql_type(kind: &Kind) -> String {
    match kind {
        Kind::Uuid => "BINARY(16)".into(),
        // Longer ones would not fit the size of a row together.
        Kind::Text { max } if *max <= 255 => format!("VARCHAR({max})"),
        Kind::Text { max } if *max <= 16_000 => "TEXT".into(),
        Kind::Text { max } if *max <= 4_000_000 => "MEDIUMTEXT".into(),
        Kind::Text { .. } => "LONGTEXT".into(),
        Kind::Integer => "BIGINT".into(),
        Kind::Decimal { precision, scale } => format!("DECIMAL({precision},{scale})"),
        Kind::Float => "DOUBLE".into(),
        Kind::Boolean => "BOOLEAN".into(),
        Kind::Date => "DATE".into(),
        Kind::Timestamp(format) if format.has_fraction() => "DATETIME(6)".into(),
        Kind::Timestamp(_) => "DATETIME".into(),
    }
}

/// The names of all columns, for a list in a statement.
pub(super) fn columns(schema: &Schema) -> String {
    let names: Vec<_> = schema.columns().iter().map(|column| format!("`{}`", column.name)).collect();
    names.join(", ")
}

/// Which version is live: what the table of the dataset's name says of itself.
pub(super) async fn live_version(conn: &mut Conn, dataset: &str) -> Result<Option<u32>> {
    let found: Option<(String, Option<String>)> = conn
        .exec_first(
            "SELECT t.TABLE_NAME, c.GENERATION_EXPRESSION FROM information_schema.TABLES t \
             LEFT JOIN information_schema.COLUMNS c ON c.TABLE_SCHEMA = t.TABLE_SCHEMA \
             AND c.TABLE_NAME = t.TABLE_NAME AND c.COLUMN_NAME = 'dataset_version' \
             WHERE t.TABLE_SCHEMA = DATABASE() AND t.TABLE_NAME = ?",
            (dataset,),
        )
        .await?;
    let Some((_, expression)) = found else { return Ok(None) };
    let version = expression.and_then(|expression| expression.trim_matches(['(', ')']).parse().ok());
    version.map(Some).ok_or_else(|| {
        Error::Setup(format!(
            "the database has a table `{dataset}` that this service did not make: give it another database"
        ))
    })
}

/// The versions of a dataset that have a table and are not live. A table that only has such a name is not ours.
pub(super) async fn others(conn: &mut Conn, dataset: &str) -> Result<Vec<u32>> {
    let tables: Vec<String> = conn
        .exec(
            "SELECT TABLE_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() \
             AND COLUMN_NAME = 'dataset_version' AND GENERATION_EXPRESSION IS NOT NULL \
             AND LEFT(TABLE_NAME, CHAR_LENGTH(?)) = ?",
            (format!("{dataset}__v"), format!("{dataset}__v")),
        )
        .await?;
    Ok(tables.iter().filter_map(|table| version_of(dataset, table)).collect())
}

/// The connections that still load a version that is not live. Those of others are not seen without a right for it.
pub(super) async fn loading(conn: &mut Conn, dataset: &str, version: u32) -> Result<Vec<u32>> {
    let table = format!("`{}`", name(dataset, version));
    let loading = "SELECT ID FROM information_schema.PROCESSLIST \
                   WHERE DB = DATABASE() AND INFO LIKE 'LOAD DATA %' AND LOCATE(?, INFO) > 0";
    Ok(conn.exec(loading, (table,)).await?)
}

/// Drops a version that is not live.
pub(super) async fn drop(conn: &mut Conn, dataset: &str, version: u32) -> Result<()> {
    Ok(conn.query_drop(format!("DROP TABLE IF EXISTS `{}`", name(dataset, version))).await?)
}

/// The swap: `version` becomes live, and what was live gets its own name.
pub(super) fn swap(dataset: &str, version: u32, live: Option<u32>) -> String {
    let new = name(dataset, version);
    match live {
        Some(live) => {
            let old = name(dataset, live);
            format!("RENAME TABLE `{dataset}` WAIT 1 TO `{old}`, `{new}` TO `{dataset}`")
        }
        None => format!("RENAME TABLE `{new}` WAIT 1 TO `{dataset}`"),
    }
}
