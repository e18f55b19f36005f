//! The promotions that are looked up: a generated file, which is the same for the same number of rows.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::Context;

use crate::programs::Programs;

/// So many characters has every id.
pub(crate) const ID_BYTES: usize = 36;

/// The ids of a file, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    text: Vec<u8>,
}

impl Ids {
    pub(crate) fn count(&self) -> usize {
        self.text.len() / ID_BYTES
    }

    /// The id of a row, counted from 0; nothing behind the last.
    pub(crate) fn of(&self, row: usize) -> &[u8] {
        self.text.get(row * ID_BYTES..(row + 1) * ID_BYTES).unwrap_or_default()
    }

    /// The first field of each line.
    fn read(mut csv: impl BufRead) -> anyhow::Result<Ids> {
        let (mut ids, mut line) = (Ids::default(), Vec::new());
        while csv.read_until(b'\n', &mut line)? > 0 {
            let id = line.split(|&byte| byte == b',').next().filter(|id| id.len() == ID_BYTES);
            ids.text.extend_from_slice(id.context("a line that does not begin with an id")?);
            line.clear();
        }
        Ok(ids)
    }
}

/// The ids of `file`, which is generated unless it has this number of rows already.
pub(crate) fn prepare(file: &Path, rows: usize, programs: &Programs) -> anyhow::Result<Ids> {
    if file.is_file() {
        let ids = read(file).unwrap_or_default();
        if ids.count() == rows {
            return Ok(ids);
        }
    }
    eprintln!("generate {rows} promotions");
    programs.run("tableswap", &["generate", &rows.to_string(), "--output", &file.to_string_lossy()])?;
    File::open(file)?.sync_all()?;
    read(file)
}

fn read(file: &Path) -> anyhow::Result<Ids> {
    let csv = File::open(file).with_context(|| file.display().to_string())?;
    Ids::read(BufReader::with_capacity(1 << 20, csv))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_are_the_first_field_of_each_line() {
        let ids = Ids::read(&include_bytes!("../../promotions.csv")[..]).unwrap();
        assert_eq!(ids.count(), 200_000);
        assert_eq!(ids.of(0), b"84bd5481-ace4-4d45-806e-8365980105d9");
        assert_eq!(ids.of(1), b"528d33b9-216f-41ba-b23a-ac45a1c96478");
        assert_eq!(ids.of(200_000), b"");
    }

    #[test]
    fn a_file_that_is_something_else_is_refused() {
        assert!(Ids::read(&b"id,price\n"[..]).is_err());
    }
}
