//! The compact encoding of a row: 25 bytes for a promotion, whose line in a file has 78.
//!
//! A row is a key and a payload. The payload starts with one bit for each optional column, set if the column is null;
//! then each column that is not the key and not null follows in its shortest form. Decoding needs the schema.

use crate::column::{Column, ColumnType};
use crate::key_encoding::{CorruptRow, array};
use crate::schema::Schema;
use crate::value::Value;

impl Schema {
    /// Appends the encoded columns of a row that are not its key.
    pub fn encode_payload(&self, row: &[Value<'_>], out: &mut Vec<u8>) {
        let nulls_start = out.len();
        let optional_columns = payload_columns(self).filter(|(_, column)| column.optional);
        for (bit, (index, _)) in optional_columns.enumerate() {
            if bit % 8 == 0 {
                out.push(0);
            }
            if row[index] == Value::Null {
                out[nulls_start + bit / 8] |= 1 << (bit % 8);
            }
        }
        for (index, column) in payload_columns(self) {
            encode_value(&column.column_type, row[index], out);
        }
    }

    /// Decodes a row into a buffer, which the caller reuses.
    pub fn decode_row<'a>(
        &self,
        key: &'a [u8],
        payload: &'a [u8],
        row: &mut Vec<Value<'a>>,
    ) -> Result<(), CorruptRow> {
        row.clear();
        visit_row(self, key, payload, |_, value| row.push(value))
    }
}

/// Calls `visit` with each column and its value, in the order of the columns.
pub(crate) fn visit_row<'a>(
    schema: &Schema,
    key: &'a [u8],
    payload: &'a [u8],
    mut visit: impl FnMut(&Column, Value<'a>),
) -> Result<(), CorruptRow> {
    let optional_count = payload_columns(schema).filter(|(_, column)| column.optional).count();
    let mut decoder = Decoder(payload);
    let nulls = decoder.take(optional_count.div_ceil(8))?;
    let mut bit = 0;
    for (index, column) in schema.columns().iter().enumerate() {
        if index == schema.key_index() {
            visit(column, schema.decode_key(key)?);
            continue;
        }
        let is_null = column.optional && nulls[bit / 8] & (1 << (bit % 8)) != 0;
        bit += usize::from(column.optional);
        visit(column, if is_null { Value::Null } else { decoder.value(&column.column_type)? });
    }
    if decoder.0.is_empty() { Ok(()) } else { Err(CorruptRow) }
}

/// The columns that are not the key, with their indexes.
fn payload_columns(schema: &Schema) -> impl Iterator<Item = (usize, &Column)> {
    schema.columns().iter().enumerate().filter(|(index, _)| *index != schema.key_index())
}

fn encode_value(column_type: &ColumnType, value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Null => {}
        Value::Uuid(bytes) => out.extend_from_slice(&bytes),
        Value::Text(text) => {
            write_varint(text.len() as u128, out);
            out.extend_from_slice(text.as_bytes());
        }
        Value::Integer(number) => write_varint(zigzag(number.into()), out),
        Value::Decimal(number) => write_varint(zigzag(number), out),
        Value::Float(number) => out.extend_from_slice(&number.to_le_bytes()),
        Value::Boolean(flag) => out.push(u8::from(flag)),
        Value::Date(days) => write_varint(zigzag(days.into()), out),
        Value::Timestamp(micros) => {
            write_varint(zigzag((micros / resolution_micros(column_type)).into()), out);
        }
    }
}

/// Timestamps without a fraction are encoded in seconds, which takes three bytes less.
fn resolution_micros(column_type: &ColumnType) -> i64 {
    match column_type {
        ColumnType::Timestamp(format) if format.has_fraction() => 1,
        _ => 1_000_000,
    }
}

