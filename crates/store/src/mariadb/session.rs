//! A connection that holds locks, for as long as a load or a rollback takes.
//!
//! A heartbeat keeps the connection alive while nothing else uses it. The server closes a connection that it has not
//! heard of for half a minute, and with it go its locks: so a publisher that is paused, or whose host is gone, does not
//! keep others out for longer than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinSet;
use tracing::warn;

use super::Mariadb;
use super::connect::{is_broken, timed_out};
use crate::{Error, Result};

/// How often the server hears of a session. Six of these fit into [`WAIT_TIMEOUT_SECONDS`], so that a few may be lost.
const HEARTBEAT: Duration = Duration::from_secs(5);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(20);
/// After this long without a word the server closes the session and gives its locks to others.
const WAIT_TIMEOUT_SECONDS: u32 = 30;

/// The seconds by which two looks at a server's start may differ: it is computed from two clocks that count seconds.
const START_TOLERANCE_SECONDS: i64 = 2;

/// A connection as its server knows it. Numbers come again after a restart of the server, so its start belongs to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionId {
    pub(super) id: u32,
    server_started_at: i64,
}

impl ConnectionId {
    pub(super) async fn of(conn: &mut Conn) -> Result<Self> {
        Ok(Self { id: conn.id(), server_started_at: server_started_at(conn).await? })
    }
}

async fn server_started_at(conn: &mut Conn) -> Result<i64> {
    let select = "SELECT CAST(UNIX_TIMESTAMP() - VARIABLE_VALUE AS SIGNED) FROM information_schema.GLOBAL_STATUS \
                  WHERE VARIABLE_NAME = 'UPTIME'";
    let started_at: Option<i64> = conn.query_first(select).await?;
    Ok(started_at.unwrap_or_default())
}

/// Ends connections of ours that may be in the middle of something. Those of a server that was restarted since have
/// ended; their numbers may be those of others by now.
pub(super) async fn kill(conn: &mut Conn, connections: &[ConnectionId]) -> Result<()> {
    if connections.is_empty() {
        return Ok(());
    }
    let started_at = server_started_at(conn).await?;
    for connection in connections {
        if (connection.server_started_at - started_at).abs() <= START_TOLERANCE_SECONDS {
            // Most of them have ended already.
            let _ = conn.query_drop(format!("KILL CONNECTION {}", connection.id)).await;
        }
    }
    Ok(())
}

/// How many of these connections, which are this user's, the server still has.
pub(super) async fn count(conn: &mut Conn, connections: &[ConnectionId]) -> Result<usize> {
    let known: Vec<u32> = conn.query("SELECT ID FROM information_schema.PROCESSLIST").await?;
    Ok(connections.iter().filter(|connection| known.contains(&connection.id)).count())
}

/// A connection with a heartbeat.
#[derive(Debug)]
pub(super) struct Session {
    conn: Arc<Mutex<Conn>>,
    id: ConnectionId,
    /// Which server it leads to.
    server: String,
    /// A statement was given up on the connection, or the connection broke: it cannot be used any more. Whoever uses the
    /// connection sets this until it knows better.
    broken: Arc<AtomicBool>,
    heartbeat: JoinSet<()>,
}

/// The connection, in use for one or more statements.
pub(super) struct InUse {
    conn: OwnedMutexGuard<Conn>,
    broken: Arc<AtomicBool>,
}

impl Session {
    pub(super) async fn open(store: &Mariadb) -> Result<Self> {
        let (mut conn, server) = store.open_connection().await?;
        let open = async {
            conn.query_drop(format!("SET SESSION wait_timeout = {WAIT_TIMEOUT_SECONDS}")).await?;
            ConnectionId::of(&mut conn).await
        };
        let id = tokio::time::timeout(store.timeout, open).await.map_err(timed_out)??;
        let (conn, broken) = (Arc::new(Mutex::new(conn)), Arc::<AtomicBool>::default());
        let mut heartbeat = JoinSet::new();
        heartbeat.spawn(beat(conn.clone(), broken.clone()));
        Ok(Self { conn, id, server, broken, heartbeat })
    }

    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    pub(super) fn is_broken(&self) -> bool {
        // Whoever uses it has not decided yet: a heartbeat under way is no loss.
        self.conn.try_lock().is_ok_and(|_unused| self.broken.load(Ordering::Relaxed))
    }

    /// The connection for some statements. Until [`InUse::done`] it counts as broken, because whoever is dropped in the
    /// middle of a statement leaves it in a state that nobody knows.
    pub(super) async fn begin(&self) -> Result<InUse> {
        let conn = self.conn.clone().lock_owned().await;
        if self.broken.swap(true, Ordering::Relaxed) {
            return Err(Error::Unavailable("the connection that holds the lock is broken".into()));
        }
        Ok(InUse { conn, broken: self.broken.clone() })
    }

    /// Closes the connection, so that its locks are free before anybody is told that this is done.
    pub(super) async fn close(self, timeout: Duration) {
        drop(self.heartbeat);
        let Ok(conn) = tokio::time::timeout(timeout, async {
            let mut conn = self.conn;
            loop {
                // The heartbeat lets go of it as soon as it is told to stop.
                match Arc::try_unwrap(conn) {
                    Ok(conn) => break conn.into_inner(),
                    Err(shared) => conn = shared,
                }
                tokio::task::yield_now().await;
            }
        })
        .await
        else {
            return;
        };
        // One that does not answer holds no lock for long.
        let _ = tokio::time::timeout(timeout, conn.disconnect()).await;
    }
}

impl InUse {
    pub(super) fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    /// Ends the use with what came of the statements: only an answer of the server leaves the connection usable.
    pub(super) fn done<T>(self, result: Result<T>) -> Result<T> {
        let usable = result.as_ref().err().is_none_or(|error| !is_broken(error));
        self.broken.store(!usable, Ordering::Relaxed);
        result
    }
}

async fn beat(conn: Arc<Mutex<Conn>>, broken: Arc<AtomicBool>) {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        // Whoever uses it at the moment is heard of by the server.
        let Ok(mut conn) = conn.try_lock() else { continue };
        if broken.swap(true, Ordering::Relaxed) {
            return;
        }
        let beaten = tokio::time::timeout(HEARTBEAT_TIMEOUT, conn.ping()).await;
        match beaten.map_err(timed_out).and_then(|beaten| Ok(beaten?)) {
            Ok(()) => broken.store(false, Ordering::Relaxed),
            Err(error) => {
                return warn!(error = crate::error::chain(&error), "lost the connection that holds a lock");
            }
        }
    }
}
