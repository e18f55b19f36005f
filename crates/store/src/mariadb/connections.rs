//! The connections to one server: opened and checked, used, and kept for a while for the next use.
//!
//! An address is meant to be one server, and a name can move to another. So no connection lives longer than a minute, and
//! one that is opened counts only if it leads to the server that is polled.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use mysql_async::{Conn, Opts};
use std::sync::Arc;

use super::connect;
use crate::{Error, Result, clock};

/// A name is resolved anew after this long at the latest.
const AGE_MAX: Duration = Duration::from_mins(1);

/// How often a connection is opened that must lead to one server of several behind an address.
const ATTEMPTS: usize = 4;

#[derive(Debug)]
pub(super) struct Connections {
    opts: Opts,
    /// The server that was polled last.
    polled: ArcSwapOption<String>,
    idle: Mutex<Vec<Connection>>,
}

/// A connection that was checked.
#[derive(Debug)]
pub(super) struct Connection {
    conn: Conn,
    server: Arc<String>,
    opened_at: Duration,
}

impl Connections {
    pub(super) fn new(opts: Opts) -> Self {
        Self { opts, polled: ArcSwapOption::empty(), idle: Mutex::default() }
    }

    /// A connection to poll with: it says which server the address is now.
    pub(super) async fn open_to_poll(&self) -> Result<Connection> {
        let connection = Connection::open(&self.opts).await?;
        let before = self.polled.swap(Some(connection.server.clone()));
        if before.is_some_and(|before| before != connection.server) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        Ok(connection)
    }

    /// A connection that waits to be used, or else a new one.
    pub(super) async fn take(&self) -> Result<Connection> {
        let mut waiting =
            std::iter::from_fn(|| self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop());
        match waiting.find(|connection| self.is_usable(connection)) {
            Some(connection) => Ok(connection),
            None => self.open().await,
        }
    }

    /// A new connection to the server that is polled.
    pub(super) async fn open(&self) -> Result<Connection> {
        for _ in 0..ATTEMPTS {
            let connection = Connection::open(&self.opts).await?;
            if self.is_usable(&connection) {
                return Ok(connection);
            }
        }
        Err(Error::Unavailable("the address leads to another server than the one that is polled".into()))
    }

    /// Keeps a connection for the next use.
    pub(super) fn put_back(&self, connection: Connection) {
        if self.is_usable(&connection) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }

    /// Whether a connection is young enough and leads to the server that is polled.
    pub(super) fn is_usable(&self, connection: &Connection) -> bool {
        let is_polled = |polled: &Arc<String>| *polled == connection.server;
        connection.is_young() && self.polled.load().as_ref().is_none_or(is_polled)
    }
}

impl Connection {
    async fn open(opts: &Opts) -> Result<Self> {
        let (conn, server) = connect::open(opts).await?;
        Ok(Self { conn, server: Arc::new(server), opened_at: clock::now() })
    }

    pub(super) fn is_young(&self) -> bool {
        clock::now().saturating_sub(self.opened_at) < AGE_MAX
    }
}

impl Deref for Connection {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }
}
