//! The address that a request comes from, also behind proxies.

use std::net::{IpAddr, Ipv6Addr};

use actix_web::dev::RequestHead;
use serde::Deserialize;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Proxies whose `X-Forwarded-For` is believed: addresses and networks such as `10.0.0.0/8`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TrustedProxies(Vec<Network>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl TryFrom<String> for TrustedProxies {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let networks = text.split(',').map(|part| Network::parse(part.trim())).collect::<Option<_>>();
        networks
            .map(Self)
            .ok_or("expected addresses or networks such as 10.0.0.0/8, with commas between them")
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = bits.map_or(Some(bits_max), |bits| bits.parse().ok())?;
        (prefix_bits <= bits_max).then_some(Self { address, prefix_bits })
    }

    fn contains(self, address: IpAddr) -> bool {
        if self.address.is_ipv4() != address.is_ipv4() {
            return false;
        }
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let shift = bits_max - u32::from(self.prefix_bits);
        let differs = as_number(self.address) ^ as_number(address);
        differs.checked_shr(shift).unwrap_or(0) == 0
    }
}

fn as_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl TrustedProxies {
    /// The address of a request's client: that of the connection, or, if a trusted proxy opened it, the last address in
    /// `X-Forwarded-For` that is not a trusted proxy. What stands further left is whatever the client claims.
    pub fn client(&self, head: &RequestHead) -> IpAddr {
        let peer = head.peer_addr.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |peer| peer.ip().to_canonical());
        if self.0.is_empty() || !self.trusts(peer) {
            return peer;
        }
        let values: Vec<_> = head.headers.get_all(FORWARDED_FOR).collect();
        let mut client = peer;
        for value in values.into_iter().rev() {
            let Ok(value) = value.to_str() else { return client };
            for hop in value.rsplit(',') {
                let Ok(address) = hop.trim().parse::<IpAddr>() else { return client };
                client = address.to_canonical();
                if !self.trusts(client) {
                    return client;
                }
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let proxies = TrustedProxies::try_from("10.0.0.0/8, 192.0.2.1, fd00::/8".to_owned()).unwrap();
        let mut request = TestRequest::default().peer_addr(format!("{peer}:9").parse().unwrap());
        for value in forwarded {
            request = request.append_header((FORWARDED_FOR, *value));
        }
        proxies.client(request.to_http_request().head()).to_string()
    }

    #[test]
    fn only_what_a_trusted_proxy_adds_is_believed() {
        assert_eq!(client("203.0.113.9", &["1.2.3.4"]), "203.0.113.9");
        assert_eq!(client("10.9.9.9", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(client("10.9.9.9", &["6.6.6.6, 1.2.3.4"]), "1.2.3.4");
        assert_eq!(client("10.9.9.9", &["6.6.6.6, 1.2.3.4, 192.0.2.1"]), "1.2.3.4");
        assert_eq!(client("10.9.9.9", &["1.2.3.4", "192.0.2.1"]), "1.2.3.4");
        assert_eq!(client("10.9.9.9", &["nonsense"]), "10.9.9.9");
        assert_eq!(client("10.9.9.9", &[]), "10.9.9.9");
        assert_eq!(client("[fd00::1]", &["2001:db8::1"]), "2001:db8::1");
        assert_eq!(client("[::ffff:10.0.0.1]", &["1.2.3.4"]), "1.2.3.4");
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "proxy", "10.0.0.0/x", "::/129", "10.0.0.1,"] {
            assert!(TrustedProxies::try_from(text.to_owned()).is_err(), "{text}");
        }
        let all = TrustedProxies::try_from("0.0.0.0/0".to_owned()).unwrap();
        assert!(all.trusts("1.2.3.4".parse().unwrap()) && !all.trusts("::1".parse().unwrap()));
    }
}
