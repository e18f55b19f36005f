//! The JSON of a row. Its shape is decided here and nowhere else.

use std::io::Write;

use uuid::Uuid;

use crate::column::{Column, ColumnType, JsonNumber};
use crate::date;
use crate::decimal;
use crate::key_encoding::CorruptRow;
use crate::row_encoding::visit_row;
use crate::schema::Schema;
use crate::value::Value;

/// Appends a row as a JSON object, with its members in the order of the columns.
pub fn write_row_json(schema: &Schema, row: &[Value<'_>], out: &mut Vec<u8>) {
    let start = out.len();
    for (column, value) in schema.columns().iter().zip(row) {
        write_member(column, *value, out);
    }
    close_object(start, out);
}

/// Appends an encoded row as JSON without decoding it into memory first. After an error the output is not JSON.
pub fn write_encoded_row_json(
    schema: &Schema,
    key: &[u8],
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CorruptRow> {
    let start = out.len();
    visit_row(schema, key, payload, |column, value| write_member(column, value, out))?;
    close_object(start, out);
    Ok(())
}

/// Appends a comma and the member. [`close_object`] turns the first comma into the opening brace, so this needs no
/// condition.
fn write_member(column: &Column, value: Value<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    // A column name consists of letters, digits and underscores, so it needs no escape.
    out.extend_from_slice(column.name.as_bytes());
    out.extend_from_slice(b"\":");
    if column.json == JsonNumber::String && value != Value::Null {
        write_quoted(out, |out| write_value(&column.column_type, value, out));
    } else {
        write_value(&column.column_type, value, out);
    }
}

fn close_object(start: usize, out: &mut Vec<u8>) {
    if let Some(first) = out.get_mut(start) {
        *first = b'{';
    }
    out.push(b'}');
}

/// Appends a value as JSON.
pub(crate) fn write_value(column_type: &ColumnType, value: Value<'_>, out: &mut Vec<u8>) {
    match (value, column_type) {
        (Value::Uuid(bytes), _) => write_quoted(out, |out| {
            let mut buffer = Uuid::encode_buffer();
            let text = Uuid::from_bytes(bytes).hyphenated().encode_lower(&mut buffer);
            out.extend_from_slice(text.as_bytes());
        }),
        // Writing to a vector cannot fail, and every text and every finite number has a JSON form.
        (Value::Text(text), _) => drop(serde_json::to_writer(out, text)),
        (Value::Float(number), _) => drop(serde_json::to_writer(out, &number)),
        (Value::Integer(number), _) => drop(write!(out, "{number}")),
        (Value::Decimal(number), ColumnType::Decimal { scale, .. }) => decimal::write(number, *scale, out),
        (Value::Boolean(flag), _) => out.extend_from_slice(if flag { b"true" } else { b"false" }),
        (Value::Date(days), _) => write_quoted(out, |out| date::write(days, out)),
        (Value::Timestamp(micros), ColumnType::Timestamp(format)) if format.is_json_safe() => {
            write_quoted(out, |out| format.write(micros, out));
        }
        (Value::Timestamp(micros), ColumnType::Timestamp(format)) => {
            let mut text = Vec::with_capacity(24);
            format.write(micros, &mut text);
            drop(serde_json::to_writer(out, &String::from_utf8_lossy(&text)));
        }
        (Value::Null | Value::Decimal(_) | Value::Timestamp(_), _) => out.extend_from_slice(b"null"),
    }
}

fn write_quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use crate::definition::Datasets;

    fn json(toml: &str, fields: &[&str]) -> String {
        let schema = Datasets::from_toml(toml).unwrap().single().unwrap().schema.clone();
        let row: Vec<_> =
            schema.columns().iter().zip(fields).map(|(column, text)| column.parse(text).unwrap()).collect();
        let mut out = Vec::new();
        super::write_row_json(&schema, &row, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_promotion_has_the_json_of_the_contract() {
        let toml = crate::definition::PROMOTIONS;
        let fields = ["D018EF0BDBD948F1AC1AEB4D90E57118", "66.343470", "2018-08-04 05:32:31 +0200 CEST"];
        insta::assert_snapshot!(json(toml, &fields), @r#"{"id":"d018ef0b-dbd9-48f1-ac1a-eb4d90e57118","price":66.34347,"expiration_date":"2018-08-04 03:32:31"}"#);
    }

    #[test]
    fn a_number_is_a_string_where_the_column_says_so() {
        let toml = r#"
            [d]
            key = "k"
            columns = [
              { name = "k", type = "integer", json = "string" },
              { name = "a", type = "decimal", precision = 38, scale = 2, json = "string" },
              { name = "b", type = "float", json = "string" },
              { name = "c", type = "integer", optional = true, json = "string" },
              { name = "d", type = "integer", json = "number" },
            ]"#;
        let fields = ["9007199254740993", "-0.50", "1e21", "", "7"];
        insta::assert_snapshot!(json(toml, &fields), @r#"{"k":"9007199254740993","a":"-0.5","b":"1e+21","c":null,"d":7}"#);
    }

    #[test]
    fn every_type_has_a_json_form() {
        let toml = r#"
            [d]
            key = "k"
            columns = [
              { name = "k", type = "text", max = 100 },
              { name = "a", type = "integer" },
              { name = "b", type = "float" },
              { name = "c", type = "boolean" },
              { name = "d", type = "date" },
              { name = "e", type = "timestamp", output = "\"%F\"" },
              { name = "f", type = "date", optional = true },
            ]"#;
        let fields = ["a\"\\\u{1}ü", "-5", "1e21", "yes", "2024-02-29", "2018-08-04 05:32:31", ""];
        insta::assert_snapshot!(json(toml, &fields), @r#"{"k":"a\"\\\u0001ü","a":-5,"b":1e+21,"c":true,"d":"2024-02-29","e":"\"2018-08-04\"","f":null}"#);
    }
}
