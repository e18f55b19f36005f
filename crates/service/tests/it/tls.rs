//! A server that speaks TLS, asked by curl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::Duration;

use prometheus::Registry;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use service::TlsPaths;
use tempfile::TempDir;
use testkit::{http, until};

use crate::site::{Site, TlsFiles, log};

/// Longer than it takes to look at the files twice.
const TWO_LOOKS: Duration = Duration::from_millis(4500);

/// Where a certificate for `localhost`, its key and the authority that made it are written.
pub(crate) struct Files(TempDir);

impl Files {
    /// Files with a pair of this authority.
    pub(crate) fn of(authority: &str) -> Self {
        let files = Self(TempDir::new().unwrap());
        files.put(&files.path(""), authority);
        files
    }

    /// Writes a pair of this authority into a directory, and the authority beside all.
    fn put(&self, directory: &Path, authority: &str) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, authority);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &issuer).unwrap();
        fs::write(self.path(authority), issuer.pem()).unwrap();
        fs::write(directory.join("tls.crt"), certificate.pem()).unwrap();
        fs::write(directory.join("tls.key"), key.serialize_pem()).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn start(&self) -> Site {
        Site::start_tls(TlsFiles {
            certificate: self.path("tls.crt"),
            key: self.path("tls.key"),
            client_ca: None,
        })
    }

    /// A curl that trusts this authority alone.
    fn curl(&self, authority: &str, site: &Site, args: &[&str]) -> Command {
        let mut curl = Command::new("curl");
        let resolve = format!("localhost:{}:127.0.0.1", site.port);
        curl.args(["--disable", "--silent", "--show-error", "--noproxy", "*", "--resolve", &resolve]);
        curl.arg("--cacert").arg(self.path(authority)).args(args);
        curl
    }

    /// What curl prints for `/healthz`, its body and what `print` asks for.
    fn ask(&self, authority: &str, site: &Site, args: &[&str]) -> Output {
        let url = format!("https://localhost:{}/healthz", site.port);
        let print = ["--write-out", " %{http_code} %{http_version}", &url];
        self.curl(authority, site, &[args, &print].concat()).output().unwrap()
    }

    fn is_trusted(&self, authority: &str, site: &Site) -> bool {
        self.ask(authority, site, &[]).status.success()
    }

    /// Why there is no TLS with these files, here called DIR.
    fn refusal(&self, certificate: &str, key: &str) -> String {
        let (certificate, key) = (self.path(certificate), self.path(key));
        let error =
            service::tls_config("API", paths(Some(&certificate), Some(&key)), &Registry::new()).unwrap_err();
        service::chain(&error).replace(self.0.path().to_str().unwrap(), "DIR")
    }
}

