//! A bad network: a TCP proxy on the loopback interface that refuses, hangs, cuts and delays on demand.
//!
//! Two threads serve each connection, one for each direction. All of them share one state under one lock, which is
//! never held while bytes are read or written, so that a fault takes effect on every connection at once.

mod wire;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use self::wire::Wire;

/// How long an upstream that does not take connections, such as a paused process, may hold up the others.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the network does to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: bytes pass both ways.
    None,
    /// New connections are closed at once, and so are those that were open.
    Refuse,
    /// Bytes stop flowing in both directions while connections stay open; they flow on when the fault is over.
    Hang,
    /// Exactly this many more bytes pass towards upstream, counted over all connections. Then every connection is
    /// closed, and the fault is over: who connects again gets through.
    CutAfter(u64),
    /// Connections that were open are closed for the client; upstream does not learn it, and believes them open
    /// until the fault is over. New connections get through.
    HalfOpen,
    /// Each piece of up to 64 KiB is held this long, each way.
    Delay(Duration),
}

/// A proxy in front of a port of 127.0.0.1. It ends, with its connections, when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    upstream_port: Arc<AtomicU16>,
    wire: Arc<Wire>,
    acceptor: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// Listens on a free port and passes everything on to `upstream_port`.
    pub fn start(upstream_port: u16) -> FaultProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let port = listener.local_addr().expect("the port").port();
        let wire = Arc::new(Wire::default());
        let upstream_port = Arc::new(AtomicU16::new(upstream_port));
        let (shared, upstream) = (Arc::clone(&wire), Arc::clone(&upstream_port));
        let acceptor = thread::spawn(move || accept(&listener, &upstream, &shared));
        FaultProxy { port, upstream_port, wire, acceptor: Some(acceptor) }
    }

    /// Leads new connections to another port, as a name that moved to another server does.
    pub fn lead_to(&self, upstream_port: u16) {
        self.upstream_port.store(upstream_port, Ordering::Relaxed);
    }

    /// Where clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Puts this fault in place of the one before.
    pub fn set(&self, fault: Fault) {
        self.wire.set(fault);
    }

    /// Closes every connection that is open now; new ones get through.
    pub fn close_connections(&self) {
        self.wire.close_all();
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.wire.connections()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.wire.end();
        // The acceptor sees the end at its next connection, which is this one.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.acceptor.take().map(JoinHandle::join);
    }
}

