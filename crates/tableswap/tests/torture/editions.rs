//! The files that were sent, found again by their hash, and every answer that the api may give for their rows.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use sha2::{Digest, Sha256};
use testkit::rows::{edition, promotion_id, promotion_json, promotions_csv};

/// Rows that every edition has; a file may have more.
pub(crate) const SHARED_ROWS: usize = 300;

/// Keys that readers ask for: every fifth of the shared rows.
pub(crate) const KEYS: usize = SHARED_ROWS / KEY_STEP;
const KEY_STEP: usize = 5;
/// The api takes no more keys in one request.
#[cfg(feature = "torture")]
const ROWS_AT_ONCE: usize = 1000;

/// One file, with values that no other edition has for any key.
#[derive(Clone)]
pub(crate) struct Edition {
    pub(crate) number: u32,
    pub(crate) csv: String,
    pub(crate) sha256: String,
}

pub(crate) struct Editions {
    seed: u64,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    by_sha256: HashMap<String, u32>,
    by_body: HashMap<String, (u32, usize)>,
    /// The bodies of an edition's keys, in their order; edition 1 is the first.
    bodies: Vec<Vec<String>>,
    /// How many rows each edition has.
    #[cfg(feature = "torture")]
    rows: Vec<usize>,
}

impl Editions {
    pub(crate) fn new(seed: u64) -> Editions {
        Editions { seed: seed & 0xffff_ffff, known: RwLock::default() }
    }

    /// A new edition of this number of rows.
    pub(crate) fn next(&self, rows: usize) -> Edition {
        assert!(rows >= SHARED_ROWS, "an edition has the rows that readers ask for");
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let number = u32::try_from(known.bodies.len()).unwrap() + 1;
        let seed = edition(self.seed, number);
        let csv = promotions_csv(rows, seed);
        let sha256: String =
            Sha256::digest(csv.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let bodies: Vec<String> = (0..KEYS).map(|key| promotion_json(seed, key * KEY_STEP)).collect();
        for (key, body) in bodies.iter().enumerate() {
            known.by_body.insert(body.clone(), (number, key));
        }
        known.bodies.push(bodies);
        #[cfg(feature = "torture")]
        known.rows.push(rows);
        known.by_sha256.insert(sha256.clone(), number);
        Edition { number, csv, sha256 }
    }

    /// Every row of an edition, a thousand at once: the keys as JSON, and the exact answer to them.
    #[cfg(feature = "torture")]
    pub(crate) fn all_rows(&self, version: u32, number: u32) -> Vec<(String, String)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let (rows, seed) = (known.rows[number as usize - 1], edition(self.seed, number));
        let piece = |first: usize| {
            let rows = first..rows.min(first + ROWS_AT_ONCE);
            let keys: Vec<String> =
                rows.clone().map(|row| format!("{:?}", promotion_id(seed, row))).collect();
            let found: Vec<String> = rows.map(|row| promotion_json(seed, row)).collect();
            let found = found.join(",");
            (
                format!("[{}]", keys.join(",")),
                format!("{{\"version\":{version},\"found\":[{found}],\"missing\":[]}}"),
            )
        };
        (0..rows).step_by(ROWS_AT_ONCE).map(piece).collect()
    }

    /// A file that is never published.
    pub(crate) fn trial(&self) -> String {
        promotions_csv(SHARED_ROWS, edition(self.seed, u32::MAX))
    }

    /// The id behind a key's number.
    pub(crate) fn id(&self, key: usize) -> String {
        promotion_id(self.seed, key * KEY_STEP)
    }

    pub(crate) fn of_sha256(&self, sha256: &str) -> Option<u32> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).by_sha256.get(sha256).copied()
    }

    /// The edition and the key that a body belongs to.
    pub(crate) fn of_body(&self, body: &str) -> Option<(u32, usize)> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).by_body.get(body).copied()
    }

    /// The exact answer to a request for these keys at once.
    pub(crate) fn answer_to_many(&self, version: u32, edition: u32, keys: &[usize]) -> String {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let bodies = &known.bodies[edition as usize - 1];
        let found: Vec<&str> = keys.iter().map(|key| bodies[*key].as_str()).collect();
        format!("{{\"version\":{version},\"found\":[{}],\"missing\":[]}}", found.join(","))
    }
}
