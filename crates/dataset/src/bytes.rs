//! The compact bytes of a row, as it is sorted and kept: 25 for a promotion whose line in a file has 78.
//!
//! The key's bytes are in the order of the keys, so that a comparison of memory sorts them. The rest is one bit for
//! each optional column that is null, and then each other column in its shortest form. A schema is needed to read it.

use smallvec::SmallVec;

use crate::{Column, Kind, Schema, Value};

/// The bytes do not have the shape that their schema gives them: a damaged file, or one that another program wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored bytes of a row do not fit its schema")]
pub struct CorruptRow;

/// The bytes of a key, kept where they are while they are short.
pub type KeyBytes = SmallVec<[u8; 32]>;

/// Gives a key's bytes, which compare as its values do.
pub(crate) fn key_bytes<T>(value: Value<'_>, give: impl FnOnce(&[u8]) -> T) -> T {
    match value {
        Value::Uuid(bytes) => give(&bytes),
        Value::Text(text) => give(text.as_bytes()),
        // With its sign bit turned over, a number's big-endian bytes sort as the number does.
        Value::Integer(number) | Value::Timestamp(number) => give(&(number ^ i64::MIN).to_be_bytes()),
        Value::Decimal(number) => give(&(number ^ i128::MIN).to_be_bytes()),
        Value::Date(days) => give(&(days ^ i32::MIN).to_be_bytes()),
        Value::Boolean(flag) => give(&[u8::from(flag)]),
        // A schema has no such key, so these have no order to keep.
        Value::Float(number) => give(&number.to_be_bytes()),
        Value::Null => give(&[]),
    }
}

pub(crate) fn read_key<'a>(kind: &Kind, key: &'a [u8]) -> Result<Value<'a>, CorruptRow> {
    Ok(match kind {
        Kind::Uuid => Value::Uuid(array(key)?),
        Kind::Text { .. } => Value::Text(std::str::from_utf8(key).map_err(|_| CorruptRow)?),
        Kind::Integer => Value::Integer(i64::from_be_bytes(array(key)?) ^ i64::MIN),
        Kind::Timestamp(_) => Value::Timestamp(i64::from_be_bytes(array(key)?) ^ i64::MIN),
        Kind::Decimal { .. } => Value::Decimal(i128::from_be_bytes(array(key)?) ^ i128::MIN),
        Kind::Date => Value::Date(i32::from_be_bytes(array(key)?) ^ i32::MIN),
        Kind::Boolean => Value::Boolean(array::<1>(key)?[0] != 0),
        Kind::Float => Value::Float(f64::from_be_bytes(array(key)?)),
    })
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], CorruptRow> {
    bytes.try_into().map_err(|_| CorruptRow)
}

/// The columns that are not the key, with their places.
fn rest(schema: &Schema) -> impl Iterator<Item = (usize, &Column)> {
    schema.columns().iter().enumerate().filter(|(at, _)| *at != schema.key_index())
}

pub(crate) fn write_rest(schema: &Schema, row: &[Value<'_>], out: &mut Vec<u8>) {
    let nulls_at = out.len();
    let optional = rest(schema).filter(|(_, column)| column.optional).map(|(at, _)| row[at]);
    for (bit, value) in optional.enumerate() {
        if bit % 8 == 0 {
            out.push(0);
        }
        if value == Value::Null {
            out[nulls_at + bit / 8] |= 1 << (bit % 8);
        }
    }
    for (at, column) in rest(schema) {
        write_value(&column.kind, row[at], out);
    }
}

fn write_value(kind: &Kind, value: Value<'_>, out: &mut Vec<u8>) {
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
        Value::Timestamp(micros) => write_varint(zigzag((micros / tick(kind)).into()), out),
    }
}

/// Microseconds in the smallest step that a timestamp column keeps.
fn tick(kind: &Kind) -> i64 {
    match kind {
        Kind::Timestamp(format) if format.has_fraction() => 1,
        _ => 1_000_000,
    }
}

