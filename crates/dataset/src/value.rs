//! A typed field. Text borrows from where it was read, so that a row costs no allocation of its own.

/// One field of one row, checked and typed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// An empty field of an optional column.
    Null,
    /// The 16 bytes of a UUID, in the order in which it is written.
    Uuid([u8; 16]),
    /// Text without a NUL, not longer than its column allows.
    Text(&'a str),
    /// A whole number.
    Integer(i64),
    /// An exact number: the digits without the point, which stands as many digits from the right as the column's
    /// scale says.
    Decimal(i128),
    /// A finite binary floating point number.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since 1970-01-01 00:00:00 UTC.
    Timestamp(i64),
}
