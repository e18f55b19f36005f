//! Stopping in order.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use testkit::rows::promotions_csv;
use testkit::{http, until};

use crate::harness::{BACKENDS, Backend, Site, printed, program};

#[test]
fn a_signal_ends_a_running_load_cleanly_and_the_second_start_needs_no_repair() {
    for backend in BACKENDS {
        let site = Site::new(backend);
        let updater = site.updater();
        assert_eq!(site.upload(promotions_csv(100, 1).as_bytes()).status, 200);
        let mut slow = http::connect(site.updater_port).unwrap();
        let head =
            http::head("PUT", "/datasets/promotions", site.updater_port, &[("content-length", "100000")]);
        slow.write_all((head + &promotions_csv(10, 2)).as_bytes()).unwrap();
        until(|| http::get(site.updater_port, "/loads").text().contains("\"phase\":\"receiving\""));
        updater.terminate();
        let answer = http::read_response(&mut std::io::BufReader::new(slow), false).unwrap();
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(updater.wait(Duration::from_secs(20)).success(), "{}", updater.log());
        assert!(updater.log().contains("outcome=\"cancelled\""), "{}", updater.log());
        let _updater = site.updater();
        assert_eq!(site.live(), Some(1));
        assert_eq!(site.upload(promotions_csv(100, 3).as_bytes()).status, 200);
    }
}

#[test]
fn a_program_asks_its_own_server_for_its_health() {
    let site = Site::new(Backend::Embedded);
    let health = |port: u16| {
        let listen = format!("0.0.0.0:{port}");
        let ask =
            Command::new(program("api")).arg("health").env("TABLESWAP_API_LISTEN", listen).output().unwrap();
        (ask.status.success(), String::from_utf8(ask.stderr).unwrap())
    };
    let (is_well, why) = health(site.api_port);
    assert!(!is_well && why.contains("Connection refused"), "{why}");
    let _api = site.api();
    assert_eq!(health(site.api_port), (true, String::new()));
}

#[test]
fn the_command_asks_both_servers_of_serve_for_their_health() {
    let site = Site::new(Backend::Embedded);
    let health = || {
        let mut ask = Command::new(program("tableswap"));
        for (section, port) in [("UPDATER", site.updater_port), ("API", site.api_port)] {
            ask.env(format!("TABLESWAP_{section}_LISTEN"), format!("127.0.0.1:{port}"));
        }
        // Nobody stands between a server and itself.
        printed(&ask.env("HTTP_PROXY", "http://127.0.0.1:9").arg("health").output().unwrap())
    };
    let away = health();
    assert!(away.starts_with("updater: ") && away.ends_with("exit 1"), "{away}");
    let _updater = site.updater();
    let away = health();
    assert!(away.starts_with("updater: ok\napi: ") && away.ends_with("exit 1"), "{away}");
    let _api = site.api();
    assert_eq!(health(), "updater: ok\napi: ok\nexit 0");
}

#[test]
fn readiness_goes_before_the_port_does() {
    let site = Site::new(Backend::Embedded);
    let updater = site.updater_with(&[("TABLESWAP_UPDATER_STOP_NOTICE_SECONDS", "2")]);
    assert_eq!(http::get(site.updater_port, "/readyz").status, 200);
    updater.terminate();
    until(|| http::get(site.updater_port, "/readyz").status == 503);
    assert_eq!(http::get(site.updater_port, "/healthz").status, 200);
    assert!(updater.wait(Duration::from_secs(20)).success(), "{}", updater.log());
}

#[test]
fn a_setting_that_is_wrong_stops_the_start_and_is_named() {
    let site = Site::new(Backend::Embedded);
    for (name, value, says) in [
        ("TABLESWAP_UPDATER_LISTENN", "x", "TABLESWAP_UPDATER_LISTENN is no setting"),
        (
            "TABLESWAP_UPDATER_WORKERS",
            "many",
            "TABLESWAP_UPDATER_WORKERS: expected a whole number, got `many`",
        ),
        (
            "TABLESWAP_STORE_URL",
            "postgres://u:s3cret@h/d",
            "TABLESWAP_STORE_URL: expected embedded:DIRECTORY or mysql://",
        ),
        ("TABLESWAP_LOG_LEVEL", "loud=louder", "TABLESWAP_LOG_LEVEL: expected error, warn"),
        ("TABLESWAP_LOG_LEVEL", "inof", "TABLESWAP_LOG_LEVEL: expected error, warn"),
        ("TABLESWAP_UPDATER_TOKEN_FILE", "/dev/null", "TABLESWAP_UPDATER_TOKEN_FILE: /dev/null is empty"),
        (
            "TABLESWAP_UPDATER_DATASETS",
            "/no/such.toml",
            "TABLESWAP_UPDATER_DATASETS: cannot read /no/such.toml",
        ),
    ] {
        let server = testkit::Server::spawn(program("updater"), &[], &[(name, value)]);
        assert_eq!(server.wait(Duration::from_secs(20)).code(), Some(1), "{name}");
        assert!(server.log().contains(says) && !server.log().contains("s3cret"), "{}", server.log());
    }
    let port = format!("127.0.0.1:{}", site.updater_port);
    let _taken = std::net::TcpListener::bind(&port).unwrap();
    let server = testkit::Server::spawn(program("updater"), &[], &[("TABLESWAP_UPDATER_LISTEN", &port)]);
    server.wait(Duration::from_secs(20));
    assert!(server.log().contains(&format!("cannot listen on {port}")), "{}", server.log());
}

#[test]
fn logs_are_lines_of_json_where_they_are_wanted_and_hold_no_secret() {
    let site = Site::new(Backend::Mariadb);
    let updater = site.updater_with(&[("TABLESWAP_LOG_FORMAT", "json"), ("TABLESWAP_LOG_LEVEL", "debug")]);
    assert_eq!(site.upload(promotions_csv(10, 1).as_bytes()).status, 200);
    assert_eq!(site.upload(b"nonsense").status, 422);
    until(|| updater.log().matches("load ended").count() == 2);
    let lines: Vec<serde_json::Value> =
        updater.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ended: Vec<_> = lines.iter().filter(|line| line["message"] == "load ended").collect();
    assert_eq!((ended[0]["dataset"].as_str(), ended[0]["rows"].as_u64()), (Some("promotions"), Some(10)));
    assert_eq!((ended[1]["level"].as_str(), ended[1]["outcome"].as_str()), (Some("WARN"), Some("refused")));
    assert!(ended.iter().all(|line| line["load"].is_string()));
    assert!(!updater.log().contains(testkit::PASSWORD));
}
