//! CSV files that are the same for the same seed, and what the api must answer for each of their rows.
//!
//! The answers are computed here by other means than in crate `dataset`, so that they can judge it. Row `n` is the
//! n-th line, counted from 0. Keys are unique within a file and not in order.

mod clock;
mod products;
mod promotions;
mod random;

pub use products::{PRODUCTS_TOML, product_json, product_sku, products_csv};
pub use promotions::{PROMOTIONS_TOML, promotion_id, promotion_json, promotions_csv};

/// Another edition of the rows of `seed`: the same keys in the same order, with other values. A test that looks for
/// a mix of two versions needs keys that are in both.
pub fn edition(seed: u64, edition: u32) -> u64 {
    (u64::from(edition) << 32) | keys_of(seed)
}

/// The part of a seed that decides the keys: its lower half.
fn keys_of(seed: u64) -> u64 {
    seed & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_rows_and_another_seed_others() {
        assert_eq!(promotions_csv(100, 7), promotions_csv(100, 7));
        assert_eq!(products_csv(100, 7), products_csv(100, 7));
        assert_ne!(promotions_csv(100, 7), promotions_csv(100, 8));
        assert_ne!(products_csv(100, 7), products_csv(100, 8));
    }

    #[test]
    fn more_rows_begin_with_the_same_rows() {
        assert!(promotions_csv(100, 7).starts_with(&promotions_csv(50, 7)));
        assert!(products_csv(100, 7).starts_with(&products_csv(50, 7)));
    }

    #[test]
    fn another_edition_has_the_same_keys_and_other_values() {
        for row in 0..100 {
            assert_eq!(promotion_id(7, row), promotion_id(edition(7, 1), row));
            assert_eq!(product_sku(7, row), product_sku(edition(7, 1), row));
            assert_ne!(promotion_json(7, row), promotion_json(edition(7, 1), row));
        }
        assert_ne!(products_csv(100, 7), products_csv(100, edition(7, 1)));
    }

    #[test]
    fn keys_are_unique_and_not_in_order() {
        for csv in [promotions_csv(20_000, 7), products_csv(20_000, 7)] {
            let keys: Vec<&str> = csv.lines().filter_map(|line| line.split(',').next()).collect();
            assert_eq!(keys.iter().collect::<HashSet<_>>().len(), 20_000);
            assert!(!keys[..10].is_sorted());
        }
    }

    #[test]
    fn the_definitions_are_toml_with_the_columns_of_the_rows() {
        for (toml, name, columns) in [(PROMOTIONS_TOML, "promotions", 3), (PRODUCTS_TOML, "products", 4)] {
            let table: toml::Table = toml.parse().unwrap();
            assert_eq!(table[name]["columns"].as_array().unwrap().len(), columns);
        }
    }
}
