//! The JSON shape of a row: the one place where it is decided.

use std::io::Write;

use uuid::Uuid;

use crate::{Column, CorruptRow, JsonNumber, Kind, Schema, Value, bytes, decimal, timestamp};

/// Appends the row as one JSON object, its members in the order of the columns.
pub fn write_row(schema: &Schema, row: &[Value<'_>], out: &mut Vec<u8>) {
    let start = out.len();
    for (column, value) in schema.columns().iter().zip(row) {
        write_member(column, *value, out);
    }
    close(start, out);
}

/// The same from the bytes of a row's key and of its other columns, with nothing in between. Where they are damaged,
/// what was appended is no JSON.
pub fn write_stored_row(
    schema: &Schema,
    key: &[u8],
    rest: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CorruptRow> {
    let start = out.len();
    bytes::visit_row(schema, key, rest, |column, value| write_member(column, value, out))?;
    close(start, out);
    Ok(())
}

/// Each member brings the comma before it; the first one's becomes the brace.
fn write_member(column: &Column, value: Value<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    // A column's name needs no escape: it is letters, digits and underscores.
    out.extend_from_slice(column.name.as_bytes());
    out.extend_from_slice(b"\":");
    if column.json == JsonNumber::String && value != Value::Null {
        quoted(out, |out| write_value(&column.kind, value, out));
    } else {
        write_value(&column.kind, value, out);
    }
}

fn close(start: usize, out: &mut Vec<u8>) {
    if let Some(first) = out.get_mut(start) {
        *first = b'{';
    }
    out.push(b'}');
}

/// A key as people write it: what stands in the JSON, without quotes and escapes.
pub(crate) fn key_text(kind: &Kind, key: Value<'_>) -> String {
    if let Value::Text(text) = key {
        return text.to_owned();
    }
    let mut out = Vec::new();
    write_value(kind, key, &mut out);
    String::from_utf8_lossy(&out).trim_matches('"').to_owned()
}

fn write_value(kind: &Kind, value: Value<'_>, out: &mut Vec<u8>) {
    match (value, kind) {
        (Value::Uuid(bytes), _) => quoted(out, |out| {
            out.extend_from_slice(
                Uuid::from_bytes(bytes).hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes(),
            );
        }),
        // Writing to memory cannot fail, and neither text nor a finite number is without a form in JSON.
        (Value::Text(text), _) => drop(serde_json::to_writer(out, text)),
        (Value::Float(number), _) => drop(serde_json::to_writer(out, &number)),
        (Value::Integer(number), _) => drop(write!(out, "{number}")),
        (Value::Decimal(number), Kind::Decimal { scale, .. }) => decimal::write(number, *scale, out),
        (Value::Boolean(flag), _) => out.extend_from_slice(if flag { b"true" } else { b"false" }),
        (Value::Date(days), _) => quoted(out, |out| timestamp::write_date(days, out)),
        (Value::Timestamp(micros), Kind::Timestamp(format)) if format.is_plain() => {
            quoted(out, |out| format.write(micros, out));
        }
        (Value::Timestamp(micros), Kind::Timestamp(format)) => quoted(out, |out| {
            let mut text = Vec::with_capacity(24);
            format.write(micros, &mut text);
            out.extend_from_slice(escaped(&text).as_bytes());
        }),
        (Value::Null | Value::Decimal(_) | Value::Timestamp(_), _) => out.extend_from_slice(b"null"),
    }
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

/// The text without its quotes, escaped.
fn escaped(text: &[u8]) -> String {
    let json = serde_json::Value::from(String::from_utf8_lossy(text)).to_string();
    json[1..json.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use crate::Datasets;

    fn json(toml: &str, fields: &[&str]) -> String {
        let schema = Datasets::from_toml(toml).unwrap().only().unwrap().schema.clone();
        let row: Vec<_> =
            schema.columns().iter().zip(fields).map(|(c, text)| c.parse(text).unwrap()).collect();
        let mut out = Vec::new();
        super::write_row(&schema, &row, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_promotion_is_shown_as_the_contract_says() {
        let toml = crate::definition::PROMOTIONS;
        let fields = ["D018EF0BDBD948F1AC1AEB4D90E57118", "66.343470", "2018-08-04 05:32:31 +0200 CEST"];
        insta::assert_snapshot!(json(toml, &fields), @r#"{"id":"d018ef0b-dbd9-48f1-ac1a-eb4d90e57118","price":66.34347,"expiration_date":"2018-08-04 03:32:31"}"#);
    }

    #[test]
    fn a_number_may_be_shown_as_a_string() {
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
    fn every_type_has_its_form() {
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
