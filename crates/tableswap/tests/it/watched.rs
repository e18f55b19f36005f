//! Both servers under a real Prometheus with the rules that are shipped: every query of dashboard and alerts finds
//! something.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value as Json;
use testkit::rows::{promotion_id, promotions_csv};
use testkit::{Replication, Server, http, until};

use crate::harness::{Backend, Site, json};

const PROMETHEUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/usr/bin/prometheus");
const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");

/// A Prometheus that looks every second.
struct Prometheus {
    port: u16,
    server: Server,
}

impl Prometheus {
    fn start(site: &Site) -> Self {
        let rules = site.dir.path().join("rules");
        std::fs::create_dir(&rules).unwrap();
        for file in std::fs::read_dir(Path::new(DEPLOY).join("prometheus/rules")).unwrap().map(Result::unwrap)
        {
            // What is only looked at now and then would make the test wait for it.
            let text = std::fs::read_to_string(file.path()).unwrap().replace("interval: 1m", "interval: 1s");
            std::fs::write(rules.join(file.file_name()), text).unwrap();
        }
        let configuration = format!(
            r#"
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{}/*.yml"]
scrape_configs:
  - job_name: tableswap-api
    metrics_path: /prometheus
    static_configs: [{{targets: ["127.0.0.1:{}"]}}]
  - job_name: tableswap-updater
    metrics_path: /prometheus
    scheme: https
    tls_config: {{insecure_skip_verify: true}}
    static_configs: [{{targets: ["127.0.0.1:{}"]}}]
"#,
            rules.display(),
            site.api_port,
            site.updater_port
        );
        let file = site.file("prometheus.yml", configuration);
        let arguments = [
            format!("--config.file={file}"),
            format!("--storage.tsdb.path={}", site.dir.path().join("tsdb").display()),
            "--web.listen-address=127.0.0.1:0".to_owned(),
        ];
        let server = Server::spawn(PROMETHEUS, &arguments.each_ref().map(String::as_str), &[]);
        let port = server.wait_for_port("msg=\"Listening on\" address=");
        Self { port, server }
    }

    fn ask(&self, path: &str) -> Json {
        let answer = http::get(self.port, path);
        assert_eq!(answer.status, 200, "{path}: {}\n{}", answer.text(), self.server.log());
        json(&answer)["data"].clone()
    }

    /// Whether there is anything that a query finds; what is not a number is nothing, such as the mean of no look-ups.
    fn finds(&self, query: &str) -> bool {
        let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let found = self.ask(&format!("/api/v1/query?query={query}"));
        let series = found["result"].as_array().unwrap();
        series.iter().any(|series| series["value"][1].as_str().unwrap() != "NaN")
    }

    /// Which alerts are told now, or soon.
    fn alerts(&self) -> BTreeSet<String> {
        let alerts = self.ask("/api/v1/alerts");
        let alerts = alerts["alerts"].as_array().unwrap().iter();
        alerts.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }

    /// Each alert's query is of series that are compared; these are what there must be.
    fn signals(&self) -> BTreeSet<String> {
        let rules = self.ask("/api/v1/rules?type=alert");
        let groups = rules["groups"].as_array().unwrap().iter();
        let queries = groups.flat_map(|group| group["rules"].as_array().unwrap());
        queries.flat_map(|rule| selectors(rule["query"].as_str().unwrap())).collect()
    }
}

/// The series of a query: a name, and behind it perhaps labels.
fn selectors(query: &str) -> Vec<String> {
    let is_of_name = |char: char| char.is_ascii_alphanumeric() || "_:".contains(char);
    let starts =
        query.match_indices("tableswap:").chain(query.match_indices("up{")).map(|(at, _)| &query[at..]);
    let selector = |text: &str| {
        let name = text.split(|char| !is_of_name(char)).next().unwrap();
        let labels = text[name.len()..].split_inclusive('}').next().filter(|labels| labels.starts_with('{'));
        name.to_owned() + labels.unwrap_or_default()
    };
    starts.map(selector).collect()
}

/// The queries of all panels.
fn of_dashboard() -> Vec<String> {
    let file = PathBuf::from(DEPLOY).join("grafana/dashboards/tableswap.json");
    let dashboard: Json = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().unwrap().replace("$__rate_interval", "1m")).collect()
}

/// What only a store in databases measures.
const OF_DATABASES: [&str; 4] = [
    "tableswap_store_servers",
    "tableswap_cache_hits_total",
    "tableswap:databases_out:",
    "tableswap:replica_age_seconds:",
];

#[test]
fn every_query_of_dashboard_and_alerts_finds_something_in_databases_and_all_is_quiet() {
    let servers = Replication::start(1);
    let site = Site::on(servers.database());
    let replica = site.database.as_ref().unwrap().reader_url_via(servers.replica(0).port());
    let _api = site.api_with(&[("TABLESWAP_STORE_READ_URLS", &replica)]);
    every_query_finds_something(&site, |_| true);
}

#[test]
fn every_query_of_dashboard_and_alerts_finds_something_in_files_and_all_is_quiet() {
    let site = Site::new(Backend::Embedded);
    let _api = site.api();
    every_query_finds_something(&site, |query| !OF_DATABASES.iter().any(|name| query.contains(name)));
}

/// Loads files, looks keys up, and asks Prometheus until each query that `is_expected` finds something.
fn every_query_finds_something(site: &Site, is_expected: impl Fn(&str) -> bool) {
    let (certificate, key) = site.tls_pair();
    let plain = site.updater();
    assert_eq!(site.upload(promotions_csv(100, 1).as_bytes()).status, 200);
    drop(plain);
    let tls = [
        ("TABLESWAP_UPDATER_TLS_CERTIFICATE_PATH", certificate.as_str()),
        ("TABLESWAP_UPDATER_TLS_KEY_PATH", &key),
    ];
    let updater = site.spawn_updater(&tls);
    let prometheus = Prometheus::start(site);
    until(|| updater.log().contains("updater started"));
    until(|| http::try_get(prometheus.port, "/-/ready").is_ok_and(|answer| answer.status == 200));
    let trusting = |file: &str| {
        let url = format!("https://127.0.0.1:{}/upload", site.updater_port);
        let form = format!("data=@{file}");
        let curl = std::process::Command::new("curl")
            .args(["--disable", "--silent", "--insecure", "--noproxy", "*", "--form", &form, &url])
            .output()
            .unwrap();
        String::from_utf8(curl.stdout).unwrap()
    };
    assert!(trusting(&site.file("2.csv", promotions_csv(110, 2))).contains("published"));
    assert!(trusting(&site.file("bad.csv", "x,1,2\n")).contains("422"));
    let mut missing: Vec<String> = Vec::new();
    let mut queries = of_dashboard();
    assert!(queries.len() > 30);
    queries.extend(prometheus.signals());
    queries.retain(|query| is_expected(query));
    for seed in 3..63 {
        // A rate is of what comes after the first look of Prometheus. The second look-up is answered from memory.
        assert!(trusting(&site.file("more.csv", promotions_csv(110, seed))).contains("published"));
        for _ in 0..2 {
            assert_eq!(site.get(&format!("/promotions/{}", promotion_id(seed, 5))).status, 200);
        }
        queries.retain(|query| !prometheus.finds(query));
        missing.clone_from(&queries);
        if missing.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    assert!(missing.is_empty(), "nothing is found by\n{}\n{}", missing.join("\n"), prometheus.server.log());
    // One file was refused here, and the disk is this machine's; of all else there is nothing to tell.
    // Between the loads above, a scrape can meet an api that has not switched yet.
    let is_expected = |alert: &String| alert == "TableswapFileRefused" || alert.starts_with("TableswapDisk");
    until(|| prometheus.alerts().iter().all(is_expected));
}
