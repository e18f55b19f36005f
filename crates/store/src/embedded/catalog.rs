//! The catalog of a dataset: which version is live, the ledger, and what is known of each file. It is only ever replaced
//! as a whole, and carries a checksum of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::directory::FILE_MODE;
use crate::{Entry, Error, Result};

/// The file's name.
pub(super) const NAME: &str = "catalog.json";

/// How the file is laid out. One of a newer program is refused by name, so that it is not taken for damage.
const FORMAT: u32 = 4;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Catalog {
    pub(super) live: Option<u32>,
    pub(super) versions: Vec<Entry>,
    /// The files of versions that are there.
    pub(super) files: BTreeMap<u32, FileFacts>,
}

/// What a version's file was when it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileFacts {
    pub(super) bytes: u64,
    pub(super) crc32: u32,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// The file: the checksum is that of the text of `catalog`.
#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    format: u32,
    crc32: u32,
    #[serde(borrow)]
    catalog: &'a RawValue,
}

impl Catalog {
    /// Reads the catalog of a dataset's directory, if it has one.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>> {
        read_bytes(dir)?.map(|bytes| Self::parse(dir, &bytes)).transpose()
    }

    /// Reads a catalog from the bytes of its file, which is in that directory.
    pub(super) fn parse(dir: &Path, bytes: &[u8]) -> Result<Self> {
        let name = dir.join(NAME);
        let damaged = |why: String| Error::corrupt(format!("{}: {why}", name.display()));
        let Format { format } = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if format != FORMAT {
            let advice = if format > FORMAT {
                "a newer program wrote it: upgrade this one"
            } else {
                "an older program wrote it: remove the directory and load the file again"
            };
            let name = name.display();
            return Err(Error::Setup(format!(
                "{name} has the format {format}, this program reads {FORMAT}: {advice}"
            )));
        }
        let envelope: Envelope<'_> =
            serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        let text = envelope.catalog.get();
        if crc32fast::hash(text.as_bytes()) != envelope.crc32 {
            return Err(damaged("its checksum does not fit".into()));
        }
        serde_json::from_str(text).map_err(|error| damaged(error.to_string()))
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let catalog = serde_json::value::to_raw_value(self).map_err(Error::internal)?;
        let crc32 = crc32fast::hash(catalog.get().as_bytes());
        serde_json::to_vec(&Envelope { format: FORMAT, crc32, catalog: &catalog }).map_err(Error::internal)
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
    let mut file = File::options().write(true).create(true).truncate(true).mode(FILE_MODE).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(NAME))?;
    sync_dir(dir)
}

/// Makes the names in a directory survive a power cut.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    Ok(File::open(dir)?.sync_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_catalog_is_noticed() {
        let mut catalog = Catalog { live: Some(1), ..Catalog::default() };
        catalog.files.insert(1, FileFacts { bytes: 7, crc32: 9 });
        let bytes = catalog.to_bytes().unwrap();
        let dir = Path::new("d");
        assert_eq!(Catalog::parse(dir, &bytes).unwrap().files, catalog.files);
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(Catalog::parse(dir, &flipped).is_err(), "bit {at}");
        }
        for len in 0..bytes.len() {
            assert!(Catalog::parse(dir, &bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_name_and_not_called_damaged() {
        let refused = Catalog::parse(Path::new("d"), br#"{"format":5,"what":"ever"}"#).unwrap_err();
        insta::assert_snapshot!(refused, @"d/catalog.json has the format 5, this program reads 4: a newer program wrote it: upgrade this one");
    }
}
