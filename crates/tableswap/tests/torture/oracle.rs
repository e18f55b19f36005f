//! What must hold after a fault, whichever operation it met: judged by the live table or an api, and by an updater
//! that the fault never touched.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::findings::Findings;
use crate::listing::Listing;
use crate::testbed::{Answer, Order, Running, Testbed, body, comes, status, told};

/// Within this time an unknown outcome is settled, and the ledger agrees with what readers see.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// Names of tables and files that are no version.
const NO_VERSIONS: [&str; 5] =
    ["promotions", "tableswap_store", "tableswap_versions", "catalog.json", "lock"];

const OWN_TABLES: &str = "SELECT TABLE_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() \
    AND COLUMN_NAME = 'dataset_version' AND EXTRA LIKE '%VIRTUAL%'";

pub(crate) struct Oracle<'a> {
    pub(crate) bed: &'a Testbed,
    pub(crate) findings: &'a Findings,
    pub(crate) case: String,
    pub(crate) api: &'a Running,
    /// An updater that reaches its store at all times.
    pub(crate) witness: &'a Running,
    /// Versions that were seen live, each with its edition, in their order.
    pub(crate) seen: Vec<(u32, u32)>,
    pub(crate) failed: Cell<bool>,
}

impl Oracle<'_> {
    pub(crate) fn report(&self, rule: &str, what: impl AsRef<str>) {
        self.failed.set(true);
        self.findings.report(rule, format!("{}: {}", self.case, what.as_ref()));
    }

    /// What the servers printed, where a rule was broken.
    pub(crate) fn tell_logs(&self, servers: &[(&str, &Running)]) {
        for (name, running) in servers.iter().filter(|_| self.failed.get()) {
            self.findings.tell(format!("{}: log of {name}:\n{}", self.case, running.server.log()));
        }
    }

    /// Notes which version is live now, and gives it with its edition.
    pub(crate) fn observe(&mut self, when: &str) -> Option<(u32, u32)> {
        let live = match self.bed.database {
            Some(_) => self.bed.live_table(),
            None => self.api.look_up(&self.bed.editions, 0).map(Some),
        };
        self.findings.tell(format!("{}: {when}, live is {live:?}", self.case));
        let live = live.unwrap_or_else(|error| {
            self.report("P1 the live version is not whole", format!("{when}: {error}"));
            None
        });
        self.seen.extend(live);
        live
    }

    /// An answer of 200 is true for every reader at once.
    pub(crate) fn check_success(&self, order: &Order, answer: &Answer) {
        let seen = self.api.look_up(&self.bed.editions, 1);
        let is_it = seen.as_ref().is_ok_and(|live| is_of(order, *live));
        if !is_it {
            self.report("P7 published is not live", format!("after {} the api has {seen:?}", told(answer)));
        }
    }

    /// Holds the answer to an operation that met a fault against what was seen live since it began.
    pub(crate) fn check_answer(&self, updater: &Running, order: &Order, answer: &Answer, since: usize) {
        let was_live = self.seen[since..].iter().any(|live| is_of(order, *live));
        match status(answer) {
            200 if !was_live => self.report("P7 200 for what was never live", told(answer)),
            200 => {}
            504 => self.check_unknown(updater, order, answer, was_live),
            0 => self.report("P9 no answer", told(answer)),
            _ if was_live => self.report("P3 an error for what was live", told(answer)),
            _ => {}
        }
        if let Order::Load(edition) = order
            && let Ok(listing) = self.witness.listing()
        {
            let entries = listing.entries.iter().filter(|entry| entry.sha256 == edition.sha256);
            let published: Vec<_> = entries.filter(|entry| entry.was_published).collect();
            if published.is_empty() == was_live {
                let what = format!("was live: {was_live}; its published entries: {published:?}");
                self.report("P3 the ledger does not know what was live", what);
            }
        }
    }

    fn check_unknown(&self, updater: &Running, order: &Order, answer: &Answer, was_live: bool) {
        let problem = body(answer);
        if !problem["type"].as_str().is_some_and(|kind| kind.ends_with("outcome-unknown")) {
            self.report("P9 504 of another type", told(answer));
        }
        // An activation has no load: its outcome is in the list of versions alone, which is checked for all.
        let (Order::Load(_), Some(load)) = (order, problem["load"].as_str()) else { return };
        let outcome = || body(&updater.get(&format!("/loads/{load}")))["outcome"].as_str().map(str::to_owned);
        let is_settled = || matches!(outcome().as_deref(), Some("published" | "failed"));
        if !comes(SETTLED_WITHIN, is_settled) {
            self.report("P3 an unknown outcome is not settled", format!("{:?}", outcome()));
        } else if (outcome().as_deref() == Some("published")) != was_live {
            self.report(
                "P3 an unknown outcome is settled wrongly",
                format!("{:?}, was live: {was_live}", outcome()),
            );
        }
    }

    /// The list of versions names one live version: the one that readers see.
    pub(crate) fn check_listing(&mut self) -> Option<Listing> {
        let live = self.observe("at the end").map(|(version, _)| version);
        let agrees = |listing: &Listing| {
            listing.live == live && states(listing, &["live"]) == live.into_iter().collect()
        };
        if !comes(SETTLED_WITHIN, || self.witness.listing().is_ok_and(|listing| agrees(&listing))) {
            let listed = self.witness.listing();
            self.report("P3 the ledger does not settle", format!("live is {live:?}, listed is {listed:?}"));
        }
        self.witness.listing().ok()
    }

    /// An operation that failed has not taken away what others could go back to.
    pub(crate) fn check_not_destroyed(&self, kept: &BTreeSet<u32>) {
        let Ok(listing) = self.witness.listing() else { return };
        let there = states(&listing, &["live", "kept", "withdrawn"]);
        let gone: Vec<_> = listing
            .entries
            .iter()
            .filter(|entry| kept.contains(&entry.version) && !there.contains(&entry.version))
            .collect();
        if !gone.is_empty() {
            self.report("P4 a kept version was destroyed", format!("{gone:?}"));
        }
    }

    /// Every version that is listed for a rollback can be brought back, and so can the live one after it.
    pub(crate) fn check_kept(&self, listing: &Listing) {
        let kept = states(listing, &["kept", "withdrawn"]);
        for version in kept.iter().copied().chain(listing.live) {
            let answer = self.witness.carry_out(&Order::Activate(version));
            if status(&answer) != 200 {
                self.report("P8 a kept version is gone", format!("version {version}: {}", told(&answer)));
                continue;
            }
            let entry = listing.entries.iter().find(|entry| entry.version == version);
            let expected = entry.and_then(|entry| self.bed.editions.of_sha256(&entry.sha256));
            for key in [2, 59] {
                let seen = self.api.look_up(&self.bed.editions, key);
                if expected.is_none_or(|edition| seen != Ok((version, edition))) {
                    let what = format!("version {version} of edition {expected:?}, the api has {seen:?}");
                    self.report("P8 a kept version has other rows", what);
                }
            }
        }
    }

    /// The next loads need no repair, and remove what versions that failed left behind.
    pub(crate) fn check_next_loads(&self, updaters: &[&Running]) {
        for updater in updaters {
            let order = self.bed.order_load();
            let answer = updater.carry_out(&order);
            if status(&answer) == 200 {
                self.check_success(&order, &answer);
            } else {
                self.report("P3 the next load fails", told(&answer));
            }
        }
        let Ok(listing) = self.witness.listing() else { return };
        let staying = states(&listing, &["live", "kept", "withdrawn"]);
        // A file that a reader still has open may be removed a moment later.
        let left = || {
            let mut names = self.names();
            names.retain(|name| number(name).is_some_and(|version| !staying.contains(&version)));
            names
        };
        if !comes(Duration::from_secs(2), || left().is_empty()) {
            self.report("P9 left-overs stay", format!("{:?}, staying are {staying:?}", left()));
        }
    }

    /// All tables or files of the dataset but the live table; what others made under such names is not among them.
    fn names(&self) -> Vec<String> {
        let names: Vec<String> = if let Some(database) = &self.bed.database {
            database.execute(OWN_TABLES).lines().map(str::to_owned).collect()
        } else {
            let files = std::fs::read_dir(self.bed.data_dir()).unwrap();
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
        };
        names.into_iter().filter(|name| !NO_VERSIONS.contains(&name.as_str())).collect()
    }
}

/// Whether a version and its edition are what an order was about.
pub(crate) fn is_of(order: &Order, (version, edition): (u32, u32)) -> bool {
    match order {
        Order::Load(sent) => sent.number == edition,
        Order::Activate(target) => *target == version,
    }
}

/// The versions in one of these states.
pub(crate) fn states(listing: &Listing, states: &[&str]) -> BTreeSet<u32> {
    let there = listing.entries.iter().filter(|entry| states.contains(&entry.state.as_str()));
    there.map(|entry| entry.version).collect()
}

/// The version that a table's or a file's name tells: `promotions__v7`, `v7.snapshot`, `staging-v7.lmdb`.
fn number(name: &str) -> Option<u32> {
    let digits = name.rsplit_once('v').map(|(_, rest)| rest.split('.').next().unwrap_or_default());
    // A file for a version that has no number yet is a left-over too.
    let extension = Path::new(name).extension().unwrap_or_default();
    let is_staging = name.starts_with("staging") || extension == "new" || extension == "tmp";
    digits.and_then(|digits| digits.parse().ok()).or(is_staging.then_some(0))
}
