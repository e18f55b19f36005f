//! `tableswap check`: the very same validation as an upload's, without a server.

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use dataset::{Dataset, Datasets};
use ingest::{Limits, Outlets, REPORT_HEADER, Refusal, Rejects};
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use crate::Error;
use crate::arguments::{Check, Servers};
use crate::output::{complain, counted, grouped, reject, say};

/// How much of the file is read at once.
const READ_BYTES: usize = 256 << 10;

pub(crate) fn run(check: &Check, servers: &Servers) -> Result<ExitCode, Error> {
    let datasets = match &check.datasets {
        Some(path) => {
            Datasets::from_toml(&fs::read_to_string(path).map_err(|error| Error::file(path, error))?)?
        }
        None => Datasets::built_in()?,
    };
    let dataset = datasets.get(&servers.dataset).cloned();
    let dataset = dataset.ok_or_else(|| Error::NoDataset(servers.dataset.clone()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Start)?;
    runtime.block_on(examine(check, dataset))
}

async fn examine(check: &Check, dataset: Arc<Dataset>) -> Result<ExitCode, Error> {
    if let Some(path) = &check.report {
        refuse_other_file(path, &check.file)?;
    }
    let work_dir = tempfile::tempdir().map_err(Error::Start)?;
    let report = work_dir.path().join("rejects.csv");
    // A server keeps the first rejects of everybody; this report is for the one who asked for it.
    let report_rows_max = if check.report.is_some() { u64::MAX } else { 0 };
    let limits = Limits { report_rows_max, ..Limits::default() };
    let (start, guards) = (Instant::now(), dataset.guards);
    let body = ReaderStream::with_capacity(open(&check.file).await?, READ_BYTES);
    let ingested = ingest::ingest(body, dataset, &limits, Outlets::new(&report)).await;
    let ingested = match ingested {
        Ok(ingested) => ingested,
        // What is wrong with the file is the answer; what is wrong with this machine is an error.
        Err(error) if error.is_of_the_file() => {
            let rejects = match &error {
                ingest::Error::TooManyRejects { rejects, .. } => Some(&**rejects),
                _ => None,
            };
            // The rejects before the place where reading stopped are worth a look too.
            if let Some(path) = &check.report {
                keep_report(&report, path)?;
            }
            return refuse(&error.to_string(), rejects);
        }
        Err(error) => return Err(error.into()),
    };
    let (bytes, sha256, header) = (ingested.bytes, ingested.sha256.clone(), ingested.header);
    ingested.warnings.iter().for_each(|warning| complain(format_args!("warning: {warning}")));
    let merged = ingested.into_rows(1).await?.finish_unread().await?;
    if let Some(path) = &check.report {
        keep_report(&report, path)?;
    }
    let decided = Refusal::of_rejects(&guards, merged.rejects.count())
        .and_then(|()| Refusal::of_rows(&guards, merged.rows, header, None));
    if let Err(refusal) = decided {
        return refuse(&refusal.to_string(), Some(&merged.rejects));
    }
    let (rows, duplicates) = (counted(merged.rows, "row"), counted(merged.duplicates, "duplicate"));
    let rejected = grouped(merged.rejects.count());
    say(format_args!("the file is fine: {rows}, {rejected} rejected, {duplicates}"))?;
    let bytes = counted(bytes, "byte");
    say(format_args!("{bytes}, sha256 {sha256}, {:.1} s", start.elapsed().as_secs_f64()))?;
    Ok(ExitCode::SUCCESS)
}

async fn open(path: &Path) -> Result<Box<dyn AsyncRead + Unpin + Send>, Error> {
    if path == Path::new("-") {
        return Ok(Box::new(tokio::io::stdin()));
    }
    let file = tokio::fs::File::open(path).await.map_err(|error| Error::file(path, error))?;
    let is_dir = file.metadata().await.is_ok_and(|metadata| metadata.is_dir());
    if is_dir { Err(Error::file(path, io::ErrorKind::IsADirectory.into())) } else { Ok(Box::new(file)) }
}

/// Refuses to write the report over the file that is checked, or over anything but a report.
fn refuse_other_file(report: &Path, checked: &Path) -> Result<(), Error> {
    let Ok(there) = fs::metadata(report) else { return Ok(()) };
    let same = |other: &fs::Metadata| (there.dev(), there.ino()) == (other.dev(), other.ino());
    let checked = if checked == Path::new("-") { stdin_metadata() } else { fs::metadata(checked) };
    if checked.is_ok_and(|checked| same(&checked)) {
        return Err(Error::ReportIsInput(report.to_owned()));
    }
    if !there.is_file() {
        return Err(Error::NotAReport(report.to_owned()));
    }
    let mut start = Vec::new();
    let file = fs::File::open(report).map_err(|error| Error::file(report, error))?;
    let first_line = REPORT_HEADER.len() as u64 + 1;
    file.take(first_line).read_to_end(&mut start).map_err(|error| Error::file(report, error))?;
    let is_report = start.strip_prefix(REPORT_HEADER.as_bytes()).is_some_and(|rest| rest == b"\n");
    if is_report || there.len() == 0 { Ok(()) } else { Err(Error::NotAReport(report.to_owned())) }
}

/// What the standard input is: a shell may have redirected it to a file.
fn stdin_metadata() -> io::Result<fs::Metadata> {
    fs::File::from(io::stdin().as_fd().try_clone_to_owned()?).metadata()
}

/// Puts the report where the user wants it; without a reject it has only its header.
fn keep_report(report: &Path, path: &Path) -> Result<(), Error> {
    let kept = if report.exists() {
        fs::copy(report, path).map(drop)
    } else {
        fs::write(path, format!("{REPORT_HEADER}\n"))
    };
    kept.map_err(|error| Error::file(path, error))
}

fn refuse(why: &str, rejects: Option<&Rejects>) -> Result<ExitCode, Error> {
    complain(format_args!("the file would be refused: {why}"));
    if let Some(rejects) = rejects {
        for (code, count) in rejects.by_code() {
            say(format_args!("{code}: {}", grouped(*count)))?;
        }
        for row in rejects.shown() {
            say(reject(row.line, row.column.as_deref(), &row.value, &row.reason))?;
        }
    }
    Ok(ExitCode::FAILURE)
}
