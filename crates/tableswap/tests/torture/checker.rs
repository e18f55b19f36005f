//! A reader that never stops: it asks one api over a connection that it keeps, and records every answer.
//!
//! What an answer says of itself (a body of no file, a mix, a wrong 304) is judged here. Whether it may name its version
//! is judged later, when it is known what was published when.

use std::io::{self, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use testkit::http::{self, Response};

use crate::editions::{Editions, KEYS};
use crate::findings::Findings;
use crate::listing::number;

/// Between two requests: half of the two processors stay free for the servers.
const PAUSE: Duration = Duration::from_millis(2);
/// Requests that wait for a paused api, each on a connection of its own.
const ACROSS_A_PAUSE: usize = 16;
/// Keys of a request for many.
const MANY: usize = 20;

/// What one request came to.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) started: Instant,
    pub(crate) ended: Instant,
    pub(crate) outcome: Outcome,
    /// `get`, `get if changed` or `get many`.
    pub(crate) request: &'static str,
}

#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Seen(Seen),
    /// 503, or no answer at all, and why.
    Unavailable(String),
}

/// A version, and the edition that its rows are of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) version: u32,
    pub(crate) edition: u32,
}

pub(crate) struct Checker<'a> {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) editions: &'a Editions,
    pub(crate) findings: &'a Findings,
    pub(crate) answers: Mutex<Vec<Answer>>,
}

/// The answer that the reader has: an etag, and the edition and the version of the answer that brought it.
#[derive(Clone)]
struct Had {
    etag: String,
    edition: u32,
    version: u32,
}

