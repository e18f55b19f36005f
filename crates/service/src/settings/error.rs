//! Why settings cannot be used, in words that name the variable in full.
//!
//! envy and serde know a setting by its field alone and repeat what it was given; here a setting has its full name, and
//! what may be secret is left out.

use super::Given;
use super::value::Wrong;

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
    /// A setting that cannot be read, with its value as far as that may be shown.
    pub(super) fn wrong(prefix: &str, name: &str, given: &Given, wrong: &Wrong) -> Self {
        if let Wrong::Name(fields) = wrong {
            let known: Vec<_> =
                fields.iter().map(|field| format!("{prefix}{}", field.to_uppercase())).collect();
            return Self::Unknown { name: name.to_owned(), known: known.join(", ") };
        }
        let is_secret = given.from_file || SECRET_NAMES.iter().any(|secret| name.contains(secret));
        let shown = if is_secret { "`***`".to_owned() } else { format!("`{}`", cut(&given.value)) };
        // The type of the setting may repeat the value, which may be long or secret.
        let mut why = wrong.to_string().replace(&format!("`{}`", given.value), &shown);
        if !is_secret && !why.contains(&shown) {
            why = format!("{why}, got {shown}");
        }
        Self::Malformed { name: name.to_owned(), why }
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
