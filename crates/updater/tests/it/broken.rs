//! Uploads that do not arrive as they were sent: each is told its cause, and none is published.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use testkit::http::{self, Response};

use crate::harness::{Backend, ITEMS, Updater, json};

const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=XyZ");
const HEAD: &str = "--XyZ\r\ncontent-disposition: form-data; name=\"data\"; filename=\"a.csv\"\r\n";

/// What a refused upload is told; the first version is still live, and the only one.
#[track_caller]
fn told(updater: &Updater, answer: &Response, status: u16) -> String {
    assert_eq!((answer.status, updater.versions().as_str()), (status, "1:live "), "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    json(answer)["detail"].as_str().unwrap().to_owned()
}

fn updater() -> Updater {
    updater_with(|_| {})
}

fn updater_with(set: impl FnOnce(&mut updater::Settings)) -> Updater {
    let updater = Updater::with(Backend::Embedded, ITEMS, set);
    assert_eq!(updater.put("a,1,\n").status, 200);
    updater
}

/// Sends a request with these headers and these bytes, and nothing more.
fn send(updater: &Updater, method: &str, headers: &[(&str, &str)], body: &[u8]) -> (TcpStream, Response) {
    let path = if method == "PUT" { "/datasets/items" } else { "/upload" };
    let mut stream = http::connect(updater.port).unwrap();
    stream.write_all(http::head(method, path, updater.port, headers).as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let is_interim = answers.fill_buf().unwrap().starts_with(b"HTTP/1.1 1");
    assert!(!is_interim, "{}", answers.buffer().escape_ascii());
    (stream, http::read_response(&mut answers, false).unwrap())
}

fn post(updater: &Updater, body: &str) -> Response {
    http::post(updater.port, "/upload", &[FORM], body.as_bytes())
}

#[test]
fn p6_a_form_whose_part_states_too_few_bytes_is_refused_and_names_the_header() {
    let updater = updater();
    let form =
        |length: usize| format!("{HEAD}Content-Length: {length}\r\n\r\nä,1,\nb,2,\nc,3,\n\r\n--XyZ--\r\n");
    let answer = post(&updater, &form("ä,1,\nb,2,\nc,3,\n".chars().count()));
    insta::assert_snapshot!(told(&updater, &answer, 400), @"the file did not arrive whole: the part `data` of the form has the header Content-Length: 15, but 16 bytes stand before the next boundary; leave the header out or count bytes, not characters");
    let answer = post(&updater, &form(17));
    assert!(told(&updater, &answer, 400).contains("Content-Length: 17, but 16 bytes"), "{}", answer.text());
    assert_eq!(json(&post(&updater, &form(16)))["rows"], 3);
}

#[test]
fn p10_each_cause_of_a_broken_form_is_named() {
    let updater = updater();
    let told = |body: &str| told(&updater, &post(&updater, body), 400);
    let file = format!("{HEAD}\r\nb,2,\n\r\n--XyZ");
    let other = "\r\ncontent-disposition: form-data; name=\"note\"\r\n\r\nx\r\n--XyZ--\r\n";
    insta::assert_snapshot!(told(&format!("{file}{other}")), @"the file did not arrive whole: the form has the field `note`; send the file as the field `data` and nothing else, behind the file");
    insta::assert_snapshot!(told(&format!("--XyZ{other}")), @"the form has the field `note`; send the file as the field `data` and nothing else");
    insta::assert_snapshot!(told(&format!("{file}\r\n{}\r\n\r\nb,3,\n\r\n--XyZ--\r\n", HEAD.split_once("\r\n").unwrap().1.trim_end())), @"the file did not arrive whole: the form has the field `data` twice");
    insta::assert_snapshot!(told(&format!("{HEAD}\r\nb,2,\n")), @"the file did not arrive whole: the form ends without its closing boundary");
    insta::assert_snapshot!(told(&format!("{file}\r\n")), @"the file did not arrive whole: the form ends without its closing boundary");
    insta::assert_snapshot!(told(&format!("{file}abc")), @"the file did not arrive whole: the form has other text behind its boundary");
    insta::assert_snapshot!(told("b,2,\n"), @"the body does not begin with the boundary that the header Content-Type names");
    insta::assert_snapshot!(told("--XyZ--\r\n"), @"the form has no field `data` with the file");
}

#[test]
fn p10_each_cause_of_a_body_that_does_not_come_is_named() {
    let updater = updater_with(|settings| settings.idle_seconds = 1);
    let (_open, answer) = send(&updater, "PUT", &[("content-length", "100")], b"b,2,\n");
    insta::assert_snapshot!(told(&updater, &answer, 400), @"the file did not arrive whole: the client sent nothing for 1 s");
    let mut stream = http::connect(updater.port).unwrap();
    let head = http::head("PUT", "/datasets/items", updater.port, &[("content-length", "100")]);
    stream.write_all(format!("{head}b,2,\n").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let answer = http::read_response(&mut BufReader::new(stream), false).unwrap();
    insta::assert_snapshot!(told(&updater, &answer, 400), @"the file did not arrive whole: the connection ended after 5 of the 100 bytes that the header Content-Length states");
}

#[test]
fn a_body_that_takes_too_long_in_all_is_told_so() {
    let updater = updater_with(|settings| settings.upload_seconds_max = 1);
    let (_open, answer) = send(&updater, "PUT", &[("content-length", "100")], b"b,2,\n");
    insta::assert_snapshot!(told(&updater, &answer, 400), @"the file did not arrive whole: the file did not arrive within 1 s");
}

/// An upload in chunks, as far as these bytes of its body go.
fn chunked(updater: &Updater, body: &str) -> TcpStream {
    let mut stream = http::connect(updater.port).unwrap();
    let host = updater.port;
    let head = format!(
        "PUT /datasets/items HTTP/1.1\r\nhost: 127.0.0.1:{host}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    stream
}

#[test]
fn p10_bad_chunk_framing_is_answered_with_its_cause() {
    let updater = updater();
    for (body, cause) in [
        ("5\r\nb,2,\n\r\nzz\r\n", "a chunk does not begin with its size in hexadecimal digits"),
        ("\r\n", "a chunk does not begin with its size in hexadecimal digits"),
        ("-1\r\n", "a chunk does not begin with its size in hexadecimal digits"),
        ("11112222333344445\r\n", "the size of a chunk is not a number of 64 bits"),
        ("5\nb,2,\n", "the size of a chunk is not followed by CRLF"),
        ("5\r\nb,2,\nXX", "the data of a chunk is not followed by CRLF where its size says that it ends"),
        ("5\r\nb,2,\n\r\n0\r\n\rX", "the last chunk is not followed by CRLF"),
    ] {
        // The connection stays open for reading: the end of the answer is the end that the server sends.
        let mut stream = chunked(&updater, body);
        let answer = http::read_response(&mut BufReader::new(stream.try_clone().unwrap()), false).unwrap();
        let expected = format!(
            "the file did not arrive whole: the framing of the body (Transfer-Encoding: chunked) is broken: {cause}"
        );
        assert_eq!(told(&updater, &answer, 400), expected, "{body:?}");
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(updater.get("/loads")["loads"][0]["outcome"], "broken_off");
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    let form = [FORM, ("transfer-encoding", "chunked")];
    let (_open, answer) = send(&updater, "POST", &form, b"5\r\n--XyZ5\r\n");
    let detail = told(&updater, &answer, 400);
    assert!(detail.contains("Transfer-Encoding: chunked) is broken: the data of a chunk"), "{detail}");
}

#[test]
fn p10_bad_chunk_framing_is_answered_to_a_client_that_reads_only_when_all_is_sent() {
    let updater = updater();
    let mut stream = chunked(&updater, "5\r\nb,2,\nXX");
    for _ in 0..40 {
        stream.write_all(&vec![b'x'; 1 << 20]).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 400") && text.contains("the data of a chunk"), "{text}");
}

#[test]
fn p10_bad_chunk_framing_is_found_behind_other_requests_of_a_connection() {
    let updater = updater();
    let mut stream = http::connect(updater.port).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let host = format!("host: 127.0.0.1:{}", updater.port);
    for (number, body) in [
        "transfer-encoding: chunked\r\n\r\n5\r\nb,2,\n\r\n5; x=y\r\nc,3,\n\r\n0\r\na: b\r\n\r\n",
        "content-length: 9\r\n\r\nb,2,\r\nzz,",
        "transfer-encoding: chunked\r\n\r\n6\r\nb,2,\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\nzz\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        write!(stream, "PUT /datasets/items HTTP/1.1\r\n{host}\r\n{body}").unwrap();
        let answer = http::read_response(&mut answers, false).unwrap();
        assert_eq!(answer.status, [200, 422, 200, 400][number], "{}", answer.text());
    }
    assert_eq!(updater.versions(), "3:live 2:kept 1:kept ");
}

#[test]
fn p6_a_wish_to_upgrade_does_not_void_the_length() {
    let updater = updater();
    let upgrade = [("upgrade", "websocket"), ("connection", "upgrade")];
    let headers = [&upgrade[..], &[("content-length", "5")]].concat();
    let (_open, answer) = send(&updater, "PUT", &headers, b"b,2,\nc,3,\n");
    assert_eq!((answer.status, json(&answer)["bytes"].as_u64()), (200, Some(5)), "{}", answer.text());
    let (_open, answer) = send(&updater, "PUT", &upgrade, b"c,3,\n");
    assert_eq!((answer.status, updater.versions().as_str()), (422, "2:live 1:kept "), "{}", answer.text());
}

#[test]
fn p10_what_will_be_refused_is_answered_before_a_byte_of_it_is_read() {
    let token = serde_json::from_value(serde_json::json!("s3cret-of-16-or-more")).unwrap();
    let updater = Updater::with(Backend::Embedded, ITEMS, |settings| {
        settings.token = Some(token);
        settings.allow_anonymous_reads = true;
        settings.upload_bytes_max = 1 << 20;
    });
    let auth = ("authorization", "Bearer s3cret-of-16-or-more");
    let mut slow = http::connect(updater.port).unwrap();
    let head = http::head("PUT", "/datasets/items", updater.port, &[auth, ("content-length", "1000")]);
    slow.write_all(format!("{head}a,1,\n").as_bytes()).unwrap();
    testkit::until(|| updater.get("/loads")["loads"][0]["bytes"] == 5);
    let (length, large) = (("content-length", "100000"), ("content-length", "10000000"));
    for expect in [&[][..], &[("expect", "100-continue")]] {
        for (headers, status) in [
            (&[length][..], 401),
            (&[length, auth, ("origin", "https://evil.example")], 403),
            (&[length, auth], 409),
            (&[large, auth], 413),
            (&[length, auth, ("content-encoding", "br")], 415),
            (&[length, auth, ("content-range", "bytes 5-9/10")], 400),
        ] {
            let start = Instant::now();
            let (_open, answer) = send(&updater, "PUT", &[headers, expect].concat(), b"");
            // Not even `100 Continue` comes before it.
            assert_eq!(answer.status, status, "{headers:?}: {}", answer.text());
            assert!(start.elapsed() < Duration::from_secs(5), "{headers:?}");
        }
        let mut stream = http::connect(updater.port).unwrap();
        let head = http::head("PUT", "/datasets/none", updater.port, &[&[length, auth], expect].concat());
        stream.write_all(head.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 404");
        let form = [&[FORM, length, auth][..], expect].concat();
        assert_eq!(send(&updater, "POST", &form, b"").1.status, 409);
    }
    assert_eq!(updater.versions(), "1:loading ");
}

#[test]
fn an_upload_that_is_not_refused_is_told_to_go_on() {
    let updater = updater();
    let mut stream = http::connect(updater.port).unwrap();
    let headers = [("content-length", "5"), ("expect", "100-continue")];
    let head = http::head("PUT", "/datasets/items", updater.port, &headers);
    stream.write_all(head.as_bytes()).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"b,2,\n").unwrap();
    let answer = http::read_response(&mut BufReader::new(stream), false).unwrap();
    assert_eq!((answer.status, json(&answer)["rows"].as_u64()), (200, Some(1)), "{}", answer.text());
}

#[test]
fn a_client_that_closes_its_side_behind_the_last_byte_has_sent_the_whole_file() {
    let updater = updater();
    let rows: String = (0..200_000).map(|number| format!("{number:07},1,\n")).collect();
    let in_chunks = format!("{:x}\r\n{rows}\r\n0\r\n\r\n", rows.len());
    let length = rows.len().to_string();
    for (header, body) in
        [(("content-length", length.as_str()), &rows), (("transfer-encoding", "chunked"), &in_chunks)]
    {
        let mut stream = http::connect(updater.port).unwrap();
        let head = http::head("PUT", "/datasets/items", updater.port, &[header]);
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = http::read_response(&mut BufReader::new(stream), false).unwrap();
        assert_eq!(answer.status, 200, "{header:?}: {}", answer.text());
    }
}

#[test]
fn a_client_that_reads_only_when_all_is_sent_sees_why_it_was_refused() {
    let updater = updater();
    let body = vec![b'x'; 40 << 20];
    let answer = http::put(updater.port, "/datasets/others", &[], &body);
    assert_eq!(answer.status, 404, "{}", answer.text());
    let (mut stream, length) = (http::connect(updater.port).unwrap(), body.len().to_string());
    let head = http::head("PUT", "/datasets/others", updater.port, &[("content-length", &length)]);
    stream.write_all(head.as_bytes()).unwrap();
    for piece in body.chunks(1 << 20) {
        stream.write_all(piece).unwrap();
    }
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 404"), "{text}");
}
