//! A certificate and its private key, from two PEM files to what a handshake needs.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use x509_parser::parse_x509_certificate;

/// Why there can be no TLS. What stands in a file is never part of it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of the two settings without the other.
    #[error("{set} is set but {missing} is not: TLS needs both")]
    Half {
        /// The variable that is there.
        set: String,
        /// The variable that is not.
        missing: String,
    },
    /// A file cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The certificate's file is not what it must be.
    #[error("{path}: no chain of certificates in PEM")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The key's file is not what it must be.
    #[error("{path}: no private key in PEM, which must be PKCS#8, PKCS#1 or SEC1 and not encrypted")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// What a file contains is damaged, or of a kind that is not supported.
    #[error("cannot use {path}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Error,
    },
    /// The two do not belong together.
    #[error("the key in {key} is not the one of the first certificate in {certificate}")]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A metric is registered twice, which is a defect.
    #[error("cannot register the metrics of TLS")]
    Metrics(#[from] prometheus::Error),
    /// The library has no version of TLS to offer, which is a defect.
    #[error("cannot set TLS up")]
    Setup(#[from] Error),
}

/// The files of a port that speaks TLS.
#[derive(Debug, Clone, Copy, Default)]
pub struct TlsPaths<'a> {
    /// The chain of certificates.
    pub certificate: Option<&'a Path>,
    /// The private key.
    pub key: Option<&'a Path>,
    /// The authorities of client certificates. With it a client needs a certificate of one of them.
    pub client_ca: Option<&'a Path>,
}

/// The files of a pair.
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// What stands in the files, or why that cannot be said. It has no `Debug`, for the key's sake.
#[derive(PartialEq, Eq)]
pub(super) struct Content {
    certificate: Result<Vec<u8>, ErrorKind>,
    key: Result<Vec<u8>, ErrorKind>,
}

impl Files {
    /// Both or none.
    pub(super) fn of_settings(section: &str, paths: TlsPaths<'_>) -> Result<Option<Self>, TlsError> {
        let variable = |name| format!("TABLESWAP_{section}_TLS_{name}_PATH");
        let half = |set, missing| TlsError::Half { set: variable(set), missing: variable(missing) };
        match (paths.certificate, paths.key) {
            (Some(certificate), Some(key)) => {
                Ok(Some(Self { certificate: certificate.to_owned(), key: key.to_owned() }))
            }
            (Some(_), None) => Err(half("CERTIFICATE", "KEY")),
            (None, Some(_)) => Err(half("KEY", "CERTIFICATE")),
            (None, None) if paths.client_ca.is_some() => Err(half("CLIENT_CA", "CERTIFICATE")),
            (None, None) => Ok(None),
        }
    }

    pub(super) fn read(&self) -> Content {
        let read = |path| fs::read(path).map_err(|error| error.kind());
        Content { certificate: read(&self.certificate), key: read(&self.key) }
    }

    /// The pair that this content is.
    pub(super) fn pair(&self, content: &Content) -> Result<CertifiedKey, TlsError> {
        let chain = certificates(&self.certificate, bytes(&self.certificate, &content.certificate)?)?;
        let key = private_key(&self.key, bytes(&self.key, &content.key)?)?;
        let key = any_supported_type(&key).map_err(|source| unusable(&self.key, source))?;
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            // A kind of key that cannot tell its public part is not broken.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(pair),
            Err(Error::InconsistentKeys(_)) => {
                Err(TlsError::Mismatch { certificate: self.certificate.clone(), key: self.key.clone() })
            }
            Err(source) => Err(unusable(&self.certificate, source)),
        }
    }
}

/// Accepts clients that have a certificate of one of the authorities in this file.
pub(super) fn client_verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let pem = fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })?;
    let mut roots = RootCertStore::empty();
    for authority in certificates(path, &pem)? {
        roots.add(authority).map_err(|source| unusable(path, source))?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|source| unusable(path, Error::General(source.to_string())))
}

/// When the first certificate of a chain to end does, in seconds since 1970; one that cannot tell has ended.
pub(super) fn expires(pair: &CertifiedKey) -> i64 {
    let ends = |certificate: &CertificateDer<'_>| {
        parse_x509_certificate(certificate).map_or(0, |(_, parsed)| parsed.validity().not_after.timestamp())
    };
    pair.cert.iter().map(ends).min().unwrap_or_default()
}

fn bytes<'a>(path: &Path, read: &'a Result<Vec<u8>, ErrorKind>) -> Result<&'a [u8], TlsError> {
    let bytes = read.as_ref().map(Vec::as_slice);
    bytes.map_err(|kind| TlsError::File { path: path.to_owned(), source: (*kind).into() })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().unwrap_or_default();
    if chain.is_empty() { Err(TlsError::NoCertificate { path: path.to_owned() }) } else { Ok(chain) }
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    // What the parser says quotes lines, and a line may be the key.
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| TlsError::NoKey { path: path.to_owned() })
}

fn unusable(path: &Path, source: Error) -> TlsError {
    TlsError::Unusable { path: path.to_owned(), source }
}
