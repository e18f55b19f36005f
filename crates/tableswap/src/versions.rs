//! `tableswap versions` and `tableswap rollback`.

use std::process::ExitCode;

use serde_json::{Value as Json, json};

use crate::Error;
use crate::arguments::Servers;
use crate::client::Client;
use crate::output::{grouped, say};

pub(crate) fn list(servers: &Servers) -> Result<ExitCode, Error> {
    let client = Client::new(servers)?;
    let versions = fetch(&client)?;
    say(format_args!("{:>8}  {:<9}  {:>15}  {:<20}  source", "version", "state", "rows", "published"))?;
    for entry in versions["versions"].as_array().into_iter().flatten() {
        let text = |name: &str| entry[name].as_str().unwrap_or("-").to_owned();
        let reason = entry["reason"].as_str().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let (version, rows) = (entry["version"].to_string(), grouped(entry["rows"].as_u64().unwrap_or(0)));
        let (state, published, source) = (text("state"), text("published_at"), text("source"));
        say(format_args!("{version:>8}  {state:<9}  {rows:>15}  {published:<20}  {source}{reason}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn rollback(version: Option<u32>, servers: &Servers) -> Result<ExitCode, Error> {
    let client = Client::new(servers)?;
    let version = match version {
        Some(version) => version.into(),
        None => previous(&fetch(&client)?).ok_or_else(|| Error::NothingBefore(servers.dataset.clone()))?,
    };
    let answer = client.post(&client.updater(&format!("/versions/{version}/activate")), &json!({}))?;
    client.check_is_updater(&answer)?;
    let answer = answer.ok()?;
    say(format_args!("{} version {} is live", servers.dataset, answer["version"]))?;
    if let Some(before) = answer["before"].as_u64().filter(|before| *before != version) {
        say(format_args!("version {before} was live before; to take it back: tableswap rollback {before}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn fetch(client: &Client<'_>) -> Result<Json, Error> {
    let answer = client.get(&client.updater("/versions"))?;
    client.check_is_updater(&answer)?;
    answer.ok()
}

/// The newest version below the live one that was not withdrawn.
fn previous(versions: &Json) -> Option<u64> {
    let live = versions["live"].as_u64()?;
    let entries = versions["versions"].as_array()?.iter();
    let kept = entries.filter(|entry| entry["state"] == "kept").filter_map(|entry| entry["version"].as_u64());
    kept.filter(|version| *version < live).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_goes_to_the_newest_kept_version_below_the_live_one() {
        let versions = json!({"live": 3, "versions": [
            {"version": 5, "state": "withdrawn"}, {"version": 4, "state": "kept"}, {"version": 3, "state": "live"},
            {"version": 2, "state": "withdrawn"}, {"version": 1, "state": "kept"},
        ]});
        assert_eq!(previous(&versions), Some(1));
        assert_eq!(previous(&json!({"live": 1, "versions": [{"version": 1, "state": "live"}]})), None);
    }
}