fn accept(listener: &TcpListener, upstream_port: &AtomicU16, wire: &Arc<Wire>) {
    for client in listener.incoming() {
        let upstream = SocketAddr::from(([127, 0, 0, 1], upstream_port.load(Ordering::Relaxed)));
        if wire.has_ended() {
            return;
        }
        // Where upstream refuses, the client is dropped, which is what it would have seen without a proxy.
        if let Ok(client) = client
            && !wire.refuses()
            && let Ok(upstream) = TcpStream::connect_timeout(&upstream, PATIENCE)
        {
            Wire::open(wire, client, upstream);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    use super::*;
    use crate::until::until;

    /// A server that sends back what it gets, and counts it.
    fn echo() -> (FaultProxy, Arc<AtomicU64>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = FaultProxy::start(listener.local_addr().unwrap().port());
        let count = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&count);
        thread::spawn(move || {
            for stream in listener.incoming().map(Result::unwrap) {
                let counter = Arc::clone(&counter);
                thread::spawn(move || send_back(stream, &counter));
            }
        });
        (proxy, count)
    }

    fn send_back(mut stream: TcpStream, counter: &AtomicU64) {
        let mut buffer = [0; 1000];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            counter.fetch_add(read as u64, Ordering::SeqCst);
            // A client that is gone must not end the count.
            let _ = stream.write_all(&buffer[..read]);
        }
    }

    fn connect(proxy: &FaultProxy) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn exchange(stream: &mut TcpStream, text: &str) -> std::io::Result<String> {
        let mut answer = vec![0; text.len()];
        stream.write_all(text.as_bytes())?;
        stream.read_exact(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Whether a read met the end of its connection, and not only of its patience.
    fn is_closed(read: std::io::Result<usize>) -> bool {
        read.map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionReset, |bytes| bytes == 0)
    }

    fn wait_for_connections(proxy: &FaultProxy, number: usize) {
        until(|| proxy.connections() == number);
    }

    #[test]
    fn without_a_fault_bytes_pass_both_ways_and_connections_are_counted() {
        let (proxy, _) = echo();
        let (mut one, mut other) = (connect(&proxy), connect(&proxy));
        assert_eq!(exchange(&mut one, "one").unwrap(), "one");
        assert_eq!(exchange(&mut other, "other").unwrap(), "other");
        assert_eq!(proxy.connections(), 2);
        drop(one);
        wait_for_connections(&proxy, 1);
        assert_eq!(exchange(&mut other, "still").unwrap(), "still");
    }

    #[test]
    fn the_end_of_one_direction_leaves_the_other_open() {
        let (proxy, _) = echo();
        let mut stream = connect(&proxy);
        stream.write_all(b"the last words").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "the last words");
    }

    #[test]
    fn refuse_closes_open_connections_and_new_ones() {
        let (proxy, _) = echo();
        let mut open = connect(&proxy);
        exchange(&mut open, "a").unwrap();
        proxy.set(Fault::Refuse);
        assert!(exchange(&mut open, "b").is_err());
        assert!(exchange(&mut connect(&proxy), "c").is_err());
        assert_eq!(proxy.connections(), 0);
        proxy.set(Fault::None);
        assert_eq!(exchange(&mut connect(&proxy), "d").unwrap(), "d");
    }

    #[test]
    fn hang_keeps_connections_open_and_their_bytes_for_later() {
        let (proxy, count) = echo();
        let (mut open, mut idle) = (connect(&proxy), connect(&proxy));
        exchange(&mut open, "a").unwrap();
        proxy.set(Fault::Hang);
        open.write_all(b"bc").unwrap();
        idle.write_all(b"de").unwrap();
        open.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert_eq!(open.read(&mut [0; 9]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        assert_eq!((count.load(Ordering::SeqCst), proxy.connections()), (1, 2));
        proxy.set(Fault::None);
        open.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut answers = [0; 4];
        open.read_exact(&mut answers[..2]).unwrap();
        idle.read_exact(&mut answers[2..]).unwrap();
        assert_eq!(&answers, b"bcde");
    }

    #[test]
    fn a_hanging_connection_can_be_closed() {
        let (proxy, _) = echo();
        let mut open = connect(&proxy);
        exchange(&mut open, "a").unwrap();
        proxy.set(Fault::Hang);
        open.write_all(b"b").unwrap();
        proxy.close_connections();
        assert!(matches!(open.read(&mut [0; 9]), Ok(0) | Err(_)));
        assert_eq!(proxy.connections(), 0);
    }

    #[test]
    fn cut_after_passes_exactly_so_many_bytes_and_then_closes_everything() {
        let (proxy, count) = echo();
        let (mut open, mut idle) = (connect(&proxy), connect(&proxy));
        exchange(&mut open, "abc").unwrap();
        exchange(&mut idle, "d").unwrap();
        proxy.set(Fault::CutAfter(100_000));
        let _ = open.write_all(&vec![0; 300_000]);
        wait_for_connections(&proxy, 0);
        assert!(exchange(&mut idle, "e").is_err());
        let deadline = Instant::now() + Duration::from_secs(10);
        while count.load(Ordering::SeqCst) < 100_004 {
            assert!(Instant::now() < deadline, "{count:?}");
        }
        assert_eq!(exchange(&mut connect(&proxy), "f").unwrap(), "f");
        assert_eq!(count.load(Ordering::SeqCst), 100_005);
    }

    #[test]
    fn half_open_is_closed_for_the_client_and_open_for_upstream_until_it_is_over() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = FaultProxy::start(listener.local_addr().unwrap().port());
        let mut client = connect(&proxy);
        let (mut upstream, _) = listener.accept().unwrap();
        // A fault closes the connections that the proxy has taken on, which is a moment after it has reached upstream.
        wait_for_connections(&proxy, 1);
        proxy.set(Fault::HalfOpen);
        assert!(is_closed(client.read(&mut [0; 9])));
        upstream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert_eq!(upstream.read(&mut [0; 9]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        let mut another = connect(&proxy);
        another.write_all(b"a").unwrap();
        listener.accept().unwrap().0.read_exact(&mut [0]).unwrap();
        upstream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        proxy.set(Fault::None);
        assert_eq!(upstream.read(&mut [0; 9]).unwrap(), 0);
    }

    #[test]
    fn delay_holds_bytes_each_way() {
        let (proxy, _) = echo();
        let mut open = connect(&proxy);
        exchange(&mut open, "a").unwrap();
        proxy.set(Fault::Delay(Duration::from_millis(60)));
        let start = Instant::now();
        exchange(&mut open, "b").unwrap();
        assert!(start.elapsed() >= Duration::from_millis(120), "{:?}", start.elapsed());
    }

    #[test]
    fn close_connections_closes_those_that_are_open_alone() {
        let (proxy, _) = echo();
        let mut open = connect(&proxy);
        exchange(&mut open, "a").unwrap();
        proxy.close_connections();
        assert!(exchange(&mut open, "b").is_err());
        assert_eq!(exchange(&mut connect(&proxy), "c").unwrap(), "c");
    }

    #[test]
    fn a_dropped_proxy_closes_its_connections() {
        let (proxy, _) = echo();
        let mut open = connect(&proxy);
        exchange(&mut open, "a").unwrap();
        drop(proxy);
        // Its port may be another's at once, so nothing can be said of that.
        assert!(exchange(&mut open, "b").is_err());
    }
}