/// The part of a payload that is not decoded yet.
struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], CorruptRow> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CorruptRow)?;
        self.0 = rest;
        Ok(taken)
    }

    fn value(&mut self, column_type: &ColumnType) -> Result<Value<'a>, CorruptRow> {
        Ok(match column_type {
            ColumnType::Uuid => Value::Uuid(array(self.take(16)?)?),
            ColumnType::Text { .. } => {
                let length = usize::try_from(self.varint()?).map_err(|_| CorruptRow)?;
                Value::Text(std::str::from_utf8(self.take(length)?).map_err(|_| CorruptRow)?)
            }
            ColumnType::Integer => Value::Integer(self.signed_varint()?),
            ColumnType::Decimal { .. } => Value::Decimal(self.signed_varint()?),
            ColumnType::Float => Value::Float(f64::from_le_bytes(array(self.take(8)?)?)),
            ColumnType::Boolean => Value::Boolean(self.take(1)?[0] != 0),
            ColumnType::Date => Value::Date(self.signed_varint()?),
            ColumnType::Timestamp(_) => {
                let number: i64 = self.signed_varint()?;
                let micros = number.checked_mul(resolution_micros(column_type));
                Value::Timestamp(micros.ok_or(CorruptRow)?)
            }
        })
    }

    fn signed_varint<T: TryFrom<i128>>(&mut self) -> Result<T, CorruptRow> {
        let zigzag = self.varint()?;
        let number = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
        T::try_from(number).map_err(|_| CorruptRow)
    }

    fn varint(&mut self) -> Result<u128, CorruptRow> {
        let mut number = 0;
        for shift in (0..128).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(CorruptRow)
    }
}

/// Moves the sign into the lowest bit, so that small negative numbers are short too.
fn zigzag(number: i128) -> u128 {
    ((number << 1) ^ (number >> 127)).cast_unsigned()
}

/// Appends a number in LEB128: seven bits a byte, the lowest first, with the highest bit set in every byte but the last.
fn write_varint(mut number: u128, out: &mut Vec<u8>) {
    loop {
        let low_bits = number.to_le_bytes()[0] & 0x7f;
        number >>= 7;
        if number == 0 {
            return out.push(low_bits);
        }
        out.push(low_bits | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::definition::Datasets;

    fn schema() -> Schema {
        let toml = r#"
            [d]
            key = "k"
            columns = [
              { name = "a", type = "text", max = 100, optional = true },
              { name = "k", type = "integer" },
              { name = "b", type = "decimal", precision = 38, scale = 6, optional = true },
              { name = "c", type = "float" },
              { name = "d", type = "boolean", optional = true },
              { name = "e", type = "date", optional = true },
              { name = "f", type = "timestamp", input = "%F %T.%f", optional = true },
              { name = "g", type = "uuid", optional = true },
            ]"#;
        Datasets::from_toml(toml).unwrap().single().unwrap().schema.as_ref().clone()
    }

    fn or_null(value: Option<Value<'_>>) -> Value<'_> {
        value.unwrap_or(Value::Null)
    }

    proptest! {
        #[test]
        fn an_encoded_row_is_decoded_as_the_same_row(
            a in proptest::option::of("\\PC{0,50}"),
            k in any::<i64>(),
            b in proptest::option::of(-10i128.pow(38)..10i128.pow(38)),
            c in -1e300..1e300,
            d in any::<Option<bool>>(),
            e in any::<Option<i32>>(),
            f in any::<Option<i64>>(),
            g in any::<Option<[u8; 16]>>(),
        ) {
            let row = [
                or_null(a.as_deref().map(Value::Text)),
                Value::Integer(k),
                or_null(b.map(Value::Decimal)),
                Value::Float(c),
                or_null(d.map(Value::Boolean)),
                or_null(e.map(Value::Date)),
                or_null(f.map(Value::Timestamp)),
                or_null(g.map(Value::Uuid)),
            ];
            let schema = schema();
            let (mut key, mut payload, mut decoded) = (Vec::new(), Vec::new(), Vec::new());
            schema.encode_key(&row, &mut key);
            schema.encode_payload(&row, &mut payload);
            schema.decode_row(&key, &payload, &mut decoded).unwrap();
            prop_assert_eq!(&decoded, &row);
            let cut = &payload[..payload.len() - 1];
            prop_assert_eq!(schema.decode_row(&key, cut, &mut decoded), Err(CorruptRow));
        }

        #[test]
        fn arbitrary_bytes_are_refused_without_a_panic(key: Vec<u8>, payload: Vec<u8>) {
            let _ = schema().decode_row(&key, &payload, &mut Vec::new());
        }
    }

    #[test]
    fn a_promotion_takes_25_bytes() {
        let schema = Datasets::built_in().unwrap().single().unwrap().schema.clone();
        let fields = ["d018ef0b-dbd9-48f1-ac1a-eb4d90e57118", "60.683466", "2018-08-04 05:32:31 +0200 CEST"];
        let row: Vec<_> =
            schema.columns().iter().zip(fields).map(|(c, text)| c.parse(text).unwrap()).collect();
        let mut out = Vec::new();
        schema.encode_key(&row, &mut out);
        schema.encode_payload(&row, &mut out);
        assert_eq!(out.len(), 25);
    }
}