/// Hands each column with its value to `visit`, in the order of the columns.
pub(crate) fn visit_row<'a>(
    schema: &Schema,
    key: &'a [u8],
    bytes: &'a [u8],
    mut visit: impl FnMut(&Column, Value<'a>),
) -> Result<(), CorruptRow> {
    let optional = rest(schema).filter(|(_, column)| column.optional).count();
    let mut input = Input(bytes);
    let nulls = input.take(optional.div_ceil(8))?;
    let mut bit = 0;
    for (at, column) in schema.columns().iter().enumerate() {
        if at == schema.key_index() {
            visit(column, read_key(&column.kind, key)?);
            continue;
        }
        let null = column.optional && nulls[bit / 8] & (1 << (bit % 8)) != 0;
        bit += usize::from(column.optional);
        visit(column, if null { Value::Null } else { input.value(&column.kind)? });
    }
    if input.0.is_empty() { Ok(()) } else { Err(CorruptRow) }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], CorruptRow> {
        let (taken, left) = self.0.split_at_checked(count).ok_or(CorruptRow)?;
        self.0 = left;
        Ok(taken)
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

    fn signed<T: TryFrom<i128>>(&mut self) -> Result<T, CorruptRow> {
        let number = self.varint()?;
        T::try_from((number >> 1).cast_signed() ^ -(number & 1).cast_signed()).map_err(|_| CorruptRow)
    }

    fn value(&mut self, kind: &Kind) -> Result<Value<'a>, CorruptRow> {
        Ok(match kind {
            Kind::Uuid => Value::Uuid(array(self.take(16)?)?),
            Kind::Text { .. } => {
                let length = usize::try_from(self.varint()?).map_err(|_| CorruptRow)?;
                Value::Text(std::str::from_utf8(self.take(length)?).map_err(|_| CorruptRow)?)
            }
            Kind::Integer => Value::Integer(self.signed()?),
            Kind::Decimal { .. } => Value::Decimal(self.signed()?),
            Kind::Float => Value::Float(f64::from_le_bytes(array(self.take(8)?)?)),
            Kind::Boolean => Value::Boolean(self.take(1)?[0] != 0),
            Kind::Date => Value::Date(self.signed()?),
            Kind::Timestamp(_) => {
                let ticks: i64 = self.signed()?;
                Value::Timestamp(ticks.checked_mul(tick(kind)).ok_or(CorruptRow)?)
            }
        })
    }
}

/// Puts the sign into the lowest bit, so that small negative numbers are short too.
fn zigzag(number: i128) -> u128 {
    ((number << 1) ^ (number >> 127)).cast_unsigned()
}

/// Appends a number seven bits at a time, the lowest first; every byte but the last has its highest bit set.
fn write_varint(mut number: u128, out: &mut Vec<u8>) {
    loop {
        let seven = number.to_le_bytes()[0] & 0x7f;
        number >>= 7;
        if number == 0 {
            return out.push(seven);
        }
        out.push(seven | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Datasets;

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
        Datasets::from_toml(toml).unwrap().only().unwrap().schema.as_ref().clone()
    }

    fn optional(value: Option<Value<'_>>) -> Value<'_> {
        value.unwrap_or(Value::Null)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
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
                optional(a.as_deref().map(Value::Text)), Value::Integer(k), optional(b.map(Value::Decimal)), Value::Float(c),
                optional(d.map(Value::Boolean)), optional(e.map(Value::Date)), optional(f.map(Value::Timestamp)),
                optional(g.map(Value::Uuid)),
            ];
            let (schema, mut key, mut rest, mut read) = (schema(), Vec::new(), Vec::new(), Vec::new());
            schema.write_key(&row, &mut key);
            schema.write_rest(&row, &mut rest);
            schema.read_row(&key, &rest, &mut read).unwrap();
            prop_assert_eq!(&read, &row);
            let cut = &rest[..rest.len() - 1];
            prop_assert_eq!(schema.read_row(&key, cut, &mut read), Err(CorruptRow));
        }

        #[test]
        fn foreign_bytes_are_refused_without_a_panic(key: Vec<u8>, rest: Vec<u8>) {
            let _ = schema().read_row(&key, &rest, &mut Vec::new());
        }

        #[test]
        fn the_bytes_of_keys_sort_as_the_keys_do(a: i64, b: i64, x: i128, y: i128) {
            let key = |value: Value<'_>| key_bytes(value, <[u8]>::to_vec);
            prop_assert_eq!(key(Value::Integer(a)).cmp(&key(Value::Integer(b))), a.cmp(&b));
            prop_assert_eq!(key(Value::Decimal(x)).cmp(&key(Value::Decimal(y))), x.cmp(&y));
        }
    }

    #[test]
    fn a_promotion_takes_25_bytes() {
        let schema = Datasets::built_in().unwrap().only().unwrap().schema.clone();
        let fields = ["d018ef0b-dbd9-48f1-ac1a-eb4d90e57118", "60.683466", "2018-08-04 05:32:31 +0200 CEST"];
        let row: Vec<_> =
            schema.columns().iter().zip(fields).map(|(c, text)| c.parse(text).unwrap()).collect();
        let mut out = Vec::new();
        schema.write_key(&row, &mut out);
        schema.write_rest(&row, &mut out);
        assert_eq!(out.len(), 25);
    }
}
