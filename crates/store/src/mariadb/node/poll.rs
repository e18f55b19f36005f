//! Polling a server: which versions are live there, and whether it may be read.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::join_all;
use tracing::{error, info, warn};

use super::{Node, Seen, Table, count, now_millis};
use crate::error::chain;
use crate::mariadb::another_store;
use crate::mariadb::connect::timed_out;
use crate::mariadb::connections::Connection;
use crate::mariadb::live_tables::{self, Status};
use crate::mariadb::watermarks::SET_BACK;
use crate::{Error, Result};

/// From one poll to the next: half of what a publication waits for its readers.
const INTERVAL: Duration = Duration::from_millis(crate::FOLLOW_MS / 2);
/// A second passes between two looks at what hardly ever changes.
const POLLS_PER_CHECK: u64 = 20;
/// How long a poll waits for a server that did not answer before: it must be found again within a second.
const PROBE_TIMEOUT: Duration = Duration::from_millis(400);
/// How long a poll of a server that answered before is waited for. Lookups that need its answer wait, too.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);
/// A poll that takes longer than this waits for something that holds the table of one dataset, so the datasets are polled
/// one by one. It is longer on a slow network.
const PATIENCE_MIN: Duration = INTERVAL;
/// For this long the datasets are polled one by one after one of them did not answer.
const SEPARATE_FOR: Duration = Duration::from_secs(1);

/// The connections of the polls of one server.
#[derive(Debug, Default)]
pub(super) struct Polling {
    conn: Option<Connection>,
    /// One for each dataset while they are polled one by one.
    of_datasets: HashMap<String, Connection>,
    separate_until: Option<Instant>,
    /// How long the last poll of all at once took.
    took: Duration,
    is_rescue: bool,
}

impl Polling {
    fn patience(&self) -> Duration {
        PATIENCE_MIN.max(self.took * 4)
    }
}

/// Polls again and again, until the server is not needed any more.
pub(super) async fn follow(node: Weak<Node>) {
    let mut polls = 0_u64;
    while let Some(node) = node.upgrade() {
        let next = tokio::time::Instant::now() + INTERVAL;
        let is_check = polls.is_multiple_of(POLLS_PER_CHECK);
        let poll = async { node.poll(&mut *node.polling.lock().await, is_check).await };
        // The error is kept for whoever asks, and was logged; but after a panic there must be a next time, too.
        if AssertUnwindSafe(poll).catch_unwind().await.is_err() {
            *node.polling.lock().await = Polling::default();
        }
        drop(node);
        polls += 1;
        tokio::time::sleep_until(next).await;
    }
}

impl Node {
    /// Polls because `known` was not live any more, unless somebody else has polled meanwhile. Returns whether another
    /// version is live by now.
    pub(super) async fn poll_after(self: &Arc<Self>, known: &Arc<Table>) -> Result<bool> {
        let polling = tokio::time::timeout(self.timeout, self.polling.lock()).await;
        let mut polling = polling.map_err(timed_out)?;
        let is_known = || {
            let seen = self.seen();
            seen.live.get(&known.live.dataset).is_some_and(|table| Arc::ptr_eq(table, known))
        };
        if is_known() {
            self.poll(&mut polling, false).await?;
        }
        Ok(!is_known() || self.read_probe_key_again(&mut polling, known).await?)
    }

    /// Where somebody deleted the row by which statements prove the version, another row takes its place. Returns
    /// whether it does.
    async fn read_probe_key_again(&self, polling: &mut Polling, known: &Arc<Table>) -> Result<bool> {
        let (seen, dataset) = (self.seen.load_full(), &known.live.dataset);
        let Some(conn) = &mut polling.conn else { return Ok(false) };
        let status = live_tables::status(conn, dataset, None, None);
        let status = tokio::time::timeout(self.timeout, status).await.map_err(timed_out)??;
        let Status::Live(table) = status else { return Ok(false) };
        if table.live_swap() != known.live_swap() || table.proof == known.proof {
            return Ok(false);
        }
        if known.is_counted() {
            table.set_counted();
        }
        let mut renewed = Seen::clone(&seen);
        renewed.live.insert(dataset.clone(), table);
        self.seen.store(Arc::new(renewed));
        Ok(true)
    }

    /// Polls unless the last poll is younger than the staleness bound. It must run to its end.
    pub(in crate::mariadb) async fn refresh(self: &Arc<Self>, dataset: &str) {
        let (node, dataset) = (self.clone(), dataset.to_owned());
        let polled = self.runtime.spawn(async move {
            let mut polling = node.polling.lock().await;
            if node.fresh(&dataset).is_none() {
                // Whoever asks next sees what came of it.
                let _ = node.poll(&mut polling, false).await;
            }
        });
        let _ = polled.await;
    }

