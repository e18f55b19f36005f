//! The versions of the dataset as an updater lists them.

use serde_json::Value as Json;
use testkit::http;

use crate::editions::Editions;

#[derive(Debug, Clone)]
pub(crate) struct Listing {
    pub(crate) live: Option<u32>,
    /// Newest first.
    pub(crate) entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) version: u32,
    pub(crate) state: String,
    pub(crate) sha256: String,
    pub(crate) was_published: bool,
}

impl Listing {
    /// What the updater on this port lists; the reason where it lists nothing.
    pub(crate) fn read(port: u16) -> Result<Listing, String> {
        let request = http::head("GET", "/datasets/promotions/versions", port, &[]);
        let answer = http::try_request(port, request.as_bytes()).map_err(|error| error.to_string())?;
        if answer.status != 200 {
            return Err(format!("{} {}", answer.status, answer.text()));
        }
        let json: Json = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        let entries = json["versions"].as_array().cloned().unwrap_or_default();
        Ok(Listing {
            live: number(&json["live"]),
            entries: entries.iter().filter_map(Entry::parse).collect(),
        })
    }

    /// The latest version that was made of this edition and has been live.
    pub(crate) fn version_of(&self, editions: &Editions, edition: u32) -> Option<u32> {
        let is_of =
            |entry: &&Entry| entry.was_published && editions.of_sha256(&entry.sha256) == Some(edition);
        self.entries.iter().find(is_of).map(|entry| entry.version)
    }

    /// The newest version that is kept for a rollback.
    pub(crate) fn previous(&self) -> Option<u32> {
        self.entries.iter().find(|entry| entry.state == "kept").map(|entry| entry.version)
    }
}

impl Entry {
    fn parse(json: &Json) -> Option<Entry> {
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        Some(Entry {
            version: number(&json["version"])?,
            state: text("state"),
            sha256: text("sha256"),
            was_published: !json["published_at"].is_null(),
        })
    }
}

pub(crate) fn number(json: &Json) -> Option<u32> {
    json.as_u64().and_then(|number| u32::try_from(number).ok())
}
