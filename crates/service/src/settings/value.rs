//! Why a setting cannot be read.
//!
//! envy says it in a text that repeats the value, which may be secret. So the settings of a section that envy cannot read
//! are read once more, each by itself, by a deserializer whose errors are told apart by type.

use std::fmt::Display;

use serde::de::value::MapDeserializer;
use serde::de::{self, DeserializeOwned, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};

/// What is wrong with a setting. Its value is not part of it, unless the type of the setting repeats it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Wrong {
    /// The section has only these fields.
    #[error("unknown")]
    Name(&'static [&'static str]),
    #[error("expected {0}")]
    Expected(String),
    /// In the words of the type of the setting.
    #[error("{0}")]
    Refused(String),
}

impl de::Error for Wrong {
    fn custom<T: Display>(why: T) -> Self {
        Self::Refused(why.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Expected(expected.to_string())
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Expected(expected.to_string())
    }

    fn unknown_field(_: &str, fields: &'static [&'static str]) -> Self {
        Self::Name(fields)
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::Expected(expected.join(" or "))
    }
}

/// What is wrong with this field of a section, if anything is, where all other fields have their defaults.
pub(super) fn wrong<T: DeserializeOwned>(field: &str, value: &str) -> Option<Wrong> {
    T::deserialize(MapDeserializer::new(std::iter::once((field, Value(value))))).err()
}

/// A value as it stands in the environment.
struct Value<'a>(&'a str);

impl<'a> IntoDeserializer<'a, Wrong> for Value<'a> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Parses the value as this type.
macro_rules! parse {
    ($($deserialize:ident as $type:ty, $visit:ident, $expected:literal;)+) => {
        $(fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            let value = self.0.parse::<$type>().map_err(|_| Wrong::Expected($expected.to_owned()))?;
            visitor.$visit(value)
        })+
    };
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Wrong;

    parse! {
        deserialize_bool as bool, visit_bool, "true or false";
        deserialize_u8 as u8, visit_u8, "a whole number up to 255";
        deserialize_u16 as u16, visit_u16, "a whole number up to 65535";
        deserialize_u32 as u32, visit_u32, "a whole number";
        deserialize_u64 as u64, visit_u64, "a whole number";
        deserialize_i64 as i64, visit_i64, "a whole number";
        deserialize_f64 as f64, visit_f64, "a number";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_enum(IntoDeserializer::<Wrong>::into_deserializer(self.0))
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 f32 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}
