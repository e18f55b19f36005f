//! An api that cannot look at the store in time: it is paused, has no processor time, or no descriptors.

use std::io::{BufReader, Write};
use std::net::TcpStream;

use testkit::http::{self, Response};
use testkit::rows::{edition, promotion_id, promotion_json, promotions_csv};
use testkit::until;

use crate::harness::{BACKENDS, Backend, Site, program};

const ROWS: usize = 50;
pub(crate) const SEED: u64 = 9;
/// How many requests wait for an api that is paused: what one worker sees is not what another one sees.
const WAITING: usize = 16;

/// A connection that stays open, so that a request can be sent to a process that takes no connections.
pub(crate) struct Client {
    stream: TcpStream,
    port: u16,
}

impl Client {
    pub(crate) fn new(port: u16) -> Self {
        Self { stream: http::connect(port).unwrap(), port }
    }

    pub(crate) fn send(&mut self, etag: Option<&str>) {
        let tag = etag.map_or_else(String::new, |etag| format!("if-none-match: {etag}\r\n"));
        let (id, port) = (promotion_id(SEED, 7), self.port);
        let request = format!("GET /promotions/{id} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n{tag}\r\n");
        self.stream.write_all(request.as_bytes()).unwrap();
    }

    pub(crate) fn receive(&mut self) -> Response {
        http::read_response(&mut BufReader::new(&self.stream), false).unwrap()
    }
}

pub(crate) fn upload(site: &Site, number: u32) {
    let answer = site.upload(promotions_csv(ROWS, edition(SEED, number)).as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn p2_p7_an_api_that_was_paused_during_an_upload_answers_from_the_new_version_at_once() {
    for backend in BACKENDS {
        let site = Site::new(backend);
        let (_updater, api) = (site.updater(), site.api());
        upload(&site, 1);
        let etag =
            site.get(&format!("/promotions/{}", promotion_id(SEED, 7))).header("etag").unwrap().to_owned();
        for round in 2..6 {
            let mut clients: Vec<_> = (0..WAITING).map(|_| Client::new(site.api_port)).collect();
            for client in &mut clients {
                client.send(None);
                assert_eq!(client.receive().status, 200);
            }
            api.pause();
            for (number, client) in clients.iter_mut().enumerate() {
                client.send((number % 2 == 0).then_some(etag.as_str()));
            }
            upload(&site, round);
            api.resume();
            for client in &mut clients {
                let answer = client.receive();
                assert_eq!(answer.status, 200, "{backend:?}: {}", answer.text());
                assert_eq!(answer.text(), promotion_json(edition(SEED, round), 7), "{backend:?}");
            }
        }
    }
}

#[test]
fn p7_an_api_without_descriptors_follows_the_live_version_all_the_same() {
    let site = Site::new(Backend::Embedded);
    let _updater = site.updater();
    upload(&site, 1);
    let script = format!("ulimit -n 200; exec {}", program("api").display());
    let url = format!("embedded:{}", site.dir.path().join("data").display());
    let listen = format!("127.0.0.1:{}", site.api_port);
    let env = [
        ("TABLESWAP_STORE_URL", url.as_str()),
        ("TABLESWAP_API_LISTEN", &listen),
        ("TABLESWAP_API_WORKERS", "2"),
    ];
    let _api = testkit::Server::start("/bin/sh", &["-c", &script], &env, site.api_port);
    let mut client = Client::new(site.api_port);
    client.send(None);
    assert_eq!(client.receive().status, 200);
    // Those that find no place wait to be accepted.
    let idle: Vec<_> = (0..260).map(|_| http::connect(site.api_port).unwrap()).collect();
    for number in 2..5 {
        upload(&site, number);
        client.send(None);
        let answer = client.receive();
        assert_eq!(answer.text(), promotion_json(edition(SEED, number), 7));
    }
    drop(idle);
    until(|| site.get("/readyz").status == 200);
}

#[test]
fn p2_an_api_that_cannot_read_its_directory_says_so_and_recovers() {
    let site = Site::new(Backend::Embedded);
    let (_updater, api) = (site.updater(), site.api());
    upload(&site, 1);
    let path = format!("/promotions/{}", promotion_id(SEED, 7));
    until(|| site.get(&path).status == 200);
    let (data, away) = (site.dir.path().join("data"), site.dir.path().join("away"));
    std::fs::rename(&data, &away).unwrap();
    until(|| site.get(&path).status == 503);
    assert_eq!(site.get("/readyz").status, 503);
    assert!(api.log().contains("cannot poll the live versions"), "{}", api.log());
    std::fs::rename(&away, &data).unwrap();
    until(|| site.get(&path).status == 200);
    assert_eq!(site.get("/readyz").status, 200);
}
