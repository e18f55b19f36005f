//! `bench load`: the same files go into stores on every way, in turns, from the first byte that is sent until the rows
//! can be read.

mod files;
mod report;
mod watched;
mod ways;

use std::path::PathBuf;

use anyhow::ensure;
use testkit::MariaDb;

use crate::arguments::Load;
use crate::machine::Machine;
use crate::programs::Programs;
use crate::stores;
use files::Files;
use report::Report;
use ways::{Loaded, Way, Ways};

/// One load that was measured.
#[derive(Debug)]
pub(crate) struct Turn {
    way: Way,
    rows: usize,
    loaded: Loaded,
}

pub(crate) fn run(arguments: &Load) -> anyhow::Result<()> {
    ensure!(arguments.turns > 0, "at least one turn is needed");
    let (dir, programs) = (arguments.places.dir()?, Programs::find()?);
    let server = MariaDb::start_with(&stores::FOR_LOADS);
    let bench =
        Bench { arguments, ways: Ways { programs: &programs, server: &server, dir: &dir }, dir: dir.clone() };
    let turns = bench.measure(&programs)?;
    let machine = Machine::look("", Some(server.execute("SELECT VERSION()")));
    let report = Report { arguments, machine: &machine, turns: &turns }.text();
    arguments.places.publish("load", &report)
}

struct Bench<'a> {
    arguments: &'a Load,
    ways: Ways<'a>,
    dir: PathBuf,
}

impl Bench<'_> {
    fn measure(&self, programs: &Programs) -> anyhow::Result<Vec<Turn>> {
        let mut turns = Vec::new();
        for &rows in &self.arguments.rows {
            let files = Files::prepare(&self.dir, rows, programs)?;
            for number in 1..=self.arguments.turns {
                for way in ways::ALL {
                    self.turn(number, way, &files, &mut turns)?;
                }
            }
        }
        for (rows, way) in
            [(self.arguments.large, Way::EMBEDDED), (self.arguments.large_mariadb, Way::MARIADB)]
        {
            if rows > 0 {
                let files = Files::shuffled(&self.dir, rows, programs)?;
                self.turn(1, way, &files, &mut turns)?;
                files.remove()?;
            }
        }
        Ok(turns)
    }

    fn turn(&self, number: usize, way: Way, files: &Files, turns: &mut Vec<Turn>) -> anyhow::Result<()> {
        let loaded = self.ways.load(way, files)?;
        eprintln!("turn {number}, {} rows: {} {:.2} s", files.rows, way.name(), loaded.seconds);
        turns.push(Turn { way, rows: files.rows, loaded });
        // What is still written would take time from the next turn.
        stores::settle(self.ways.server)?;
        rustix::fs::sync();
        Ok(())
    }
}
