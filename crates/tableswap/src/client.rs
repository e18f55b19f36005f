//! Asking the servers.

use std::fs;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value as Json;
use ureq::http::{Response, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, RequestBuilder, SendBody};

use crate::Error;
use crate::arguments::Servers;
use crate::output::printable;

/// How long events are listened to on one connection.
const EVENTS: Duration = Duration::from_secs(30);

/// How long a server may take to show that it expects TLS.
const TLS_PROBE: Duration = Duration::from_secs(2);

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
            .timeout_connect(Some(Duration::from_secs(10)));
        // A proxy of the environment is for what is far away.
        let are_here = [&servers.updater, &servers.api].into_iter().all(|url| is_here(url));
        let config = if are_here { config.proxy(None) } else { config };
        let is_https = [&servers.updater, &servers.api].into_iter().any(|url| url.starts_with("https:"));
        let config = match &servers.ca {
            Some(path) if is_https => {
                config.tls_config(TlsConfig::builder().root_certs(certificates(path)?).build())
            }
            _ => config,
        };
        let config = config.build();
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

    /// Fails where an answer that is not what was expected comes from the api: the two ports are easily mixed up.
    pub(crate) fn check_is_updater(&self, answer: &Answer) -> Result<(), Error> {
        let base = self.servers.updater.trim_end_matches('/');
        if matches!(answer.status, 404 | 405) && !self.is_updater(base) {
            return Err(Error::OtherServer { url: base.to_owned(), is: "api", expected: "updater" });
        }
        Ok(())
    }

    /// Fails where an answer that is not what was expected comes from the updater.
    pub(crate) fn check_is_api(&self, answer: &Answer) -> Result<(), Error> {
        let base = self.servers.api.trim_end_matches('/');
        if matches!(answer.status, 404 | 405) && self.is_updater(base) {
            return Err(Error::OtherServer { url: base.to_owned(), is: "updater", expected: "api" });
        }
        Ok(())
    }

    /// Only the updater lists datasets.
    fn is_updater(&self, base: &str) -> bool {
        let listed = self.get(&format!("{base}/datasets")).and_then(|answer| answer.ok());
        listed.is_ok_and(|listed| listed["datasets"].is_array())
    }

    fn authorized<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    pub(crate) fn get(&self, url: &str) -> Result<Answer, Error> {
        answer(url, self.authorized(self.agent.get(url)).call())
    }

    pub(crate) fn post(&self, url: &str, body: &Json) -> Result<Answer, Error> {
        let request = self.authorized(self.agent.post(url)).header("content-type", "application/json");
        answer(url, request.send(body.to_string()))
    }

    /// Uploads a file; the answer comes as soon as it has come whole.
    pub(crate) fn put(&self, url: &str, upload: Upload<'_>) -> Result<Answer, Error> {
        let Upload { source, bytes, body } = upload;
        let request = self.authorized(self.agent.put(url)).header("content-type", "application/octet-stream");
        let request = request.header("prefer", "respond-async");
        let request = bytes.iter().fold(request, |it, bytes| it.header("content-length", bytes.to_string()));
        // A name that no header can hold is only a name.
        let source: String = source.chars().filter(|char| char.is_ascii_graphic() || *char == ' ').collect();
        answer(url, request.header("x-source", source).send(SendBody::from_reader(body)))
    }

    /// The events of a load that come after the event `seen`, as they are written.
    pub(crate) fn events(&self, load: &str, seen: u64) -> Result<Events, Error> {
        let url = format!("{}/loads/{load}/events", self.servers.updater.trim_end_matches('/'));
        let request = self.authorized(self.agent.get(&url)).header("last-event-id", seen.to_string());
        // They never end where the updater hangs, so they are asked for anew now and then.
        let request =
            request.config().timeout_recv_response(Some(EVENTS)).timeout_recv_body(Some(EVENTS)).build();
        let response = request.call();
        let response = response.map_err(|error| unreachable(&url, error))?;
        match response.status().as_u16() {
            200 => {}
            // It may pass, as what a proxy says does.
            status if status >= 500 => return Err(Error::Lost { load: load.to_owned() }),
            status => return Err(Error::Refused(format!("{url} answers {status}"))),
        }
        Ok(BufReader::new(Box::new(response.into_body().into_reader())))
    }
}

/// Lines of server-sent events.
pub(crate) type Events = BufReader<Box<dyn Read>>;

/// A file on its way.
pub(crate) struct Upload<'a> {
    pub(crate) source: &'a str,
    /// How many bytes it has, if that is known.
    pub(crate) bytes: Option<u64>,
    pub(crate) body: &'a mut dyn Read,
}

/// Any text as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Whether a server is on this machine.
fn is_here(url: &str) -> bool {
    let host = url.parse::<Uri>().ok().and_then(|url| url.host().map(str::to_owned)).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn answer(url: &str, response: Result<Response<ureq::Body>, ureq::Error>) -> Result<Answer, Error> {
    let mut response = response.map_err(|error| unreachable(url, error))?;
    let body = response.body_mut().with_config().limit(u64::MAX).read_to_string();
    let body = body.map_err(|error| unreachable(url, error))?;
    Ok(Answer { status: response.status().as_u16(), body, url: url.to_owned() })
}

/// The certificates of a PEM file, as the only ones that are trusted.
fn certificates(path: &Path) -> Result<RootCerts, Error> {
    let pem = fs::read(path).map_err(|error| Error::file(path, error))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Error::NoCertificate(path.to_owned()));
    }
    Ok(RootCerts::Specific(certificates.into()))
}

/// Whether a server answers a plain request with an alert of TLS.
fn speaks_tls(url: &str) -> bool {
    const ALERT: u8 = 21;
    let Some(uri) = url.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("http")) else {
        return false;
    };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let answer = || {
        let mut stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80)))?;
        stream.set_read_timeout(Some(TLS_PROBE))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut first = [0];
        stream.read_exact(&mut first).map(|()| first[0])
    };
    answer().is_ok_and(|first: u8| first == ALERT)
}

/// What a server says against a request, where it names what the command has other words for.
pub(crate) fn in_words_of_the_command(problem: &Json) -> String {
    let detail = problem["detail"].as_str().unwrap_or_default().replace("?force=true", "--force");
    if problem["status"] == 401 {
        format!("{detail}; --token-file names the file that holds it")
    } else {
        detail
    }
}

fn unreachable(url: &str, error: ureq::Error) -> Error {
    match error {
        ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
            Error::Unreachable { url: url.to_owned(), source: Box::new(ureq::Error::Io(error)) }
        }
        _ if speaks_tls(url) => Error::SpeaksTls { url: url.to_owned() },
        ureq::Error::Io(error)
            if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
        {
            Error::CutOff { url: url.to_owned() }
        }
        source => Error::Unreachable { url: url.to_owned(), source: Box::new(source) },
    }
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
        let text = if json["detail"].is_string() {
            in_words_of_the_command(&json)
        } else {
            format!("{} answers {}", self.url, self.status)
        };
        Err(Error::Refused(printable(&text)))
    }
}
