//! Keys as text: in the path of a lookup, in messages and in listings.

use crate::column::ColumnType;
use crate::json;
use crate::key_encoding::{KeyBytes, with_key_bytes};
use crate::schema::Schema;
use crate::value::Value;

impl Schema {
    /// Parses the key of a lookup into its encoded form. A text that is not a valid key gives `None`, because no row
    /// can have it.
    pub fn parse_key(&self, text: &str) -> Option<KeyBytes> {
        let parsed = match &self.key().column_type {
            // A client may send a timestamp as it is in the file or as it is in the JSON.
            ColumnType::Timestamp(format) => {
                format.parse(text).or_else(|_| format.parse_output(text)).map(Value::Timestamp)
            }
            _ => self.key().parse(text),
        };
        let key = parsed.ok().filter(|_| !text.is_empty())?;
        Some(with_key_bytes(key, KeyBytes::from_slice))
    }

    /// Formats an encoded key as in the JSON, but without quotes and escapes. Corrupt bytes give an empty text.
    pub fn format_key(&self, key: &[u8]) -> String {
        let Ok(value) = self.decode_key(key) else { return String::new() };
        if let Value::Text(text) = value {
            return text.to_owned();
        }
        let mut out = Vec::new();
        json::write_value(&self.key().column_type, value, &mut out);
        String::from_utf8_lossy(&out).trim_matches('"').to_owned()
    }
}
