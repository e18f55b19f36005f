//! Uploads, activations and cancellations: sent by a client, judged by their status, entered into the history.

use std::io::{self, BufReader, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use testkit::http::{self, Response};

use crate::cluster::Node;
use crate::editions::Edition;
use crate::findings::Findings;
use crate::history::History;
use crate::listing::number;

/// How a client sends its file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) pieces: usize,
    pub(crate) pause: Duration,
}

impl Pace {
    pub(crate) const AT_ONCE: Pace = Pace { pieces: 1, pause: Duration::ZERO };
}

/// How long a client holds its file back at most: what it waits for has a limit of its own.
const HOLD_MAX: Duration = Duration::from_secs(40);

/// What a client wishes beside its file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// Such as `?force=true`.
    pub(crate) query: &'static str,
    /// `respond-async`, for an answer as soon as the file has come.
    pub(crate) prefer: &'static str,
    pub(crate) pace: Pace,
    /// The second half of the file is sent when this is set, so that the load is receiving until then.
    pub(crate) hold: Option<&'a AtomicBool>,
}

impl Default for Request<'_> {
    fn default() -> Self {
        Request { query: "", prefer: "", pace: Pace::AT_ONCE, hold: None }
    }
}

/// What may happen to the operations of a round because of its fault; everything else is a finding.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tolerance {
    pub(crate) statuses: &'static [u16],
    /// The connection may break off without an answer, because the updater is killed.
    pub(crate) no_answer: bool,
}

pub(crate) struct Operations<'a> {
    pub(crate) history: &'a History,
    pub(crate) findings: &'a Findings,
    pub(crate) tolerance: Mutex<Tolerance>,
    /// Answers that left the outcome open: the updater, and the load to ask it about.
    pub(crate) open: Mutex<Vec<(&'static str, String)>>,
}

/// How an operation was answered; 0 where it was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) version: Option<u32>,
    pub(crate) took: Duration,
}

impl Operations<'_> {
    /// Uploads an edition. `also` are statuses that the caller expects beside those that the fault of the round explains.
    pub(crate) fn upload(
        &self,
        node: &Node,
        edition: &Edition,
        pace: Pace,
        also: &'static [u16],
    ) -> Answered {
        self.upload_with(node, edition, Request { pace, ..Request::default() }, also)
    }

    /// As [`Operations::upload`], with wishes.
    pub(crate) fn upload_with(
        &self,
        node: &Node,
        edition: &Edition,
        request: Request<'_>,
        also: &'static [u16],
    ) -> Answered {
        let (number, rows) = (edition.number, edition.csv.lines().count());
        let query = request.query;
        let what = format!("upload{query} of edition {number} ({rows} rows) to {}", node.name);
        self.findings.tell(format!("{what} begins"));
        let started = Instant::now();
        let answer = send_file(node.port, request, edition.csv.as_bytes());
        let answered = self.note(&what, started, &answer, also);
        let json = json(answer.as_ref().ok());
        match (answered.status, answered.version) {
            (200, Some(version)) => {
                if json["sha256"].as_str() != Some(edition.sha256.as_str()) {
                    self.findings.report("P6 a wrong hash", format!("{what}: {json}"));
                }
                self.history.published(version, number, (started, started + answered.took));
            }
            (0, _) => self.history.upload_unknown(number, started),
            (202, _) => {
                self.note_open(node, json["id"].as_str().unwrap_or_default());
                self.history.upload_unknown(number, started);
            }
            (504, _) => {
                self.note_unknown(node, &what, &json);
                self.history.upload_unknown(number, started);
            }
            (status, _) => self.history.refused(number, status),
        }
        answered
    }

    /// An updater was killed: what it promised to tell is gone with it.
    pub(crate) fn forget_open(&self, node: &Node) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|(name, _)| *name != node.name);
    }

    /// Makes a version live that is kept.
    pub(crate) fn activate(&self, node: &Node, version: u32, also: &'static [u16]) -> Answered {
        let what = format!("activation of version {version} by {}", node.name);
        self.findings.tell(format!("{what} begins"));
        let started = Instant::now();
        let path = format!("/datasets/promotions/versions/{version}/activate");
        let head = http::head("POST", &path, node.port, &[("content-length", "0")]);
        let answer = http::try_request(node.port, head.as_bytes());
        let answered = self.note(&what, started, &answer, also);
        match answered.status {
            200 => self.history.activated(version, (started, started + answered.took)),
            0 | 504 => self.history.activation_unknown(version, started),
            _ => {}
        }
        answered
    }

    /// Cancels whatever the updater is loading; the statuses of the answers.
    pub(crate) fn cancel(&self, node: &Node) -> Vec<u16> {
        let cancel = |(id, _): &(String, String)| {
            let head = http::head("DELETE", &format!("/loads/{id}"), node.port, &[("content-length", "0")]);
            http::try_request(node.port, head.as_bytes()).map_or(0, |answer| answer.status)
        };
        let statuses = running_loads(node.port).iter().map(cancel).collect();
        self.findings.tell(format!("cancelled the loads of {}: {statuses:?}", node.name));
        statuses
    }

    /// Writes an answer into the story and judges its status.
    fn note(
        &self,
        what: &str,
        started: Instant,
        answer: &io::Result<Response>,
        also: &'static [u16],
    ) -> Answered {
        let took = started.elapsed();
        let tolerance = *self.tolerance.lock().unwrap_or_else(PoisonError::into_inner);
        let (status, text) = match answer {
            Ok(answer) => (answer.status, answer.text()),
            Err(error) => (0, error.to_string()),
        };
        self.findings.tell(format!("{what}: {status} after {took:.3?}: {text}"));
        let is_fine = match status {
            200 => true,
            0 => tolerance.no_answer,
            status => tolerance.statuses.contains(&status) || also.contains(&status),
        };
        if !is_fine {
            let verb = what.split_whitespace().next().unwrap_or_default();
            self.findings.report(&format!("P9 {verb} answered with {status}"), format!("{what}: {text}"));
        }
        let version = number(&json(answer.as_ref().ok())["version"]);
        Answered { status, version, took }
    }

    fn note_open(&self, node: &Node, load: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push((node.name, load.to_owned()));
    }

    /// A 504 has to say that the outcome is open, and where it will be told.
    fn note_unknown(&self, node: &Node, what: &str, json: &Json) {
        let is_unknown = json["type"].as_str().is_some_and(|name| name.ends_with("outcome-unknown"));
        match json["load"].as_str() {
            Some(load) if is_unknown => self.note_open(node, load),
            _ => self.findings.report("P3 a 504 that is not outcome-unknown", format!("{what}: {json}")),
        }
    }
}

