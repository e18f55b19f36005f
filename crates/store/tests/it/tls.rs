//! TLS to a real server with a private authority.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use store::mariadb::TlsMode;
use store::{Error, Metrics, Settings, Store};
use testkit::MariaDb;

use crate::fixture::{Fixture, one, open_with, until};

/// An authority with its certificates, as files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate for a host, and its key.
    fn pair(&self, host: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, host);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |end: &str| self.dir.path().join(format!("{host}.{end}"));
        std::fs::write(path("crt"), certificate.pem()).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
        (path("crt"), path("key"))
    }

    fn server(&self, host: &str) -> MariaDb {
        let (certificate, key) = self.pair(host);
        let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
        MariaDb::start_with(&[
            &option("ssl-ca", &self.ca()),
            &option("ssl-cert", &certificate),
            &option("ssl-key", &key),
        ])
    }
}

async fn reads(settings: Settings) -> bool {
    let reader = open_with(&settings).reader();
    reader.first_poll().await;
    matches!(one(&reader, "items", "a").await, Ok(Some(_)))
}

fn refusal(settings: &Settings) -> String {
    match Store::open(settings, &Metrics::new().unwrap()) {
        Err(Error::Setup(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_authority_is_trusted_and_nobody_else() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = authority.server("127.0.0.1");
    let fixture = Fixture::on(&server);
    fixture.publish(&["a;1;"]).await;
    server.set_global("require_secure_transport", "1");
    let url = fixture.database.as_ref().unwrap().reader_url();
    let with = |mode: Option<TlsMode>, ca: Option<PathBuf>| Settings {
        url: url.parse().unwrap(),
        tls_mode: mode,
        tls_ca_path: ca,
        ..Settings::default()
    };
    assert!(reads(with(None, Some(authority.ca()))).await, "verify is the default");
    assert!(reads(with(Some(TlsMode::Verify), Some(authority.ca()))).await);
    assert!(reads(with(Some(TlsMode::Encrypt), None)).await);
    assert!(!reads(with(Some(TlsMode::Verify), None)).await, "browsers do not trust it");
    assert!(!reads(with(None, Some(stranger.ca()))).await);
    assert!(!reads(with(None, None)).await, "the server takes no plain connections");
    // Its certificate is for another host.
    let other = authority.server("database.example");
    let elsewhere = Fixture::on(&other);
    elsewhere.publish(&["a;1;"]).await;
    let url = elsewhere.database.as_ref().unwrap().reader_url();
    let of_other = |mode| Settings {
        url: url.parse().unwrap(),
        tls_mode: Some(mode),
        tls_ca_path: Some(authority.ca()),
        ..Settings::default()
    };
    assert!(!reads(of_other(TlsMode::Verify)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_shown_by_updater_and_api() {
    let authority = Authority::new();
    let server = authority.server("127.0.0.1");
    let fixture = Fixture::on(&server);
    let database = fixture.database.as_ref().unwrap();
    for user in ["reader", "writer"] {
        server.execute(&format!("ALTER USER {}_{user}@'127.0.0.1' REQUIRE X509", database.name()));
    }
    let (certificate, key) = authority.pair("client");
    let settings = |url: String| Settings {
        url: url.parse().unwrap(),
        tls_ca_path: Some(authority.ca()),
        tls_certificate_path: Some(certificate.clone()),
        tls_key_path: Some(key.clone()),
        ..Settings::default()
    };
    let fixture = Fixture::of(&settings(database.url()), database.clone());
    fixture.publish(&["a;1;"]).await;
    let url = fixture.database.as_ref().unwrap().reader_url();
    let reader = open_with(&settings(url)).reader();
    until(|| reader.current("items").is_some()).await;
}

#[tokio::test]
async fn settings_of_tls_that_do_not_fit_together_are_refused_by_name() {
    let authority = Authority::new();
    let (certificate, _) = authority.pair("client");
    let plain = || Settings { url: "mysql://u@h/d".parse().unwrap(), ..Settings::default() };
    let missing = Settings { tls_ca_path: Some("/nowhere/ca.pem".into()), ..plain() };
    assert!(refusal(&missing).contains("/nowhere/ca.pem"));
    let half = Settings { tls_certificate_path: Some(certificate), ..plain() };
    assert!(refusal(&half).contains("TABLESWAP_STORE_TLS_KEY_PATH"));
    let off = Settings { tls_mode: Some(TlsMode::Off), tls_ca_path: Some(authority.ca()), ..plain() };
    assert!(refusal(&off).contains("TABLESWAP_STORE_TLS_MODE"));
    let error = "mysql://u:p@h/d?verify_ca=true".parse::<store::StoreUrl>().unwrap_err();
    assert!(error.contains("no parameters") && !error.contains(":p@"), "{error}");
}
