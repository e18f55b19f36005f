//! `bench lookup`: everything is prepared, then the contenders have their turns, one after the other and again from
//! the first, and then the tables are made.

pub(crate) mod contender;
mod report;
mod results;
mod running;
mod targets;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::arguments::Lookup;
use crate::data::{self, ID_BYTES};
use crate::draws::{DRAWS, Draw, Parts};
use crate::lookup::contender::{Answer, Contender, MORE_CONNECTIONS, chosen};
use crate::lookup::report::Report;
use crate::lookup::results::{Results, Side, Turn};
use crate::lookup::running::Running;
use crate::machine::Machine;
use crate::numbers::grouped;
use crate::programs::Programs;
use crate::stores::{Source, Stores};
use crate::wrk::{Load, Measured, THREADS, Wrk};

/// Before the first turn, so that none of them begins cold.
const WARM_UP_SECONDS: usize = 1;
const WARM_UP_CONNECTIONS: usize = 64;

/// So many answers of each contender are looked at before the first turn.
const CHECKED_IDS: usize = 5;

/// A server has a descriptor for each connection, and so has the load generator.
const DESCRIPTORS_MIN: u64 = 4096;

pub(crate) fn run(arguments: &Lookup) -> anyhow::Result<()> {
    let contenders = chosen(&arguments.only)?;
    let counts = [&arguments.connections[..], &[THREADS]].concat();
    ensure!(counts.iter().all(|&count| count >= THREADS), "at least {THREADS} connections are needed");
    ensure!(arguments.turns > 0 && arguments.seconds > 0, "at least one turn of one second is needed");
    raise_descriptors()?;
    let plan = Plan::new(arguments, contenders)?;
    let (stores, running) = plan.prepare()?;
    let results = plan.measure(&running)?;
    fs::write(plan.dir.join("turns.csv"), results.csv())?;
    let machine = Machine::look(&plan.wrk.version, stores.mariadb_version());
    let report = plan.report(&machine, &results);
    arguments.places.publish("lookup", &report)
}

/// To what is allowed at most, also for every process that is started from here.
fn raise_descriptors() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let enough = limit.maximum.is_none_or(|maximum| maximum >= DESCRIPTORS_MIN);
    ensure!(enough, "{:?} open files are allowed, {DESCRIPTORS_MIN} are needed", limit.maximum);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

/// What is measured, with what.
struct Plan<'a> {
    arguments: &'a Lookup,
    contenders: Vec<&'static Contender>,
    /// All numbers of connections, from the smallest.
    connections: Vec<usize>,
    parts: Parts,
    dir: PathBuf,
    wrk: Wrk,
    programs: Programs,
}

