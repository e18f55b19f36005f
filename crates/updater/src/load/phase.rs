//! The phases of a load, and their order as events.

use std::time::{Duration, Instant};

/// The part of a load that is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The file arrives, is parsed and sorted.
    Receiving,
    /// Another publisher has the lock.
    Waiting,
    /// Its rows go into staging, or are compared with the live ones.
    Staging,
    /// The staged rows are counted.
    Verifying,
    /// The version is being swapped in.
    Publishing,
    Ended,
}

impl Phase {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Receiving => "receiving",
            Self::Waiting => "waiting",
            Self::Staging => "staging",
            Self::Verifying => "verifying",
            Self::Publishing => "publishing",
            Self::Ended => "ended",
        }
    }
}

/// All phases so far, each with its event number. Event numbers grow, so a client that reconnects can name the last one
/// it saw.
#[derive(Debug)]
pub(crate) struct PhaseHistory {
    phases: Vec<(u64, Phase)>,
    /// The number of the last event, whether or not a client received it.
    last_number: u64,
    started: Instant,
    phase_started: Instant,
}

/// What to send to a client that has seen a given event.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NextEvent {
    Phase(u64, Phase),
    Progress(u64),
    /// The client has seen the end.
    Over,
    NotYet,
}

impl PhaseHistory {
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self { phases: vec![(1, Phase::Receiving)], last_number: 1, started: now, phase_started: now }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phases.last().map_or(Phase::Receiving, |(_, phase)| *phase)
    }

    /// How long the current phase has lasted.
    pub(crate) fn in_phase(&self) -> Duration {
        self.phase_started.elapsed()
    }

    /// Begins the next phase and returns the previous one with its duration.
    pub(crate) fn advance_to(&mut self, phase: Phase) -> (Phase, Duration) {
        let previous = (self.phase(), self.in_phase());
        let number = self.next_number();
        self.phases.push((number, phase));
        self.phase_started = Instant::now();
        previous
    }

    /// The first event after `seen`. It is chosen and numbered in one step, so no other event comes between.
    pub(crate) fn event_after(&mut self, seen: u64, is_progress_due: bool) -> NextEvent {
        match self.phases.iter().find(|(number, _)| *number > seen) {
            Some((number, phase)) => NextEvent::Phase(*number, *phase),
            None if self.phase() == Phase::Ended => NextEvent::Over,
            None if is_progress_due => NextEvent::Progress(self.next_number()),
            None => NextEvent::NotYet,
        }
    }

    /// About the milliseconds since the start, and always above the last number.
    fn next_number(&mut self) -> u64 {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_number = millis.max(self.last_number + 1);
        self.last_number
    }
}
