//! How many look-ups are under way in one database at once.
//!
//! On one machine one at a time is best: while it is under way the next batch collects, and larger batches cost less
//! for each key. Across a network several have to be on their way, or the database waits for the wire. So it is tried:
//! now and then another number is in use for a while, and it stays if answers come sooner with it. What is compared is
//! the mean time from a question to its answer, waiting included, and how many were answered. Where questions have piled
//! up all the time it is the latter alone, because then that time says more of the pile than of the database.

use std::time::{Duration, Instant};

/// A number is judged by at least so many batches...
const BATCHES_MIN: u32 = 20;
/// ... and by this time, which is long beside the pauses that a busy machine makes.
const WINDOW: Duration = Duration::from_millis(100);
/// More at once must be sooner by so much, because it costs the database more.
const SOONER: f64 = 0.93;
/// Fewer at once may be later by so little.
const NOT_LATER: f64 = 1.02;
/// So many times as many answers, or as few, are another load, for which another number may be best.
const ANOTHER_LOAD: f64 = 1.5;
/// After tries that came to nothing the next is further away, up to so many windows.
const REST_MAX: u32 = 64;

#[derive(Debug)]
pub(super) struct Pace {
    max: usize,
    /// The number that proved best so far.
    settled: usize,
    phase: Phase,
    upwards: bool,
    /// How many windows it rested, about, after the last try that came to nothing.
    rest: u32,
    window: Window,
}

/// A try is a window with another number between two with the settled one.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Rest(Rest),
    Before,
    Try { number: usize, before: Seen },
    After { number: usize, before: Seen, tried: Seen },
}

/// For so many windows more, unless the load becomes another than it was in the first of them.
#[derive(Debug, Clone, Copy)]
struct Rest {
    left: u32,
    took: Option<f64>,
}

impl Rest {
    fn new(left: u32) -> Self {
        Self { left, took: None }
    }

    fn is_over_early(&self, seen: &Seen) -> bool {
        self.took.is_some_and(|took| !(took / ANOTHER_LOAD..took * ANOTHER_LOAD).contains(&seen.took))
    }
}

/// What a window showed, in seconds for each key.
#[derive(Debug, Clone, Copy)]
struct Seen {
    waited: f64,
    took: f64,
    /// There were always more.
    piled_up: bool,
}

#[derive(Debug)]
struct Window {
    start: Instant,
    batches: u32,
    /// After so many of them none was waiting.
    last_ones: u32,
    keys: f64,
    waited: f64,
}

impl Window {
    fn new(start: Instant) -> Self {
        Self { start, batches: 0, last_ones: 0, keys: 0.0, waited: 0.0 }
    }

    fn seen(&self, now: Instant) -> Seen {
        let keys = self.keys.max(1.0);
        let took = now.duration_since(self.start).as_secs_f64() / keys;
        Seen { waited: self.waited / keys, took, piled_up: self.last_ones * 20 < self.batches }
    }
}

impl Seen {
    /// Whether it was better than what was before and after it, with another number.
    fn is_better(&self, before: &Self, after: &Self, with_more: bool) -> bool {
        let waited = self.waited / f64::midpoint(before.waited, after.waited);
        let took = self.took / f64::midpoint(before.took, after.took);
        match (self.piled_up && before.piled_up && after.piled_up, with_more) {
            (true, true) => took < SOONER,
            (true, false) => took < NOT_LATER,
            // Answers may come sooner and be fewer, where the database takes the processors of those who ask.
            (false, true) => waited < SOONER && took < NOT_LATER,
            (false, false) => waited * took < NOT_LATER,
        }
    }
}

impl Pace {
    pub(super) fn new(max: usize, now: Instant) -> Self {
        Self {
            max: max.max(1),
            settled: 1,
            phase: Phase::Before,
            upwards: true,
            rest: 1,
            window: Window::new(now),
        }
    }

    /// How many may be under way at most.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// How many may be under way now.
    pub(super) fn limit(&self) -> usize {
        match self.phase {
            Phase::Try { number, .. } => number,
            _ => self.settled,
        }
    }

    /// Takes note of a batch that was answered: how many keys it had, how long they waited, all together, and whether
    /// another one is waiting.
    pub(super) fn record(&mut self, keys: u32, waited: Duration, more: bool, now: Instant) {
        let window = &mut self.window;
        window.batches += 1;
        window.last_ones += u32::from(!more);
        window.keys += f64::from(keys);
        window.waited += waited.as_secs_f64();
        if self.max > 1 && window.batches >= BATCHES_MIN && now.duration_since(window.start) >= WINDOW {
            let seen = window.seen(now);
            self.window = Window::new(now);
            self.phase = self.next(seen);
        }
    }

    /// Takes note that the database did not take so many.
    pub(super) fn refused(&mut self) {
        self.settled = self.limit().saturating_sub(1).clamp(1, self.settled);
        self.rest = (self.rest * 2).min(REST_MAX);
        (self.upwards, self.phase) = (false, Phase::Rest(Rest::new(self.rest)));
    }

