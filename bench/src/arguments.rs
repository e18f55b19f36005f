//! What can be typed.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::readme;

/// Measures Tableswap against what it could be at best, on one machine and in turns.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Time look-ups of every contender and print medians, percentiles and ratios.
    Lookup(Lookup),
    /// Time loads on every way, from the first byte until the rows can be read.
    Load(Load),
    /// See what readers notice of a swap, and of a whole load.
    Swap(Swap),
    /// Serve a constant answer: the contender `bare`, which `lookup` starts by itself.
    #[command(hide = true)]
    Bare {
        /// Where to listen, on 127.0.0.1.
        #[arg(long)]
        port: u16,
    },
    /// Ask a database once for each request: the contender `mariadb-plain`, which `lookup` starts by itself.
    #[command(hide = true)]
    Plain {
        /// Where to listen, on 127.0.0.1.
        #[arg(long)]
        port: u16,
        /// Its URL.
        #[arg(long)]
        database: String,
    },
}

/// What `lookup` takes.
#[derive(Debug, Args)]
pub(crate) struct Lookup {
    /// How many promotions are loaded.
    #[arg(long, default_value_t = 10_000_000)]
    pub(crate) rows: usize,
    /// How many turns each contender has.
    #[arg(long, default_value_t = 5)]
    pub(crate) turns: usize,
    /// How long a turn lasts.
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: usize,
    /// At how many connections all contenders are measured; bare, embedded and mariadb are at 16 and 2000 as well.
    #[arg(long, value_name = "NUMBER,...", value_delimiter = ',', default_values_t = [64, 512])]
    pub(crate) connections: Vec<usize>,
    /// Measure these contenders alone; bare, to which all others are compared, is always one of them.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    #[command(flatten)]
    pub(crate) places: Places,
}

/// Where a measurement finds its files and leaves its tables.
#[derive(Debug, Args)]
pub(crate) struct Places {
    /// Where files are kept for the next run.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    dir: PathBuf,
    /// Print the tables and leave bench/README.md as it is.
    #[arg(long)]
    no_write: bool,
}

impl Places {
    /// The directory of the files; the servers have working directories of their own.
    pub(crate) fn dir(&self) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.dir)?;
        self.dir.canonicalize()
    }

    /// Shows the tables of a command.
    pub(crate) fn publish(&self, command: &str, report: &str) -> anyhow::Result<()> {
        println!("{report}");
        if self.no_write { Ok(()) } else { readme::replace(command, report) }
    }
}

/// What `load` takes.
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// How many promotions all ways load.
    #[arg(long, value_name = "NUMBER,...", value_delimiter = ',', default_values_t = [1_000_000, 10_000_000])]
    pub(crate) rows: Vec<usize>,
    /// How many turns each way has.
    #[arg(long, default_value_t = 3)]
    pub(crate) turns: usize,
    /// How many promotions are loaded once into the embedded store; 0 leaves it out.
    #[arg(long, default_value_t = 100_000_000)]
    pub(crate) large: usize,
    /// The same for MariaDB.
    #[arg(long, default_value_t = 50_000_000)]
    pub(crate) large_mariadb: usize,
    #[command(flatten)]
    pub(crate) places: Places,
}

impl Load {
    /// The command that measures the same again.
    pub(crate) fn command_line(&self) -> String {
        let rows: Vec<String> = self.rows.iter().map(ToString::to_string).collect();
        format!(
            "cargo run --release -p bench -- load --rows {} --turns {} --large {} --large-mariadb {}",
            rows.join(","),
            self.turns,
            self.large,
            self.large_mariadb
        )
    }
}

/// What `swap` takes.
#[derive(Debug, Args)]
pub(crate) struct Swap {
    /// How many promotions each version has.
    #[arg(long, default_value_t = 10_000_000)]
    pub(crate) rows: usize,
    #[command(flatten)]
    pub(crate) places: Places,
}

impl Swap {
    /// The command that measures the same again.
    pub(crate) fn command_line(&self) -> String {
        format!("cargo run --release -p bench -- swap --rows {}", self.rows)
    }
}

impl Lookup {
    /// The command that measures the same again.
    pub(crate) fn command_line(&self) -> String {
        let connections: Vec<String> = self.connections.iter().map(ToString::to_string).collect();
        let mut line = format!(
            "cargo run --release -p bench -- lookup --rows {} --turns {} --seconds {} --connections {}",
            self.rows,
            self.turns,
            self.seconds,
            connections.join(",")
        );
        if !self.only.is_empty() {
            line = format!("{line} --only {}", self.only.join(","));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_in_the_report_is_one_that_can_be_typed() {
        let typed = "bench lookup --rows 7 --connections 2,3 --only hot,zipf --dir elsewhere";
        let Command::Lookup(lookup) = Arguments::parse_from(typed.split(' ')).command else { panic!() };
        assert_eq!(
            lookup.command_line(),
            "cargo run --release -p bench -- lookup --rows 7 --turns 5 --seconds 5 --connections 2,3 --only hot,zipf"
        );
    }
}
