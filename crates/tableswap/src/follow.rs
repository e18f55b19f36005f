//! A load on its way through the updater, as a bar on the terminal.

use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value as Json;
use store::{Backoff, Retry};

use crate::Error;
use crate::client::{Client, Events};

/// Without a new event for this long, the connection to the updater is lost.
const PATIENCE: Duration = Duration::from_mins(1);
const BACKOFF: Backoff = Backoff::Constant(Duration::from_secs(1));

/// The bar; without a terminal there is none.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::no_length();
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self(bar)
    }

    /// A file that is sent; its bytes are counted as they go.
    pub(crate) fn send(&self, bytes: Option<u64>) -> &ProgressBar {
        self.style(bytes, "{bytes}/{total_bytes} {bytes_per_sec}");
        self.0.set_message("sending");
        &self.0
    }

    /// Shows how far a load is, as the updater tells it.
    fn show(&self, load: &Json) {
        let number = |name: &str| load[name].as_u64().unwrap_or(0);
        match load["phase"].as_str().unwrap_or_default() {
            "staging" => {
                self.style(Some(number("rows")), "{human_pos}/{human_len} rows, {msg}");
                self.0.set_position(number("rows_staged"));
                let left = load["phase_seconds_left"].as_f64().map(|left| format!(", {left} s left"));
                self.0.set_message(format!("staging{}", left.unwrap_or_default()));
            }
            phase => {
                self.style(None, "{msg}");
                self.0.set_message(phase.to_owned());
            }
        }
    }

    fn style(&self, all: Option<u64>, rest: &str) {
        let template = match all {
            Some(_) => format!("{{wide_bar}} {rest} {{elapsed}}"),
            None => "{spinner} {msg} {elapsed}".to_owned(),
        };
        if let Ok(style) = ProgressStyle::with_template(&template) {
            self.0.set_style(style);
        }
        match all {
            Some(all) => self.0.set_length(all),
            None => self.0.unset_length(),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Follows a load to its end, and returns it as it is then.
pub(crate) fn follow(client: &Client<'_>, load: &str, bar: &Bar) -> Result<Json, Error> {
    let (mut seen, mut retry) = (0, Retry::new(PATIENCE, BACKOFF));
    loop {
        let before = seen;
        let broken = match client.events(load, seen) {
            Ok(events) => match read(events, &mut seen, bar) {
                Some(ended) => return Ok(ended),
                None => Error::Lost { load: load.to_owned() },
            },
            Err(error @ Error::Refused(_)) => return Err(error),
            Err(error) => error,
        };
        if seen != before {
            retry = Retry::new(PATIENCE, BACKOFF);
        }
        retry.pause_blocking(broken)?;
    }
}

/// Reads events until the one that is the end; nothing where they break off before it.
fn read(events: Events, seen: &mut u64, bar: &Bar) -> Option<Json> {
    let (mut name, mut number) = (String::new(), *seen);
    for line in events.lines() {
        let line = line.ok()?;
        let (field, value) = line.split_once(": ").unwrap_or_default();
        match field {
            "id" => number = value.parse().unwrap_or(number),
            "event" => value.clone_into(&mut name),
            "data" => {
                let load = serde_json::from_str(value).ok()?;
                if name == "ended" {
                    return Some(load);
                }
                bar.show(&load);
                // Only what has come whole was seen.
                *seen = number;
            }
            _ => {}
        }
    }
    None
}
