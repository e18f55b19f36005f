//! Which server answers a lookup, and what is said of all of them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Reader, Tries};
use crate::mariadb::live_tables::Lost;
use crate::mariadb::node::{Node, Table, now_millis};
use crate::reader::{ServerStatus, Servers};
use crate::{Error, Result, StoreHealth, Unwell};

const ALONE_TOO_LONG: &str = "the primary has been away for longer than replicas may answer alone";
const HELD: &str = "something holds the live table: its polls are not answered";
/// For this long a lookup may wait for a table that something holds, as a swap does.
const HELD_MS_MAX: u64 = 2_000;

/// What a reader may say of a dataset without asking anybody.
enum Knowledge {
    /// The last poll of the primary is younger than the staleness bound.
    Current,
    /// It is older: the primary has to be polled.
    Outdated,
    /// The primary is away, and replicas may answer alone.
    Alone,
    /// The primary has been away for too long.
    AloneTooLong,
}

/// The last swap that was served of a dataset while the primary was away.
#[derive(Debug)]
pub(super) struct ServedAlone {
    /// When the primary went away: what was served in an earlier absence does not count.
    since: u64,
    swap: u64,
}

/// What comes of one attempt to select a server.
pub(super) enum Selection {
    Server(Arc<Node>, Arc<Table>),
    /// There is no such dataset.
    NoDataset,
    /// That can be told only after a poll of the primary.
    Outdated,
}

impl Reader {
    fn knowledge(&self, dataset: &str) -> Knowledge {
        if self.primary.fresh(dataset).is_some() {
            return Knowledge::Current;
        }
        match self.primary.failing_for() {
            None => Knowledge::Outdated,
            Some(alone) if alone <= self.alone_max => Knowledge::Alone,
            Some(_) => Knowledge::AloneTooLong,
        }
    }

    /// Whether the primary said within the staleness bound that this table is live, or it is away.
    pub(super) fn is_current(&self, dataset: &str, table: &Arc<Table>) -> bool {
        match self.knowledge(dataset) {
            Knowledge::Current => {
                self.fresh(dataset).is_some_and(|live| live.live_swap() == table.live_swap())
            }
            Knowledge::Outdated => false,
            Knowledge::Alone | Knowledge::AloneTooLong => true,
        }
    }

    /// The server that is asked next, with its live table; nothing where there is no such dataset.
    pub(super) async fn select_server(
        &self,
        dataset: &str,
        tries: &Tries,
    ) -> Result<Option<(Arc<Node>, Arc<Table>)>> {
        let mut selection = self.select_now(dataset, tries)?;
        if let Selection::Outdated = selection {
            self.primary.refresh(dataset).await;
            selection = self.select_now(dataset, tries)?;
        }
        match selection {
            Selection::Server(node, table) => Ok(Some((node, table))),
            Selection::NoDataset => Ok(None),
            Selection::Outdated => match self.of_primary(dataset, tries) {
                Some(table) => Ok(Some((self.primary.clone(), table))),
                None => Err(Error::Unavailable("the live version is not known in time".into())),
            },
        }
    }

    pub(super) fn select_now(&self, dataset: &str, tries: &Tries) -> Result<Selection> {
        let seen = self.primary.seen();
        let held_since = seen.silent.get(dataset);
        if held_since.is_some_and(|since| now_millis().saturating_sub(*since) > HELD_MS_MAX) {
            return Err(Error::Unavailable(HELD.into()));
        }
        let knowledge = self.knowledge(dataset);
        if !self.replicas.is_empty() {
            let known = seen.live.get(dataset);
            let replica = match knowledge {
                // Without replicas in the way the primary is asked, and its rows prove what they are.
                Knowledge::Outdated => return Ok(Selection::Outdated),
                Knowledge::Current => self.replica(dataset, tries, |table| {
                    known.is_some_and(|known| {
                        (known.live.version, known.content) == (table.live.version, table.content)
                    })
                }),
                Knowledge::Alone => self.replica_alone(dataset, tries, known),
                Knowledge::AloneTooLong => return Err(Error::Unavailable(ALONE_TOO_LONG.into())),
            };
            if let Some((node, table)) = replica {
                return Ok(Selection::Server(node, table));
            }
        }
        if let Some(table) = self.of_primary(dataset, tries) {
            return Ok(Selection::Server(self.primary.clone(), table));
        }
        if let Some(failure) = tries.last_failure() {
            return Err(failure);
        }
        if let Some(why) = self.primary.trouble(&seen) {
            return Err(Error::Unavailable(why.into()));
        }
        match (seen.lost.get(dataset), knowledge) {
            (Some(lost), _) => Err(Error::Unavailable(lost.why.clone().into())),
            (None, Knowledge::Outdated) => Ok(Selection::Outdated),
            (None, _) => Ok(Selection::NoDataset),
        }
    }

