//! Broken rules, collected so that one run shows all of them, and the story that led there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Findings of one rule that are shown; all are counted and stand in the report.
const SHOWN: usize = 5;

pub(crate) struct Findings {
    scenario: String,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    findings: Vec<(String, String)>,
    story: String,
}

impl Findings {
    pub(crate) fn new(scenario: &str) -> Findings {
        Findings { scenario: scenario.to_owned(), started: Instant::now(), state: Mutex::default() }
    }

    /// A broken rule. `rule` groups findings in the summary.
    pub(crate) fn report(&self, rule: &str, what: impl Into<String>) {
        let what = what.into();
        self.tell(format!("FINDING {rule}: {what}"));
        let at = self.started.elapsed().as_secs_f64();
        self.state().findings.push((rule.to_owned(), format!("{at:.3} {what}")));
    }

    /// A line of the story, for the report of a failed run.
    pub(crate) fn tell(&self, line: impl AsRef<str>) {
        let at = self.started.elapsed().as_secs_f64();
        writeln!(self.state().story, "{at:9.3} {}", line.as_ref()).unwrap();
    }

    /// Seconds since the start, as the story counts them.
    pub(crate) fn seconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.started).as_secs_f64()
    }

    /// Fails the test if a rule was broken, with the place of the report; `logs` are those of the servers.
    pub(crate) fn conclude(&self, summary: &str, logs: &str) {
        let state = self.state();
        let mut rules: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        state.findings.iter().for_each(|(rule, what)| rules.entry(rule).or_default().push(what));
        let seconds = self.started.elapsed().as_secs();
        println!("{}: {} findings in {seconds} s; {summary}", self.scenario, state.findings.len());
        if state.findings.is_empty() {
            return;
        }
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{}.txt", self.scenario.replace(' ', "-")));
        std::fs::write(&path, format!("{}\n{summary}\n\n{logs}", state.story)).unwrap();
        let of_rule = |(rule, all): (&&str, &Vec<&str>)| {
            let shown = all.iter().take(SHOWN).map(|what| format!("\n    {what}")).collect::<String>();
            format!("  {} x {rule}{shown}", all.len())
        };
        let rules: Vec<String> = rules.iter().map(of_rule).collect();
        panic!("{}\n{}\nreport: {}", self.scenario, rules.join("\n"), path.display());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
