//! The statement that looks keys up, and what its rows say.
//!
//! Every statement proves which version it read. Each row brings the number and the content id of its version; and one key
//! more is asked for that is there in the expected version, so that there is a row even if no other key is found. If there is none, or
//! any row is of another version, the table is not the expected one.

use bytes::Bytes;
use dataset::{KeyBytes, Schema};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value as Sql};

use super::connect::{code, server_code};
use super::node::Table;
use super::{rows, table};
use crate::{AnswerBytes, Error, OverBudget, Result};

/// What a statement found.
#[derive(Debug)]
pub(super) enum Selected {
    /// For each key its row as JSON, or nothing, all of the version that was expected.
    Rows(Vec<Option<Bytes>>),
    /// Another version is live.
    Moved,
    /// The rows have more bytes than they may.
    OverBudget(OverBudget),
}

/// The keys that are looked up, in order, each once, and where their rows are counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) keys: &'a [KeyBytes],
    pub(super) bytes: Option<&'a AnswerBytes>,
}

/// Looks keys up in the live table, if it is the expected one.
pub(super) async fn select(
    conn: &mut Conn,
    table: &Table,
    wanted: Wanted<'_>,
) -> mysql_async::Result<Selected> {
    let mut answer = Answer::new(table, wanted);
    let answered = match run(conn, statement(table, wanted.keys), &mut answer).await {
        // The server prepares no more statements for anybody.
        Err(error) if server_code(&error) == Some(code::TOO_MANY_PREPARED) => {
            run_as_text(conn, statement(table, wanted.keys), &mut answer).await
        }
        answered => answered,
    };
    match answered {
        // The columns that are known are not those of the table, or it is gone.
        Err(error) if matches!(server_code(&error), Some(code::UNKNOWN_COLUMN | code::NO_SUCH_TABLE)) => {
            return Ok(Selected::Moved);
        }
        answered => answered?,
    }
    if let Some(damage) = answer.damage {
        return Err(mysql_async::Error::Other(damage.into()));
    }
    if let Some(why) = answer.over_budget {
        return Ok(Selected::OverBudget(why));
    }
    Ok(if answer.proved && !answer.moved { Selected::Rows(answer.rows) } else { Selected::Moved })
}

async fn run(
    conn: &mut Conn,
    (statement, parameters): (String, Vec<Sql>),
    answer: &mut Answer<'_>,
) -> mysql_async::Result<()> {
    let mut result = conn.exec_iter(statement, parameters).await?;
    result.for_each(|row| answer.take(&row)).await?;
    result.drop_result().await
}

/// The same without a prepared statement: the values stand in the text.
async fn run_as_text(
    conn: &mut Conn,
    (statement, parameters): (String, Vec<Sql>),
    answer: &mut Answer<'_>,
) -> mysql_async::Result<()> {
    let mut parameters = parameters.iter();
    let mut text = String::with_capacity(statement.len() * 8);
    for char in statement.chars() {
        match char {
            '?' => text.extend(parameters.next().map(|value| value.as_sql(false))),
            char => text.push(char),
        }
    }
    let mut result = conn.query_iter(text).await?;
    result.for_each(|row| answer.take(&row)).await?;
    result.drop_result().await
}

fn statement(table: &Table, keys: &[KeyBytes]) -> (String, Vec<Sql>) {
    let (schema, dataset) = (&table.live.schema, &table.live.dataset);
    let key = schema.key();
    let value = |bytes: &KeyBytes| schema.decode_key(bytes).ok().map(|value| rows::parameter(key, value));
    let mut parameters: Vec<_> = keys.iter().filter_map(value).collect();
    // A statement is prepared for a few sizes only; the proof fills up the rest.
    parameters.resize(padded(parameters.len() + 1), table.proof.clone());
    let (columns, place) = (table::columns(schema), rows::placeholder(&key.column_type));
    let places = vec![place; parameters.len()].join(",");
    let key = &key.name;
    (
        format!(
            "SELECT dataset_version, dataset_content, {columns} FROM `{dataset}` WHERE `{key}` IN ({places})"
        ),
        parameters,
    )
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
    keys: &'a [KeyBytes],
    rows: Vec<Option<Bytes>>,
    /// The place of the key that is next, if the rows come in the order of their keys.
    next: usize,
    json: Vec<u8>,
    proved: bool,
    moved: bool,
    damage: Option<Error>,
    bytes: Option<&'a AnswerBytes>,
    over_budget: Option<OverBudget>,
}

impl<'a> Answer<'a> {
    fn new(table: &'a Table, wanted: Wanted<'a>) -> Self {
        let Wanted { keys, bytes } = wanted;
        let (rows, json) = (vec![None; keys.len()], Vec::with_capacity(256));
        Self {
            table,
            keys,
            rows,
            next: 0,
            json,
            proved: false,
            moved: false,
            damage: None,
            bytes,
            over_budget: None,
        }
    }

    fn take(&mut self, row: &Row) {
        let is_version = number(row, 0) == Some(self.table.live.version.into());
        if !is_version || number(row, 1) != Some(self.table.content) {
            self.moved = true;
        } else if !self.moved && self.over_budget.is_none() {
            self.proved = true;
            if let Err(damage) = self.keep(&self.table.live.schema, row) {
                self.damage = Some(damage);
            }
        }
    }

    fn keep(&mut self, schema: &Schema, row: &Row) -> Result<()> {
        let values = rows::read(schema, (2..row.len()).filter_map(|at| row.as_ref(at)))?;
        let Some(place) = self.place_of(&schema.key_bytes(&values)) else {
            // It was asked for as a proof.
            return Ok(());
        };
        self.json.clear();
        dataset::write_row_json(schema, &values, &mut self.json);
        if let Some(Err(why)) = self.bytes.map(|bytes| bytes.hold(self.json.len())) {
            // What still comes is read, so that the connection can be used again, and not kept.
            self.over_budget = Some(why);
            self.rows = Vec::new();
            return Ok(());
        }
        self.rows[place] = Some(Bytes::copy_from_slice(&self.json));
        self.next = place + 1;
        Ok(())
    }

    fn place_of(&self, key: &KeyBytes) -> Option<usize> {
        if self.keys.get(self.next) == Some(key) {
            return Some(self.next);
        }
        self.keys.binary_search(key).ok()
    }
}

/// A number of a row, in whichever form the server sends it.
fn number(row: &Row, at: usize) -> Option<u64> {
    match row.as_ref(at)? {
        Sql::Int(number) => u64::try_from(*number).ok(),
        Sql::UInt(number) => Some(*number),
        Sql::Bytes(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
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