fn paths<'a>(certificate: Option<&'a Path>, key: Option<&'a Path>) -> TlsPaths<'a> {
    TlsPaths { certificate, key, client_ca: None }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn http_1_and_http_2_are_spoken_over_tls_1_2_and_1_3() {
    let files = Files::of("a");
    let site = files.start();
    let ask = |args: &[&str]| text(&files.ask("a", &site, args));
    insta::assert_snapshot!(ask(&["--http1.1"]), @r#"{"status":"ok"} 200 1.1"#);
    insta::assert_snapshot!(ask(&["--http2"]), @r#"{"status":"ok"} 200 2"#);
    insta::assert_snapshot!(ask(&["--tls-max", "1.2"]), @r#"{"status":"ok"} 200 2"#);
    insta::assert_snapshot!(ask(&["--tlsv1.3"]), @r#"{"status":"ok"} 200 2"#);
}

#[test]
fn a_body_arrives_over_http_2_and_a_refusal_comes_back_although_it_was_not_read() {
    let files = Files::of("a");
    let site = files.start();
    let post = |path: &str, body: &str| {
        let url = format!("https://localhost:{}{path}", site.port);
        text(&files.curl("a", &site, &["--http2", "--data-binary", body, &url]).output().unwrap())
    };
    insta::assert_snapshot!(post("/bytes", "8 bytes."), @"bytes");
    // Once would succeed by luck.
    let refusals: std::collections::BTreeSet<_> =
        (0..10).map(|_| post("/bytes", "more than 8 bytes")).collect();
    insta::assert_snapshot!(Vec::from_iter(refusals).join("\n"), @r#"{"type":"urn:tableswap:problem:too-large","title":"Payload Too Large","status":413,"detail":"the body is larger than is taken here"}"#);
}

#[test]
fn a_client_needs_a_certificate_of_the_authority_where_there_is_one() {
    let (files, clients) = (Files::of("a"), Files::of("clients"));
    let site = Site::start_tls(TlsFiles {
        certificate: files.path("tls.crt"),
        key: files.path("tls.key"),
        client_ca: Some(clients.path("clients")),
    });
    let with = |pair: &Files| {
        let (certificate, key) = (pair.path("tls.crt"), pair.path("tls.key"));
        let args = ["--cert", certificate.to_str().unwrap(), "--key", key.to_str().unwrap()];
        files.ask("a", &site, &args)
    };
    insta::assert_snapshot!(text(&with(&clients)), @r#"{"status":"ok"} 200 2"#);
    for refused in [files.ask("a", &site, &[]), with(&files)] {
        assert!(!refused.status.success(), "{}", text(&refused));
    }
    let error = service::tls_config(
        "API",
        TlsPaths { client_ca: Some(Path::new("ca")), ..TlsPaths::default() },
        &Registry::new(),
    );
    insta::assert_snapshot!(error.unwrap_err(), @"TABLESWAP_API_TLS_CLIENT_CA_PATH is set but TABLESWAP_API_TLS_CERTIFICATE_PATH is not: TLS needs both");
}

#[test]
fn a_plain_request_gets_no_answer() {
    let files = Files::of("a");
    let site = files.start();
    let answer = http::try_get(site.port, "/healthz");
    assert!(answer.is_err(), "{answer:?}");
    let url = format!("http://localhost:{}/healthz", site.port);
    let plain = files.curl("a", &site, &[&url]).output().unwrap();
    assert!(!plain.status.success() && plain.stdout.is_empty(), "{}", text(&plain));
}

#[test]
fn a_secret_that_kubernetes_replaces_is_served_and_open_connections_stay() {
    let files = Files(TempDir::new().unwrap());
    for (secret, authority) in [("1", "a"), ("2", "b")] {
        fs::create_dir(files.path(secret)).unwrap();
        files.put(&files.path(secret), authority);
    }
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, files.path(name)).unwrap();
    link("1", "..data");
    link("..data/tls.crt", "tls.crt");
    link("..data/tls.key", "tls.key");
    let site = files.start();
    let url = format!("https://localhost:{}/healthz", site.port);
    // Two requests on one connection, six seconds apart.
    let open = ["--rate", "10/m", "--write-out", " %{num_connects} ", &url, &url];
    let open = files.curl("a", &site, &open).stdout(std::process::Stdio::piped()).spawn().unwrap();
    assert!(files.is_trusted("a", &site) && !files.is_trusted("b", &site));
    link("2", "..next");
    fs::rename(files.path("..next"), files.path("..data")).unwrap();
    until(|| files.is_trusted("b", &site));
    assert!(!files.is_trusted("a", &site));
    let open = open.wait_with_output().unwrap();
    assert_eq!(text(&open), r#"{"status":"ok"} 1 {"status":"ok"} 0 "#);
}

#[test]
fn a_broken_pair_leaves_the_old_one_in_use_and_is_logged_once() {
    let (files, next) = (Files::of("a"), Files::of("b"));
    let site = files.start();
    fs::copy(next.path("b"), files.path("b")).unwrap();
    fs::copy(next.path("tls.crt"), files.path("tls.crt")).unwrap();
    let directory = files.0.path().to_str().unwrap();
    let said = || log().with(directory).join("\n").replace(directory, "DIR");
    until(|| !said().is_empty());
    sleep(TWO_LOOKS);
    assert!(files.is_trusted("a", &site));
    insta::assert_snapshot!(said(), @r#""level":"ERROR","message":"the new TLS certificate cannot be used, the old one stays in use","error":"the key in DIR/tls.key is not the one of the first certificate in DIR/tls.crt","target":"service::tls"}"#);
    fs::copy(next.path("tls.key"), files.path("tls.key")).unwrap();
    until(|| files.is_trusted("b", &site));
    insta::assert_snapshot!(log().with(directory)[1..].join("\n").replace(directory, "DIR"), @r#""level":"INFO","message":"the new TLS certificate is in use","certificate":"DIR/tls.crt","target":"service::tls"}"#);
}

#[test]
fn a_start_with_files_that_cannot_be_used_is_refused_and_they_are_named() {
    let (files, other) = (Files::of("a"), Files::of("a"));
    fs::copy(other.path("tls.key"), files.path("other.key")).unwrap();
    fs::write(files.path("text"), "not PEM").unwrap();
    fs::write(files.path("cut"), "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n").unwrap();
    insta::assert_snapshot!(files.refusal("tls.crt", "other.key"), @"the key in DIR/other.key is not the one of the first certificate in DIR/tls.crt");
    insta::assert_snapshot!(files.refusal("none", "tls.key"), @"cannot read DIR/none: entity not found");
    insta::assert_snapshot!(files.refusal("tls.crt", ""), @"cannot read DIR/: is a directory");
    insta::assert_snapshot!(files.refusal("text", "tls.key"), @"DIR/text: no chain of certificates in PEM");
    insta::assert_snapshot!(files.refusal("cut", "tls.key"), @"cannot use DIR/cut: invalid peer certificate: BadEncoding");
    insta::assert_snapshot!(files.refusal("tls.crt", "tls.crt"), @"DIR/tls.crt: no private key in PEM, which must be PKCS#8, PKCS#1 or SEC1 and not encrypted");
}

#[test]
fn one_setting_without_the_other_is_refused_by_name() {
    let refusal = |certificate: Option<&str>, key: Option<&str>| {
        service::tls_config("API", paths(certificate.map(Path::new), key.map(Path::new)), &Registry::new())
            .unwrap_err()
            .to_string()
    };
    insta::assert_snapshot!(refusal(Some("a"), None), @"TABLESWAP_API_TLS_CERTIFICATE_PATH is set but TABLESWAP_API_TLS_KEY_PATH is not: TLS needs both");
    insta::assert_snapshot!(refusal(None, Some("a")), @"TABLESWAP_API_TLS_KEY_PATH is set but TABLESWAP_API_TLS_CERTIFICATE_PATH is not: TLS needs both");
    assert!(service::tls_config("API", TlsPaths::default(), &Registry::new()).unwrap().is_none());
}

#[tokio::test]
async fn a_key_is_never_shown() {
    let files = Files::of("a");
    let config = service::tls_config(
        "API",
        paths(Some(&files.path("tls.crt")), Some(&files.path("tls.key"))),
        &Registry::new(),
    );
    assert!(format!("{config:?}").contains("cert_resolver: Newest { .. }"));
    // A key that has lost its line ends is one long first line.
    let key = fs::read_to_string(files.path("tls.key")).unwrap().replace('\n', " ");
    fs::write(files.path("tls.key"), &key).unwrap();
    let error = service::tls_config(
        "API",
        paths(Some(&files.path("tls.crt")), Some(&files.path("tls.key"))),
        &Registry::new(),
    );
    let shown = format!("{error:?} {}", files.refusal("tls.crt", "tls.key"));
    let as_numbers = format!("{:?}", &key.as_bytes()[40..60]);
    assert!(shown.contains("no private key in PEM"), "{shown}");
    assert!(!shown.contains(&key[40..60]) && !shown.contains(as_numbers.trim_matches(['[', ']'])), "{shown}");
}
