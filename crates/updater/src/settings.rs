//! Settings of the section `UPDATER`.

use std::net::SocketAddr;
use std::path::PathBuf;

use ingest::Limits;
use serde::Deserialize;
use service::settings::listen_address;
use service::{AllowedHosts, Secret, TlsPaths, TrustedProxies};

/// What an operator can set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address and port to listen on. Default: `127.0.0.1:1322`.
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
    /// Host names that requests may name beside loopback names and addresses while writes need no token. Default: none.
    pub allowed_hosts: AllowedHosts,
    /// Proxies whose `X-Forwarded-For` is believed. Default: none.
    pub trusted_proxies: TrustedProxies,
    /// How long a client may take nothing of an answer, in seconds. Default: 30.
    pub send_timeout_seconds: u64,
    /// A TOML file that defines the datasets. Default: the built-in dataset `promotions`.
    pub datasets: Option<PathBuf>,
    /// Directory for sort runs and reports of rejects. Default: `./data/.work`.
    pub work_dir: PathBuf,
    /// A token with all rights, sent as `Authorization: Bearer`. Default: none, for a loopback address only.
    pub token: Option<Secret>,
    /// A TOML file with tokens that have names and roles. Default: none.
    pub tokens_file: Option<PathBuf>,
    /// Let reads pass without a token where there are tokens. Default: `false`.
    pub allow_anonymous_reads: bool,
    /// Take writes without a token on an address that others reach. Default: `false`.
    pub anonymous_writes: bool,
    /// Memory for sorting, in bytes. Default: 128 MiB.
    pub sort_memory_bytes: usize,
    /// Bytes of one upload as they come. Default: 1 TiB.
    pub upload_bytes_max: u64,
    /// Bytes of one upload after unpacking. Default: 1 TiB.
    pub unpacked_bytes_max: u64,
    /// Bytes of one record. Default: 1 MiB.
    pub record_bytes_max: usize,
    /// Rows of one upload. Default: 10,000,000,000.
    pub rows_max: u64,
    /// Rejects that a report keeps; all are counted. Default: 10,000.
    pub report_rows_max: u64,
    /// How long an upload may send nothing, in seconds. Default: 60.
    pub idle_seconds: u64,
    /// How long an upload may take to arrive, in seconds. Default: 21600.
    pub upload_seconds_max: u64,
    /// How far the threads of loads give way to others on the machine: 0 not at all, 19 the most. Default: 10.
    pub load_nice: u8,
    /// Threads that answer requests. Default: 2.
    pub workers: usize,
    /// From a signal to stop until connections are closed, in seconds. Default: 0.
    pub stop_notice_seconds: u64,
    /// How long open requests then have to end, in seconds. Default: 30.
    pub stop_wait_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 1322)),
            tls_certificate_path: None,
            tls_key_path: None,
            tls_client_ca_path: None,
            require_tls: false,
            allowed_hosts: AllowedHosts::default(),
            trusted_proxies: TrustedProxies::default(),
            send_timeout_seconds: 30,
            datasets: None,
            work_dir: "./data/.work".into(),
            token: None,
            tokens_file: None,
            allow_anonymous_reads: false,
            anonymous_writes: false,
            sort_memory_bytes: limits.sort_memory_bytes,
            upload_bytes_max: limits.bytes_max,
            unpacked_bytes_max: limits.unpacked_bytes_max,
            record_bytes_max: limits.record_bytes_max,
            rows_max: limits.rows_max,
            report_rows_max: limits.report_rows_max,
            idle_seconds: 60,
            upload_seconds_max: 21_600,
            load_nice: 10,
            workers: 2,
            stop_notice_seconds: 0,
            stop_wait_seconds: 30,
        }
    }
}

impl Settings {
    /// Whether anybody who reaches the address may write.
    pub(crate) fn is_open(&self) -> bool {
        !self.has_tokens() && !self.anonymous_writes && !self.listen.ip().is_loopback()
    }

    /// Whether a write needs a token.
    pub fn has_tokens(&self) -> bool {
        self.token.is_some() || self.tokens_file.is_some()
    }

    /// The files for TLS.
    pub fn tls_paths(&self) -> TlsPaths<'_> {
        TlsPaths {
            certificate: self.tls_certificate_path.as_deref(),
            key: self.tls_key_path.as_deref(),
            client_ca: self.tls_client_ca_path.as_deref(),
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            bytes_max: self.upload_bytes_max,
            unpacked_bytes_max: self.unpacked_bytes_max,
            record_bytes_max: self.record_bytes_max,
            rows_max: self.rows_max,
            report_rows_max: self.report_rows_max,
            sort_memory_bytes: self.sort_memory_bytes,
            ..Limits::default()
        }
    }
}
