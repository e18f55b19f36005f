//! The connections of a proxy, and the fault that all of them are under.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::Fault;

const PIECE_BYTES: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Wire {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    /// The last bytes before a cut are on their way; until it is done no others pass.
    cutting: bool,
    ended: bool,
    next_id: u64,
    links: HashMap<u64, Link>,
    /// Halves of connections whose clients are gone, which upstream does not learn.
    half_open: Vec<TcpStream>,
}

/// One connection: the client's half and upstream's.
#[derive(Debug)]
struct Link {
    streams: [TcpStream; 2],
    open_directions: u8,
}

/// What may be done with a piece that was read.
struct Pass {
    bytes: usize,
    delay: Duration,
    cut: bool,
}

impl Wire {
    /// Takes a connection on and serves it, unless the proxy has begun to refuse in the meantime.
    pub(super) fn open(wire: &Arc<Wire>, client: TcpStream, upstream: TcpStream) {
        let copy = |stream: &TcpStream| stream.try_clone().expect("share a socket");
        let (client_copy, upstream_copy) = (copy(&client), copy(&upstream));
        for stream in [&client, &upstream] {
            // It fails only for a connection that is gone already.
            let _ = stream.set_nodelay(true);
        }
        let mut state = wire.state();
        if state.fault == Fault::Refuse || state.ended {
            return;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.links.insert(id, Link { streams: [client_copy, upstream_copy], open_directions: 2 });
        drop(state);
        let (there, back) = (Arc::clone(wire), Arc::clone(wire));
        let (from, to) = (copy(&upstream), copy(&client));
        thread::spawn(move || there.pump(id, client, upstream, true));
        thread::spawn(move || back.pump(id, from, to, false));
    }

    pub(super) fn set(&self, fault: Fault) {
        let mut state = self.state();
        state.fault = fault;
        state.cutting = false;
        state.close_half_open();
        match fault {
            Fault::Refuse => state.close_all(),
            Fault::HalfOpen => state.close_clients(),
            _ => {}
        }
        self.changed.notify_all();
    }

    pub(super) fn close_all(&self) {
        let mut state = self.state();
        state.close_all();
        state.close_half_open();
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn connections(&self) -> usize {
        self.state().links.len()
    }

    pub(super) fn refuses(&self) -> bool {
        self.state().fault == Fault::Refuse
    }

    pub(super) fn end(&self) {
        self.state().ended = true;
        self.close_all();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state().ended
    }

    /// Copies one direction of a connection until its end, or until the connection is closed.
    fn pump(&self, id: u64, mut from: TcpStream, mut to: TcpStream, towards_upstream: bool) {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(read) = from.read(&mut piece) {
            let Some(pass) = self.pass(id, read, towards_upstream) else {
                return;
            };
            thread::sleep(pass.delay);
            if to.write_all(&piece[..pass.bytes]).is_err() {
                break;
            }
            if pass.cut {
                self.finish_cut();
                return;
            }
            if read == 0 {
                let _ = to.shutdown(Shutdown::Write);
                self.state().end_direction(id);
                return;
            }
        }
        // Whichever side failed, the other one has to learn of it.
        self.state().close(id);
    }

    /// Waits for as long as the fault holds bytes back; nothing where the connection was closed meanwhile.
    fn pass(&self, id: u64, read: usize, towards_upstream: bool) -> Option<Pass> {
        let mut state = self.state();
        while state.links.contains_key(&id)
            && (state.fault == Fault::Hang || (state.cutting && towards_upstream))
        {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if !state.links.contains_key(&id) {
            return None;
        }
        let mut pass = Pass { bytes: read, delay: Duration::ZERO, cut: false };
        match state.fault {
            Fault::Delay(delay) => pass.delay = delay,
            Fault::CutAfter(left) if towards_upstream => {
                pass.bytes = read.min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - pass.bytes as u64;
                pass.cut = left == 0;
                state.cutting = pass.cut;
                state.fault = Fault::CutAfter(left);
            }
            _ => {}
        }
        Some(pass)
    }

    fn finish_cut(&self) {
        let mut state = self.state();
        state.close_all();
        state.cutting = false;
        state.fault = Fault::None;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for State {
    fn default() -> State {
        State {
            fault: Fault::None,
            cutting: false,
            ended: false,
            next_id: 0,
            links: HashMap::new(),
            half_open: Vec::new(),
        }
    }
}

impl State {
    fn close_all(&mut self) {
        self.links.drain().for_each(|(_, link)| link.close());
    }

    /// Closes the clients' halves and keeps upstream's, whose threads end because their links are gone.
    fn close_clients(&mut self) {
        for (_, Link { streams: [client, upstream], .. }) in self.links.drain() {
            let _ = client.shutdown(Shutdown::Both);
            self.half_open.push(upstream);
        }
    }

    fn close_half_open(&mut self) {
        for upstream in self.half_open.drain(..) {
            let _ = upstream.shutdown(Shutdown::Both);
        }
    }

    fn close(&mut self, id: u64) {
        if let Some(link) = self.links.remove(&id) {
            link.close();
        }
    }

    /// A connection is over when both of its directions are.
    fn end_direction(&mut self, id: u64) {
        if let Some(link) = self.links.get_mut(&id) {
            link.open_directions -= 1;
            if link.open_directions == 0 {
                self.close(id);
            }
        }
    }
}

impl Link {
    /// Wakes the threads that read from it, too. It fails where the other side was faster.
    fn close(self) {
        for stream in &self.streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
