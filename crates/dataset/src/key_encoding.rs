//! Encoded keys. Their order as bytes is the order of the keys, so sorting and searching need no schema.

use smallvec::SmallVec;

use crate::column::ColumnType;
use crate::schema::Schema;
use crate::value::Value;

/// The bytes do not fit the schema: they are damaged or were written for another schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored bytes of a row do not fit its schema")]
pub struct CorruptRow;

/// An encoded key. Up to 32 bytes, which is every key but a long text, need no allocation.
pub type KeyBytes = SmallVec<[u8; 32]>;

impl Schema {
    /// Appends the encoded key of a row.
    pub fn encode_key(&self, row: &[Value<'_>], out: &mut Vec<u8>) {
        with_key_bytes(row[self.key_index()], |key| out.extend_from_slice(key));
    }

    /// The encoded key of a row.
    pub fn key_bytes(&self, row: &[Value<'_>]) -> KeyBytes {
        with_key_bytes(row[self.key_index()], KeyBytes::from_slice)
    }

    /// Decodes a key.
    pub fn decode_key<'a>(&self, key: &'a [u8]) -> Result<Value<'a>, CorruptRow> {
        Ok(match self.key().column_type {
            ColumnType::Uuid => Value::Uuid(array(key)?),
            ColumnType::Text { .. } => Value::Text(std::str::from_utf8(key).map_err(|_| CorruptRow)?),
            ColumnType::Integer => Value::Integer(i64::from_be_bytes(array(key)?) ^ i64::MIN),
            ColumnType::Timestamp(_) => Value::Timestamp(i64::from_be_bytes(array(key)?) ^ i64::MIN),
            ColumnType::Decimal { .. } => Value::Decimal(i128::from_be_bytes(array(key)?) ^ i128::MIN),
            ColumnType::Date => Value::Date(i32::from_be_bytes(array(key)?) ^ i32::MIN),
            ColumnType::Boolean => Value::Boolean(array::<1>(key)?[0] != 0),
            ColumnType::Float => Value::Float(f64::from_be_bytes(array(key)?)),
        })
    }
}

/// Calls `use_bytes` with the encoded key.
pub(crate) fn with_key_bytes<T>(key: Value<'_>, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
    match key {
        Value::Uuid(bytes) => use_bytes(&bytes),
        Value::Text(text) => use_bytes(text.as_bytes()),
        // With its sign bit flipped, a number's big-endian bytes sort as the number does.
        Value::Integer(number) | Value::Timestamp(number) => use_bytes(&(number ^ i64::MIN).to_be_bytes()),
        Value::Decimal(number) => use_bytes(&(number ^ i128::MIN).to_be_bytes()),
        Value::Date(days) => use_bytes(&(days ^ i32::MIN).to_be_bytes()),
        Value::Boolean(flag) => use_bytes(&[u8::from(flag)]),
        // `Schema::new` refuses such a key, so these need no order.
        Value::Float(number) => use_bytes(&number.to_be_bytes()),
        Value::Null => use_bytes(&[]),
    }
}

pub(crate) fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], CorruptRow> {
    bytes.try_into().map_err(|_| CorruptRow)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn encoded_keys_sort_as_the_keys_do(a: i64, b: i64, c: i128, d: i128) {
            let encode = |key: Value<'_>| with_key_bytes(key, <[u8]>::to_vec);
            prop_assert_eq!(encode(Value::Integer(a)).cmp(&encode(Value::Integer(b))), a.cmp(&b));
            prop_assert_eq!(encode(Value::Decimal(c)).cmp(&encode(Value::Decimal(d))), c.cmp(&d));
        }
    }
}
