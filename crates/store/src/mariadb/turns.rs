//! Who may load when, so that readers hardly notice it.
//!
//! While look-ups are answered, one connection at a time loads, and hands its rows over in small pieces with pauses
//! between them: a load that lets the database work for a hundredth of a second at a time makes look-ups wait for that
//! long. How long the database takes for so many bytes is seen now and then from a small statement without pauses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::warn;

use super::Mariadb;
use crate::{Manners, Result};

/// From so many look-ups a second on the database has readers; coalesced, that is some hundred requests a second.
const READING: f64 = 50.0;
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Where a look failed, the next is a while later.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// One in so many turns shows how long the database takes.
const TURNS_PER_TRIAL: u64 = 64;

/// Looks for readers for as long as it is not dropped.
pub(super) async fn watch(store: Arc<Mariadb>, manners: Manners) {
    loop {
        if let Err(error) = look(&store, &manners).await {
            // The load itself will find out if the database is away.
            warn!(%error, "cannot see whether there are readers");
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn look(store: &Mariadb, manners: &Manners) -> Result<()> {
    let mut conn = store.connect().await?;
    let (mut since, mut before) = (Instant::now(), look_ups(&mut conn).await?);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let (now, count) = (Instant::now(), look_ups(&mut conn).await?);
        #[expect(clippy::cast_precision_loss, reason = "a rate that is compared with a bound")]
        let rate = count.saturating_sub(before) as f64 / now.duration_since(since).as_secs_f64();
        manners.see_readers(rate > READING);
        (since, before) = (now, count);
    }
}

/// How many there were since the server was started: loads execute next to nothing that is prepared.
async fn look_ups(conn: &mut Conn) -> Result<u64> {
    let found: Option<(String, u64)> = conn.query_first("SHOW GLOBAL STATUS LIKE 'Com_stmt_execute'").await?;
    Ok(found.map_or(0, |(_, count)| count))
}

/// What the connections of a load share.
#[derive(Debug)]
pub(super) struct Turns {
    manners: Manners,
    /// Who loads while there are readers.
    alone: Semaphore,
    taken: AtomicU64,
    /// How long the database takes for a mebibyte of lines; 0 while that is not known.
    mebibyte_nanos: AtomicU64,
}

/// The right to send one statement.
#[derive(Debug)]
pub(super) enum Turn<'a> {
    /// Nobody reads.
    Free,
    /// It is to show how long the database takes.
    Trial(Option<SemaphorePermit<'a>>, Instant),
    /// With pauses.
    Gentle(#[expect(dead_code, reason = "held until the turn ends")] Option<SemaphorePermit<'a>>),
}

impl Turns {
    pub(super) fn new(manners: Manners) -> Self {
        Self {
            manners,
            alone: Semaphore::new(1),
            taken: AtomicU64::new(0),
            mebibyte_nanos: AtomicU64::new(0),
        }
    }

    pub(super) async fn take(&self) -> Turn<'_> {
        if !self.manners.give_way() {
            return Turn::Free;
        }
        // It is never closed.
        let permit = self.alone.acquire().await.ok();
        if self.taken.fetch_add(1, Ordering::Relaxed).is_multiple_of(TURNS_PER_TRIAL) {
            return Turn::Trial(permit, Instant::now());
        }
        Turn::Gentle(permit)
    }

    /// Ends a turn in which so many bytes were sent.
    pub(super) async fn end(&self, turn: Turn<'_>, bytes: usize) {
        if let Turn::Trial(_permit, start) = turn {
            let took = start.elapsed();
            // Of a few bytes the commit is the most; and one that took long may only have waited for something.
            let nanos = took.as_nanos() * MEBIBYTE / (bytes as u128).max(TRIAL_BYTES_MIN);
            let before = self.mebibyte_nanos.load(Ordering::Relaxed);
            let most = if before == 0 { u64::MAX } else { before.saturating_mul(4) };
            let nanos = u64::try_from(nanos).unwrap_or(u64::MAX).clamp(1, most);
            self.mebibyte_nanos.store(nanos, Ordering::Relaxed);
            tokio::time::sleep(self.manners.rest_after(took)).await;
        }
    }

    /// How long to wait after so many bytes.
    pub(super) fn pause_after(&self, bytes: usize) -> Duration {
        let nanos = u128::from(self.mebibyte_nanos.load(Ordering::Relaxed)) * bytes as u128 / MEBIBYTE;
        self.manners.rest_after(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

const MEBIBYTE: u128 = 1 << 20;
const TRIAL_BYTES_MIN: u128 = 128 << 10;
