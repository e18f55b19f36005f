//! The files that are loaded: shuffled, sorted by key, and packed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::programs::Programs;

/// How the rows come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Shuffled,
    Sorted,
    Zstd,
}

/// The same rows, in every form that was prepared.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) rows: usize,
    shuffled: PathBuf,
}

impl Files {
    /// All forms; what is there from an earlier run is used again.
    pub(crate) fn prepare(dir: &Path, rows: usize, programs: &Programs) -> anyhow::Result<Files> {
        let files = Files::shuffled(dir, rows, programs)?;
        let (shuffled, sorted, zstd) =
            (files.path(Input::Shuffled), files.path(Input::Sorted), files.path(Input::Zstd));
        if !sorted.exists() {
            eprintln!("sort {rows} promotions");
            run(Command::new("sort").env("LC_ALL", "C").arg("--output").arg(&sorted).arg(&shuffled))?;
        }
        if !zstd.exists() {
            run(Command::new("zstd").args(["--quiet", "-3"]).arg(&shuffled).arg("-o").arg(&zstd))?;
        }
        Ok(files)
    }

    /// The shuffled form alone.
    pub(crate) fn shuffled(dir: &Path, rows: usize, programs: &Programs) -> anyhow::Result<Files> {
        let shuffled = dir.join(format!("promotions-{rows}.csv"));
        if !shuffled.exists() {
            eprintln!("generate {rows} promotions");
            programs.run(
                "tableswap",
                &["generate", &rows.to_string(), "--output", &shuffled.to_string_lossy()],
            )?;
        }
        Ok(Files { rows, shuffled })
    }

    pub(crate) fn path(&self, input: Input) -> PathBuf {
        match input {
            Input::Shuffled => self.shuffled.clone(),
            Input::Sorted => self.shuffled.with_extension("sorted.csv"),
            Input::Zstd => self.shuffled.with_extension("csv.zst"),
        }
    }

    /// Large ones are not kept.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(&self.shuffled)?)
    }
}

/// Runs a program to its end, which has to be a good one.
pub(super) fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{name} is missing"))?;
    ensure!(output.status.success(), "{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