    /// A replica while the primary is away. They may be apart, and versions must not go back from one to the other.
    fn replica_alone(
        &self,
        dataset: &str,
        tries: &Tries,
        known: Option<&Arc<Table>>,
    ) -> Option<(Arc<Node>, Arc<Table>)> {
        let mut served = self.served_alone.lock().unwrap_or_else(PoisonError::into_inner);
        let since = self.primary.failing_since();
        let floor =
            served.get(dataset).filter(|served| served.since == since).map_or(0, |served| served.swap);
        let (node, table) =
            self.replica(dataset, tries, |table| may_follow(known, table) && table.swap >= floor)?;
        served.insert(dataset.to_owned(), ServedAlone { since, swap: table.swap });
        Some((node, table))
    }

    /// The live table of the primary, if it can be asked.
    fn of_primary(&self, dataset: &str, tries: &Tries) -> Option<Arc<Table>> {
        let seen = self.primary.seen();
        if tries.has_failed(&self.primary) || self.primary.trouble(&seen).is_some() {
            return None;
        }
        seen.live.get(dataset).cloned()
    }

    /// The replica with the least work among those that have the right version and are not far slower than others.
    fn replica(
        &self,
        dataset: &str,
        tries: &Tries,
        is_right: impl Fn(&Table) -> bool,
    ) -> Option<(Arc<Node>, Arc<Table>)> {
        let fastest = self.nodes().filter_map(|node| node.latency.micros()).min().unwrap_or(0);
        let usable = |node: &Arc<Node>| {
            let seen = node.seen();
            let table = seen.live.get(dataset).filter(|table| table.is_counted() && is_right(table))?;
            let is_well = !tries.has_failed(node) && node.trouble(&seen).is_none();
            (is_well && !node.latency.is_too_slow(fastest)).then(|| (node.clone(), table.clone()))
        };
        // Among equals each has its turn.
        let (count, turn) = (self.replicas.len(), self.turn.fetch_add(1, Ordering::Relaxed));
        let replicas =
            (0..count).filter_map(|place| usable(&self.replicas[turn.wrapping_add(place) % count]));
        replicas.min_by_key(|(node, _)| node.waiting.load(Ordering::Relaxed))
    }

    fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        std::iter::once(&self.primary).chain(&self.replicas)
    }

    pub(crate) fn health(&self) -> StoreHealth {
        let seen = self.primary.seen();
        let unwell = |(dataset, lost): (&String, &Lost)| Unwell {
            dataset: dataset.clone(),
            why: lost.why.clone(),
            was_served: lost.was_served,
        };
        let held = seen.silent.iter().filter(|(_, since)| now_millis().saturating_sub(**since) > HELD_MS_MAX);
        let held = held.map(|(dataset, _)| Unwell {
            dataset: dataset.clone(),
            why: HELD.into(),
            was_served: seen.live.contains_key(dataset),
        });
        let excluded = self.nodes().filter_map(|node| {
            let seen = node.seen();
            Some(format!("{} {} is excluded: {}", node.role(), node.name, node.trouble(&seen)?))
        });
        StoreHealth {
            error: self.check().err(),
            unwell: seen.lost.iter().map(unwell).chain(held).collect(),
            excluded: excluded.collect(),
        }
    }

    /// Whether any server can be read from.
    fn check(&self) -> std::result::Result<(), String> {
        let of_primary = self.primary.seen();
        let Some(why) = self.primary.trouble(&of_primary) else { return Ok(()) };
        let replica_answers = self.replicas.iter().any(|node| {
            let seen = node.seen();
            let is_usable = |(dataset, table): (&String, &Arc<Table>)| {
                table.is_counted() && may_follow(of_primary.live.get(dataset), table)
            };
            node.trouble(&seen).is_none() && seen.live.iter().any(is_usable)
        });
        match self.primary.failing_for() {
            Some(alone) if replica_answers && alone <= self.alone_max => Ok(()),
            Some(_) if replica_answers => Err(ALONE_TOO_LONG.into()),
            _ => Err(format!("primary {}: {why}", self.primary.name)),
        }
    }

    pub(crate) fn servers(&self) -> Servers {
        let status = |node: &Arc<Node>| {
            let seen = node.seen();
            ServerStatus {
                name: node.name.clone(),
                is_available: node.trouble(&seen).is_none(),
                is_diverged: seen.excluded.as_deref().is_some_and(|why| why.starts_with("diverged")),
                age: node.age(),
            }
        };
        let alone = if self.replicas.is_empty() { None } else { self.primary.failing_for() };
        Servers { servers: self.nodes().map(status).collect(), alone: alone.unwrap_or(Duration::ZERO) }
    }
}

/// Whether a replica may have got this from the primary after `known`, which was the last that the primary told.
fn may_follow(known: Option<&Arc<Table>>, table: &Table) -> bool {
    known.is_none_or(|known| known.swap <= table.swap)
}
