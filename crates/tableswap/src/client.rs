//! Asking the servers.

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value as Json;
use ureq::Agent;
use ureq::http::Response;

use crate::Error;
use crate::arguments::Servers;

/// A client of the servers.
pub(crate) struct Client<'a> {
    agent: Agent,
    servers: &'a Servers,
    token: Option<String>,
}

/// An answer, whatever its status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    url: String,
}

/// What can stand in a segment of a path as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl<'a> Client<'a> {
    pub(crate) fn new(servers: &'a Servers) -> Result<Self, Error> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .build();
        let token = servers.token_file.as_ref().map(|path| {
            fs::read_to_string(path)
                .map(|text| text.trim().to_owned())
                .map_err(|error| Error::file(path, error))
        });
        Ok(Self { agent: config.into(), servers, token: token.transpose()? })
    }

    /// A path of the updater about the dataset.
    pub(crate) fn updater(&self, path: &str) -> String {
        let dataset = segment(&self.servers.dataset);
        format!("{}/datasets/{dataset}{path}", self.servers.updater.trim_end_matches('/'))
    }

    /// A path of the api about the dataset.
    pub(crate) fn api(&self, path: &str) -> String {
        format!("{}/{}{path}", self.servers.api.trim_end_matches('/'), segment(&self.servers.dataset))
    }

    pub(crate) fn get(&self, url: &str) -> Result<Answer, Error> {
        answer(url, self.agent.get(url).call())
    }

    pub(crate) fn post(&self, url: &str, body: &Json) -> Result<Answer, Error> {
        let request = self.agent.post(url).header("content-type", "application/json");
        let request = self
            .token
            .iter()
            .fold(request, |it, token| it.header("authorization", format!("Bearer {token}")));
        answer(url, request.send(body.to_string()))
    }

    pub(crate) fn put(&self, url: &str, source: &str, body: impl ureq::AsSendBody) -> Result<Answer, Error> {
        let request = self.agent.put(url).header("content-type", "application/octet-stream");
        let request = self
            .token
            .iter()
            .fold(request, |it, token| it.header("authorization", format!("Bearer {token}")));
        // A name that no header can hold is only a name.
        let source: String = source.chars().filter(|char| char.is_ascii_graphic() || *char == ' ').collect();
        answer(url, request.header("x-source", source).send(body))
    }
}

/// Any text as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

fn answer(url: &str, response: Result<Response<ureq::Body>, ureq::Error>) -> Result<Answer, Error> {
    let unreachable = |source: ureq::Error| match source {
        ureq::Error::Io(error)
            if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
        {
            Error::CutOff { url: url.to_owned() }
        }
        source => Error::Unreachable { url: url.to_owned(), source: Box::new(source) },
    };
    let mut response = response.map_err(unreachable)?;
    let body = response.body_mut().with_config().limit(u64::MAX).read_to_string().map_err(unreachable)?;
    Ok(Answer { status: response.status().as_u16(), body, url: url.to_owned() })
}

impl Answer {
    pub(crate) fn json(&self) -> Result<Json, Error> {
        serde_json::from_str(&self.body).map_err(|error| self.foreign(&error))
    }

    /// The error for a body that is not what the contract says.
    pub(crate) fn foreign(&self, error: &serde_json::Error) -> Error {
        Error::Foreign { url: self.url.clone(), why: error.to_string() }
    }

    /// The JSON of a 200; for anything else, what the server says about it.
    pub(crate) fn ok(&self) -> Result<Json, Error> {
        let json = self.json()?;
        if self.status == 200 {
            return Ok(json);
        }
        let detail = json["detail"].as_str().map(str::to_owned);
        Err(Error::Refused(detail.unwrap_or_else(|| format!("{} answers {}", self.url, self.status))))
    }
}
