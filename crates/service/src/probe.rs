//! `api health` and `updater health`: asks the server beside it whether it is alive, for images that have nothing else
//! to ask with.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use ureq::Agent;
use ureq::tls::TlsConfig;

use crate::TlsPaths;

/// What a healthy server may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// How the server that is asked is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
    /// HTTP over TLS, for clients with a certificate alone: all that can be asked is whether it accepts connections.
    HttpsOfClients,
}

impl Scheme {
    /// What a port with these files speaks.
    pub fn of(paths: TlsPaths<'_>) -> Self {
        match (paths.certificate, paths.client_ca) {
            (None, _) => Self::Http,
            (Some(_), None) => Self::Https,
            (Some(_), Some(_)) => Self::HttpsOfClients,
        }
    }
}

/// Asks the server that listens there. Whose certificate it shows is of no interest here.
pub async fn probe(listen: SocketAddr, scheme: Scheme) -> io::Result<()> {
    let here = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let scheme = match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
        Scheme::HttpsOfClients => {
            let connect = TcpStream::connect(SocketAddr::new(here, listen.port()));
            return tokio::time::timeout(PATIENCE, connect).await?.map(drop);
        }
    };
    let url = format!("{scheme}://{}/healthz", SocketAddr::new(here, listen.port()));
    let tls = TlsConfig::builder().disable_verification(true).build();
    let config = Agent::config_builder().timeout_global(Some(PATIENCE)).tls_config(tls);
    // Nobody stands between a server and itself.
    let agent: Agent = config.proxy(None).build().into();
    let asked = tokio::task::spawn_blocking(move || agent.get(&url).call());
    asked.await?.map(drop).map_err(io::Error::other)
}
