//! What must be refused: each with a clear error, and the live version is untouched, on both stores.

use testkit::http;

use crate::harness::{BACKENDS, Backend, ITEMS, Updater, json};

/// A file of five good rows.
const GOOD: &str = "a,1.5,\nb,2,2018-08-04 05:32:31 +0200 CEST\nc,3,\nd,4,\ne,5,\n";

/// Publishes the good file, sends the bad one, and expects this answer and nothing else to have happened.
#[track_caller]
fn refused(file: impl AsRef<[u8]>, status: u16, detail: &str, rejects: &[&str]) {
    for backend in BACKENDS {
        let utf_8 = format!("{ITEMS}\n    encoding = \"utf-8\"");
        let updater = Updater::with(backend, &utf_8, |_| {});
        assert_eq!(updater.put(GOOD).status, 200);
        let answer = updater.put(file.as_ref());
        let body = json(&answer);
        assert_eq!((answer.status, body["detail"].as_str()), (status, Some(detail)), "{backend:?}: {body}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let shown: Vec<_> = body["rejects"].as_array().into_iter().flatten().map(reject).collect();
        assert_eq!(shown, rejects, "{backend:?}: {body}");
        let versions = updater.versions();
        assert!(versions.ends_with("1:live ") && !versions.contains("loading"), "{backend:?}: {versions}");
        assert_eq!(updater.put(GOOD.replace("1.5", "1.6")).status, 200, "{backend:?}");
    }
}

fn reject(reject: &serde_json::Value) -> String {
    let text = |name: &str| reject[name].as_str().unwrap_or("-");
    format!("line {} {} {:?}: {}", reject["line"], text("column"), text("value"), text("reason"))
}

const ONE_REJECT: &str = "the file was refused: 1 row was refused, 0 are allowed";

#[test]
fn an_empty_file() {
    refused("", 422, "the file was refused: the file has no rows", &[]);
}

#[test]
fn a_file_with_only_a_header() {
    refused("code,price,until\n", 422, "the file was refused: the file has no rows, only a header", &[]);
}

#[test]
fn p10_a_bad_row_at_the_start_in_the_middle_and_on_the_last_line() {
    let at = |line: usize| {
        let mut lines: Vec<&str> = GOOD.lines().collect();
        lines[line - 1] = "x,NaN,";
        lines.join("\n")
    };
    for line in [1, 3, 5] {
        let expected = format!("line {line} price \"NaN\": not a plain decimal number");
        refused(at(line), 422, ONE_REJECT, &[&expected]);
    }
}

#[test]
fn a_wrong_number_of_fields() {
    refused("a,1,,\n", 422, ONE_REJECT, &["line 1 - \"a,1,,\": expected 3 fields, found 4"]);
    refused("a,1\n", 422, ONE_REJECT, &["line 1 - \"a,1\": expected 3 fields, found 2"]);
}

#[test]
fn a_duplicate_key_with_other_values_on_the_last_line() {
    let expected = "line 6 code \"a\": duplicate key: line 1 has it with other values";
    refused(format!("{GOOD}a,1.6,\n"), 422, ONE_REJECT, &[expected]);
}

#[test]
fn a_file_cut_in_the_middle_of_a_row() {
    refused("a,1.5,\nb,2", 422, ONE_REJECT, &["line 2 - \"b,2\": expected 3 fields, found 2"]);
    let expected = "line 2 until \"2018-08-04 05:32:31 +0200 CES\": unknown time zone";
    refused("a,1.5,\nb,2,2018-08-04 05:32:31 +0200 CES", 422, ONE_REJECT, &[expected]);
    refused("a,1.5,\nb,2,\"2018-08-04 05:32", 422, "line 2: a quoted field is never closed", &[]);
}

#[test]
fn numbers_that_do_not_fit() {
    let price = |text: &str, reason: &str| {
        refused(format!("a,{text},\n"), 422, ONE_REJECT, &[&format!("line 1 price {text:?}: {reason}")]);
    };
    price("NaN", "not a plain decimal number");
    price("1e20", "not a plain decimal number");
    price("1.1234567", "more than 6 digits after the point");
    price("1234567.5", "more than 6 digits before the point");
    price("", "empty, but the column is not optional");
}

#[test]
fn times_that_do_not_exist() {
    let time = |text: &str, reason: &str| {
        refused(format!("a,1,{text}\n"), 422, ONE_REJECT, &[&format!("line 1 until {text:?}: {reason}")]);
    };
    time("2018-13-45 05:32:31 +0200 CEST", "not a time in the format %Y-%m-%d %H:%M:%S %z %Z");
    time("2018-08-04 05:32:31 +0200 XYZT", "unknown time zone");
    time("2018-08-04 05:32:31 +0100 CEST", "the time zone never has this offset");
}

#[test]
fn invalid_utf8_and_nul_bytes() {
    refused(b"a\xff,1,\n", 422, ONE_REJECT, &["line 1 code \"a\u{fffd}\": not valid UTF-8"]);
    refused(b"a\0b,1,\n", 422, ONE_REJECT, &["line 1 code \"a\\0b\": contains a NUL byte"]);
}

#[test]
fn a_line_of_a_hundred_megabytes() {
    let file = [b"a,1,\nb,".to_vec(), vec![b'7'; 100 << 20]].concat();
    refused(file, 413, "line 2: a record is longer than 1048576 bytes", &[]);
}

#[test]
fn a_file_that_shrank_beyond_the_guard() {
    let detail = "the file was refused: the file has 2 rows where the live version has 5: a loss of more than 50 %; \
                  if that is right, send it with `?force=true`";
    refused("a,1,\nb,2,\n", 422, detail, &[]);
}

#[test]
fn a_format_that_is_not_read() {
    let detail = "unsupported format: zip or xlsx; send CSV, plain or packed with gzip or zstd";
    refused(b"PK\x03\x04rest of it", 415, detail, &[]);
}

#[test]
fn a_gzip_or_zstd_stream_that_is_cut() {
    refused(&gzip(GOOD.as_bytes())[..40], 422, "the gzip data is damaged or cut off", &[]);
    refused(&zstd(GOOD.as_bytes())[..40], 422, "the zstd data is damaged or cut off", &[]);
}

#[test]
fn a_bomb_of_either_packing() {
    let rows = "a,1,\n".repeat(1_000_000);
    for (backend, bomb) in
        [(Backend::Embedded, gzip(rows.as_bytes())), (Backend::Mariadb, zstd(rows.as_bytes()))]
    {
        let updater = Updater::with(backend, ITEMS, |settings| settings.unpacked_bytes_max = 1 << 20);
        assert_eq!(updater.put(GOOD).status, 200);
        let answer = updater.put(bomb);
        assert_eq!(answer.status, 413);
        assert_eq!(json(&answer)["detail"], "the file is larger than 1048576 bytes when unpacked");
        assert_eq!(updater.versions(), "1:live ");
    }
}

#[test]
fn a_form_with_another_field_or_no_form_or_two_files() {
    for backend in BACKENDS {
        let updater = Updater::start(backend);
        assert_eq!(updater.put(GOOD).status, 200);
        let other = GOOD.replace('1', "7");
        let answer = updater.post("file", other.as_bytes());
        assert_eq!(answer.status, 400);
        assert_eq!(
            json(&answer)["detail"],
            "the form has the field `file`; send the file as the field `data` and nothing else"
        );
        let answer = http::post(updater.port, "/upload", &[("content-type", "text/csv")], other.as_bytes());
        assert_eq!(answer.status, 400);
        let detail = json(&answer)["detail"].as_str().unwrap().to_owned();
        assert!(detail.starts_with("not a form with the file as its field `data`"), "{detail}");
        assert_eq!(http::post(updater.port, "/upload", &[], b"").status, 400);
        let (content_type, body) = http::multipart("data", "a.csv", other.as_bytes());
        let boundary = content_type.split_once("boundary=").unwrap().1.trim_matches('"');
        let body = String::from_utf8(body).unwrap();
        let twice = body.replace(&format!("--{boundary}--"), "") + &body;
        let answer =
            http::post(updater.port, "/upload", &[("content-type", &content_type)], twice.as_bytes());
        assert_eq!((answer.status, updater.versions().as_str()), (400, "1:live "), "{}", answer.text());
    }
}

#[test]
fn a_misspelled_wish() {
    let updater = Updater::start(Backend::Embedded);
    assert_eq!(updater.put(GOOD).status, 200);
    let answer = updater.put_with("?dryrun=true", GOOD.replace('1', "7"));
    assert_eq!((answer.status, updater.versions().as_str()), (400, "1:live "));
    assert!(answer.text().contains("unknown field `dryrun`"), "{}", answer.text());
}

#[test]
fn a_dataset_or_a_path_or_a_method_that_is_not_there() {
    let updater = Updater::start(Backend::Embedded);
    assert_eq!(http::put(updater.port, "/datasets/others", &[], GOOD.as_bytes()).status, 404);
    assert_eq!(http::get(updater.port, "/nothing").status, 404);
    let answer = http::get(updater.port, "/upload");
    assert_eq!(answer.status, 405);
    insta::assert_snapshot!(answer.text(), @r#"{"type":"urn:tableswap:problem:method-not-allowed","title":"Method Not Allowed","status":405,"detail":"/upload does not take GET"}"#);
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    pack(async_compression::tokio::bufread::GzipEncoder::new(bytes))
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    pack(async_compression::tokio::bufread::ZstdEncoder::new(bytes))
}

fn pack(mut encoder: impl tokio::io::AsyncRead + Unpin) -> Vec<u8> {
    use tokio::io::AsyncReadExt;
    let mut packed = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(encoder.read_to_end(&mut packed)).unwrap();
    packed
}