impl<'a> Plan<'a> {
    fn new(arguments: &'a Lookup, contenders: Vec<&'static Contender>) -> anyhow::Result<Plan<'a>> {
        let dir = arguments.places.dir()?;
        let mut connections = [&arguments.connections[..], &MORE_CONNECTIONS].concat();
        connections.sort_unstable();
        connections.dedup();
        // The warm-up has a part as well.
        let parts = Parts::new(arguments.turns * connections.len() + 1, arguments.seconds);
        let (wrk, programs) = (Wrk::prepare(&dir)?, Programs::find()?);
        Ok(Plan { arguments, contenders, connections, parts, dir, wrk, programs })
    }

    /// Data, draws, stores and servers.
    fn prepare(&self) -> anyhow::Result<(Stores, Vec<Running>)> {
        let csv = self.dir.join("promotions.csv");
        self.draw(&csv)?;
        let source = Source { programs: &self.programs, csv: &csv, rows: self.arguments.rows };
        let with_mariadb = self.contenders.iter().any(|contender| contender.is_on_mariadb());
        let stores = Stores::prepare(&self.dir, &source, with_mariadb)?;
        let start = |contender: &&'static Contender| {
            let ids = first_ids(&self.draws(contender.draw)).context(contender.name)?;
            Running::start(contender, &self.programs, &stores, &ids)
        };
        let running = self.contenders.iter().map(start).collect::<anyhow::Result<_>>()?;
        Ok((stores, running))
    }

    fn draw(&self, csv: &Path) -> anyhow::Result<()> {
        let ids = data::prepare(csv, self.arguments.rows, &self.programs)?;
        let is_used = |draw: &&Draw| self.contenders.iter().any(|contender| contender.draw == **draw);
        for draw in DRAWS.iter().filter(is_used) {
            eprintln!("draw {} ids: {}", self.parts.total(), draw.file_name());
            draw.write(&ids, self.parts.total(), &self.draws(*draw))?;
        }
        Ok(())
    }

    fn draws(&self, draw: Draw) -> PathBuf {
        self.dir.join(draw.file_name())
    }

    /// The warm-up, and then all turns.
    fn measure(&self, running: &[Running]) -> anyhow::Result<Results> {
        for one in running {
            eprintln!("warm up {}", one.contender.name);
            self.load(one, WARM_UP_CONNECTIONS, WARM_UP_SECONDS, 0)?;
        }
        let mut results = Results::default();
        for number in 1..=self.arguments.turns {
            for (at, &connections) in self.connections.iter().enumerate() {
                let part = 1 + (number - 1) * self.connections.len() + at;
                let asked_for = &self.arguments.connections;
                for one in running.iter().filter(|one| one.contender.has_turns_at(connections, asked_for)) {
                    let measured = self.load(one, connections, self.arguments.seconds, part)?;
                    let of = Side { contender: one.contender.name, connections };
                    let errors = errors(one.contender.answer, &measured);
                    let turn = Turn { of, number, measured, errors };
                    tell(&turn);
                    results.turns.push(turn);
                }
            }
        }
        Ok(results)
    }

    fn load(
        &self,
        one: &Running,
        connections: usize,
        seconds: usize,
        part: usize,
    ) -> anyhow::Result<Measured> {
        let load = Load {
            port: one.port,
            connections,
            seconds,
            draws: &self.draws(one.contender.draw),
            part: (self.parts.first(part), self.parts.each),
            header: one.header.as_deref(),
        };
        let measured = one.turn(|| self.wrk.run(&load)).context(one.contender.name)?;
        if measured.requests > self.parts.of_turn() {
            eprintln!("{}: more requests than draws, so that ids came again", one.contender.name);
        }
        Ok(measured)
    }

    fn report(&self, machine: &Machine, results: &Results) -> String {
        let Lookup { rows, turns, seconds, .. } = *self.arguments;
        let (contenders, connections) = (&self.contenders[..], &self.connections[..]);
        let command_line = &self.arguments.command_line();
        Report { command_line, rows, turns, seconds, machine, contenders, connections, results }.text()
    }
}

/// Some ids that will be asked for.
fn first_ids(draws: &Path) -> anyhow::Result<Vec<String>> {
    let mut text = vec![0; CHECKED_IDS * ID_BYTES];
    File::open(draws)?.read_exact(&mut text)?;
    Ok(text.chunks(ID_BYTES).map(|id| String::from_utf8_lossy(id).into_owned()).collect())
}

/// Answers that were not as they had to be. A status below 400 that is the wrong one is seen before the turns.
fn errors(expected: Answer, measured: &Measured) -> f64 {
    match expected {
        Answer::Found | Answer::NotModified => measured.failed + measured.refused,
        Answer::Missing => measured.failed + (measured.requests - measured.refused).abs(),
    }
}

fn tell(turn: &Turn) {
    let (of, measured) = (turn.of, &turn.measured);
    eprintln!(
        "turn {}, {} connections: {} {} requests/s, p50 {:.2} ms, p99 {:.2} ms, {} errors",
        turn.number,
        of.connections,
        of.contender,
        grouped(measured.throughput()),
        measured.p50 / 1e3,
        measured.p99 / 1e3,
        turn.errors
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_an_error_unless_it_was_expected() {
        let measured = Measured { requests: 10.0, failed: 1.0, refused: 8.0, ..Measured::default() };
        assert!((errors(Answer::Found, &measured) - 9.0).abs() < 1e-9);
        assert!((errors(Answer::NotModified, &measured) - 9.0).abs() < 1e-9);
        assert!((errors(Answer::Missing, &measured) - 3.0).abs() < 1e-9);
    }
}
