//! The fault of a round: done to a server, a network or the database, and undone.

use std::time::Duration;

use testkit::{Fault as NetworkFault, MariaDb, Replication};

use crate::checker::{Answer, Checker};
use crate::cluster::{Cluster, Node, Servers};
use crate::dice::Dice;
use crate::findings::Findings;
use crate::operations::Operations;
use crate::rounds::{Fault, Moment, PUBLISHING, Round, duration};
use crate::workload::wait_for_phase;

pub(crate) struct Injection<'a> {
    cluster: &'a Cluster,
    updater: &'a Node,
    pub(crate) api: &'a Node,
    fault: Fault,
    network: NetworkFault,
    moment: Moment,
    delay: Duration,
    lasts: Duration,
    /// A load was told that it is cancelled.
    pub(crate) has_cancelled: bool,
}

impl<'a> Injection<'a> {
    pub(crate) fn draw(
        round: Round,
        cluster: &'a Cluster,
        updater: &'a Node,
        dice: &mut Dice,
    ) -> Injection<'a> {
        let network = match round.fault {
            Fault::CutOffUpdater(network) | Fault::CutOffApi(network) => network.fault(dice),
            _ => NetworkFault::None,
        };
        let delay = match round.moment {
            Moment::Within(limit) => dice.millis(0, limit.max(1)),
            // The phase is seen when it begins; this is somewhere in it. Publishing is the shortest.
            Moment::Phase(_) if round.moment == PUBLISHING => dice.millis(0, 6),
            Moment::Phase(_) => dice.millis(0, 40),
        };
        Injection {
            cluster,
            updater,
            api: &cluster.apis[dice.below(2)],
            fault: round.fault,
            network,
            moment: round.moment,
            delay,
            lasts: match round.fault {
                // Long enough for an upload to be answered while it lasts.
                Fault::PauseApi => dice.millis(400, 1500),
                _ => duration(dice),
            },
            has_cancelled: false,
        }
    }

    /// Waits for its moment and does it. Returns the phase in which it hit a load, where it was to.
    pub(crate) fn inject(&mut self, operations: &Operations, is_over: impl Fn() -> bool) -> Option<String> {
        let met = match self.moment {
            Moment::Phase(phases) => {
                wait_for_phase(self.updater, phases, is_over).then(|| phases[0].to_owned())
            }
            Moment::Within(_) => None,
        };
        std::thread::sleep(self.delay);
        if self.fault != Fault::None {
            operations
                .findings
                .tell(format!("{:?} of {} or {}", self.fault, self.updater.name, self.api.name));
        }
        match self.fault {
            Fault::None => {}
            Fault::Cancel => self.has_cancelled = operations.cancel(self.updater).contains(&200),
            Fault::KillUpdater => self.updater.kill(),
            Fault::PauseUpdater => self.updater.pause(),
            Fault::CutOffUpdater(_) => cut_off(self.updater, self.network),
            Fault::KillApi => self.under_faults(Node::kill),
            Fault::PauseApi => self.under_faults(Node::pause),
            Fault::CutOffApi(_) => self.under_faults(|api| cut_off(api, self.network)),
            // One of several: nobody may notice.
            Fault::KillReplica => self.replicas().replica(0).kill(),
            Fault::PauseReplica => self.replicas().replica(0).pause(),
            Fault::StopReplica => self.replicas().stop_replication(0),
            Fault::KillDatabase => {
                self.cluster.apis.iter().for_each(|api| api.faults.begin());
                self.primary().kill();
            }
        }
        met
    }

    fn primary(&self) -> &MariaDb {
        self.cluster.database.as_ref().unwrap().primary()
    }

    fn replicas(&self) -> &Replication {
        self.cluster.database.as_ref().and_then(Servers::replicas).unwrap()
    }

    /// Leaves the fault for as long as it lasts, and undoes it. Returns what a paused api answered first.
    pub(crate) fn heal(&self, findings: &Findings, checkers: &[Checker<'_>]) -> Vec<Answer> {
        let mut across = Vec::new();
        if matches!(self.fault, Fault::None | Fault::Cancel) {
            return across;
        }
        std::thread::sleep(self.lasts);
        match self.fault {
            Fault::None | Fault::Cancel => {}
            Fault::KillUpdater => self.updater.launch(),
            Fault::PauseUpdater => self.updater.resume(),
            Fault::CutOffUpdater(_) => cut_off(self.updater, NetworkFault::None),
            Fault::KillApi => self.api.launch(),
            Fault::PauseApi => {
                let checker = checkers.iter().find(|checker| checker.port == self.api.port);
                across = checker.unwrap().ask_across_a_pause(|| self.api.resume());
            }
            Fault::CutOffApi(_) => cut_off(self.api, NetworkFault::None),
            Fault::KillDatabase => self.primary().restart(),
            Fault::KillReplica => self.replicas().replica(0).restart(),
            Fault::PauseReplica => self.replicas().replica(0).resume(),
            Fault::StopReplica => self.replicas().start_replication(0),
        }
        self.cluster.apis.iter().for_each(|api| api.faults.end());
        findings.tell(format!("healed after {:?}", self.lasts));
        across
    }

    fn under_faults(&self, act: impl FnOnce(&Node)) {
        self.api.faults.begin();
        act(self.api);
    }
}

fn cut_off(node: &Node, network: NetworkFault) {
    node.proxy.as_ref().unwrap().set(network);
}
