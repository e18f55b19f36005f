//! Requests to a port of 127.0.0.1, each on a connection of its own.
//!
//! Ordinary requests go through ureq. Below them are connections of plain bytes, for requests that no ordinary client
//! sends: malformed, slow, or broken off.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Error, ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use ureq::http::Request;
use ureq::http::request::Builder;
use ureq::{Agent, AsSendBody};

/// How long one read or write may take: a server that hangs fails the test instead of hanging it too.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, with the transfer encoding taken off.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of the first header of this name, which is written in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// `GET path`.
pub fn get(port: u16, path: &str) -> Response {
    answered(port, try_get(port, path))
}

/// As [`get`], but gives the error: of a server that is away, hangs, or breaks off.
pub fn try_get(port: u16, path: &str) -> io::Result<Response> {
    exchange(builder("GET", port, path, &[]).body(()), PATIENCE)
}

/// `GET path` with these headers.
pub fn get_with(port: u16, path: &str, headers: &[(&str, &str)]) -> Response {
    answered(port, exchange(builder("GET", port, path, headers).body(()), PATIENCE))
}

/// `POST path` with these headers and this body.
pub fn post(port: u16, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    send("POST", port, path, headers, body)
}

/// `PUT path` with these headers and this body.
pub fn put(port: u16, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    send("PUT", port, path, headers, body)
}

/// Any method with these headers and this body.
pub fn send(method: &str, port: u16, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    answered(port, try_send(method, port, path, headers, body))
}

/// As [`send`], but gives the error.
pub fn try_send(
    method: &str,
    port: u16,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Response> {
    exchange(builder(method, port, path, headers).body(body), PATIENCE)
}

/// A request without a body whose answer may take a while; gives its status.
pub fn send_with_patience(method: &str, port: u16, path: &str, patience: Duration) -> io::Result<u16> {
    Ok(exchange(builder(method, port, path, &[]).body(&[][..]), patience)?.status)
}

/// `PUT path` with this body, whose answer may take a while.
pub fn put_with_patience(port: u16, path: &str, body: &[u8], patience: Duration) -> Response {
    answered(port, exchange(builder("PUT", port, path, &[]).body(body), patience))
}

fn answered(port: u16, answer: io::Result<Response>) -> Response {
    answer.unwrap_or_else(|error| panic!("no answer from port {port}: {error}"))
}

fn builder(method: &str, port: u16, path: &str, headers: &[(&str, &str)]) -> Builder {
    let url = format!("http://127.0.0.1:{port}{path}");
    let request = Request::builder().method(method).uri(url).header("connection", "close");
    headers.iter().fold(request, |request, (name, value)| request.header(*name, value.as_bytes()))
}

/// One request through ureq, on a connection of its own. `patience` is for one read or write.
fn exchange(
    request: ureq::http::Result<Request<impl AsSendBody>>,
    patience: Duration,
) -> io::Result<Response> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .max_redirects(0)
        .proxy(None)
        .user_agent("")
        .accept("")
        .timeout_per_read(Some(patience))
        .timeout_per_write(Some(patience));
    let agent: Agent = config.build().into();
    let mut answer = agent.run(request.map_err(Error::other)?).map_err(ureq::Error::into_io)?;
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers = answer.headers().iter();
    let headers = headers.map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes()))).collect();
    let status = answer.status().as_u16();
    let body = answer.body_mut().with_config().limit(u64::MAX).read_to_vec();
    Ok(Response { status, headers, body: body.map_err(ureq::Error::into_io)? })
}

/// A body of `multipart/form-data` with one file in it, and the content type to send it with.
pub fn multipart(field: &str, filename: &str, bytes: &[u8]) -> (String, Vec<u8>) {
    let boundary = "testkit-boundary-7d1f3a9c";
    let mut body = format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"{field}\"; filename=\"{filename}\"\r\n\
         content-type: text/csv\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(bytes);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}

/// The head of a request, to which a test can add what body it likes. It asks for the end of the connection.
pub fn head(method: &str, path: &str, port: u16, headers: &[(&str, &str)]) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").expect("write to memory");
    }
    head + "\r\n"
}

/// Sends exactly these bytes and gives the answer; panics where there is none.
pub fn request(port: u16, raw: &[u8]) -> Response {
    answered(port, try_request(port, raw))
}

