//! `tableswap get`: look-ups by the api.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::Error;
use crate::arguments::Servers;
use crate::client::{Client, segment};
use crate::output::{complain, say};

pub(crate) fn run(keys: &[String], servers: &Servers) -> Result<ExitCode, Error> {
    let client = Client::new(servers)?;
    match keys {
        [key] => one(&client, key),
        keys => many(&client, keys),
    }
}

fn one(client: &Client<'_>, key: &str) -> Result<ExitCode, Error> {
    let answer = client.get(&client.api(&format!("/{}", segment(key))))?;
    client.check_is_api(&answer)?;
    if answer.status == 404 {
        complain(answer.json()?["detail"].as_str().unwrap_or("not found"));
        return Ok(ExitCode::FAILURE);
    }
    answer.ok()?;
    // As the server wrote it: a number must not pass through another's hands.
    say(&answer.body)?;
    Ok(ExitCode::SUCCESS)
}

fn many(client: &Client<'_>, keys: &[String]) -> Result<ExitCode, Error> {
    let answer = client.post(&client.api("/lookup"), &json!(keys))?;
    client.check_is_api(&answer)?;
    answer.ok()?;
    let found: Found = serde_json::from_str(&answer.body).map_err(|error| answer.foreign(&error))?;
    for row in found.found {
        say(row)?;
    }
    for key in &found.missing {
        complain(format_args!("not found: {key}"));
    }
    Ok(if found.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The answer to a question for many keys.
#[derive(Deserialize)]
struct Found {
    found: Vec<Box<RawValue>>,
    missing: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_keeps_all_its_digits() {
        let answer = r#"{"found":[{"price":99999999999999999999.123456}],"missing":[]}"#;
        let found: Found = serde_json::from_str(answer).unwrap();
        assert_eq!(found.found[0].get(), r#"{"price":99999999999999999999.123456}"#);
    }
}
