//! Settings from the environment, read once at start.
//!
//! A variable is `TABLESWAP_<SECTION>_<NAME>`. What is unknown or malformed stops the start and is named in full; an
//! empty variable counts as not set; a setting can come from a file (`..._FILE`). What Kubernetes injects for a service
//! that happens to be called `tableswap-api` is no setting and is passed over.

mod error;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

pub use self::error::SettingsError;

/// What all variables begin with.
const PREFIX: &str = "TABLESWAP_";

/// The sections that there are.
const SECTIONS: [&str; 5] = ["STORE", "API", "UPDATER", "LOG", "TRACES"];

/// Settings that name a file themselves, because it is read again when it changes.
const NAME_A_FILE: [&str; 1] = ["_TOKENS_FILE"];

/// Whether the program was started to ask its server for its health, and not to serve.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the command line without clap")]
pub fn is_probe() -> bool {
    std::env::args().nth(1).is_some_and(|argument| argument == "health")
}

/// The variables of the process that are settings.
pub struct Environment(BTreeMap<String, Given>);

/// What a setting was given.
struct Given {
    value: String,
    /// What stands in a file may be secret, whatever the setting is called.
    from_file: bool,
}

impl Environment {
    /// Reads the variables of this process.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
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
        for (name, value) in &given {
            let names_a_file = NAME_A_FILE.iter().any(|ending| name.ends_with(ending));
            let file_of = name.strip_suffix("_FILE").filter(|_| !names_a_file);
            let setting = file_of.unwrap_or(name);
            if !is_of_a_section(setting) {
                return Err(SettingsError::UnknownSection { name: name.clone() });
            }
            if file_of.is_some() && given.contains_key(setting) {
                return Err(SettingsError::Twice { name: setting.to_owned() });
            }
            let value = if file_of.is_some() { read_file(name, value)? } else { value.clone() };
            settings.insert(setting.to_owned(), Given { value, from_file: file_of.is_some() });
        }
        Ok(Self(settings))
    }

    /// Reads the settings of a section, each of which has a default. `T` denies unknown fields.
    pub fn section<T: DeserializeOwned>(&self, section: &str) -> Result<T, SettingsError> {
        let prefix = format!("{PREFIX}{section}_");
        let of_section = || self.0.iter().filter(|(name, _)| name.starts_with(&prefix));
        let field = |name: &str| name[prefix.len()..].to_lowercase();
        let read = envy::from_iter(of_section().map(|(name, given)| (field(name), given.value.clone())));
        // The error of envy is a text that may not say whose it is and may hold a secret.
        read.map_err(|_| {
            let wrong = |(name, given): (&String, &Given)| {
                let wrong = value::wrong::<T>(&field(name), &given.value)?;
                Some(SettingsError::wrong(&prefix, name, given, &wrong))
            };
            of_section().find_map(wrong).unwrap_or_else(|| {
                let why = "they cannot be read together".to_owned();
                SettingsError::Malformed { name: format!("{prefix}*"), why }
            })
        })
    }
}

/// Whether a name is `TABLESWAP_<SECTION>_<NAME>` with a section that there is.
fn is_of_a_section(name: &str) -> bool {
    let parts = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_'));
    parts.is_some_and(|(section, setting)| SECTIONS.contains(&section) && !setting.is_empty())
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

/// Reads an address to listen on. For `deserialize_with`.
pub fn listen_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let why = "expected an address and a port such as 127.0.0.1:1321";
    String::deserialize(deserializer)?.parse().map_err(|_| serde::de::Error::custom(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Api {
        #[serde(deserialize_with = "listen_address")]
        listen: SocketAddr,
        workers: usize,
        open: bool,
        format: Format,
        url: Format,
        token: Option<Secret>,
    }

    #[derive(Debug, Default, Clone, Copy, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Format {
        #[default]
        Text,
        Json,
    }

    impl Default for Api {
        fn default() -> Self {
            let listen = SocketAddr::from(([127, 0, 0, 1], 1321));
            Self { listen, workers: 2, open: false, format: Format::Text, url: Format::Json, token: None }
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
    fn what_is_malformed_is_named_in_full_with_its_value_and_what_was_expected() {
        insta::assert_snapshot!(refusal(&[("TABLESWAP_API_WORKERS", "many")]), @"TABLESWAP_API_WORKERS: expected a whole number, got `many`");
        insta::assert_snapshot!(refusal(&[("TABLESWAP_API_LISTEN", "1321")]), @"TABLESWAP_API_LISTEN: expected an address and a port such as 127.0.0.1:1321, got `1321`");
        insta::assert_snapshot!(refusal(&[("TABLESWAP_API_OPEN", "yes")]), @"TABLESWAP_API_OPEN: expected true or false, got `yes`");
        insta::assert_snapshot!(refusal(&[("TABLESWAP_API_FORMAT", "xml")]), @"TABLESWAP_API_FORMAT: expected text or json, got `xml`");
        insta::assert_snapshot!(refusal(&[("TABLESWAP_API_FORMAT", &"x".repeat(1000))]), @"TABLESWAP_API_FORMAT: expected text or json, got `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...`");
    }

    #[test]
    fn what_is_unknown_is_named_in_full() {
        insta::assert_snapshot!(refusal(&[("TABLESWAP_API_WORKER", "7")]), @"TABLESWAP_API_WORKER is no setting; the settings of this section are TABLESWAP_API_LISTEN, TABLESWAP_API_WORKERS, TABLESWAP_API_OPEN, TABLESWAP_API_FORMAT, TABLESWAP_API_URL, TABLESWAP_API_TOKEN");
        insta::assert_snapshot!(refusal(&[("TABLESWAP_APY_LISTEN", "1321")]), @"TABLESWAP_APY_LISTEN is no setting: sections are STORE, API, UPDATER, LOG and TRACES");
        insta::assert_snapshot!(refusal(&[("TABLESWAP_API", "1321")]), @"TABLESWAP_API is no setting: sections are STORE, API, UPDATER, LOG and TRACES");
    }

    #[test]
    fn the_one_that_is_wrong_is_named_among_others() {
        let others = [
            ("TABLESWAP_API_WORKERS", "7"),
            ("TABLESWAP_API_LISTEN", "0.0.0.0:1"),
            ("TABLESWAP_API_TOKEN", "x"),
        ];
        let with = |wrong| refusal(&[&others[..], &[wrong]].concat());
        insta::assert_snapshot!(with(("TABLESWAP_API_FORMAT", "workers")), @"TABLESWAP_API_FORMAT: expected text or json, got `workers`");
        insta::assert_snapshot!(with(("TABLESWAP_API_OPEN", "token")), @"TABLESWAP_API_OPEN: expected true or false, got `token`");
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        insta::assert_snapshot!(refusal(&[("TABLESWAP_API_URL", "user:pw@host")]), @"TABLESWAP_API_URL: expected text or json");
        let path = format!("{}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
        insta::assert_snapshot!(refusal(&[("TABLESWAP_API_WORKERS_FILE", &path)]), @"TABLESWAP_API_WORKERS: expected a whole number");
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