impl Checker<'_> {
    /// Asks until it is told to stop.
    pub(crate) fn run(&self, stop: &AtomicBool) {
        let (mut connection, mut had, mut turn) = (None, None, 0_usize);
        while !stop.load(Ordering::Relaxed) {
            turn += 1;
            let started = Instant::now();
            let (request, asked) = self.ask(&mut connection, turn, &mut had);
            let ended = Instant::now();
            let outcome = asked.unwrap_or_else(|error| {
                connection = None;
                Some(Outcome::Unavailable(error.to_string()))
            });
            if let Some(outcome) = outcome {
                let answer = Answer { started, ended, outcome, request };
                self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// All answers since this was last called.
    pub(crate) fn take(&self) -> Vec<Answer> {
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends requests to an api that is paused and lets it go on: these are the first that it answers, from what it knew
    /// before the pause if it does not look again.
    pub(crate) fn ask_across_a_pause(&self, resume: impl FnOnce()) -> Vec<Answer> {
        let send = |key: usize| {
            let mut stream = http::connect(self.port)?;
            let started = Instant::now();
            let path = format!("/promotions/{}", self.editions.id(key));
            stream.write_all(http::head("GET", &path, self.port, &[]).as_bytes())?;
            Ok((key, started, stream))
        };
        let waiting: Vec<io::Result<_>> = (0..ACROSS_A_PAUSE).map(send).collect();
        resume();
        let receive = |(key, started, stream): (usize, Instant, TcpStream)| {
            let answer = http::read_response(&mut BufReader::new(stream), false).ok()?;
            let ended = Instant::now();
            let outcome = match answer.status {
                200 => self.one_row(&answer, key, &mut None)?,
                _ => self.no_row(&answer, "a request that waited")?,
            };
            Some(Answer { started, ended, outcome, request: "get across a pause" })
        };
        waiting.into_iter().filter_map(Result::ok).filter_map(receive).collect()
    }

    /// One request; nothing where the answer broke a rule that has been reported.
    fn ask(
        &self,
        connection: &mut Option<BufReader<TcpStream>>,
        turn: usize,
        had: &mut Option<Had>,
    ) -> (&'static str, io::Result<Option<Outcome>>) {
        let key = (turn * 7) % KEYS;
        match turn % 8 {
            0 => ("get many", self.ask_many(connection, turn)),
            1..=3 if had.is_some() => ("get if changed", self.ask_one(connection, key, had, true)),
            _ => ("get", self.ask_one(connection, key, had, false)),
        }
    }

    fn ask_one(
        &self,
        connection: &mut Option<BufReader<TcpStream>>,
        key: usize,
        had: &mut Option<Had>,
        if_changed: bool,
    ) -> io::Result<Option<Outcome>> {
        let path = format!("/promotions/{}", self.editions.id(key));
        let etag = had.as_ref().filter(|_| if_changed).map(|had| had.etag.as_str());
        let answer = self.exchange(connection, &path, etag)?;
        Ok(match answer.status {
            200 => self.one_row(&answer, key, had),
            304 if if_changed => self.not_modified(&answer, had.as_ref()),
            _ => self.no_row(&answer, &path),
        })
    }

    fn one_row(&self, answer: &Response, key: usize, had: &mut Option<Had>) -> Option<Outcome> {
        let Some((edition, _)) = self.editions.of_body(&answer.text()).filter(|(_, of)| *of == key) else {
            self.report("P1 a row of no file", format!("key {key}: {}", answer.text()));
            return None;
        };
        let (Some(version), Some(etag)) = (version_of(answer), answer.header("etag")) else {
            self.report("P1 an answer without its version", format!("{:?}", answer.headers));
            return None;
        };
        if let Some(had) = had.as_ref().filter(|had| had.etag == etag && had.edition != edition) {
            let editions = (had.edition, edition);
            self.report("P1 one etag for two contents", format!("{etag} is of the editions {editions:?}"));
        }
        *had = Some(Had { etag: etag.to_owned(), edition, version });
        Some(Outcome::Seen(Seen { version, edition }))
    }

    /// The reader may keep what it has, so what it has must be of the version that the answer names.
    fn not_modified(&self, answer: &Response, had: Option<&Had>) -> Option<Outcome> {
        let had = had?;
        if answer.header("etag").is_some_and(|etag| etag != had.etag) {
            self.report(
                "P1 a 304 with another etag",
                format!("{:?}, asked with {}", answer.headers, had.etag),
            );
            return None;
        }
        let version = version_of(answer).unwrap_or(had.version);
        Some(Outcome::Seen(Seen { version, edition: had.edition }))
    }

    fn ask_many(
        &self,
        connection: &mut Option<BufReader<TcpStream>>,
        turn: usize,
    ) -> io::Result<Option<Outcome>> {
        let keys: Vec<usize> = (0..MANY).map(|at| (turn + at * 3) % KEYS).collect();
        let ids: Vec<String> = keys.iter().map(|key| self.editions.id(*key)).collect();
        let path = format!("/promotions?id={}", ids.join("&id="));
        let answer = self.exchange(connection, &path, None)?;
        if answer.status != 200 {
            return Ok(self.no_row(&answer, &path));
        }
        let text = answer.text();
        let json: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
        let first = text.split_once("\"found\":[").map_or("", |(_, rows)| rows);
        let first = first.split_inclusive('}').next().unwrap_or_default();
        let (Some(version), Some((edition, _))) = (number(&json["version"]), self.editions.of_body(first))
        else {
            self.report("P1 rows of no file", text);
            return Ok(None);
        };
        if text != self.editions.answer_to_many(version, edition, &keys) {
            self.report("P1 a mix, or a row missing", text);
            return Ok(None);
        }
        Ok(Some(Outcome::Seen(Seen { version, edition })))
    }

    /// An answer without rows: 503 is judged later, anything else is wrong, because every edition has every key.
    fn no_row(&self, answer: &Response, path: &str) -> Option<Outcome> {
        if answer.status == 503 {
            return Some(Outcome::Unavailable("503".to_owned()));
        }
        let path: String = path.chars().take(60).collect();
        self.report(&format!("P1 a reader got {}", answer.status), format!("{path}: {}", answer.text()));
        None
    }

    /// Sends one request on the kept connection, or on a new one where there is none.
    fn exchange(
        &self,
        connection: &mut Option<BufReader<TcpStream>>,
        path: &str,
        etag: Option<&str>,
    ) -> io::Result<Response> {
        let condition = etag.map(|etag| format!("if-none-match: {etag}\r\n")).unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{condition}\r\n");
        let stream = match connection {
            Some(stream) => stream,
            None => connection.insert(BufReader::new(http::connect(self.port)?)),
        };
        stream.get_mut().write_all(request.as_bytes())?;
        let answer = http::read_response(stream, false)?;
        if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            *connection = None;
        }
        Ok(answer)
    }

    fn report(&self, rule: &str, what: impl std::fmt::Display) {
        self.findings.report(rule, format!("{}: {what}", self.name));
    }
}

fn version_of(answer: &Response) -> Option<u32> {
    answer.header("x-dataset-version")?.parse().ok()
}
