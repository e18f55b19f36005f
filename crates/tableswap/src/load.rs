//! `tableswap load`: a file to the updater, as it is read.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value as Json;

use crate::Error;
use crate::arguments::{Load, Servers};
use crate::client::{Answer, Client, Upload, in_words_of_the_command};
use crate::follow::{Bar, follow};
use crate::output::{complain, counted, grouped, reject, say};

pub(crate) fn run(load: &Load, servers: &Servers) -> Result<ExitCode, Error> {
    let (client, bar) = (Client::new(servers)?, Bar::new());
    let answer = send(load, &client, &bar)?;
    let json = answer.json()?;
    if answer.status != 202 {
        drop(bar);
        client.check_is_updater(&answer)?;
        return if answer.status == 200 { report(&json) } else { refused(&json, servers) };
    }
    let ended = follow(&client, json["id"].as_str().unwrap_or_default(), &bar)?;
    drop(bar);
    let answer = &ended["answer"];
    if answer["detail"].is_string() { refused(answer, servers) } else { report(answer) }
}

/// Sends the file.
fn send(load: &Load, client: &Client<'_>, bar: &Bar) -> Result<Answer, Error> {
    let url = client.updater(&format!("?dry_run={}&force={}", load.dry_run, load.force));
    if load.file == Path::new("-") {
        let body = &mut bar.send(None).wrap_read(io::stdin().lock());
        return client.put(&url, Upload { source: "standard input", bytes: None, body });
    }
    let file = File::open(&load.file).map_err(|error| Error::file(&load.file, error))?;
    let metadata = file.metadata().map_err(|error| Error::file(&load.file, error))?;
    if metadata.is_dir() {
        return Err(Error::file(&load.file, io::ErrorKind::IsADirectory.into()));
    }
    let source = load.file.file_name().unwrap_or_default().to_string_lossy();
    // A pipe has no length.
    let bytes = metadata.is_file().then_some(metadata.len());
    client.put(&url, Upload { source: &source, bytes, body: &mut bar.send(bytes).wrap_read(file) })
}

fn report(answer: &Json) -> Result<ExitCode, Error> {
    warn(answer);
    let number = |name: &str| grouped(answer[name].as_u64().unwrap_or(0));
    let dataset = answer["dataset"].as_str().unwrap_or_default();
    let count = |name: &str, noun: &str| counted(answer[name].as_u64().unwrap_or(0), noun);
    let counts = format!(
        "{}, {} rejected, {}, {} s",
        count("rows", "row"),
        number("rejected"),
        count("duplicates", "duplicate"),
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
fn refused(problem: &Json, servers: &Servers) -> Result<ExitCode, Error> {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    if text(&problem["type"]).ends_with(":outcome-unknown") {
        complain(format_args!("the outcome is not known yet: {}", text(&problem["detail"])));
        return Ok(ExitCode::FAILURE);
    }
    complain(format_args!("nothing was published: {}", in_words_of_the_command(problem)));
    warn(problem);
    for row in problem["rejects"].as_array().into_iter().flatten() {
        let line = row["line"].as_u64().unwrap_or(0);
        say(reject(line, row["column"].as_str(), &text(&row["value"]), &text(&row["reason"])))?;
    }
    if let Some(report) = problem["report"].as_str() {
        say(format_args!("all refused rows: {}{report}", servers.updater.trim_end_matches('/')))?;
    }
    Ok(ExitCode::FAILURE)
}

/// Shows what the updater says about the file besides.
fn warn(answer: &Json) {
    for warning in answer["warnings"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        complain(format_args!("warning: {warning}"));
    }
}