/// As [`request`], but gives the error.
pub fn try_request(port: u16, raw: &[u8]) -> io::Result<Response> {
    let mut stream = connect(port)?;
    // A server may answer and close before it has read everything; then the writing fails and the answer counts.
    let sent = stream.write_all(raw);
    read_response(&mut BufReader::new(stream), raw.starts_with(b"HEAD "))
        .map_err(|error| sent.err().unwrap_or(error))
}

/// Sends these bytes and breaks the connection off, without waiting for an answer.
pub fn send_partial(port: u16, bytes: &[u8]) {
    let mut stream = connect(port).expect("connect");
    stream.write_all(bytes).expect("send");
}

/// A plain connection, for a test that needs its own order of reads, writes and waits.
pub fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Reads one answer, for [`connect`]; interim answers (1xx) are passed over. An answer to HEAD has no body.
pub fn read_response(stream: &mut impl BufRead, to_head: bool) -> io::Result<Response> {
    let (mut status, mut headers) = read_head(stream)?;
    while (100..200).contains(&status) {
        (status, headers) = read_head(stream)?;
    }
    let mut response = Response { status, headers, body: Vec::new() };
    if to_head || matches!(status, 204 | 304) {
        return Ok(response);
    }
    if response.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        response.body = read_chunks(stream)?;
    } else if let Some(length) = response.header("content-length") {
        response.body = vec![0; parse(length, 10)?];
        stream.read_exact(&mut response.body)?;
    } else {
        stream.read_to_end(&mut response.body)?;
    }
    Ok(response)
}

fn read_head(stream: &mut impl BufRead) -> io::Result<(u16, Vec<(String, String)>)> {
    let first = read_line(stream)?;
    let status = first.split(' ').nth(1).ok_or_else(|| broken(&first))?;
    let status = u16::try_from(parse(status, 10)?).map_err(|_| broken(&first))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| broken(&line))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_chunks(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(stream)?;
        let size = parse(line.split(';').next().unwrap_or_default(), 16)?;
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(&mut body[start..])?;
        if !read_line(stream)?.is_empty() {
            return Err(broken("a chunk or a trailer that does not end"));
        }
        if size == 0 {
            return Ok(body);
        }
    }
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    // Without its end the line was cut off, and so was the answer.
    line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))
}

fn parse(number: &str, radix: u32) -> io::Result<usize> {
    usize::from_str_radix(number.trim(), radix).map_err(|_| broken(number))
}

fn broken(part: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("not http: {part:?}"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server for one connection: it reads `expected`, sends `answer` and closes.
    fn serve(expected: &'static [u8], answer: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut got = vec![0; expected.len()];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(got, expected);
            stream.write_all(answer).unwrap();
        });
        port
    }

    #[test]
    fn the_bytes_are_sent_as_they_are_and_the_answer_is_read() {
        let answer = b"HTTP/1.1 404 Not Found\r\nX-A:  b \r\ncontent-length: 3\r\n\r\nabcd";
        let response = request(serve(b"GET nonsense\n\n", answer), b"GET nonsense\n\n");
        assert_eq!(
            (response.status, response.header("x-a"), response.text()),
            (404, Some("b"), "abc".into())
        );
    }

    #[test]
    fn a_chunked_answer_is_put_together() {
        let answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            4\r\nwiki\r\nA;x=1\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(request(serve(b"G", answer), b"G").text(), "wiki0123456789");
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let response =
            request(serve(b"HEAD / ", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"), b"HEAD / ");
        assert_eq!((response.status, response.body), (200, vec![]));
    }

    #[test]
    fn an_answer_that_breaks_off_is_an_error() {
        for answer in [&b""[..], b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"] {
            let error = try_request(serve(b"G", answer), b"G").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{}", String::from_utf8_lossy(answer));
        }
    }

    #[test]
    fn a_file_is_wrapped_in_its_boundary() {
        let (content_type, body) = multipart("data", "a.csv", b"x,y\n");
        let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
        let body = String::from_utf8(body).unwrap();
        assert!(
            body.starts_with(&format!("--{boundary}\r\n"))
                && body.ends_with(&format!("\r\n--{boundary}--\r\n"))
        );
        assert!(
            body.contains("name=\"data\"; filename=\"a.csv\"\r\n") && body.contains("\r\n\r\nx,y\n\r\n--")
        );
    }
}
