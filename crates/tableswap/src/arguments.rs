//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A CSV file goes in; a fast, always consistent look-up API comes out.
///
/// Start with `tableswap serve`, then `tableswap load promotions.csv` and `tableswap get ID` in another terminal.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Where the servers are.
    #[command(flatten)]
    pub servers: Servers,
}

/// Where the servers are, and what to ask them about.
#[derive(Debug, Args)]
pub struct Servers {
    /// The updater.
    #[arg(long, global = true, value_name = "URL", default_value = "http://localhost:1322")]
    pub updater: String,
    /// The api.
    #[arg(long, global = true, value_name = "URL", default_value = "http://localhost:1321")]
    pub api: String,
    /// The dataset.
    #[arg(long, global = true, value_name = "NAME", default_value = "promotions")]
    pub dataset: String,
    /// A file with the token that the servers ask for.
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A PEM file with the certificates of the authorities to trust for https, in place of Mozilla's.
    #[arg(long, global = true, value_name = "FILE", env = "SSL_CERT_FILE")]
    pub ca: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run updater and api in one process; settings come from the environment (see README).
    ///
    /// Example: tableswap serve --first-load promotions.csv
    Serve(Serve),
    /// Say whether a file would be accepted, without a server. Exit code 1: it would be refused.
    ///
    /// Example: tableswap check promotions.csv
    Check(Check),
    /// Upload a file; it replaces the whole dataset. Exit code 1: it was refused.
    ///
    /// Example: tableswap load promotions.csv --dry-run
    Load(Load),
    /// Look up one key or several. Exit code 1: a key is not there.
    ///
    /// Example: tableswap get d018ef0b-dbd9-48f1-ac1a-eb4d90e57118
    Get {
        /// The keys.
        #[arg(required = true, value_name = "KEY", allow_negative_numbers = true)]
        keys: Vec<String>,
    },
    /// Ask both servers of `serve` whether they are alive, with the same settings. Exit code 1: one is not.
    ///
    /// Example: tableswap health
    Health,
    /// List the versions of the dataset, newest first.
    ///
    /// Example: tableswap versions --dataset promotions
    Versions,
    /// Make the previous version live again, or the given one.
    ///
    /// Example: tableswap rollback 41
    Rollback {
        /// The version; without one, the newest before the live one that was not withdrawn.
        version: Option<u32>,
    },
    /// Compare the live rows of every replica with those of the primary; the servers come from the environment, as for
    /// `serve`. Each server reads its whole tables once. Exit code 1: one differs.
    ///
    /// Example: tableswap verify --replicas
    Verify {
        /// The replicas of the database.
        #[arg(long, required = true)]
        replicas: bool,
    },
    /// Make a file of promotions to try things with.
    ///
    /// Example: tableswap generate 1000000 --output promotions.csv
    Generate(Generate),
}

/// What `serve` takes.
#[derive(Debug, Args)]
pub struct Serve {
    /// Load this file if its dataset has no version yet: the only dataset, or else promotions.
    #[arg(long, value_name = "FILE")]
    pub first_load: Option<PathBuf>,
}

/// What `check` takes.
#[derive(Debug, Args)]
pub struct Check {
    /// The file, plain or packed with gzip or zstd; `-` is standard input.
    pub file: PathBuf,
    /// A TOML file that defines the datasets, as the updater has it.
    #[arg(long, value_name = "FILE")]
    pub datasets: Option<PathBuf>,
    /// Write the refused rows to this CSV file, all of them up to 256 MiB. An older report is replaced; any other file stays.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// What `load` takes.
#[derive(Debug, Args)]
pub struct Load {
    /// The file, plain or packed with gzip or zstd; `-` is standard input.
    pub file: PathBuf,
    /// Do everything but publish, and say what would change.
    #[arg(long)]
    pub dry_run: bool,
    /// Accept a file that is much smaller than the live version.
    #[arg(long)]
    pub force: bool,
}

/// What `generate` takes.
#[derive(Debug, Args)]
pub struct Generate {
    /// How many rows.
    pub rows: u64,
    /// The same seed makes the same rows.
    #[arg(long, default_value_t = crate::generate::SEED)]
    pub seed: u64,
    /// Where to write them; without it, to standard output.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
