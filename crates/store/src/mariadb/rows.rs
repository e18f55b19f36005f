//! Values on their way into statements, into `LOAD DATA`, and back.

use chrono::{Datelike, NaiveDate, NaiveDateTime};
use dataset::{CivilTime, Column, ColumnType, Schema, Value};
use mysql_async::Value as Sql;
use smallvec::SmallVec;

use crate::{Error, Result};

/// A placeholder for a key; a decimal would be compared as a binary number otherwise.
pub(super) fn placeholder(kind: &ColumnType) -> String {
    match kind {
        ColumnType::Decimal { precision, scale } => format!("CAST(? AS DECIMAL({precision},{scale}))"),
        _ => "?".into(),
    }
}

/// A key as a parameter of a statement.
pub(super) fn parameter(column: &Column, value: Value<'_>) -> Sql {
    match value {
        Value::Null => Sql::NULL,
        Value::Uuid(bytes) => Sql::Bytes(bytes.into()),
        Value::Text(text) => Sql::Bytes(text.into()),
        Value::Integer(number) => Sql::Int(number),
        Value::Float(number) => Sql::Double(number),
        Value::Boolean(flag) => Sql::Int(flag.into()),
        Value::Decimal(_) | Value::Date(_) | Value::Timestamp(_) => {
            let mut text = Vec::new();
            write_plain(column, value, &mut text);
            Sql::Bytes(text)
        }
    }
}

/// Appends a row as a line of `LOAD DATA`: tabs between fields, a line feed behind them, `\N` for a null.
pub(super) fn write_line(schema: &Schema, row: &[Value<'_>], out: &mut Vec<u8>) {
    for (at, (column, value)) in schema.columns().iter().zip(row).enumerate() {
        if at > 0 {
            out.push(b'\t');
        }
        match value {
            Value::Null => out.extend_from_slice(b"\\N"),
            Value::Uuid(bytes) => write_escaped(bytes, out),
            Value::Text(text) => write_escaped(text.as_bytes(), out),
            _ => write_plain(column, *value, out),
        }
    }
    out.push(b'\n');
}

fn write_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    let is_special = |byte: &u8| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r' | 0);
    let mut plain = bytes;
    while let Some(at) = plain.iter().position(is_special) {
        out.extend_from_slice(&plain[..at]);
        out.extend_from_slice(match plain[at] {
            b'\\' => b"\\\\",
            b'\t' => b"\\t",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            _ => b"\\0",
        });
        plain = &plain[at + 1..];
    }
    out.extend_from_slice(plain);
}

/// Appends a value that needs no escape, in as few bytes as the server understands: it looks at each of them.
fn write_plain(column: &Column, value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Integer(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        Value::Float(number) => {
            use std::io::Write;
            // Writing to memory cannot fail.
            let _ = write!(out, "{number:e}");
        }
        Value::Boolean(flag) => out.push(if flag { b'1' } else { b'0' }),
        Value::Decimal(digits) => {
            let ColumnType::Decimal { scale, .. } = column.column_type else { return };
            dataset::write_decimal(digits, scale, out);
        }
        Value::Date(days) => {
            let date = date_from_days(days);
            write_digits(date.year().unsigned_abs(), 4, out);
            write_digits(date.month(), 2, out);
            write_digits(date.day(), 2, out);
        }
        Value::Timestamp(micros) => {
            let CivilTime { year, month, day, hour, minute, second, micros } = CivilTime::from_micros(micros);
            write_digits(year.into(), 4, out);
            for number in [month, day, hour, minute, second] {
                write_digits(number.into(), 2, out);
            }
            if micros > 0 {
                out.push(b'.');
                write_digits(micros, 6, out);
            }
        }
        Value::Null | Value::Uuid(_) | Value::Text(_) => {}
    }
}

/// Appends so many digits.
fn write_digits(number: u32, width: u32, out: &mut Vec<u8>) {
    for place in (0..width).rev() {
        out.push(b'0' + u8::try_from(number / 10u32.pow(place) % 10).unwrap_or(0));
    }
}

/// Reads a row as the binary protocol sends it, or the text protocol, which sends everything as text.
pub(super) fn read<'a>(
    schema: &Schema,
    row: impl IntoIterator<Item = &'a Sql>,
) -> Result<SmallVec<[Value<'a>; 8]>> {
    let values = schema.columns().iter().zip(row).map(|(column, value)| {
        let read = read_value(column, value);
        read.ok_or_else(|| Error::corrupt(format!("column `{}` holds {value:?}", column.name)))
    });
    values.collect()
}

/// A key that was read, as a parameter.
pub(super) fn key_parameter(column: &Column, value: &Sql) -> Result<Sql> {
    let key = read_value(column, value);
    let key = key.ok_or_else(|| Error::corrupt(format!("column `{}` holds {value:?}", column.name)))?;
    Ok(parameter(column, key))
}

fn read_value<'a>(column: &Column, value: &'a Sql) -> Option<Value<'a>> {
    let text = |bytes: &'a Vec<u8>| std::str::from_utf8(bytes).ok();
    Some(match (&column.column_type, value) {
        (_, Sql::NULL) => Value::Null,
        (ColumnType::Uuid, Sql::Bytes(bytes)) => Value::Uuid(bytes.as_slice().try_into().ok()?),
        (ColumnType::Text { .. }, Sql::Bytes(bytes)) => Value::Text(text(bytes)?),
        (ColumnType::Boolean, Sql::Bytes(bytes)) => Value::Boolean(text(bytes)? != "0"),
        (ColumnType::Decimal { .. } | ColumnType::Integer | ColumnType::Float, Sql::Bytes(bytes)) => {
            column.parse(text(bytes)?).ok()?
        }
        (ColumnType::Date, Sql::Bytes(bytes)) => {
            let date = text(bytes)?.parse::<NaiveDate>().ok()?;
            Value::Date(date.num_days_from_ce() - EPOCH_FROM_CE)
        }
        (ColumnType::Timestamp(_), Sql::Bytes(bytes)) => {
            let time = NaiveDateTime::parse_from_str(text(bytes)?, "%Y-%m-%d %H:%M:%S%.f").ok()?;
            Value::Timestamp(time.and_utc().timestamp_micros())
        }
        (ColumnType::Integer, Sql::Int(number)) => Value::Integer(*number),
        (ColumnType::Integer, Sql::UInt(number)) => Value::Integer(i64::try_from(*number).ok()?),
        (ColumnType::Float, Sql::Double(number)) => Value::Float(*number),
        (ColumnType::Boolean, Sql::Int(number)) => Value::Boolean(*number != 0),
        (ColumnType::Date, Sql::Date(year, month, day, ..)) => {
            let date = NaiveDate::from_ymd_opt((*year).into(), (*month).into(), (*day).into())?;
            Value::Date(date.num_days_from_ce() - EPOCH_FROM_CE)
        }
        (ColumnType::Timestamp(_), Sql::Date(year, month, day, hour, minute, second, micros)) => {
            let date = NaiveDate::from_ymd_opt((*year).into(), (*month).into(), (*day).into())?;
            let time = date.and_hms_micro_opt((*hour).into(), (*minute).into(), (*second).into(), *micros)?;
            Value::Timestamp(time.and_utc().timestamp_micros())
        }
        _ => return None,
    })
}

/// 1970-01-01 counted from the first day of the year 1.
const EPOCH_FROM_CE: i32 = 719_163;

fn date_from_days(days: i32) -> NaiveDate {
    NaiveDate::from_num_days_from_ce_opt(days.saturating_add(EPOCH_FROM_CE)).unwrap_or_default()
}
