//! How a server starts and how it ends.

use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use testkit::{http, until};

use crate::site::{SEND_TIMEOUT, Site, log};

#[test]
fn on_a_stop_readiness_goes_first_and_open_requests_end_well() {
    let mut site = Site::start(Duration::from_millis(500));
    assert_eq!(site.get("/readyz").status, 200);
    let port = site.port;
    let open = std::thread::spawn(move || http::get(port, "/slow"));
    until(|| site.get("/prometheus").text().contains("http_requests_in_flight 2"));
    site.shutdown.cancel();
    until(|| site.get("/readyz").status == 503);
    // Probes come every few seconds, so the log does not have each of their answers.
    assert!(log().about("/readyz").is_empty());
    assert_eq!(site.get("/healthz").status, 200);
    assert!(!site.is_drained.load(Ordering::SeqCst));
    let open = open.join().unwrap();
    assert_eq!((open.status, open.text().as_str()), (200, "done"));
    site.end().unwrap();
    assert!(site.is_drained.load(Ordering::SeqCst));
    assert!(http::connect(port).is_err());
}

#[test]
fn a_server_that_ends_unasked_ends_its_work_and_says_so() {
    let mut site = Site::start(Duration::from_mins(1));
    drop(site.handle.stop(true));
    insta::assert_snapshot!(site.end().unwrap_err(), @"the server ended by itself");
    assert!(site.is_drained.load(Ordering::SeqCst));
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = service::bind(([127, 0, 0, 1], 0).into(), SEND_TIMEOUT).unwrap().local_addr().unwrap();
    let first = service::bind(taken, SEND_TIMEOUT).unwrap();
    let error = service::bind(first.local_addr().unwrap(), SEND_TIMEOUT).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on {taken}: Address already in use")), "{error}");
}

#[test]
fn a_burst_of_clients_finds_room_to_wait() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _within = runtime.enter();
    let listener = service::bind(([127, 0, 0, 1], 0).into(), SEND_TIMEOUT).unwrap();
    let address = listener.local_addr().unwrap();
    // Nobody accepts: each of them waits in the queue of the kernel.
    let mut waiting = Vec::new();
    for nth in 0..400 {
        let client = TcpStream::connect_timeout(&address, Duration::from_millis(500));
        waiting.push(client.unwrap_or_else(|error| panic!("client {nth}: {error}")));
    }
}
