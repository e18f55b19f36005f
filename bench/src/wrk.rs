//! The load generator: wrk with our script, which prints one line for a machine to read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// Threads of the load generator.
pub(crate) const THREADS: usize = 2;

const SCRIPT: &str = include_str!("lookup.lua");

/// wrk, with its script in a directory of ours.
#[derive(Debug)]
pub(crate) struct Wrk {
    script: PathBuf,
    /// What it says of itself.
    pub(crate) version: String,
}

/// One run of it.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    pub(crate) port: u16,
    pub(crate) connections: usize,
    pub(crate) seconds: usize,
    pub(crate) draws: &'a Path,
    /// The first draw, and how many each thread has from there.
    pub(crate) part: (usize, usize),
    pub(crate) header: Option<&'a str>,
}

/// What it counted and timed; times are in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Measured {
    pub(crate) requests: f64,
    pub(crate) duration: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
    /// Requests without an answer: connections that failed or broke, and answers that came too late.
    pub(crate) failed: f64,
    /// Answers with a status above 399.
    pub(crate) refused: f64,
}

impl Wrk {
    /// Writes the script, and sees that wrk is there.
    pub(crate) fn prepare(dir: &Path) -> anyhow::Result<Wrk> {
        let output = Command::new("wrk").arg("-v").output().context("wrk is missing: apt-get install wrk")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let script = dir.join("lookup.lua");
        fs::write(&script, SCRIPT)?;
        Ok(Wrk { script, version: said.split(' ').nth(1).unwrap_or_default().to_owned() })
    }

    pub(crate) fn run(&self, load: &Load) -> anyhow::Result<Measured> {
        let mut wrk = Command::new("wrk");
        wrk.args([format!("-t{THREADS}"), format!("-c{}", load.connections), format!("-d{}s", load.seconds)]);
        wrk.arg("-s").arg(&self.script).arg(format!("http://127.0.0.1:{}", load.port)).arg("--");
        wrk.arg(load.draws).args([load.part.0.to_string(), load.part.1.to_string()]).args(load.header);
        let output = wrk.output().context("start wrk")?;
        let (said, complained) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "wrk failed: {complained}");
        parse(&said).with_context(|| format!("wrk said: {said}{complained}"))
    }
}

impl Measured {
    /// Requests in a second.
    pub(crate) fn throughput(&self) -> f64 {
        self.requests / (self.duration / 1e6)
    }
}

/// Reads the line that the script prints.
fn parse(output: &str) -> anyhow::Result<Measured> {
    let line =
        output.lines().find_map(|line| line.strip_prefix("measured ")).context("there is no line of ours")?;
    let number = |name: &str| -> anyhow::Result<f64> {
        let mut fields = line.split(' ').filter_map(|field| field.split_once('='));
        let (_, value) = fields.find(|(other, _)| *other == name).context(name.to_owned())?;
        value.parse().with_context(|| name.to_owned())
    };
    Ok(Measured {
        requests: number("requests")?,
        duration: number("duration")?,
        p50: number("p50")?,
        p90: number("p90")?,
        p99: number("p99")?,
        p999: number("p99.9")?,
        max: number("max")?,
        failed: number("connect")? + number("read")? + number("write")? + number("timeout")?,
        refused: number("status")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_found_between_what_wrk_prints_itself() {
        let output = "Running 1s test\n  Non-2xx or 3xx responses: 5\nmeasured requests=92000 duration=2000000 p50=700 \
            p90=900 p99=1500 p99.9=2500 max=9000 connect=1 read=2 write=3 timeout=4 status=5\n";
        let measured = parse(output).unwrap();
        let expected = Measured {
            requests: 92_000.0,
            duration: 2e6,
            p50: 700.0,
            p90: 900.0,
            p99: 1500.0,
            p999: 2500.0,
            max: 9000.0,
            failed: 10.0,
            refused: 5.0,
        };
        assert_eq!(measured, expected);
        assert!((measured.throughput() - 46_000.0).abs() < 1e-9);
    }

    #[test]
    fn a_line_that_is_missing_or_lacks_a_number_is_an_error() {
        assert_eq!(parse("unable to connect\n").unwrap_err().to_string(), "there is no line of ours");
        assert_eq!(parse("measured requests=1\n").unwrap_err().to_string(), "duration");
    }
}
