//! A second dataset, with what the first one has not: a text key with leading zeros, an integer, a boolean, a date
//! that may be missing.

use std::fmt::Write;

use super::clock::date;
use super::keys_of;
use super::random::Random;

/// The definition of the products.
pub const PRODUCTS_TOML: &str = r#"[products]
key = "sku"
columns = [
  { name = "sku", type = "text", max = 12 },
  { name = "stock", type = "integer" },
  { name = "active", type = "boolean" },
  { name = "discontinued", type = "date", optional = true },
]
"#;

/// There are so many skus of six digits.
const SKUS: usize = 1_000_000;

struct Product {
    sku: String,
    stock: i64,
    active: bool,
    discontinued: Option<String>,
}

/// A products file of at most 1,000,000 rows; no header, LF.
pub fn products_csv(rows: usize, seed: u64) -> String {
    let mut csv = String::with_capacity(rows * 30);
    for row in 0..rows {
        let Product { sku, stock, active, discontinued } = product(seed, row);
        let discontinued = discontinued.unwrap_or_default();
        writeln!(csv, "{sku},{stock},{active},{discontinued}").expect("write to memory");
    }
    csv
}

/// The key of this row.
pub fn product_sku(seed: u64, row: usize) -> String {
    assert!(row < SKUS, "there are only {SKUS} skus");
    let first = Random::of_row(keys_of(seed), 0).below(1_000_000) as usize;
    // The factor has no divisor in common with the number of skus, so no sku comes twice.
    format!("{:06}", (first + row * 387_421) % SKUS)
}

/// What the api answers for this row.
pub fn product_json(seed: u64, row: usize) -> String {
    let Product { sku, stock, active, discontinued } = product(seed, row);
    let discontinued = discontinued.map_or("null".to_owned(), |date| format!("\"{date}\""));
    format!(r#"{{"sku":"{sku}","stock":{stock},"active":{active},"discontinued":{discontinued}}}"#)
}

fn product(seed: u64, row: usize) -> Product {
    let mut values = Random::of_row(!seed, row);
    // Some stocks are below zero: sold before they came in.
    let stock = i64::from(values.below(1000)) - 20;
    let active = values.below(4) != 0;
    let (year, month, day) = date(15_000 + values.below(5000));
    let discontinued = (!active).then(|| format!("{year}-{month:02}-{day:02}"));
    Product { sku: product_sku(seed, row), stock, active, discontinued }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_and_its_answer_say_the_same() {
        let csv = products_csv(64, 1);
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[0], "372364,875,false,2016-02-02");
        assert_eq!(
            product_json(1, 0),
            r#"{"sku":"372364","stock":875,"active":false,"discontinued":"2016-02-02"}"#
        );
        assert_eq!(lines[2], "147206,298,true,");
        assert_eq!(product_json(1, 2), r#"{"sku":"147206","stock":298,"active":true,"discontinued":null}"#);
    }

    #[test]
    fn leading_zeros_negative_stocks_and_missing_dates_occur() {
        let csv = products_csv(1000, 1);
        assert!(csv.lines().any(|line| line.starts_with('0')));
        assert!(csv.lines().any(|line| line.contains(",-")));
        assert!(csv.lines().any(|line| line.ends_with(",true,")));
        assert!(csv.lines().any(|line| line.contains(",false,20")));
    }
}
