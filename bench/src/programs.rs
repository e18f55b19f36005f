//! The programs of this repository, which were built together with this one.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// The directory of this program itself.
#[derive(Debug)]
pub(crate) struct Programs {
    dir: PathBuf,
}

impl Programs {
    pub(crate) fn find() -> anyhow::Result<Programs> {
        let this = env::current_exe().context("this program's own path")?;
        Ok(Programs { dir: this.parent().unwrap_or(Path::new("/")).to_owned() })
    }

    /// The path of a program, which has to be there.
    pub(crate) fn path(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.dir.join(name);
        ensure!(path.is_file(), "{} is missing: cargo build --release --workspace", path.display());
        Ok(path)
    }

    /// Runs a program to its end, which has to be a good one.
    pub(crate) fn run(&self, name: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let output = Command::new(self.path(name)?).args(arguments).output().context(name.to_owned())?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name} {} failed: {}", arguments.join(" "), said.trim());
        Ok(())
    }
}
