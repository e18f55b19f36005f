//! Which store, and how patient it is.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};

use crate::mariadb::{Address, DatabaseTls, TlsMode};

/// Settings of the section `STORE`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `embedded:DIRECTORY`, or `mysql://user:password@host:port/database`. Default: `embedded:./data`.
    pub url: StoreUrl,
    /// Databases that follow that of the URL, for look-ups, as URLs with commas between them. Default: none.
    pub read_urls: ReadUrls,
    /// How many look-ups are under way in one database at most; look-ups of many keys have a quarter as many beside
    /// them. Default: 16.
    #[serde(deserialize_with = "from_to::<_, _, 1, 1_000>")]
    pub connections_max: usize,
    /// How many keys one look-up in a database may ask for; 1 makes one query of each request, which waits for no
    /// other. Default: 256.
    #[serde(deserialize_with = "from_to::<_, _, 1, 16_384>")]
    pub batch_keys_max: usize,
    /// Over how many connections a load fills a database. Default: 2.
    #[serde(deserialize_with = "from_to::<_, _, 1, 64>")]
    pub load_connections: usize,
    /// For how much of the time a load works while others read from the database, in percent; alone it takes all.
    /// Default: 50.
    #[serde(deserialize_with = "from_to::<_, _, 1, 100>")]
    pub load_share_percent: u8,
    /// Bytes that all tables of the database may have together; a load that would need more is refused before it stages
    /// anything. Default: no limit but the disk, where the server tells how much of it is left.
    pub database_bytes_max: Option<u64>,
    /// Use a directory on a network file system, whose locks and renames may not hold. Default: `false`.
    pub allow_network_file_system: bool,
    /// For how long replicas answer alone while the primary is away, in seconds. Default: 600.
    pub alone_seconds_max: u64,
    /// How far a replica may be behind the primary, in seconds; one that is further behind is not read. Default: 60.
    pub replica_age_seconds_max: u64,
    /// TLS to the database: `off`, `encrypt`, or `verify`, which is the default once one of the paths is set.
    pub tls_mode: Option<TlsMode>,
    /// PEM with the authorities that are trusted, and no others. Default: those that browsers trust.
    pub tls_ca_path: Option<PathBuf>,
    /// PEM with the certificate that is shown to the database. Default: none.
    pub tls_certificate_path: Option<PathBuf>,
    /// PEM with its private key. Default: none.
    pub tls_key_path: Option<PathBuf>,
    /// Memory for answers from a database that are asked for again, in bytes; 0 keeps none. Default: 67108864.
    pub cache_bytes: u64,
    /// How long a look-up waits for the database, in milliseconds. Default: 2000.
    #[serde(deserialize_with = "from_to::<_, _, 100, 600_000>")]
    pub timeout_ms: u64,
    /// How long a swap is tried again while readers hold the live table, in milliseconds. Default: 60000.
    pub swap_wait_ms: u64,
}

fn from_to<'de, D, T, const MIN: u64, const MAX: u64>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let number = u64::deserialize(deserializer)?;
    let within = (MIN..=MAX).contains(&number).then(|| T::try_from(number).ok()).flatten();
    within.ok_or_else(|| de::Error::custom(format_args!("expected {MIN} to {MAX}")))
}

impl Default for Settings {
    fn default() -> Self {
        let url = StoreUrl::Embedded("./data".into());
        Self {
            url,
            read_urls: ReadUrls::default(),
            connections_max: 16,
            batch_keys_max: 256,
            load_connections: 2,
            load_share_percent: 50,
            database_bytes_max: None,
            allow_network_file_system: false,
            alone_seconds_max: 600,
            replica_age_seconds_max: 60,
            tls_mode: None,
            tls_ca_path: None,
            tls_certificate_path: None,
            tls_key_path: None,
            cache_bytes: 64 << 20,
            timeout_ms: 2_000,
            swap_wait_ms: 60_000,
        }
    }
}

impl Settings {
    pub(crate) fn tls(&self) -> DatabaseTls {
        DatabaseTls {
            mode: self.tls_mode,
            ca_path: self.tls_ca_path.clone(),
            certificate_path: self.tls_certificate_path.clone(),
            key_path: self.tls_key_path.clone(),
        }
    }
}

/// Where versions live. Its `Debug` shows no password.
#[derive(Clone)]
pub enum StoreUrl {
    /// A directory of this machine.
    Embedded(PathBuf),
    /// A database.
    Mariadb(Address),
}

impl std::str::FromStr for StoreUrl {
    type Err = String;

    /// The error never repeats the URL, which may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(root) = text.strip_prefix("embedded:") {
            return if root.is_empty() {
                Err("embedded: needs a directory".into())
            } else {
                Ok(Self::Embedded(root.into()))
            };
        }
        let text =
            text.strip_prefix("mariadb://").map_or_else(|| text.to_owned(), |rest| format!("mysql://{rest}"));
        if !text.starts_with("mysql://") {
            return Err("expected embedded:DIRECTORY or mysql://user:password@host:port/database".into());
        }
        Address::from_url(&text).map(Self::Mariadb)
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(root) => write!(f, "embedded:{}", root.display()),
            Self::Mariadb(address) => address.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for StoreUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Databases that are only read. Its `Debug` shows no password.
#[derive(Debug, Clone, Default)]
pub struct ReadUrls(pub(crate) Vec<Address>);

impl std::str::FromStr for ReadUrls {
    type Err = String;

    /// The error never repeats a URL, which may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let urls = text.split(',').map(str::trim).filter(|url| !url.is_empty());
        let address = |url: &str| match url.parse()? {
            StoreUrl::Mariadb(address) => Ok(address),
            StoreUrl::Embedded(_) => Err("expected mysql://user:password@host:port/database".to_owned()),
        };
        urls.map(address).collect::<Result<_, _>>().map(Self)
    }
}

impl<'de> Deserialize<'de> for ReadUrls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_urls_are_read_and_a_wrong_one_is_refused() {
        let urls: ReadUrls = "mysql://u:secret@a/db, mariadb://u:secret@b:3307/db,".parse().unwrap();
        assert_eq!(format!("{urls:?}"), "ReadUrls([mysql://***@a:3306/db, mysql://***@b:3307/db])");
        assert!("".parse::<ReadUrls>().unwrap().0.is_empty());
        for broken in ["mysql://u:secret@a/db,embedded:./data", "mysql://u:secret@a/db;mysql://u:secret@b/db"]
        {
            let error = broken.parse::<ReadUrls>().unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let url: StoreUrl = "mysql://user:secret@host:3307/db".parse().unwrap();
        assert_eq!(format!("{url:?}"), "mysql://***@host:3307/db");
        for broken in
            ["mysql://user:secret@host", "postgres://user:secret@host/db", "mysql://user:secret@host:x/db"]
        {
            let error = broken.parse::<StoreUrl>().unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
