//! Which host names a request may be addressed to: the protection against DNS rebinding.
//!
//! A page of any site can let its own name resolve to this machine; then the browser takes this server for a part of
//! that site, and `Origin` and `Host` agree. But `Host` still names the site. So a server that has no other protection
//! answers only to names that no stranger can own: loopback names, IP addresses, and those that an operator adds.

use std::net::{Ipv4Addr, Ipv6Addr};

use actix_web::dev::RequestHead;
use actix_web::http::header::HOST;
use actix_web::http::uri::Authority;
use serde::Deserialize;

use crate::Problem;

/// Host names that a server answers to beside loopback names and IP addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct AllowedHosts(Vec<String>);

impl TryFrom<String> for AllowedHosts {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let names: Vec<_> = text.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
        let is_name = |name: &String| {
            let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !name.is_empty() && name.bytes().all(is_allowed)
        };
        if names.iter().all(is_name) {
            Ok(Self(names))
        } else {
            Err("expected host names without ports, with commas between them")
        }
    }
}

/// Checks the host that a request names.
#[derive(Debug, Clone)]
pub struct HostCheck {
    is_active: bool,
    allowed: AllowedHosts,
}

impl HostCheck {
    /// One that is not active lets every request pass.
    pub fn new(is_active: bool, allowed: &AllowedHosts) -> Self {
        Self { is_active, allowed: allowed.clone() }
    }

    /// Refuses a request that names a host which this server does not answer to.
    pub fn check(&self, head: &RequestHead) -> Result<(), Problem> {
        if !self.is_active {
            return Ok(());
        }
        // HTTP/2 names the host in the URI, and a client of HTTP/1.1 may do so too.
        let in_uri = head.uri.authority().map(Authority::host);
        let mut in_headers = head.headers.get_all(HOST);
        let are_allowed = in_uri.is_none_or(|name| self.allows(name))
            && in_headers.all(|value| value.to_str().is_ok_and(|host| self.allows(without_port(host))));
        if are_allowed {
            return Ok(());
        }
        Err(Problem::forbidden(
            "this server does not answer to that host name; TABLESWAP_UPDATER_ALLOWED_HOSTS and \
             TABLESWAP_API_ALLOWED_HOSTS add names",
        ))
    }

    fn allows(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        name.is_empty()
            || is_address(name)
            || is_loopback_name(name)
            || self.allowed.0.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
    }
}

fn is_address(name: &str) -> bool {
    match name.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => name.parse::<Ipv4Addr>().is_ok(),
    }
}

fn is_loopback_name(name: &str) -> bool {
    let start = name.len().saturating_sub("localhost".len());
    let is_localhost = name.get(start..).is_some_and(|end| end.eq_ignore_ascii_case("localhost"));
    is_localhost && (start == 0 || name[..start].ends_with('.'))
}

/// The host of `host:port`. What is no port stays, so that it is compared and refused.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn check(host: &str) -> bool {
        let allowed = AllowedHosts::try_from("Updater, tableswap.example".to_owned()).unwrap();
        let request = TestRequest::with_uri("/upload").insert_header((HOST, host)).to_http_request();
        HostCheck::new(true, &allowed).check(request.head()).is_ok()
    }

    #[test]
    fn names_that_no_stranger_can_own_pass_and_all_others_do_not() {
        let own = [
            "localhost",
            "LocalHost:1322",
            "a.localhost:1322",
            "localhost.:1322",
            "127.0.0.1:1322",
            "10.1.2.3",
            "[::1]:1322",
            "[fe80::1]",
            "updater:1322",
            "UPDATER",
            "tableswap.example.",
            "",
        ];
        for host in own {
            assert!(check(host), "{host}");
        }
        let foreign = [
            "evil.example",
            "evil.example:1322",
            "127.0.0.1.evil.example",
            "evillocalhost",
            "localhost.evil.example",
            "127.0.0.1:x",
            "x@127.0.0.1",
            "::1",
            "[::1",
            "127.0.0.1:1322:1",
            "0x7f.1",
            "127.1",
            "2130706433",
        ];
        for host in foreign {
            assert!(!check(host), "{host}");
        }
    }

    #[test]
    fn every_host_that_a_request_names_is_checked_and_none_is_needed() {
        let check = HostCheck::new(true, &AllowedHosts::default());
        let is_allowed = |request: TestRequest| check.check(request.to_http_request().head()).is_ok();
        assert!(is_allowed(TestRequest::with_uri("/upload")));
        assert!(is_allowed(TestRequest::with_uri("https://localhost:1322/upload")));
        assert!(!is_allowed(TestRequest::with_uri("https://evil.example:1322/upload")));
        let request = || TestRequest::with_uri("/").append_header((HOST, "localhost"));
        assert!(!is_allowed(request().append_header((HOST, "evil.example"))));
        assert!(!is_allowed(TestRequest::with_uri("/").append_header((HOST, &b"\xff"[..]))));
        let inactive = HostCheck::new(false, &AllowedHosts::default());
        let request = TestRequest::with_uri("/").insert_header((HOST, "evil.example")).to_http_request();
        assert!(inactive.check(request.head()).is_ok());
    }

    #[test]
    fn what_is_no_list_of_names_is_refused() {
        for text in ["a,,b", "a:1322", "http://a", "*"] {
            assert!(AllowedHosts::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
