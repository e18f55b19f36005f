//! What is said and remembered of a version.

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use dataset::{Dataset, Schema};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The state of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its file is being received, or its rows are being staged.
    Loading,
    /// All rows are staged and verified.
    Staged,
    /// What readers see.
    Live,
    /// No longer live, and there for a rollback.
    Kept,
    /// Rolled back from: never picked again by itself.
    Withdrawn,
    /// No longer there.
    Dropped,
    /// Discarded before it was published.
    Failed,
    /// Its rows are not what was written.
    Damaged,
    /// Discarded because a load that began later was published first.
    Superseded,
}

impl State {
    /// The state as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Staged => "staged",
            Self::Live => "live",
            Self::Kept => "kept",
            Self::Withdrawn => "withdrawn",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
            Self::Damaged => "damaged",
            Self::Superseded => "superseded",
        }
    }
}

/// Who did something to a version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The name of the token; none where no token was needed.
    pub token: Option<String>,
    /// The address of the client.
    pub address: String,
    /// What the client calls itself.
    pub user_agent: String,
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { token, address, user_agent } = self;
        write!(f, "{} ({address}, {user_agent})", token.as_deref().unwrap_or("a client without a token"))
    }
}

/// What is remembered of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number; numbers only grow.
    pub version: u32,
    /// Its state.
    pub state: State,
    /// Rows in it.
    pub rows: u64,
    /// Rows of its file that were refused.
    pub rejected: u64,
    /// Rows of its file that were left out for their key.
    pub duplicates: u64,
    /// Bytes of its file, as they came.
    pub bytes: u64,
    /// SHA-256 of these bytes, in hexadecimal; empty until the file was received.
    pub sha256: String,
    /// Hash of the definition by which the file became rows.
    #[serde(default)]
    pub definition_hash: String,
    /// Where the file came from, as its sender named it.
    pub source: String,
    /// The load that made it; empty where none did.
    #[serde(default)]
    pub load: String,
    /// The host on which that load ran.
    #[serde(default)]
    pub host: String,
    /// Who uploaded it; none where no load made it.
    #[serde(default)]
    pub actor: Option<Actor>,
    /// Who activated it last; none where it only became live by its own load.
    #[serde(default)]
    pub activated_by: Option<Actor>,
    /// Whether it passed the shrink guard by force.
    pub forced: bool,
    /// When its load began.
    pub started_at: DateTime<Utc>,
    /// When it first became live.
    pub published_at: Option<DateTime<Utc>>,
    /// When it was rolled back from, unless it was activated again since.
    #[serde(default)]
    pub withdrawn_at: Option<DateTime<Utc>>,
    /// Why it failed or was withdrawn.
    pub reason: Option<String>,
    /// The number of the last swap that was attempted to it; such numbers only grow. 0 before the first.
    #[serde(default)]
    pub swap: u64,
    /// The number of the swap by which it last became live. 0 for a version that never was.
    #[serde(default)]
    pub live_swap: u64,
    /// Its content id, where the hash of its file is not known: that of its table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<u64>,
    /// Its columns.
    pub schema: Arc<Schema>,
}

impl Entry {
    /// Whether these bytes, under this definition, are the rows of this version.
    pub fn is_content(&self, sha256: &str, definition_hash: &str) -> bool {
        !sha256.is_empty() && self.sha256 == sha256 && self.definition_hash == definition_hash
    }

    /// Identifies its content: a store that was restored or made anew can give the same number to another version. Where
    /// neither the file nor the table is known, the time of the entry takes the place of the file.
    pub fn content_id(&self) -> u64 {
        if let Some(content) = self.content {
            return content;
        }
        let mut hash = Sha256::new();
        hash.update(&self.sha256);
        hash.update(&self.definition_hash);
        if self.sha256.is_empty() {
            hash.update(self.started_at.timestamp().to_be_bytes());
            hash.update(self.rows.to_be_bytes());
        }
        hash.finalize().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// A version that a load reserves before its file is received.
    pub(crate) fn reserved(version: u32, dataset: &Dataset, load: &NewLoad) -> Self {
        Self {
            version,
            state: State::Loading,
            rows: 0,
            rejected: 0,
            duplicates: 0,
            bytes: 0,
            sha256: String::new(),
            definition_hash: dataset.definition_hash(),
            source: load.source.clone(),
            load: load.id.clone(),
            host: host(),
            actor: load.actor.clone(),
            activated_by: None,
            forced: false,
            started_at: now(),
            published_at: None,
            withdrawn_at: None,
            reason: None,
            swap: 0,
            live_swap: 0,
            content: None,
            schema: dataset.schema.clone(),
        }
    }
}

/// A load that begins.
#[derive(Debug, Clone)]
pub struct NewLoad {
    /// The load's id.
    pub id: String,
    /// Where the file comes from, as its sender names it.
    pub source: String,
    /// Who uploads it.
    pub actor: Option<Actor>,
}

/// What is known of a version before its rows are staged.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// Its columns.
    pub schema: Arc<Schema>,
    /// Hash of the definition by which the file became rows.
    pub definition_hash: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Bytes of its file.
    pub bytes: u64,
    /// Rows of its file, before duplicates are taken out: for an estimate of the space that it needs.
    pub rows: u64,
    /// Where the file came from.
    pub source: String,
    /// Whether it passed the shrink guard by force.
    pub forced: bool,
    /// How many versions before it stay once it is live.
    pub keep_versions: u32,
}

/// What was counted while the rows were staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Rows that were sent.
    pub rows: u64,
    /// Rows of the file that were refused.
    pub rejected: u64,
    /// Rows of the file that were left out for their key.
    pub duplicates: u64,
}

/// To the second: that is what both backends keep.
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(0)
}

/// The name of this machine, for an operator who looks for the updater that holds a lock.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
