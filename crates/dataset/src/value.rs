//! A typed field.

/// One valid field of a row. Text borrows from the record it was read from, so a row needs no allocation of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// An empty field of an optional column.
    Null,
    /// A UUID, most significant byte first.
    Uuid([u8; 16]),
    /// Text without a NUL, not longer than its column allows.
    Text(&'a str),
    /// A whole number.
    Integer(i64),
    /// An exact number, multiplied by ten to the power of its column's scale.
    Decimal(i128),
    /// A finite number.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since 1970-01-01 00:00:00 UTC.
    Timestamp(i64),
}
