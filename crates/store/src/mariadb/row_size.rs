//! What a table of MariaDB can hold. The server finds out when the table is made, which is after the whole file has
//! arrived; so a definition is checked when the updater starts.

use dataset::{Column, ColumnType, Schema};

/// Names that InnoDB gives to columns of its own.
const TAKEN: [&str; 3] = ["db_row_id", "db_trx_id", "db_roll_ptr"];

/// The bytes that the server allows for a row, without what texts keep elsewhere.
const ROW_BYTES_MAX: usize = 65_535;
/// The bytes of a row that must fit into a half of a page of 16 KiB.
const PAGE_BYTES_MAX: usize = 8_126;
/// The columns `dataset_version` and `dataset_content`.
const IDENTITY_BYTES: usize = 4 + 8;
/// What InnoDB adds to each row: its header, `db_trx_id` and `db_roll_ptr`.
const INNODB_BYTES: usize = 5 + 6 + 7;
/// What of a long text stays in the page: where the rest is, and how long that is.
const LOCAL_TEXT_BYTES: usize = 20 + 1;

/// Says why no table can hold such rows.
pub(crate) fn check(schema: &Schema) -> Result<(), String> {
    let columns = schema.columns();
    let is_taken = |column: &&Column| TAKEN.iter().any(|name| name.eq_ignore_ascii_case(&column.name));
    if let Some(column) = columns.iter().find(is_taken) {
        return Err(format!("column `{}`: InnoDB has a column of that name of its own", column.name));
    }
    let optional = columns.iter().filter(|column| column.optional).count();
    let sum = |bytes: fn(&ColumnType) -> usize| {
        columns.iter().map(|column| bytes(&column.column_type)).sum::<usize>()
    };
    // One bit for each column that can be null, the two of the identity among them.
    let row_bytes = sum(row_bytes) + IDENTITY_BYTES + (optional + 2).div_ceil(8);
    if row_bytes > ROW_BYTES_MAX {
        return Err(format!(
            "a row takes {row_bytes} bytes, and MariaDB allows {ROW_BYTES_MAX}: texts above 255 characters take fewer"
        ));
    }
    let page_bytes = sum(page_bytes) + INNODB_BYTES + optional.div_ceil(8);
    if page_bytes >= PAGE_BYTES_MAX {
        return Err(format!(
            "a row takes {page_bytes} bytes of a page, and InnoDB allows {PAGE_BYTES_MAX}: texts above 63 characters take 21 each"
        ));
    }
    Ok(())
}

/// The bytes of a column as the server counts them.
fn row_bytes(kind: &ColumnType) -> usize {
    match kind {
        ColumnType::Text { max } if *max <= 255 => text_bytes(*max) + length_bytes(*max),
        ColumnType::Text { max } if *max <= 16_000 => 2 + 8,
        ColumnType::Text { max } if *max <= 4_000_000 => 3 + 8,
        ColumnType::Text { .. } => 4 + 8,
        other => fixed_bytes(other),
    }
}

/// The bytes of a column that stay in the page of its row.
fn page_bytes(kind: &ColumnType) -> usize {
    match kind {
        ColumnType::Text { max } if text_bytes(*max) > 255 => LOCAL_TEXT_BYTES,
        ColumnType::Text { max } => text_bytes(*max) + length_bytes(*max),
        other => fixed_bytes(other),
    }
}

/// A character of utf8mb4 takes four bytes at most.
fn text_bytes(max: u32) -> usize {
    usize::try_from(max).unwrap_or(usize::MAX / 4).saturating_mul(4)
}

fn length_bytes(max: u32) -> usize {
    if text_bytes(max) < 256 { 1 } else { 2 }
}

fn fixed_bytes(kind: &ColumnType) -> usize {
    /// Nine digits take four bytes, and fewer digits so many.
    const DIGITS: [usize; 9] = [0, 1, 1, 2, 2, 3, 3, 4, 4];
    let digits = |digits: u8| usize::from(digits / 9) * 4 + DIGITS[usize::from(digits % 9)];
    match kind {
        ColumnType::Uuid => 16,
        ColumnType::Integer | ColumnType::Float => 8,
        ColumnType::Decimal { precision, scale } => digits(precision.saturating_sub(*scale)) + digits(*scale),
        ColumnType::Boolean => 1,
        ColumnType::Date => 3,
        ColumnType::Timestamp(format) if format.has_fraction() => 8,
        ColumnType::Timestamp(_) => 5,
        ColumnType::Text { .. } => 0,
    }
}