/// The loads that have not ended, newest first, each with its phase.
pub(crate) fn running_loads(port: u16) -> Vec<(String, String)> {
    let answer = http::try_request(port, http::head("GET", "/loads", port, &[]).as_bytes());
    let json = json(answer.as_ref().ok());
    let loads = json["loads"].as_array().cloned().unwrap_or_default();
    let text = |load: &Json, name: &str| load[name].as_str().unwrap_or_default().to_owned();
    let running = loads.iter().filter(|load| load["phase"] != "ended");
    // A load has its place in the order of versions from when it has its number.
    let phase =
        |load: &Json| if load["version"].is_null() { "beginning".to_owned() } else { text(load, "phase") };
    running.map(|load| (text(load, "id"), phase(load))).collect()
}

/// `published`, `failed` and so on, of a load that has ended.
pub(crate) fn outcome_of(port: u16, load: &str) -> Option<String> {
    let head = http::head("GET", &format!("/loads/{load}"), port, &[]);
    let answer = http::try_request(port, head.as_bytes());
    json(answer.as_ref().ok())["outcome"].as_str().map(str::to_owned)
}

/// The same file with the same length, in pieces, as a slow client sends it. An answer may come before its end.
fn send_file(port: u16, request: Request<'_>, file: &[u8]) -> io::Result<Response> {
    let Request { query, prefer, pace, hold } = request;
    let mut stream = http::connect(port)?;
    let length = file.len().to_string();
    let path = format!("/datasets/promotions{query}");
    stream.write_all(
        http::head("PUT", &path, port, &[("content-length", &length), ("prefer", prefer)]).as_bytes(),
    )?;
    let (mut sent, mut file) = (Ok(()), file);
    if let Some(hold) = hold {
        let (first, second) = file.split_at(file.len() / 2);
        sent = stream.write_all(first);
        file = second;
        let deadline = Instant::now() + HOLD_MAX;
        while !hold.load(Ordering::SeqCst) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    for piece in file.chunks(file.len().div_ceil(pace.pieces)) {
        sent = stream.write_all(piece);
        if sent.is_err() {
            break;
        }
        std::thread::sleep(pace.pause);
    }
    http::read_response(&mut BufReader::new(stream), false).map_err(|error| sent.err().unwrap_or(error))
}

fn json(answer: Option<&Response>) -> Json {
    answer.and_then(|answer| serde_json::from_slice(&answer.body).ok()).unwrap_or_default()
}
