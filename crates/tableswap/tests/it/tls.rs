//! TLS as an operator turns it on.

use std::process::Command;
use std::time::Duration;

use testkit::rows::promotions_csv;
use testkit::{Server, until};

use crate::harness::{Backend, Site, printed, program};

#[test]
fn both_servers_speak_tls_and_the_first_load_is_left_to_who_can_verify_them() {
    let site = Site::new(Backend::Embedded);
    let (certificate, key) = site.tls_pair();
    let (updater, api) = (format!("127.0.0.1:{}", site.updater_port), format!("127.0.0.1:{}", site.api_port));
    let env = [
        ("TABLESWAP_UPDATER_LISTEN", updater.as_str()),
        ("TABLESWAP_UPDATER_TLS_CERTIFICATE_PATH", &certificate),
        ("TABLESWAP_UPDATER_TLS_KEY_PATH", &key),
        ("TABLESWAP_API_LISTEN", &api),
        ("TABLESWAP_API_TLS_CERTIFICATE_PATH", &certificate),
        ("TABLESWAP_API_TLS_KEY_PATH", &key),
    ];
    let file = site.file("promotions.csv", promotions_csv(10, 1));
    let server = Server::spawn(program("tableswap"), &["serve", "--first-load", &file], &env);
    until(|| server.log().contains("the first load is left to whoever can verify the updater's certificate"));
    for port in [site.updater_port, site.api_port] {
        let url = format!("https://localhost:{port}/healthz");
        let resolve = format!("localhost:{port}:127.0.0.1");
        let mut curl = Command::new("curl");
        curl.args(["--disable", "--silent", "--show-error", "--noproxy", "*", "--resolve", &resolve]);
        let answer = curl.args(["--cacert", &certificate, &url]).output().unwrap();
        assert_eq!(printed(&answer), r#"{"status":"ok"}exit 0"#);
    }
}

#[test]
fn a_certificate_without_its_key_stops_the_start_of_either_server() {
    for (server, section) in [("updater", "UPDATER"), ("api", "API")] {
        let listen = format!("TABLESWAP_{section}_LISTEN");
        let certificate = format!("TABLESWAP_{section}_TLS_CERTIFICATE_PATH");
        let env = [(listen.as_str(), "127.0.0.1:0"), (certificate.as_str(), "tls.crt")];
        let ended = Server::spawn(program(server), &[], &env);
        assert_eq!(ended.wait(Duration::from_secs(20)).code(), Some(1), "{}", ended.log());
        let says =
            format!("{certificate} is set but TABLESWAP_{section}_TLS_KEY_PATH is not: TLS needs both");
        assert!(ended.log().contains(&says), "{}", ended.log());
    }
}

#[test]
fn the_command_trusts_the_authority_that_it_is_given_and_says_where_https_is_due() {
    let site = Site::new(Backend::Embedded);
    let (certificate, key) = site.tls_pair();
    let listen = format!("127.0.0.1:{}", site.updater_port);
    let env = [
        ("TABLESWAP_UPDATER_LISTEN", listen.as_str()),
        ("TABLESWAP_UPDATER_TLS_CERTIFICATE_PATH", &certificate),
        ("TABLESWAP_UPDATER_TLS_KEY_PATH", &key),
    ];
    let server = Server::spawn(program("updater"), &[], &env);
    until(|| server.log().contains("updater started"));
    let file = site.file("promotions.csv", promotions_csv(10, 1));
    let plain = printed(&site.command(&["load", &file]));
    assert!(plain.ends_with("the server speaks TLS: use https\nexit 2"), "{plain}");
    let url = format!("https://localhost:{}", site.updater_port);
    let run = |file: &str, ca: Option<&str>, env: Option<&str>| {
        let mut command = Command::new(program("tableswap"));
        command.args(["load", file, "--updater", &url]).args(ca.map(|ca| format!("--ca={ca}")));
        command.env_remove("SSL_CERT_FILE").envs(env.map(|path| ("SSL_CERT_FILE", path)));
        printed(&command.output().unwrap())
    };
    assert!(run(&file, None, None).contains("certificate"), "{}", run(&file, None, None));
    let loaded = run(&file, Some(&certificate), None);
    assert!(loaded.starts_with("promotions version 1 is live: 10 rows"), "{loaded}");
    let again = run(&file, None, Some(&certificate));
    assert!(again.starts_with("promotions version 1 has these very bytes"), "{again}");
    let nothing = run(&file, Some(&file), None);
    assert!(nothing.contains("promotions.csv has no certificate in PEM\nexit 2"), "{nothing}");
}
