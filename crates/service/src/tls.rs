//! TLS 1.2 and 1.3 for a server's port, and a new certificate without a restart.
//!
//! The files are read every few seconds and compared with what was there before. A secret that Kubernetes mounts is
//! replaced behind a symbolic link, and other tools rename a file over the old one: a watch on the file sees neither.

mod pair;

use std::fmt;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::{IntGauge, Registry};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info};

use self::pair::{Content, Files};
pub use self::pair::{TlsError, TlsPaths};
use crate::chain;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Reads the pair that the settings of a section name, for `HttpServer::listen_rustls_0_23`; without the two there is
/// no TLS. Must be called within a tokio runtime, which follows the files for as long as a server uses them.
pub fn tls_config(
    section: &str,
    paths: TlsPaths<'_>,
    registry: &Registry,
) -> Result<Option<ServerConfig>, TlsError> {
    let Some(files) = Files::of_settings(section, paths)? else { return Ok(None) };
    let clients = paths.client_ca.map(pair::client_verifier).transpose()?;
    let watch = Watch::start(files)?;
    registry.register(Box::new(watch.expires.clone()))?;
    config(watch, clients).map(Some)
}

fn config(watch: Watch, clients: Option<Arc<dyn ClientCertVerifier>>) -> Result<ServerConfig, TlsError> {
    let in_use = watch.in_use.clone();
    let follows = AbortOnDropHandle::new(tokio::spawn(follow(watch)));
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    Ok(builder.with_cert_resolver(Arc::new(Newest { in_use, _follows: follows })))
}

/// Gives each new connection the pair that is in use then, whatever name the client asks for.
struct Newest {
    in_use: Arc<ArcSwap<CertifiedKey>>,
    /// Ends with the last server that holds this.
    _follows: AbortOnDropHandle<()>,
}

impl ResolvesServerCert for Newest {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.in_use.load_full())
    }
}

impl fmt::Debug for Newest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Newest").finish_non_exhaustive()
    }
}

async fn follow(mut watch: Watch) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // A volume of the network may let a reader hang.
        let look = tokio::task::spawn_blocking(move || {
            watch.look();
            watch
        });
        let Ok(looked) = look.await else { return };
        watch = looked;
    }
}

/// What is known of the files.
struct Watch {
    files: Files,
    /// What has been taken into use, or has been complained of.
    judged: Content,
    /// What was broken at the last look, and may only have been half written.
    doubted: Option<Content>,
    in_use: Arc<ArcSwap<CertifiedKey>>,
    /// When the first certificate of the chain in use ends.
    expires: IntGauge,
}

impl Watch {
    fn start(files: Files) -> Result<Self, TlsError> {
        let judged = files.read();
        let pair = files.pair(&judged)?;
        let expires = IntGauge::new(
            "tableswap_certificate_expires_timestamp_seconds",
            "When the TLS certificate that is in use expires, in seconds since 1970.",
        )?;
        expires.set(pair::expires(&pair));
        Ok(Self { files, judged, doubted: None, in_use: Arc::new(ArcSwap::from_pointee(pair)), expires })
    }

    fn look(&mut self) {
        let content = self.files.read();
        let doubted = self.doubted.take();
        if content == self.judged {
            return;
        }
        match self.files.pair(&content) {
            Ok(pair) => {
                self.expires.set(pair::expires(&pair));
                self.in_use.store(Arc::new(pair));
                self.judged = content;
                info!(certificate = %self.files.certificate.display(), "the new TLS certificate is in use");
            }
            // The two are replaced one after the other: only what stays broken is worth a word.
            Err(_) if doubted.as_ref() != Some(&content) => self.doubted = Some(content),
            Err(error) => {
                self.judged = content;
                error!(
                    error = chain(&error),
                    "the new TLS certificate cannot be used, the old one stays in use"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd, generate_simple_self_signed};
    use tempfile::TempDir;

    use super::*;

    fn write(directory: &TempDir, certificate: Option<&str>, key: Option<&str>) {
        for (name, text) in [("certificate", certificate), ("key", key)] {
            if let Some(text) = text {
                fs::write(directory.path().join(name), text).unwrap();
            }
        }
    }

    /// The certificate and the key of a new pair.
    fn pair() -> (String, String) {
        let pair = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (pair.cert.pem(), pair.signing_key.serialize_pem())
    }

    fn watch(directory: &TempDir) -> Watch {
        let (certificate, key) = (directory.path().join("certificate"), directory.path().join("key"));
        Watch::start(Files { certificate, key }).unwrap()
    }

    #[test]
    fn a_pair_that_is_half_written_is_looked_at_once_more() {
        let directory = TempDir::new().unwrap();
        let ((certificate, key), (next_certificate, next_key)) = (pair(), pair());
        write(&directory, Some(&certificate), Some(&key));
        let mut watch = watch(&directory);
        let first = watch.in_use.load_full();
        write(&directory, Some(&next_certificate), None);
        watch.look();
        assert!(watch.doubted.is_some() && watch.judged != watch.files.read());
        write(&directory, None, Some(&next_key));
        watch.look();
        assert!(watch.doubted.is_none() && watch.judged == watch.files.read());
        assert_ne!(watch.in_use.load().cert, first.cert);
    }

    #[test]
    fn the_end_of_the_certificate_in_use_is_shown() {
        let directory = TempDir::new().unwrap();
        let pair_until = |year| {
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.not_after = date_time_ymd(year, 1, 1);
            let key = KeyPair::generate().unwrap();
            (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
        };
        let ((certificate, key), (next_certificate, next_key)) = (pair_until(2030), pair_until(2031));
        write(&directory, Some(&certificate), Some(&key));
        let mut watch = watch(&directory);
        assert_eq!(watch.expires.get(), 1_893_456_000);
        write(&directory, Some(&next_certificate), Some(&next_key));
        watch.look();
        assert_eq!(watch.expires.get(), 1_924_992_000);
    }

    #[test]
    fn a_pair_that_stays_broken_is_judged_at_the_second_look_and_a_good_one_at_the_first() {
        let directory = TempDir::new().unwrap();
        let (certificate, key) = pair();
        write(&directory, Some(&certificate), Some(&key));
        let mut watch = watch(&directory);
        let first = watch.in_use.load_full();
        write(&directory, None, Some("no key"));
        watch.look();
        watch.look();
        assert!(watch.judged == watch.files.read() && Arc::ptr_eq(&first, &watch.in_use.load()));
        write(&directory, None, Some(&key));
        watch.look();
        assert!(watch.judged == watch.files.read() && !Arc::ptr_eq(&first, &watch.in_use.load()));
    }

    #[tokio::test]
    async fn the_files_are_followed_only_while_a_server_uses_them() {
        let directory = TempDir::new().unwrap();
        let (certificate, key) = pair();
        write(&directory, Some(&certificate), Some(&key));
        let watch = watch(&directory);
        let in_use = watch.in_use.clone();
        let config = config(watch, None).unwrap();
        assert_eq!(Arc::strong_count(&in_use), 3);
        drop(config);
        while Arc::strong_count(&in_use) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
