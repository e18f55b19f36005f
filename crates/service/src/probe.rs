//! `api health` and `updater health`: asks the server beside it whether it is alive, for images that have nothing else
//! to ask with.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ureq::Agent;
use ureq::tls::TlsConfig;

/// What a healthy server may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the server that listens there. Whose certificate it shows is of no interest here.
pub async fn probe(listen: SocketAddr, is_tls: bool) -> io::Result<()> {
    let here = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let scheme = if is_tls { "https" } else { "http" };
    let url = format!("{scheme}://{}/healthz", SocketAddr::new(here, listen.port()));
    let tls = TlsConfig::builder().disable_verification(true).build();
    let config = Agent::config_builder().timeout_global(Some(PATIENCE)).tls_config(tls);
    // Nobody stands between a server and itself.
    let agent: Agent = config.proxy(None).build().into();
    let asked = tokio::task::spawn_blocking(move || agent.get(&url).call());
    asked.await?.map(drop).map_err(io::Error::other)
}
