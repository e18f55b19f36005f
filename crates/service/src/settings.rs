//! Settings from the environment, read once at start.
//!
//! A variable is `TABLESWAP_<SECTION>_<NAME>`. What is unknown or malformed stops the start and is named in full; an
//! empty variable counts as not set; a setting can come from a file (`..._FILE`). What Kubernetes injects for a service
//! that happens to be called `tableswap-api` is no setting and is passed over.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

/// What all variables begin with.
const PREFIX: &str = "TABLESWAP_";

/// The sections that there are.
const SECTIONS: [&str; 4] = ["STORE", "API", "UPDATER", "LOG"];

/// The variables of the process that are settings.
pub struct Environment(BTreeMap<String, String>);

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A variable of no known section.
    #[error("{name} is no setting: sections are STORE, API, UPDATER and LOG")]
    UnknownSection {
        /// The variable.
        name: String,
    },
    /// A variable that its section does not have.
    #[error("{name} is no setting; the settings of this section are {known}")]
    Unknown {
        /// The variable.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// A value that cannot be used.
    #[error("{name}: {why}")]
    Malformed {
        /// The variable.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file that a `..._FILE` variable names cannot be read.
    #[error("{name}: cannot read {path}")]
    File {
        /// The variable.
        name: String,
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The same setting as a value and as a file.
    #[error("{name} and {name}_FILE are both set: keep one")]
    Twice {
        /// The variable.
        name: String,
    },
}

impl Environment {
    /// Reads the variables of this process.
    pub fn from_process() -> Result<Self, SettingsError> {
        let mut variables = Vec::new();
        for (name, value) in std::env::vars_os() {
            // What has another name than ours is none of our business.
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => variables.push((name, value)),
                Err(_) if !name.starts_with(PREFIX) => {}
                Err(_) => return Err(SettingsError::Malformed { name, why: "not valid UTF-8".into() }),
            }
        }
        Self::new(variables)
    }

    /// Takes the variables from elsewhere.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, SettingsError> {
        let ours = |(name, value): &(String, String)| {
            name.starts_with(PREFIX) && !value.is_empty() && !is_service_link(name, value)
        };
        let given: BTreeMap<_, _> = variables.into_iter().filter(ours).collect();
        let mut settings = BTreeMap::new();
        for (name, value) in given.clone() {
            let section = name[PREFIX.len()..].split('_').next().unwrap_or_default();
            if !SECTIONS.contains(&section) {
                return Err(SettingsError::UnknownSection { name });
            }
            match name.strip_suffix("_FILE") {
                Some(setting) if given.contains_key(setting) => {
                    return Err(SettingsError::Twice { name: setting.to_owned() });
                }
                Some(setting) => settings.insert(setting.to_owned(), read_file(&name, &value)?),
                None => settings.insert(name, value),
            };
        }
        Ok(Self(settings))
    }

    /// Reads the settings of a section.
    pub fn section<T: DeserializeOwned>(&self, section: &str) -> Result<T, SettingsError> {
        let prefix = format!("{PREFIX}{section}_");
        let of_section = self.0.iter().filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?, value)));
        let values: Vec<_> = of_section.map(|(name, value)| (name.to_owned(), value.clone())).collect();
        envy::from_iter(values.clone()).map_err(|error| {
            // The error may not say whose it is; but every setting has a default, so each can be tried alone.
            let alone = |value: &&(String, String)| envy::from_iter::<_, T>([(*value).clone()]).is_err();
            let culprit = values.iter().find(alone).map_or("", |(name, _)| name);
            explain(&prefix, culprit, &error)
        })
    }
}

/// What is wrong with the variable, without what envy says around it: its value, which may be a secret, among that.
fn explain(prefix: &str, culprit: &str, error: &envy::Error) -> SettingsError {
    let text = error.to_string();
    let full = |name: &str| format!("{prefix}{}", name.to_uppercase());
    if let Some((name, known)) = text.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
        let known = known.split('`').skip(1).step_by(2).map(full).collect::<Vec<_>>().join(", ");
        return SettingsError::Unknown { name: full(name), known };
    }
    let why = text.split(" while parsing value '").next().unwrap_or(&text);
    SettingsError::Malformed { name: full(culprit), why: why.to_owned() }
}

/// `TABLESWAP_API_PORT=tcp://10.0.0.1:1321`, `..._PORT_1321_TCP_ADDR`, `..._SERVICE_HOST`, `..._SERVICE_PORT_HTTP`.
fn is_service_link(name: &str, value: &str) -> bool {
    let protocols = ["_TCP", "_UDP", "_SCTP"];
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.contains("_PORT_") && protocols.iter().any(|protocol| name.contains(protocol)))
        || (name.ends_with("_PORT") && value.contains("://"))
}