    async fn poll(self: &Arc<Self>, polling: &mut Polling, is_check: bool) -> Result<()> {
        let (seen, began) = (self.seen.load_full(), now_millis());
        let is_well = seen.error.is_none() && !self.is_suspect.load(Ordering::Relaxed);
        let wait = match () {
            // The first poll has most to read.
            () if seen.live.is_empty() => self.timeout,
            () if is_well => self.timeout.min(POLL_TIMEOUT),
            () => self.timeout.min(PROBE_TIMEOUT),
        };
        let start = Instant::now();
        let polled = tokio::time::timeout(wait, self.look(polling, &seen, is_check)).await;
        let polled = polled.unwrap_or_else(|elapsed| Err(timed_out(elapsed)));
        let result = match polled {
            Ok(found) => {
                self.latency.note(start.elapsed());
                self.take_answer(&seen, found, began);
                Ok(())
            }
            Err(error) => {
                *polling = Polling::default();
                self.take_failure(&seen, &error);
                Err(error)
            }
        };
        self.polled.send_replace(true);
        result
    }

    /// A connection may have been closed while nobody used it, so the server is polled once more on a fresh one.
    async fn look(&self, polling: &mut Polling, seen: &Seen, is_check: bool) -> Result<Seen> {
        if polling.conn.as_ref().is_some_and(Connection::is_young) {
            // Whatever went wrong may be of this connection alone.
            if let Ok(found) = self.look_once(polling, seen, is_check).await {
                return Ok(found);
            }
        }
        polling.conn = Some(self.connections.open_to_poll().await?);
        self.look_once(polling, seen, is_check).await
    }

    async fn look_once(&self, polling: &mut Polling, seen: &Seen, is_check: bool) -> Result<Seen> {
        let is_separate = polling.separate_until.is_some_and(|until| Instant::now() < until);
        let found = if is_separate {
            self.look_one_by_one(polling, seen).await?
        } else {
            let is_alone = seen.live.len() + seen.lost.len() < 2;
            let patience = if is_alone { self.timeout } else { polling.patience() };
            match tokio::time::timeout(patience, look_together(polling, seen)).await {
                Ok(found) => found?,
                Err(elapsed) if is_alone => return Err(timed_out(elapsed)),
                Err(_) => {
                    // It is in the middle of an answer.
                    polling.conn = Some(self.connections.open_to_poll().await?);
                    self.look_one_by_one(polling, seen).await?
                }
            }
        };
        if is_check && self.primary.is_some() {
            let conn = polling.conn.as_mut().ok_or_else(|| Error::Unavailable("no connection".into()))?;
            polling.is_rescue = live_tables::is_rescue(conn).await?;
        }
        self.judge(found, seen, polling.is_rescue)
    }

    /// Each dataset on a connection of its own: what holds the table of one holds up no other.
    async fn look_one_by_one(&self, polling: &mut Polling, seen: &Seen) -> Result<Seen> {
        let conn = polling.conn.as_mut().ok_or_else(|| Error::Unavailable("no connection".into()))?;
        let overview = live_tables::names(conn).await?;
        let patience = polling.patience();
        let polls = overview.all_datasets(seen).into_iter().map(|dataset| {
            let kept = polling.of_datasets.remove(&dataset);
            let known = seen.live.get(&dataset);
            async move {
                let status = tokio::time::timeout(patience, async {
                    let mut conn = match kept.filter(Connection::is_young) {
                        Some(conn) => conn,
                        None => self.connections.open().await?,
                    };
                    let status = live_tables::status(&mut conn, &dataset, known, None).await?;
                    Ok::<_, Error>((status, conn))
                });
                (dataset.clone(), status.await.ok().and_then(Result::ok))
            }
        });
        let mut statuses = Vec::new();
        for (dataset, answered) in join_all(polls).await {
            let status = if let Some((status, conn)) = answered {
                polling.of_datasets.insert(dataset.clone(), conn);
                status
            } else {
                polling.separate_until = Some(Instant::now() + SEPARATE_FOR);
                Status::Silent
            };
            statuses.push((dataset, status));
        }
        Ok(overview.into_seen(seen, statuses))
    }

    /// Whether what was found may be read. A primary that is another store by now is an error.
    fn judge(&self, mut found: Seen, before: &Seen, is_rescue: bool) -> Result<Seen> {
        let Some(store) = found.store.clone() else { return Ok(found) };
        self.heartbeat.store(store.heartbeat, Ordering::Relaxed);
        if let Some(primary) = &self.primary {
            found.excluded = self.reason_to_exclude(primary, &found, before, is_rescue);
            return Ok(found);
        }
        let expected = self.store_id.get_or_init(|| store.store_id.clone());
        if *expected != store.store_id {
            return Err(another_store(expected, &store.store_id));
        }
        for (dataset, table) in found.live.clone() {
            table.set_counted();
            if !self.watermarks.note(&store, &dataset, table.live_swap()) {
                live_tables::lose(&mut found, &dataset, SET_BACK);
            }
        }
        Ok(found)
    }

