//! Settings of the section `API`.

use std::net::SocketAddr;
use std::path::PathBuf;

use actix_web::http::header::HeaderValue;
use serde::Deserialize;
use service::settings::listen_address;
use service::{AllowedHosts, TlsPaths, TrustedProxies};

/// What an operator can set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address and port to listen on. Default: `127.0.0.1:1321`.
    #[serde(deserialize_with = "listen_address")]
    pub listen: SocketAddr,
    /// PEM file with the chain of certificates; with the key's file it makes the port speak TLS. Default: none.
    pub tls_certificate_path: Option<PathBuf>,
    /// PEM file with the private key. Default: none.
    pub tls_key_path: Option<PathBuf>,
    /// PEM file with the authorities of client certificates, which every client then needs. Default: none.
    pub tls_client_ca_path: Option<PathBuf>,
    /// Refuse to start without TLS. Default: `false`.
    pub require_tls: bool,
    /// Host names that requests may name beside loopback names and addresses while the address is a loopback one.
    /// Default: none.
    pub allowed_hosts: AllowedHosts,
    /// A TOML file with the tokens that requests must bring. Default: none, so that anybody may read.
    pub tokens_file: Option<PathBuf>,
    /// Proxies whose `X-Forwarded-For` is believed. Default: none.
    pub trusted_proxies: TrustedProxies,
    /// Bytes of rows in one answer to a request for many keys. Default: 16 MiB.
    pub response_bytes_max: usize,
    /// Bytes of rows in all such answers that are not yet sent. Default: 256 MiB.
    pub all_responses_bytes_max: usize,
    /// How long a client may take nothing of an answer, in seconds. Default: 30.
    pub send_timeout_seconds: u64,
    /// Threads that answer requests. Default: one for each processor.
    pub workers: usize,
    /// Open connections of one thread. Default: 25000.
    pub connections_max: usize,
    /// Requests that may wait for the store at once; those above are answered 503. Default: 10000.
    pub requests_max: usize,
    /// What stands in the header `cache-control` of an answer with a row. Default: none, so that it is not sent.
    pub cache_control: Option<CacheControl>,
    /// How long an idle connection stays open, in seconds. Default: 75.
    pub keep_alive_seconds: u64,
    /// From a signal to stop until connections are closed, in seconds. Default: 0.
    pub stop_notice_seconds: u64,
    /// How long open requests then have to end, in seconds. Default: 30.
    pub stop_wait_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 1321)),
            tls_certificate_path: None,
            tls_key_path: None,
            tls_client_ca_path: None,
            require_tls: false,
            allowed_hosts: AllowedHosts::default(),
            tokens_file: None,
            trusted_proxies: TrustedProxies::default(),
            response_bytes_max: 16 << 20,
            all_responses_bytes_max: 256 << 20,
            send_timeout_seconds: 30,
            workers: std::thread::available_parallelism().map_or(2, usize::from),
            connections_max: 25_000,
            requests_max: 10_000,
            cache_control: None,
            keep_alive_seconds: 75,
            stop_notice_seconds: 0,
            stop_wait_seconds: 30,
        }
    }
}

impl Settings {
    /// The files for TLS.
    pub fn tls_paths(&self) -> TlsPaths<'_> {
        TlsPaths {
            certificate: self.tls_certificate_path.as_deref(),
            key: self.tls_key_path.as_deref(),
            client_ca: self.tls_client_ca_path.as_deref(),
        }
    }
}

/// The value of a header.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct CacheControl(pub(crate) HeaderValue);

impl TryFrom<String> for CacheControl {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        HeaderValue::from_str(&text).map(Self).map_err(|_| "it cannot stand in a header")
    }
}
