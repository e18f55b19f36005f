//! Tokens with names and roles, as an operator lists them in a file.
//!
//! The file holds the SHA-256 of each token and not the token itself. A fast hash is enough: a token is 16 or more
//! random characters and not a password that can be guessed.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::Secret;

/// A shorter token could be guessed.
const CHARS_MIN: usize = 16;

/// What a token allows; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at loads, reports and versions, and look keys up.
    Read,
    /// Upload files.
    Upload,
    /// Force an upload, activate a version, cancel a load.
    Operate,
}

impl Role {
    /// The role as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Upload => "upload",
            Self::Operate => "operate",
        }
    }
}

/// What a token allows to whoever sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The token's name.
    pub name: Arc<str>,
    role: Role,
    /// The datasets that it is for; without a list, all.
    datasets: Option<Arc<[String]>>,
}

impl Grant {
    /// Whether it allows this.
    pub fn allows(&self, role: Role, dataset: Option<&str>) -> bool {
        self.role >= role && dataset.is_none_or(|dataset| self.covers(dataset))
    }

    fn covers(&self, dataset: &str) -> bool {
        self.datasets.as_ref().is_none_or(|datasets| datasets.iter().any(|name| name == dataset))
    }
}

/// Why tokens cannot be used. What stands in a file is never part of it.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The file cannot be read.
    #[error("{variable}: cannot read {path}")]
    File {
        /// The setting.
        variable: String,
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a list of tokens.
    #[error("{variable}: {path}: {why}")]
    Malformed {
        /// The setting.
        variable: String,
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The token cannot be used.
    #[error("{variable}: a token needs at least {CHARS_MIN} characters, all of them visible ASCII")]
    Weak {
        /// The setting.
        variable: String,
    },
    /// A metric is registered twice, which is a defect.
    #[error("cannot register the metrics of tokens")]
    Metrics(#[from] prometheus::Error),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tokens: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    name: String,
    sha256: String,
    role: Role,
    datasets: Option<Vec<String>>,
}

/// The tokens that are valid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tokens(Vec<([u8; 32], Grant)>);

impl Tokens {
    /// Reads the file that the setting names.
    pub(crate) fn read(variable: &str, path: &Path) -> Result<Self, TokensError> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|source| TokensError::File {
            variable: variable.to_owned(),
            path: name.clone(),
            source,
        })?;
        Self::parse(&text).map_err(|why| TokensError::Malformed {
            variable: variable.to_owned(),
            path: name,
            why,
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        // What the parser says quotes lines, so only its message and the place are repeated.
        let file: File = toml::from_str(text).map_err(|error: toml::de::Error| {
            let at =
                error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            format!("line {at}: {}", error.message())
        })?;
        let mut tokens = Vec::new();
        for listed in file.tokens {
            let Listed { name, sha256, role, datasets } = listed;
            let is_name = (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
            if !is_name {
                return Err(format!("the name `{name:.64}` is not 1 to 64 visible ASCII characters"));
            }
            let Some(hash) = parse_hash(&sha256) else {
                return Err(format!("`{name}`: sha256 is not 64 hexadecimal digits"));
            };
            if tokens.iter().any(|(other, _)| *other == hash) {
                return Err(format!("`{name}`: its token is in the list twice"));
            }
            let grant = Grant { name: name.into(), role, datasets: datasets.map(Into::into) };
            tokens.push((hash, grant));
        }
        if tokens.is_empty() { Err("there is no token in it".into()) } else { Ok(Self(tokens)) }
    }

    /// Adds a token with all rights, which a setting holds itself.
    pub(crate) fn add(&mut self, variable: &str, token: &Secret) -> Result<(), TokensError> {
        let token = token.expose();
        if token.len() < CHARS_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokensError::Weak { variable: variable.to_owned() });
        }
        self.0.push((hash(token), Grant { name: "token".into(), role: Role::Operate, datasets: None }));
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the token allows, if it is one of these. All are compared, so the time tells nothing.
    pub(crate) fn find(&self, token: &str) -> Option<&Grant> {
        let given = hash(token);
        let mut found = None;
        for (hash, grant) in &self.0 {
            if given.ct_eq(hash).into() {
                found = Some(grant);
            }
        }
        found
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, token: &str, more: &str) -> String {
        let hash: String = hash(token).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[[tokens]]\nname = \"{name}\"\nsha256 = \"{hash}\"\n{more}\n")
    }

    #[test]
    fn a_token_allows_what_its_role_and_its_datasets_say() {
        let file = listed("ci", "token-of-the-ci-0", "role = \"upload\"\ndatasets = [\"a\"]")
            + &listed("ops", "token-of-the-ops", "role = \"operate\"");
        let tokens = Tokens::parse(&file).unwrap();
        let ci = tokens.find("token-of-the-ci-0").unwrap();
        assert!(ci.allows(Role::Read, Some("a")) && ci.allows(Role::Upload, Some("a")));
        assert!(!ci.allows(Role::Upload, Some("b")) && !ci.allows(Role::Operate, Some("a")));
        let ops = tokens.find("token-of-the-ops").unwrap();
        assert!(ops.allows(Role::Operate, Some("b")) && &*ops.name == "ops");
        assert!(tokens.find("token-of-the-ops ").is_none() && tokens.find("").is_none());
    }

    #[test]
    fn a_file_that_is_no_list_of_tokens_is_refused_without_showing_what_is_in_it() {
        let refusal = |text: &str| Tokens::parse(text).unwrap_err();
        insta::assert_snapshot!(refusal("tokens = []"), @"there is no token in it");
        insta::assert_snapshot!(refusal("[[tokens]]\nname = \"a\"\nsha256 = \"secret\"\nrole = \"read\""), @"`a`: sha256 is not 64 hexadecimal digits");
        insta::assert_snapshot!(refusal("[[tokens]]\nname = \"a\"\nsha256 = \"\"\nrole = \"root\""), @"line 4: unknown variant `root`, expected one of `read`, `upload`, `operate`");
        let twice = listed("a", "x", "role = \"read\"") + &listed("b", "x", "role = \"read\"");
        insta::assert_snapshot!(refusal(&twice), @"`b`: its token is in the list twice");
        assert!(!refusal("secret-token-in-the-clear").contains("secret"));
    }
}
