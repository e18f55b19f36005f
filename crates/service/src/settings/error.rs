//! Why settings cannot be used, in words that name the variable in full.
//!
//! envy and serde know a setting by its field alone and repeat what it was given; here the prefix comes back, and
//! what may be secret is left out.

use super::Given;

/// So much of a value is shown.
const SHOWN_CHARS: usize = 40;

/// Settings with such names are secret, or hold something that is.
const SECRET_NAMES: [&str; 4] = ["TOKEN", "PASSWORD", "SECRET", "URL"];

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A variable of no known section.
    #[error("{name} is no setting: sections are STORE, API, UPDATER, LOG and TRACES")]
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

impl SettingsError {
    /// A setting that is none of these fields.
    pub(super) fn unknown(name: &str, prefix: &str, fields: &[&str]) -> Self {
        let full: Vec<_> = fields.iter().map(|field| format!("{prefix}{}", field.to_uppercase())).collect();
        Self::Unknown { name: name.to_owned(), known: full.join(", ") }
    }

    /// What envy says of a setting: what is wrong, what was expected, and the value, as far as it may be shown.
    pub(super) fn malformed(name: &str, field: &str, given: &Given, error: &envy::Error) -> Self {
        let (name, text) = (name.to_owned(), error.to_string());
        let is_secret = given.from_file || SECRET_NAMES.iter().any(|secret| name.contains(secret));
        let shown = if is_secret { "***".into() } else { cut(&given.value) };
        // envy repeats what it was given.
        let suffix = format!(" while parsing value '{}' provided by {field}", given.value);
        let why = text.strip_suffix(&suffix).unwrap_or(&text);
        // So do serde ("unknown variant `x`", "invalid value: string "x"") and some parsers.
        let quoted = [('`', '`'), ('"', '"'), ('\'', '\'')]
            .map(|(open, close)| format!("{open}{}{close}", given.value));
        if let Some(quoted) = quoted.iter().find(|quoted| why.contains(*quoted)) {
            let why = why.replace(quoted, &format!("`{shown}`"));
            return Self::Malformed { name, why };
        }
        let expected = expected(why).map(|expected| format!(", expected {expected}")).unwrap_or_default();
        let got = if is_secret { String::new() } else { format!(", got `{shown}`") };
        Self::Malformed { name, why: format!("{why}{expected}{got}") }
    }
}

/// What the parsers of the standard library leave out.
fn expected(why: &str) -> Option<&'static str> {
    match why {
        "invalid digit found in string" => Some("a whole number"),
        "invalid socket address syntax" => Some("an address and a port such as 127.0.0.1:1321"),
        _ => None,
    }
}

/// The beginning of a value, in one line.
fn cut(value: &str) -> String {
    let mut shown: String = value.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if value.chars().nth(SHOWN_CHARS).is_some() {
        shown.push_str("...");
    }
    shown
}