fn read_file(name: &str, path: &str) -> Result<String, SettingsError> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|source| SettingsError::File { name: name.into(), path: path.into(), source })?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        // A secret that is not there must not become one that everybody knows.
        return Err(SettingsError::Malformed { name: name.into(), why: format!("{path} is empty") });
    }
    Ok(text.to_owned())
}

/// A value that is never shown.
#[derive(Clone, Default)]
pub struct Secret(String);

impl Secret {
    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// Reads a setting with the parser of its type, as it is written. For `deserialize_with`.
pub fn parsed<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: std::str::FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Api {
        listen: SocketAddr,
        workers: usize,
        token: Option<Secret>,
    }

    impl Default for Api {
        fn default() -> Self {
            Self { listen: SocketAddr::from(([127, 0, 0, 1], 1321)), workers: 2, token: None }
        }
    }

    fn read(variables: &[(&str, &str)]) -> Result<Api, SettingsError> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Environment::new(variables.iter().map(owned))?.section("API")
    }

    fn refusal(variables: &[(&str, &str)]) -> String {
        read(variables).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_set_has_its_default() {
        let api = read(&[("PATH", "/bin"), ("TABLESWAP_API_WORKERS", "")]).unwrap();
        assert_eq!((api.listen.port(), api.workers), (1321, 2));
        assert_eq!(read(&[("TABLESWAP_API_WORKERS", "7")]).unwrap().workers, 7);
    }

    #[test]
    fn what_is_unknown_or_malformed_is_named_in_full() {
        insta::assert_snapshot!(refusal(&[("TABLESWAP_API_WORKER", "7")]), @"TABLESWAP_API_WORKER is no setting; the settings of this section are TABLESWAP_API_LISTEN, TABLESWAP_API_WORKERS, TABLESWAP_API_TOKEN");
        insta::assert_snapshot!(refusal(&[("TABLESWAP_API_WORKERS", "many")]), @"TABLESWAP_API_WORKERS: invalid digit found in string");
        insta::assert_snapshot!(refusal(&[("TABLESWAP_API_LISTEN", "1321")]), @"TABLESWAP_API_LISTEN: invalid socket address syntax");
        let two = [("TABLESWAP_API_WORKERS", "2"), ("TABLESWAP_API_LISTEN", "1321")];
        insta::assert_snapshot!(refusal(&two), @"TABLESWAP_API_LISTEN: invalid socket address syntax");
        insta::assert_snapshot!(refusal(&[("TABLESWAP_APY_LISTEN", "1321")]), @"TABLESWAP_APY_LISTEN is no setting: sections are STORE, API, UPDATER and LOG");
    }

    #[test]
    fn what_kubernetes_injects_is_passed_over() {
        let injected = [
            ("TABLESWAP_PORT", "tcp://10.0.0.1:1321"),
            ("TABLESWAP_API_PORT", "tcp://10.0.0.1:1321"),
            ("TABLESWAP_API_PORT_1321_TCP_ADDR", "10.0.0.1"),
            ("TABLESWAP_API_SERVICE_HOST", "10.0.0.1"),
            ("TABLESWAP_API_SERVICE_PORT_HTTP", "1321"),
        ];
        assert!(read(&injected).is_ok());
    }

    #[test]
    fn a_secret_can_come_from_a_file_and_is_never_shown() {
        let path = format!("{}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
        let api = read(&[("TABLESWAP_API_TOKEN_FILE", &path)]).unwrap();
        assert!(api.token.as_ref().unwrap().expose().starts_with("[package]"));
        assert!(format!("{api:?}").contains("token: Some(***)"));
        let both = [("TABLESWAP_API_TOKEN_FILE", path.as_str()), ("TABLESWAP_API_TOKEN", "x")];
        insta::assert_snapshot!(refusal(&both), @"TABLESWAP_API_TOKEN and TABLESWAP_API_TOKEN_FILE are both set: keep one");
        insta::assert_snapshot!(refusal(&[("TABLESWAP_API_TOKEN_FILE", "/dev/null")]), @"TABLESWAP_API_TOKEN_FILE: /dev/null is empty");
        insta::assert_snapshot!(refusal(&[("TABLESWAP_API_TOKEN_FILE", "/no/such")]), @"TABLESWAP_API_TOKEN_FILE: cannot read /no/such");
    }
}