    /// Why a replica must not be read from, although it answers.
    fn reason_to_exclude(
        &self,
        primary: &Self,
        found: &Seen,
        before: &Seen,
        is_rescue: bool,
    ) -> Option<String> {
        let of_primary = primary.seen();
        if let (Some(own), Some(other)) = (&found.store, &of_primary.store)
            && own.store_id != other.store_id
        {
            return Some(format!(
                "it is another store ({}) than the primary ({})",
                own.store_id, other.store_id
            ));
        }
        if is_rescue {
            return Some("it was started to be rescued (innodb_read_only, innodb_force_recovery)".into());
        }
        let age = self.age();
        if age > self.replica_age_max {
            return Some(format!("it is {} seconds behind the primary", age.as_secs()));
        }
        if let Some(table) = found.live.values().find(|table| table.has_other_rows()) {
            return Some(format!("`{}` has other rows than the ledger says", table.live.dataset));
        }
        // Only a poll of the primary that began after this was seen can confirm it.
        let is_later = primary.polled_at.load(Ordering::Acquire) > self.answered_at.load(Ordering::Acquire);
        let diverged = before.live.iter().find(|(dataset, table)| {
            let same = found.live.get(*dataset).is_some_and(|found| Arc::ptr_eq(found, table));
            let is_ahead = |other: &Arc<Table>| {
                table.swap > other.swap || (table.swap == other.swap && table.content != other.content)
            };
            same && of_primary.live.get(*dataset).is_some_and(is_ahead)
        });
        diverged.filter(|_| is_later && of_primary.error.is_none()).map(|(dataset, table)| {
            format!(
                "diverged: its live version {} of `{dataset}` never was that of the primary",
                table.live.version
            )
        })
    }

    /// Takes note of what a poll found.
    fn take_answer(self: &Arc<Self>, seen: &Seen, mut found: Seen, began: u64) {
        self.log_changes(seen, &found);
        for (dataset, table) in &found.live {
            let is_new = seen.live.get(dataset).is_none_or(|before| !Arc::ptr_eq(before, table));
            if is_new && self.primary.is_some() {
                self.runtime.spawn(count::count(Arc::downgrade(self), table.clone()));
            }
        }
        if let Some(store) = &mut found.store {
            // It changes every second, and is kept beside.
            store.heartbeat = 0;
        }
        if *seen != found {
            self.seen.store(Arc::new(found));
        }
        if let Some(cache) = &self.cache {
            self.metrics.cache_bytes.set(i64::try_from(cache.bytes()).unwrap_or(i64::MAX));
        }
        self.answered_at.store(now_millis(), Ordering::Release);
        self.polled_at.store(began, Ordering::Release);
        self.failing_since.store(0, Ordering::Relaxed);
        self.is_suspect.store(false, Ordering::Relaxed);
    }

    fn take_failure(&self, seen: &Seen, error: &Error) {
        let text = chain(error);
        if seen.error.as_ref() != Some(&text) {
            error!(error = text, database = self.name, role = self.role(), "cannot poll the live versions");
        }
        self.metrics.poll_failures.inc();
        self.seen.store(Arc::new(Seen { error: Some(text), ..Seen::clone(seen) }));
        // The first failure is the one that counts.
        let _ = self.failing_since.compare_exchange(0, now_millis(), Ordering::Relaxed, Ordering::Relaxed);
        self.give_up();
    }

    /// Logs what changed.
    fn log_changes(&self, before: &Seen, after: &Seen) {
        let (database, role) = (&self.name, self.role());
        for (name, table) in &after.live {
            if before.live.get(name).is_none_or(|before| before.swap != table.swap) {
                let (version, rows) = (table.live.version, table.live.rows);
                info!(dataset = name, version, rows, database, role, "switched to live version");
            }
        }
        for (dataset, lost) in &after.lost {
            if before.lost.get(dataset) != Some(lost) {
                error!(dataset, why = lost.why, database, role, "the live version cannot be read");
            }
        }
        for dataset in after.silent.keys().filter(|dataset| !before.silent.contains_key(*dataset)) {
            warn!(dataset, database, role, "something holds the live table: its polls are not answered");
        }
        if before.error.is_some() {
            info!(database, role, "follows the live versions");
        }
        match (&before.excluded, &after.excluded) {
            (None, Some(why)) => warn!(database, why, "replica excluded"),
            (Some(_), None) => info!(database, "replica included again"),
            _ => {}
        }
    }
}

/// All datasets with one statement, while it is answered.
async fn look_together(polling: &mut Polling, seen: &Seen) -> Result<Seen> {
    let start = Instant::now();
    let conn = polling.conn.as_mut().ok_or_else(|| Error::Unavailable("no connection".into()))?;
    let mut overview = live_tables::overview(conn, seen).await?;
    let mut statuses = Vec::new();
    for dataset in overview.all_datasets(seen) {
        let (known, standing) = (seen.live.get(&dataset), overview.take_standing(&dataset));
        let status = live_tables::status(conn, &dataset, known, standing).await?;
        statuses.push((dataset, status));
    }
    polling.of_datasets.clear();
    polling.took = start.elapsed();
    Ok(overview.into_seen(seen, statuses))
}
