//! Readers come first: how much of the database a load takes while others read from it.
//!
//! Alone, a load takes all that its connections can. While look-ups are answered, one connection at a time loads a
//! little, and then all rest, so that the load is at work for no more than its share of the time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::PoisonError;
use std::time::Instant;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::Result;

/// From so many look-ups a second on the database has readers; coalesced, that is some hundred requests a second.
const READING: f64 = 50.0;

#[derive(Debug)]
pub(super) struct Manners {
    /// How many parts of the time with readers a load works for each that it rests.
    work_per_rest: f64,
    has_readers: AtomicBool,
    /// Who loads while there are readers.
    turn: Semaphore,
    /// How many look-ups there had been, and when that was asked.
    seen: Mutex<Option<(Instant, u64)>>,
}

/// The right to load.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    /// While there are readers, no other has it.
    alone: Option<SemaphorePermit<'a>>,
    start: Instant,
}

impl Manners {
    pub(super) fn new(share_percent: u8) -> Self {
        let share = f64::from(share_percent.clamp(1, 100));
        Self {
            work_per_rest: share / (100.0 - share),
            has_readers: AtomicBool::new(false),
            turn: Semaphore::new(1),
            seen: Mutex::default(),
        }
    }

    /// Looks at how many look-ups there were since the last time.
    pub(super) async fn look(&self, conn: &mut Conn) -> Result<()> {
        let found: Option<(String, u64)> =
            conn.query_first("SHOW GLOBAL STATUS LIKE 'Com_stmt_execute'").await?;
        let (now, count) = (Instant::now(), found.map_or(0, |(_, count)| count));
        let before = self.seen.lock().unwrap_or_else(PoisonError::into_inner).replace((now, count));
        if let Some((then, before)) = before {
            #[expect(clippy::cast_precision_loss, reason = "a rate that is compared with a bound")]
            let rate = count.saturating_sub(before) as f64 / now.duration_since(then).as_secs_f64();
            self.has_readers.store(rate > READING, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits for the right to load.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let alone = if self.work_per_rest.is_finite() && self.has_readers.load(Ordering::Relaxed) {
            self.turn.acquire().await.ok()
        } else {
            None
        };
        Turn { alone, start: Instant::now() }
    }

    /// Ends a turn, with a rest if there are readers.
    pub(super) async fn end(&self, turn: Turn<'_>) {
        if turn.alone.is_some() {
            tokio::time::sleep(turn.start.elapsed().div_f64(self.work_per_rest)).await;
        }
    }
}

impl Turn<'_> {
    /// Whether others are waiting for the database, so that little may be done at once.
    pub(super) fn is_short(&self) -> bool {
        self.alone.is_some()
    }
}
