//! TLS to the database: whom to trust, and what to show.

use std::path::PathBuf;

use mysql_async::{ClientIdentity, SslOpts};
use serde::Deserialize;

use crate::{Error, Result};

/// Whether connections to the database are encrypted, and whether the server has to prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Not encrypted.
    Off,
    /// Encrypted, with whoever answers.
    Encrypt,
    /// Encrypted; the certificate must be valid for the host of the URL.
    Verify,
}

/// The settings of TLS to the database.
#[derive(Debug, Clone, Default)]
pub(crate) struct DatabaseTls {
    pub(crate) mode: Option<TlsMode>,
    pub(crate) ca_path: Option<PathBuf>,
    pub(crate) certificate_path: Option<PathBuf>,
    pub(crate) key_path: Option<PathBuf>,
}

impl DatabaseTls {
    /// How the driver shall do it; nothing without TLS. Files are named, not read: they may be replaced later.
    pub(crate) fn options(&self) -> Result<Option<SslOpts>> {
        let is_something_set =
            self.ca_path.is_some() || self.certificate_path.is_some() || self.key_path.is_some();
        let default = if is_something_set { TlsMode::Verify } else { TlsMode::Off };
        let identity = match (&self.certificate_path, &self.key_path) {
            (Some(certificate), Some(key)) => {
                Some(ClientIdentity::new(certificate.clone().into(), key.clone().into()))
            }
            (None, None) => None,
            _ => {
                return Err(Error::Setup(
                    "TABLESWAP_STORE_TLS_CERTIFICATE_PATH and TABLESWAP_STORE_TLS_KEY_PATH need each other"
                        .into(),
                ));
            }
        };
        for path in [&self.ca_path, &self.certificate_path, &self.key_path].into_iter().flatten() {
            if let Err(error) = std::fs::File::open(path) {
                return Err(Error::Setup(format!(
                    "TABLESWAP_STORE_TLS: cannot read {}: {error}",
                    path.display()
                )));
            }
        }
        let mode = self.mode.unwrap_or(default);
        if mode == TlsMode::Off && is_something_set {
            return Err(Error::Setup(
                "TABLESWAP_STORE_TLS_MODE is off, and a path of a certificate is set: set the mode to verify"
                    .into(),
            ));
        }
        let roots: Vec<_> = self.ca_path.iter().map(|path| path.clone().into()).collect();
        let options = SslOpts::default()
            .with_disable_built_in_roots(!roots.is_empty())
            .with_root_certs(roots)
            .with_client_identity(identity)
            .with_danger_accept_invalid_certs(mode == TlsMode::Encrypt)
            .with_danger_skip_domain_validation(mode == TlsMode::Encrypt);
        Ok((mode != TlsMode::Off).then_some(options))
    }
}
