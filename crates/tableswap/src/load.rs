//! `tableswap load`: a file to the updater, as it is read.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value as Json;
use ureq::SendBody;

use crate::Error;
use crate::arguments::{Load, Servers};
use crate::client::{Answer, Client};
use crate::output::{complain, grouped, reject, say};

pub(crate) fn run(load: &Load, servers: &Servers) -> Result<ExitCode, Error> {
    let client = Client::new(servers)?;
    let url = client.updater(&format!("?dry_run={}&force={}", load.dry_run, load.force));
    let answer = if load.file == Path::new("-") {
        client.put(&url, "standard input", SendBody::from_reader(&mut io::stdin().lock()))?
    } else {
        let file = File::open(&load.file).map_err(|error| Error::file(&load.file, error))?;
        if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Err(Error::file(&load.file, io::ErrorKind::IsADirectory.into()));
        }
        let name = load.file.file_name().unwrap_or_default().to_string_lossy();
        client.put(&url, &name, file)?
    };
    if answer.status == 200 { report(&answer.json()?) } else { refused(&answer, servers) }
}

fn report(answer: &Json) -> Result<ExitCode, Error> {
    let number = |name: &str| grouped(answer[name].as_u64().unwrap_or(0));
    let dataset = answer["dataset"].as_str().unwrap_or_default();
    let counts = format!(
        "{} rows, {} rejected, {} duplicates, {} s",
        number("rows"),
        number("rejected"),
        number("duplicates"),
        answer["seconds"]
    );
    let line = match answer["status"].as_str() {
        Some("dry_run") => format!(
            "{dataset} would change: {} added, {} removed, {} changed ({counts})",
            number("added"),
            number("removed"),
            number("changed")
        ),
        Some("unchanged") => {
            format!("{dataset} version {} has these very bytes: nothing to do", answer["version"])
        }
        _ => format!("{dataset} version {} is live: {counts}", answer["version"]),
    };
    say(line)?;
    Ok(ExitCode::SUCCESS)
}

/// Shows what the updater says against the file.
fn refused(answer: &Answer, servers: &Servers) -> Result<ExitCode, Error> {
    let problem = answer.json()?;
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    complain(format_args!("nothing was published: {}", text(&problem["detail"])));
    for row in problem["rejects"].as_array().into_iter().flatten() {
        let line = row["line"].as_u64().unwrap_or(0);
        say(reject(line, row["column"].as_str(), &text(&row["value"]), &text(&row["reason"])))?;
    }
    if let Some(report) = problem["report"].as_str() {
        say(format_args!("all refused rows: {}{report}", servers.updater.trim_end_matches('/')))?;
    }
    Ok(ExitCode::FAILURE)
}
