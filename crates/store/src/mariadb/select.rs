//! The statement that looks keys up, and what its rows say.
//!
//! Every statement proves which version it read. Each row brings the number of its version; and one key more is asked
//! for that is there in the expected version, so that there is a row even if no other key is found. If that row is
//! missing, or any row is of another version, the table is not the expected one.

use std::collections::HashMap;

use bytes::Bytes;
use dataset::{KeyBytes, Schema};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::connect::{code, server_code};
use super::node::Table;
use super::{rows, table};
use crate::{Error, Result};

/// What a statement found.
#[derive(Debug)]
pub(super) enum Selected {
    /// The rows as JSON, all of the version that was expected.
    Rows(HashMap<KeyBytes, Bytes>),
    /// Another version is live.
    Moved,
}

/// Looks keys up in the live table, if it is the expected one.
pub(super) async fn select(
    conn: &mut Conn,
    table: &Table,
    keys: &[KeyBytes],
) -> mysql_async::Result<Selected> {
    let (statement, parameters) = statement(table, keys);
    let mut result = match conn.exec_iter(statement, parameters).await {
        // The columns that are known are not those of the table.
        Err(error) if server_code(&error) == Some(code::UNKNOWN_COLUMN) => return Ok(Selected::Moved),
        result => result?,
    };
    let mut answer =
        Answer { table, rows: HashMap::with_capacity(keys.len() + 1), moved: false, damage: None };
    result.for_each(|row| answer.take(&row)).await?;
    result.drop_result().await?;
    if let Some(damage) = answer.damage {
        return Err(mysql_async::Error::Other(damage.into()));
    }
    // The row that was asked for as a proof.
    if answer.moved || answer.rows.is_empty() {
        return Ok(Selected::Moved);
    }
    Ok(Selected::Rows(answer.rows))
}

fn statement(table: &Table, keys: &[KeyBytes]) -> (String, Vec<mysql_async::Value>) {
    let (schema, dataset) = (&table.live.schema, &table.live.dataset);
    let key = schema.key();
    let value = |bytes: &KeyBytes| schema.read_key(bytes).ok().map(|value| rows::parameter(key, value));
    let mut parameters: Vec<_> = keys.iter().filter_map(value).collect();
    // A statement is prepared for a few sizes only; the proof fills up the rest.
    parameters.resize(padded(parameters.len() + 1), table.proof.clone());
    let (columns, place) = (table::columns(schema), rows::placeholder(&key.kind));
    let places = vec![place; parameters.len()].join(",");
    let key = &key.name;
    (format!("SELECT dataset_version, {columns} FROM `{dataset}` WHERE `{key}` IN ({places})"), parameters)
}

/// The next of 1, 2, 3, 4, 6, 8, 12, 16, 24...
fn padded(count: usize) -> usize {
    let double = count.next_power_of_two();
    let half_as_many_again = double / 4 * 3;
    if half_as_many_again >= count { half_as_many_again } else { double }
}

/// What the rows say so far.
struct Answer<'a> {
    table: &'a Table,
    rows: HashMap<KeyBytes, Bytes>,
    moved: bool,
    damage: Option<Error>,
}

impl Answer<'_> {
    fn take(&mut self, row: &Row) {
        let version =
            row.as_ref(0).and_then(|version| mysql_async::from_value_opt::<u32>(version.clone()).ok());
        if version != Some(self.table.live.version) {
            self.moved = true;
        } else if !self.moved
            && let Err(damage) = self.keep(&self.table.live.schema, row)
        {
            self.damage = Some(damage);
        }
    }

    fn keep(&mut self, schema: &Schema, row: &Row) -> Result<()> {
        let (mut values, mut json) = (Vec::with_capacity(schema.columns().len()), Vec::with_capacity(256));
        rows::read(schema, (1..row.len()).filter_map(|at| row.as_ref(at)), &mut values)?;
        dataset::write_row(schema, &values, &mut json);
        self.rows.insert(schema.key_of(&values), json.into());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_of_few_sizes_that_are_large_enough() {
        let sizes: Vec<_> = (1..=17).map(padded).collect();
        assert_eq!(sizes, [1, 2, 3, 4, 6, 6, 8, 8, 12, 12, 12, 12, 16, 16, 16, 16, 24]);
        assert!((1..3000).all(|count| (count..=count + count / 2 + 1).contains(&padded(count))));
    }
}
