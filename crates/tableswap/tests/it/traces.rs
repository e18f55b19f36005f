//! What a collector of OpenTelemetry receives, and what of it stands in the log.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use testkit::http;
use testkit::rows::{promotion_id, promotions_csv};

use crate::harness::{Backend, Site};

/// A trace that somebody began and wants to have whole.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const WANTED: (&str, &str) = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
/// One that nobody wants.
const UNWANTED: (&str, &str) = ("traceparent", "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");

/// Takes what is sent and gives it out, with the path to which it was sent. A real collector would print less.
fn collector() -> (String, Receiver<(String, ExportTraceServiceRequest)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (sender, received) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut first, mut length) = (String::new(), 0);
            stream.read_line(&mut first).unwrap();
            for line in stream.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()) {
                if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
                    length = value.parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
            if sender.send((first, request)).is_err() {
                return;
            }
        }
    });
    (url, received)
}

/// All parts of traces that were sent by now, by their names.
fn spans(received: &Receiver<(String, ExportTraceServiceRequest)>) -> BTreeMap<String, Span> {
    let spans = received.try_iter().flat_map(|(first, request)| {
        assert_eq!(first, "POST /v1/traces HTTP/1.1\r\n");
        request.resource_spans.into_iter().flat_map(|of_service| of_service.scope_spans)
    });
    spans.flat_map(|scope| scope.spans).map(|span| (span.name.clone(), span)).collect()
}

fn text(span: &Span, name: &str) -> String {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == name).unwrap();
    match attribute.value.clone().unwrap().value.unwrap() {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_upload_is_traced_with_the_phases_of_its_load_and_its_log_names_the_trace() {
    let (site, (url, received)) = (Site::new(Backend::Embedded), collector());
    let settings = [
        ("TABLESWAP_TRACES_URL", url.as_str()),
        ("TABLESWAP_TRACES_TRUST_PARENT", "true"),
        ("TABLESWAP_LOG_FORMAT", "json"),
    ];
    let updater = site.updater_with(&settings);
    let path = "/datasets/promotions";
    let answer = http::send("PUT", site.updater_port, path, &[WANTED], promotions_csv(100, 1).as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    updater.terminate();
    assert!(updater.wait(Duration::from_secs(20)).success());
    let spans = spans(&received);
    assert!(spans.values().all(|span| hex(&span.trace_id) == TRACE), "{spans:?}");
    let (request, load) = (&spans["/datasets/{dataset}"], &spans["load"]);
    assert_eq!(hex(&request.parent_span_id), "b7ad6b7169203331");
    assert_eq!(text(request, "http.response.status_code"), "200");
    assert_eq!(load.parent_span_id, request.span_id);
    assert_eq!((text(load, "outcome"), text(load, "rows")), ("published".into(), "100".into()));
    for phase in ["receiving", "staging", "verifying", "publishing"] {
        assert_eq!(spans[phase].parent_span_id, load.span_id, "{phase}");
        assert!(spans[phase].start_time_unix_nano >= load.start_time_unix_nano - 1_000_000, "{phase}");
    }
    let log = updater.log();
    let line = log.lines().find(|line| line.contains("load ended")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        (&line["trace_id"], &line["dataset"], &line["version"]),
        (&TRACE.into(), &"promotions".into(), &1.into())
    );
    assert_eq!(line["load"].as_str().unwrap().len(), 36);
}

#[test]
fn of_look_ups_those_are_traced_whose_sender_wants_it_and_of_the_others_a_share() {
    let (site, (url, received)) = (Site::new(Backend::Embedded), collector());
    let _updater = site.updater();
    assert_eq!(site.upload(promotions_csv(10, 1).as_bytes()).status, 200);
    let path = format!("/promotions/{}", promotion_id(1, 5));
    for (percent, trusts, expected) in [("0", "true", 1), ("100", "true", 2), ("0", "false", 0)] {
        let api = site.api_with(&[
            ("TABLESWAP_TRACES_URL", &url),
            ("TABLESWAP_TRACES_SAMPLE_PERCENT", percent),
            ("TABLESWAP_TRACES_TRUST_PARENT", trusts),
        ]);
        for headers in [&[WANTED][..], &[UNWANTED], &[("traceparent", "nonsense")]] {
            assert_eq!(http::send("GET", site.api_port, &path, headers, b"").status, 200);
        }
        api.terminate();
        assert!(api.wait(Duration::from_secs(20)).success());
        let sent = received.try_iter().flat_map(|(_, request)| request.resource_spans);
        let sent = sent.flat_map(|of_service| of_service.scope_spans).flat_map(|scope| scope.spans);
        let look_ups: Vec<_> = sent.filter(|span| span.name == "/{dataset}/{key}").collect();
        assert_eq!(look_ups.len(), expected, "{look_ups:?}");
        if let Some(first) = look_ups.first() {
            assert_eq!(hex(&first.trace_id), TRACE);
            assert_eq!(text(first, "http.response.status_code"), "200");
        }
    }
}

#[test]
fn a_collector_that_is_away_holds_nobody_up() {
    let site = Site::new(Backend::Embedded);
    let gone = format!("http://127.0.0.1:{}/v1/traces", testkit::free_port());
    let updater =
        site.updater_with(&[("TABLESWAP_TRACES_URL", &gone), ("TABLESWAP_TRACES_SAMPLE_PERCENT", "100")]);
    assert_eq!(site.upload(promotions_csv(10, 1).as_bytes()).status, 200);
    updater.terminate();
    assert!(updater.wait(Duration::from_secs(20)).success(), "{}", updater.log());
    assert!(updater.log().contains("traces are not taken"), "{}", updater.log());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
