//! What a client says must hold, or nothing is published: the digest of its file, the version that it replaces.

use testkit::http::{self, Response};

use crate::harness::{BACKENDS, Backend, Updater, json};

/// SHA-256 of `a,1,\n`.
const HEX: &str = "c3a14d40a542a38486fdb867c769558ba08ec5e2ea8c64e8c629faf65f5c52b4";
const BASE64: &str = "sha-256=:w6FNQKVCo4SG/bhnx2lVi6COxeLqjGToxin69l9cUrQ=:";

fn put(updater: &Updater, query: &str, headers: &[(&str, &str)], file: &str) -> Response {
    http::put(updater.port, &format!("/datasets/items{query}"), headers, file.as_bytes())
}

fn etag(updater: &Updater) -> String {
    updater.get("/datasets/items/versions")["etag"].as_str().unwrap().to_owned()
}

#[test]
fn p6_the_tail_of_a_file_is_no_file() {
    for backend in BACKENDS {
        let updater = Updater::start(backend);
        let range = [("content-range", "bytes 5-9/10")];
        let answer = put(&updater, "", &range, "b,2,\n");
        assert_eq!(
            json(&answer)["detail"],
            "an upload replaces the whole dataset and cannot be resumed (Content-Range): send the file from its start"
        );
        let (content_type, body) = http::multipart("data", "a.csv", b"b,2,\n");
        let headers = [range[0], ("content-type", content_type.as_str())];
        let form = http::post(updater.port, "/upload", &headers, &body);
        assert_eq!((answer.status, form.status, updater.versions().as_str()), (400, 400, ""));
    }
}

#[test]
fn p6_a_file_with_another_digest_than_stated_is_not_published() {
    for backend in BACKENDS {
        let updater = Updater::start(backend);
        let (query, digest) = (format!("?sha256={HEX}"), [("content-digest", BASE64)]);
        for answer in [put(&updater, &query, &[], "a,2,\n"), put(&updater, "", &digest, "a,2,\n")] {
            let body = json(&answer);
            assert_eq!((answer.status, body["stated"].as_str()), (422, Some(HEX)), "{body}");
            assert_eq!(body["type"], "urn:tableswap:problem:digest-mismatch");
        }
        let (content_type, body) = http::multipart("data", "a.csv", b"a,2,\n");
        let headers = [("content-type", content_type.as_str())];
        assert_eq!(http::post(updater.port, &format!("/upload{query}"), &headers, &body).status, 422);
        assert_eq!(put(&updater, "?sha256=abc", &[], "a,1,\n").status, 400);
        assert_eq!(put(&updater, "", &[("content-digest", "sha-256=abc")], "a,1,\n").status, 400);
        assert_eq!(updater.versions(), "");
        let upper = format!("?sha256={}&dry_run=false", HEX.to_uppercase());
        assert_eq!(put(&updater, &upper, &digest, "a,1,\n").status, 200);
    }
}

#[test]
fn p10_a_packed_upload_says_its_encoding_and_others_are_refused() {
    let updater = Updater::start(Backend::Embedded);
    let gzip = crate::refusals::gzip(b"a,1,\n");
    let zstd = crate::refusals::zstd(b"b,1,\n");
    let put = |encodings: &[&str], file: &[u8]| {
        let headers: Vec<_> = encodings.iter().map(|encoding| ("content-encoding", *encoding)).collect();
        http::put(updater.port, "/datasets/items", &headers, file)
    };
    for (encoding, file) in [("gzip", &gzip), ("zstd", &zstd), ("X-GZIP", &gzip), ("ZStd", &zstd)] {
        let answer = put(&[encoding], file);
        assert_eq!((answer.status, json(&answer)["rows"].as_u64()), (200, Some(1)), "{}", answer.text());
    }
    assert_eq!(put(&["identity"], b"c,1,\n").status, 200);
    for encodings in [&["br"][..], &["deflate"], &["gzip, br"], &["gzip", "br"], &["\u{e4}"], &[""]] {
        let answer = put(encodings, b"d,1,\n");
        assert_eq!((answer.status, updater.versions().contains("6:")), (415, false), "{}", answer.text());
    }
}

#[test]
fn p6_an_upload_replaces_only_the_version_that_its_sender_knows() {
    for backend in BACKENDS {
        let updater = Updater::start(backend);
        let put = |tag: &str, file: &str| put(&updater, "", &[("if-match", tag)], file);
        let answer = put("*", "a,1,\n");
        assert_eq!(
            json(&answer)["detail"],
            "`items` has no live version, and If-Match names one: nothing was published"
        );
        assert_eq!(updater.put("a,1,\n").status, 200);
        let first = etag(&updater);
        assert_eq!((put(&first, "a,2,\n").status, put("*", "a,3,\n").status), (200, 200));
        let answer = put(&first, "a,4,\n");
        assert_eq!(
            json(&answer)["detail"],
            "version 3 of `items` is live, which is not one that If-Match names: nothing was published"
        );
        assert_eq!((answer.status, json(&answer)["live"].as_u64()), (412, Some(3)));
        assert_eq!(put("nonsense", "a,4,\n").status, 400);
        let dry = http::put(updater.port, "/datasets/items?dry_run=true", &[("if-match", &first)], b"a,5,\n");
        assert_eq!((dry.status, updater.versions().as_str()), (412, "3:live 2:kept 1:kept "));
    }
}

#[test]
fn p8_a_rollback_goes_back_only_from_the_version_that_its_sender_knows() {
    for backend in BACKENDS {
        let updater = Updater::start(backend);
        updater.put("a,1,\n");
        let first = etag(&updater);
        updater.put("a,2,\n");
        let activate = |tag: &str| {
            http::post(updater.port, "/datasets/items/versions/1/activate", &[("if-match", tag)], b"").status
        };
        assert_eq!((activate(&first), updater.versions().as_str()), (412, "2:live 1:kept "));
        assert_eq!((activate(&etag(&updater)), updater.versions().as_str()), (200, "2:withdrawn 1:live "));
    }
}

#[test]
fn the_updater_names_the_live_version_by_the_etag_of_its_rows() {
    let updater = Updater::start(Backend::Embedded);
    assert!(updater.get("/datasets/items/versions")["etag"].is_null());
    updater.put("a,1,\n");
    assert!(etag(&updater).starts_with("\"items-1-"), "{}", etag(&updater));
}
