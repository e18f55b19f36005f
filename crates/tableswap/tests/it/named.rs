//! What the shipped deployment asks servers, by the names that it uses: health, checks and metrics stay reachable where
//! host names are checked.

use std::time::Duration;

use testkit::{Server, http, until};

use crate::harness::{Backend, Site, program};

const COMPOSE: &str = include_str!("../../../../docker-compose.yml");
const PROMETHEUS: &str = include_str!("../../../../deploy/prometheus/prometheus.yml");
const HAPROXY: &str = include_str!("../../../../deploy/haproxy/haproxy.cfg");
const KUBERNETES: [&str; 2] = [
    include_str!("../../../../deploy/kubernetes/base/api.yaml"),
    include_str!("../../../../deploy/kubernetes/base/updater.yaml"),
];

/// The value of a variable in docker-compose.yml, with its default.
fn of_compose(variable: &str) -> String {
    let line = COMPOSE.lines().find(|line| line.trim().starts_with(&format!("{variable}:"))).unwrap();
    let value = line.split_once(": ").unwrap().1.trim();
    let default = value.split_once(":-").map(|(_, default)| default.trim_end_matches('}'));
    default.unwrap_or(value).to_owned()
}

/// The status of `GET path` with this host.
fn named(port: u16, path: &str, host: &str) -> u16 {
    http::get_with(port, path, &[("host", host)]).status
}

/// The updater of docker-compose.yml, where writes need no token.
fn updater_of_compose(site: &Site) -> Server {
    let (anonymous, hosts) =
        (of_compose("TABLESWAP_UPDATER_ANONYMOUS_WRITES"), of_compose("TABLESWAP_UPDATER_ALLOWED_HOSTS"));
    assert_eq!(of_compose("TABLESWAP_UPDATER_TOKEN"), "");
    site.updater_with(&[
        ("TABLESWAP_UPDATER_ANONYMOUS_WRITES", &anonymous),
        ("TABLESWAP_UPDATER_ALLOWED_HOSTS", &hosts),
    ])
}

#[test]
fn the_prometheus_of_compose_reaches_the_updater_by_its_name() {
    let site = Site::new(Backend::Embedded);
    let _updater = updater_of_compose(&site);
    let target = PROMETHEUS.split("targets: [").nth(1).unwrap().split(']').next().unwrap();
    assert_eq!(target, "updater:1322");
    assert_eq!(named(site.updater_port, "/prometheus", target), 200);
    assert_eq!(named(site.updater_port, "/prometheus", "evil.example:1322"), 403);
}

#[test]
fn whoever_uses_compose_reaches_the_updater_as_localhost() {
    let site = Site::new(Backend::Embedded);
    let _updater = updater_of_compose(&site);
    for host in ["localhost:1322", "127.0.0.1:1322"] {
        assert_eq!(named(site.updater_port, "/datasets", host), 200, "{host}");
    }
}

#[test]
fn the_checks_of_haproxy_pass() {
    assert!(HAPROXY.contains("option httpchk GET /readyz\n"), "the check that this test makes");
    let site = Site::new(Backend::Embedded);
    let (_updater, _api) = (site.updater(), site.api());
    assert_eq!(site.upload(testkit::rows::promotions_csv(10, 1).as_bytes()).status, 200);
    // What HAProxy sends is HTTP/1.0 without a host.
    until(|| http::request(site.api_port, b"GET /readyz HTTP/1.0\r\n\r\n").status == 200);
}

#[test]
fn the_probes_of_a_kubelet_pass() {
    for objects in KUBERNETES {
        assert!(objects.contains("httpGet: {path: /readyz, port: http}") && !objects.contains("httpHeaders"));
    }
    let site = Site::new(Backend::Embedded);
    let (_updater, _api) = (site.updater(), site.api());
    // A kubelet names the address of the pod.
    for (port, pod) in [(site.updater_port, "10.1.2.3:1322"), (site.api_port, "[fd00::1]:1321")] {
        assert_eq!(named(port, "/healthz", pod), 200);
    }
}

#[test]
fn malformed_requests_are_counted_and_not_logged() {
    let site = Site::new(Backend::Embedded);
    let updater = site.updater();
    for _ in 0..99 {
        let answer = http::try_request(site.updater_port, b"NO\x01NSENSE\r\n\r\n");
        // The parser answers by itself, and says nothing.
        assert!(answer.is_ok_and(|answer| answer.status == 400 && answer.body.is_empty()));
    }
    let count = || {
        let metrics = http::get(site.updater_port, "/prometheus").text();
        let line = metrics.lines().find_map(|line| line.strip_prefix("http_malformed_requests_total "));
        line.unwrap().parse::<u64>().unwrap()
    };
    until(|| count() == 99);
    assert!(!updater.log().contains("ERROR"), "{}", updater.log());
}

#[test]
fn the_first_load_is_left_to_those_who_have_a_token_of_the_file() {
    let site = Site::new(Backend::Embedded);
    let list = format!("[[tokens]]\nname = \"a\"\nsha256 = \"{}\"\nrole = \"operate\"\n", "0".repeat(64));
    let (file, tokens) = (site.file("1.csv", "x"), site.file("tokens.toml", list));
    let listen = (format!("127.0.0.1:{}", site.updater_port), format!("127.0.0.1:{}", site.api_port));
    let env = [
        ("TABLESWAP_UPDATER_LISTEN", listen.0.as_str()),
        ("TABLESWAP_API_LISTEN", &listen.1),
        ("TABLESWAP_UPDATER_TOKENS_FILE", &tokens),
    ];
    let server = Server::spawn(program("tableswap"), &["serve", "--first-load", &file], &env);
    until(|| server.log().contains("the first load is left to whoever has the token"));
    server.terminate();
    assert!(server.wait(Duration::from_secs(20)).success(), "{}", server.log());
}