    fn next(&mut self, seen: Seen) -> Phase {
        match self.phase {
            Phase::Rest(rest) if rest.is_over_early(&seen) => {
                self.rest = 1;
                Phase::Before
            }
            Phase::Rest(Rest { left: 0, .. }) => Phase::Before,
            Phase::Rest(Rest { left, took }) => {
                Phase::Rest(Rest { left: left - 1, took: took.or(Some(seen.took)) })
            }
            Phase::Before => {
                if self.neighbour() == self.settled {
                    self.upwards = !self.upwards;
                }
                Phase::Try { number: self.neighbour(), before: seen }
            }
            Phase::Try { number, before } => Phase::After { number, before, tried: seen },
            Phase::After { number, before, tried } => {
                if tried.is_better(&before, &seen, number > self.settled) {
                    (self.settled, self.rest) = (number, 1);
                    return Phase::Before;
                }
                self.upwards = !self.upwards;
                self.rest = (self.rest * 2).min(REST_MAX);
                Phase::Rest(Rest::new(self.rest))
            }
        }
    }

    /// The number to try next, half as many again or a third fewer.
    fn neighbour(&self) -> usize {
        if self.upwards {
            (self.settled + (self.settled / 2).max(1)).min(self.max)
        } else {
            self.settled - (self.settled / 3).max(1).min(self.settled - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(pace: &Pace) -> f64 {
        f64::from(u32::try_from(pace.limit()).unwrap())
    }

    /// Lets a database answer for a while, in which `wait` is the time that its clients wait when so many look-ups are
    /// under way at once. Returns the number at which it settles, and the share of windows in which it was in use.
    fn settle(max: usize, wait: impl Fn(f64) -> f64) -> (usize, f64) {
        let mut now = Instant::now();
        let mut pace = Pace::new(max, now);
        let mut used = vec![0.0; max + 1];
        for n in 0..20_000_u32 {
            let noise = 1.0 + f64::from(n.wrapping_mul(2_654_435_761) % 100) / 5_000.0;
            now += WINDOW / BATCHES_MIN;
            pace.record(64, Duration::from_secs_f64(64.0 * wait(number(&pace)) * noise), false, now);
            used[pace.limit()] += 1.0 / 20_000.0;
        }
        (pace.settled, used[pace.settled])
    }

    #[test]
    fn one_at_a_time_stays_where_more_do_not_help() {
        let (number, share) = settle(16, |_| 0.001);
        assert_eq!(number, 1);
        assert!(share > 0.95, "{share}");
        assert_eq!(settle(16, |number| 0.001 * (1.0 + 0.2 * number)).0, 1);
        assert_eq!(settle(1, |_| 0.001).0, 1);
    }

    #[test]
    fn across_a_network_as_many_are_under_way_as_the_way_is_long() {
        // 2 ms on the wire, 0.5 ms of work for each batch, one after the other.
        let (number, _) = settle(16, |number| (0.0025 / number).max(0.0005));
        assert!((4..=8).contains(&number), "{number}");
    }

    #[test]
    fn a_database_of_many_processors_gets_all_that_it_may() {
        assert_eq!(settle(16, |number| 0.01 / number).0, 16);
    }

    #[test]
    fn a_pile_of_questions_does_not_hide_that_more_at_once_are_answered_sooner() {
        let start = Instant::now();
        let (mut now, mut pace) = (start, Pace::new(16, start));
        for _ in 0..20_000 {
            // All came at the start, so they wait for the longer the later they are answered, however many at once.
            now += Duration::from_secs_f64(0.01) / u32::try_from(pace.limit()).unwrap();
            pace.record(4, now.duration_since(start) * 4, true, now);
        }
        assert_eq!(pace.settled, 16);
    }

    #[test]
    fn another_load_is_tried_for_at_once() {
        let (mut now, mut pace) = (Instant::now(), Pace::new(16, Instant::now()));
        let mut run = |windows: u32, keys: u32, wait: &dyn Fn(f64) -> f64, pace: &mut Pace| {
            for _ in 0..windows * BATCHES_MIN {
                now += WINDOW / BATCHES_MIN;
                let waited = Duration::from_secs_f64(f64::from(keys) * wait(number(pace)));
                pace.record(keys, waited, false, now);
            }
        };
        run(1000, 10, &|number| 0.001 * number, &mut pace);
        assert_eq!((pace.settled, pace.rest), (1, REST_MAX));
        run(40, 40, &|number| 0.01 / number, &mut pace);
        assert_eq!(pace.settled, 16);
    }

    #[test]
    fn fewer_are_under_way_again_where_the_database_got_slower_by_them() {
        let (mut now, mut pace) = (Instant::now(), Pace::new(16, Instant::now()));
        for n in 0..40_000_u32 {
            now += WINDOW / BATCHES_MIN;
            let number = number(&pace);
            let wait = if n < 20_000 { 0.01 / number } else { 0.001 * number };
            pace.record(1, Duration::from_secs_f64(wait), false, now);
        }
        assert_eq!(pace.settled, 1);
    }
}
