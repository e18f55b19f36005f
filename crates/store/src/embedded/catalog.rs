//! The catalog of a dataset: which version is live, and the ledger. It is only ever replaced as a whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Entry, Error, Result};

/// The file's name.
pub(super) const NAME: &str = "catalog.json";

/// How the file is laid out; a newer layout is refused and not guessed at.
const FORMAT: u32 = 3;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Catalog {
    format: u32,
    pub(super) live: Option<u32>,
    pub(super) versions: Vec<Entry>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self::new(None, Vec::new())
    }
}

impl Catalog {
    pub(super) fn new(live: Option<u32>, versions: Vec<Entry>) -> Self {
        Self { format: FORMAT, live, versions }
    }

    /// Reads the catalog of a dataset's directory, if it has one.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>> {
        read_bytes(dir)?.map(|bytes| Self::parse(dir, &bytes)).transpose()
    }

    /// Reads a catalog from the bytes of its file, which is in that directory.
    pub(super) fn parse(dir: &Path, bytes: &[u8]) -> Result<Self> {
        let damaged = |why: String| Error::corrupt(format!("{}: {why}", dir.join(NAME).display()));
        let catalog: Self = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if catalog.format != FORMAT {
            return Err(damaged(format!("format {} is not known", catalog.format)));
        }
        Ok(catalog)
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(Error::corrupt)
    }

    /// The entry of the live version.
    pub(super) fn live_entry(&self) -> Option<&Entry> {
        self.versions.iter().find(|entry| Some(entry.version) == self.live)
    }
}

/// The bytes of a directory's catalog, if it has one.
pub(super) fn read_bytes(dir: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(dir.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => Ok(Some(read?)),
    }
}

/// Replaces the catalog: after this it is the new one, also after a power cut; before, it is the old one.
pub(super) fn write(dir: &Path, bytes: &[u8]) -> Result<()> {
    let new = dir.join("catalog.json.new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(NAME))?;
    sync_dir(dir)
}

/// Makes the names in a directory survive a power cut.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    Ok(File::open(dir)?.sync_all()?)
}
