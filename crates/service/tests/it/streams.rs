//! What a client over TLS gets that writes its bytes itself: how many requests one connection of HTTP/2 may have open,
//! and an answer to broken chunks.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::tls::Files;

/// A frame's header has 9 bytes: length, type, flags, stream.
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn connect(files: &Files, port: u16, protocol: &str) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(files.path("a")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.into()];
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    StreamOwned::new(connection, stream)
}

/// `GET path` as a frame of headers: two of them from the static table, the path as it is.
fn get(stream: u32, path: &str) -> Vec<u8> {
    // :method GET, :scheme https, :path, :authority
    let mut block = vec![0x82, 0x87, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(&[0x01, 9]);
    block.extend_from_slice(b"localhost");
    let length = u32::try_from(block.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[HEADERS, END_STREAM | END_HEADERS]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&block);
    frame
}

/// Reads frames until so many answers began; says how many of them had no body.
fn read_answers(connection: &mut impl Read, count: usize) -> usize {
    let (mut began, mut without_body) = (0, 0);
    while began < count {
        let mut head = [0; FRAME_HEAD];
        connection.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut rest = vec![0; usize::try_from(length).unwrap()];
        connection.read_exact(&mut rest).unwrap();
        if head[3] == HEADERS {
            began += 1;
            without_body += usize::from(head[4] & END_STREAM != 0);
        }
    }
    without_body
}

#[test]
fn p10_a_connection_may_have_a_hundred_requests_open_and_those_above_are_refused_at_once() {
    let files = Files::of("a");
    let site = files.start();
    let mut connection = connect(&files, site.port, "h2");
    let mut asked = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for number in 0..150 {
        asked.extend(get(number * 2 + 1, "/slow"));
    }
    connection.write_all(&asked).unwrap();
    connection.flush().unwrap();
    // The slow ones have a body and come a second later.
    assert_eq!(read_answers(&mut connection, 50), 50);
    assert_eq!(read_answers(&mut connection, 100), 0);
    // What was answered is not open any more.
    let again: Vec<u8> = (200..300).flat_map(|number| get(number * 2 + 1, "/slow")).collect();
    connection.write_all(&again).unwrap();
    connection.flush().unwrap();
    assert_eq!(read_answers(&mut connection, 100), 0);
}

#[test]
fn p10_bad_chunk_framing_is_answered_over_tls_too() {
    let files = Files::of("a");
    let site = files.start();
    let mut connection = connect(&files, site.port, "http/1.1");
    let head = "POST /bytes HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    write!(connection, "{head}2\r\nabXX").unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
}
