//! The connections of a statement proxy, what passed over them, and the fault that waits for its statement.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::dialogue::{Command, Dialogue, Packet};
use super::{FaultPoint, Statement, StatementFault, shape};

#[derive(Debug, Default)]
pub(super) struct Connections {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    links: HashMap<u64, Link>,
    /// Connections whose server's side is closed and whose client must not see that yet.
    held: HashSet<u64>,
    statements: Vec<Statement>,
    armed: Option<Armed>,
    struck: Option<Statement>,
    /// Counts releases: what is held waits for the next one.
    releases: u64,
    partitioned: bool,
    ended: bool,
}

/// One connection: the client's half and the server's.
#[derive(Debug)]
struct Link {
    client: TcpStream,
    upstream: TcpStream,
}

#[derive(Debug)]
struct Armed {
    point: FaultPoint,
    seen: usize,
}

/// The fault that the statement under way on a connection meets.
#[derive(Clone, Debug)]
struct Strike {
    statement: Statement,
    fault: StatementFault,
    partition: bool,
}

/// What the two threads of a connection share.
#[derive(Debug, Default)]
struct Talk {
    dialogue: Dialogue,
    /// Set before its statement is passed on, so that the reply finds it.
    strike: Option<Strike>,
}

impl Connections {
    /// Takes a connection on and serves it, unless the proxy has begun to refuse in the meantime.
    pub(super) fn open(connections: &Arc<Connections>, client: TcpStream, upstream: TcpStream) {
        let copy = |stream: &TcpStream| stream.try_clone().expect("share a socket");
        for stream in [&client, &upstream] {
            // It fails only for a connection that is gone already.
            let _ = stream.set_nodelay(true);
        }
        let link = Link { client: copy(&client), upstream: copy(&upstream) };
        let mut state = connections.state();
        if state.partitioned || state.ended {
            return;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.links.insert(id, link);
        drop(state);
        let (there, back) = (Arc::clone(connections), Arc::clone(connections));
        let talk = Arc::new(Mutex::new(Talk::default()));
        let (shared_talk, from, to) = (Arc::clone(&talk), copy(&upstream), copy(&client));
        thread::spawn(move || {
            // Whichever side ended or failed, the other one has to learn of it.
            let _ = there.pass_statements(id, client, upstream, &talk);
            there.close(id);
        });
        thread::spawn(move || {
            let _ = back.pass_replies(id, from, to, &shared_talk);
            back.wait_while_held(id);
            back.close(id);
        });
    }

    fn pass_statements(
        &self,
        id: u64,
        mut client: TcpStream,
        mut upstream: TcpStream,
        talk: &Mutex<Talk>,
    ) -> io::Result<()> {
        while let Some(packet) = Packet::read(&mut client)? {
            let mut talk = talk.lock().unwrap_or_else(PoisonError::into_inner);
            let strike = match talk.dialogue.client_sends(&packet) {
                Some((command, text)) => self.pass_statement(Statement { connection: id, command, text }),
                None => None,
            };
            let is_cut = strike.as_ref().is_some_and(|strike| strike.fault == StatementFault::CutBefore);
            if let Some(strike) = strike.clone().filter(|_| is_cut) {
                drop(talk);
                self.strike(strike);
                return Ok(());
            }
            talk.strike = strike.or(talk.strike.take());
            drop(talk);
            packet.write(&mut upstream)?;
        }
        Ok(())
    }

    fn pass_replies(
        &self,
        id: u64,
        mut upstream: TcpStream,
        mut client: TcpStream,
        talk: &Mutex<Talk>,
    ) -> io::Result<()> {
        while let Some(packet) = Packet::read(&mut upstream)? {
            let mut talk = talk.lock().unwrap_or_else(PoisonError::into_inner);
            let is_reply = talk.dialogue.server_sends(&packet);
            let strike = if is_reply { talk.strike.take() } else { None };
            drop(talk);
            if let Some(strike) = strike {
                let loses_reply = strike.fault == StatementFault::LoseReply;
                self.strike(strike);
                if loses_reply || !self.state().links.contains_key(&id) {
                    return Ok(());
                }
            }
            packet.write(&mut client)?;
        }
        Ok(())
    }

    /// Records the statement, unless the fault keeps it from the server, and gives the fault that it meets.
    fn pass_statement(&self, statement: Statement) -> Option<Strike> {
        let mut state = self.state();
        let point = state.armed.as_mut().and_then(|armed| armed.meets(&statement));
        let Some(FaultPoint { fault, partition, .. }) = point else {
            state.statements.push(statement);
            return None;
        };
        state.armed = None;
        if fault != StatementFault::CutBefore {
            state.statements.push(statement.clone());
        }
        Some(Strike { statement, fault, partition })
    }

    /// The fault takes effect, is told, and lasts until it is released.
    fn strike(&self, strike: Strike) {
        let id = strike.statement.connection;
        let hangs = strike.fault == StatementFault::HangReply;
        let mut state = self.state();
        if !hangs {
            state.hold(id);
        }
        if strike.partition {
            state.partitioned = true;
            let cut = state.links.extract_if(|other, _| !(hangs && *other == id));
            cut.for_each(|(_, link)| link.close());
        }
        state.struck = Some(strike.statement);
        let releases = state.releases;
        self.changed.notify_all();
        while state.releases == releases && !state.ended && state.links.contains_key(&id) {
            state = self.wait(state);
        }
        state.held.remove(&id);
        self.changed.notify_all();
    }

    fn wait_while_held(&self, id: u64) {
        let mut state = self.state();
        while state.held.contains(&id) {
            state = self.wait(state);
        }
    }

    pub(super) fn take_statements(&self) -> Vec<Statement> {
        std::mem::take(&mut self.state().statements)
    }

    pub(super) fn arm(&self, point: FaultPoint) {
        let mut state = self.state();
        state.armed = Some(Armed { point, seen: 0 });
        state.struck = None;
    }

    pub(super) fn wait_until_struck(&self, limit: Duration) -> Option<Statement> {
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, limit, |state| state.struck.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.struck.clone()
    }

    pub(super) fn release(&self) {
        let mut state = self.state();
        state.armed = None;
        state.partitioned = false;
        state.releases += 1;
        self.changed.notify_all();
    }

    pub(super) fn refuses(&self) -> bool {
        self.state().partitioned
    }

    pub(super) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.links.drain().for_each(|(_, link)| link.close());
        self.changed.notify_all();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state().ended
    }

    fn close(&self, id: u64) {
        let link = self.state().links.remove(&id);
        link.into_iter().for_each(Link::close);
        self.changed.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Closes the server's side of a connection alone.
    fn hold(&mut self, id: u64) {
        if let Some(link) = self.links.get(&id) {
            let _ = link.upstream.shutdown(Shutdown::Both);
            self.held.insert(id);
        }
    }
}

impl Armed {
    /// The fault, if this is the execution that it waits for.
    fn meets(&mut self, statement: &Statement) -> Option<FaultPoint> {
        let is_like =
            statement.command != Command::Prepare && statement.shape().contains(&shape(&self.point.contains));
        self.seen += usize::from(is_like);
        (is_like && self.seen == self.point.occurrence).then(|| self.point.clone())
    }
}

impl Link {
    /// Wakes the threads that read from it, too. It fails where the other side was faster.
    fn close(self) {
        for stream in [&self.client, &self.upstream] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
