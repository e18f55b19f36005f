//! A server is started, watched and ended. The server is this test binary itself, in another role.

use std::env;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::panic::catch_unwind;
use std::time::Duration;

use testkit::{Server, http};

const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the test below in the role of the server.
fn start() -> (Server, u16) {
    let args = ["--exact", "process::a_server_is_healthy_until_it_is_ended", "--nocapture"];
    Server::start_on_any_port(env::current_exe().unwrap(), &args, &[("ROLE_SERVER", "yes")])
}

fn serve() -> ! {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, home) = (listener.local_addr().unwrap(), env::var_os("HOME"));
    let greeting = format!("home is {home:?}, started listen={address}\n");
    io::stderr().write_all(greeting.as_bytes()).unwrap();
    loop {
        let mut stream = listener.accept().unwrap().0;
        let mut request = [0; 1000];
        let read = stream.read(&mut request).unwrap_or(0);
        let status = if request[..read].starts_with(b"GET /healthz ") { 200 } else { 404 };
        let _ = write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
    }
}

#[test]
fn a_server_is_healthy_until_it_is_ended() {
    if env::var_os("ROLE_SERVER").is_some() {
        serve();
    }
    let (server, port) = start();
    assert_eq!(http::get(port, "/else").status, 404);
    assert!(server.log().contains("home is None,"), "{}", server.log());
    server.terminate();
    assert_eq!(server.wait(PATIENCE).signal(), Some(15));
    assert!(http::try_get(port, "/healthz").is_err());
}

#[test]
fn a_dropped_server_is_gone() {
    let (server, port) = start();
    drop(server);
    assert!(http::connect(port).is_err());
}

#[test]
fn a_paused_server_is_silent_and_can_be_killed() {
    let (server, port) = start();
    server.pause();
    let mut stream = http::connect(port).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(stream.read(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    server.kill();
    assert_eq!(server.wait(PATIENCE).signal(), Some(9));
}

#[test]
fn a_server_that_ends_before_it_is_healthy_fails_the_test_with_its_log() {
    let start = || Server::start_on_any_port("sh", &["-c", "echo a bad setting >&2; exit 2"], &[]);
    let message = *catch_unwind(start).unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("exit status: 2") && message.contains("a bad setting"), "{message}");
}

#[test]
fn a_start_that_has_to_fail_can_be_looked_at() {
    let server = Server::spawn("sh", &["-c", "echo $TABLESWAP_X; exit 7"], &[("TABLESWAP_X", "nonsense")]);
    assert_eq!((server.wait(PATIENCE).code(), server.log().as_str()), (Some(7), "nonsense\n"));
}

#[test]
fn a_request_that_breaks_off_leaves_the_server_running() {
    let (_server, port) = start();
    http::send_partial(port, b"GET /heal");
    assert_eq!(http::get(port, "/healthz").status, 200);
}
