//! Files that are fine.

use testkit::http;

use crate::harness::{BACKENDS, Backend, ITEMS, Updater, json, stable};

#[test]
fn a_form_is_answered_as_the_contract_says_on_both_stores() {
    for backend in BACKENDS {
        let updater = Updater::start(backend);
        let answer = updater.post("data", b"a,1,\nb,2,\nb,2,\n");
        assert_eq!(answer.status, 200);
        assert_eq!(
            stable(&answer),
            r#"{"dataset":"items","version":1,"status":"published","rows":2,"rejected":0,"duplicates":1,"bytes":15,"sha256":"...","seconds":"..."}"#
        );
        let load = updater.get(answer.header("location").unwrap());
        assert_eq!(
            (load["outcome"].as_str(), load["source"].as_str()),
            (Some("published"), Some("items.csv"))
        );
        assert_eq!(updater.get("/datasets")["datasets"][0]["rows"], 2);
    }
}

#[test]
fn p5_the_same_bytes_again_change_nothing() {
    for backend in BACKENDS {
        let updater = Updater::start(backend);
        updater.put("a,1,\n");
        let answer = updater.put("a,1,\n");
        assert_eq!((answer.status, json(&answer)["status"].as_str()), (200, Some("unchanged")));
        assert_eq!(json(&answer)["version"], 1);
        assert_eq!(updater.versions(), "1:live ");
        assert_eq!(json(&updater.put("a,2,\n"))["version"], 2);
        assert_eq!(json(&updater.put("a,1,\n"))["version"], 3);
    }
}

#[test]
fn a_dry_run_says_what_would_change_and_changes_nothing() {
    for backend in BACKENDS {
        let updater = Updater::start(backend);
        let dry = |file: &str| stable(&updater.put_with("?dry_run=true", file));
        assert_eq!(
            dry("a,1,\nb,2,\n"),
            r#"{"dataset":"items","status":"dry_run","rows":2,"rejected":0,"duplicates":0,"bytes":10,"sha256":"...","seconds":"...","added":2,"removed":0,"changed":0}"#
        );
        updater.put("a,1,\nb,2,\nc,3,\n");
        assert!(dry("b,2,\nc,4,\nd,5,\ne,6,\n").ends_with(r#""added":2,"removed":1,"changed":1}"#));
        assert!(dry("a,1,\nb,2,\nc,3,\n").ends_with(r#""added":0,"removed":0,"changed":0}"#));
        assert_eq!(updater.put_with("?dry_run=true", "a,x,\n").status, 422);
        assert_eq!(updater.versions(), "1:live ");
    }
}

#[test]
fn force_passes_the_shrink_guard_and_is_recorded() {
    let updater = Updater::start(Backend::Embedded);
    updater.put("a,1,\nb,2,\nc,3,\n");
    assert_eq!(updater.put("a,1,\n").status, 422);
    assert_eq!(updater.put_with("?force=true", "a,1,\n").status, 200);
    let listed = updater.get("/datasets/items/versions");
    assert_eq!(listed["versions"][0]["forced"], true);
    assert_eq!(updater.put_with("?force=true", "").status, 422);
}

#[test]
fn rejects_up_to_the_limit_are_left_out_and_reported() {
    let updater = Updater::with(Backend::Embedded, &format!("{ITEMS}\nmax_rejects = 2"), |_| {});
    let answer = updater.put("a,1,\nb,x,\nc,3,\na,4,\n");
    assert_eq!(
        stable(&answer),
        r#"{"dataset":"items","version":1,"status":"published","rows":2,"rejected":2,"duplicates":0,"bytes":20,"sha256":"...","seconds":"..."}"#
    );
    let report = http::get(updater.port, &format!("{}/rejects.csv", answer.header("location").unwrap()));
    insta::assert_snapshot!(report.text(), @r#"
    line,column,value,code,reason,record
    2,price,x,not_decimal,not a plain decimal number,"b,x,"
    4,code,a,duplicate_key,duplicate key: line 1 has it with other values,"{""code"":""a"",""price"":4,""until"":null}"
    "#);
    assert_eq!(updater.put("a,1,\nb,x,\nc,x,\nd,x,\ne,1,\n").status, 422);
}

#[test]
fn a_refused_file_names_its_report() {
    let updater = Updater::start(Backend::Embedded);
    let answer = updater.put("a,x,\n");
    insta::assert_snapshot!(stable(&answer), @r#"{"type":"urn:tableswap:problem:too-many-rejects","title":"Unprocessable Entity","status":422,"detail":"the file was refused: 1 row was refused, 0 are allowed","rows":0,"rejected":1,"duplicates":0,"rejects":[{"line":1,"column":"price","value":"x","code":"not_decimal","reason":"not a plain decimal number"}],"report":"...","dataset":"items","load":"..."}"#);
    let report = http::get(updater.port, json(&answer)["report"].as_str().unwrap());
    assert_eq!((report.status, report.text().lines().count()), (200, 2));
    let load = updater.get(&format!("/loads/{}", json(&answer)["load"].as_str().unwrap()));
    assert_eq!((load["phase"].as_str(), load["outcome"].as_str()), (Some("ended"), Some("refused")));
    assert_eq!(http::get(updater.port, "/loads/nonsense").status, 404);
}

#[test]
fn p10_an_answer_warns_of_text_that_is_not_utf_8() {
    let updater = Updater::start(Backend::Embedded);
    let read = json(&updater.put(b"M\xfcller,1,\n"));
    assert_eq!(read["warnings"][0], "the text is not UTF-8 and was read as windows-1252", "{read}");
    // A text in Cyrillic, which is not guessed: its rows are rejects, and the reason for them is told.
    let refused = json(&updater.put(b"\xcf\xf0\xe8\xe2\xe5\xf2 \xec\xe8\xf0,1,\n"));
    assert_eq!(
        (refused["status"].as_u64(), refused["warnings"][0].as_str()),
        (
            Some(422),
            Some("the text is not UTF-8 and seems to be windows-1251; the setting `encoding` reads it")
        ),
        "{refused}"
    );
    assert!(json(&updater.put("a,1,\n")).get("warnings").is_none());
}

#[test]
fn more_rows_than_memory_are_sorted_on_disk() {
    for backend in BACKENDS {
        let updater = Updater::with(backend, testkit::rows::PRODUCTS_TOML, |settings| {
            settings.sort_memory_bytes = 100_000;
        });
        let file = testkit::rows::products_csv(50_000, 7);
        let answer = http::put(updater.port, "/datasets/products", &[], file.as_bytes());
        assert_eq!((answer.status, json(&answer)["rows"].as_u64()), (200, Some(50_000)), "{}", answer.text());
    }
}

#[test]
fn the_metrics_count_loads_and_rejects() {
    let updater = Updater::start(Backend::Embedded);
    updater.put("a,1,\n");
    updater.put("a,x,\nb,,\n");
    let metrics = http::get(updater.port, "/prometheus").text();
    for line in [
        r#"tableswap_loads_total{dataset="items",outcome="published"} 1"#,
        r#"tableswap_loads_total{dataset="items",outcome="refused"} 1"#,
        r#"tableswap_loads_total{dataset="items",outcome="failed"} 0"#,
        r#"tableswap_refused_loads_total{dataset="items",guard="too-many-rejects"} 1"#,
        r#"tableswap_refused_loads_total{dataset="items",guard="shrunk"} 0"#,
        r#"tableswap_disk_free_bytes{place="work"} "#,
        r#"tableswap_disk_free_bytes{place="versions"} "#,
        r#"tableswap_rejected_rows_total{dataset="items",reason="empty"} 1"#,
        r#"tableswap_load_phase_seconds_count{dataset="items",phase="publishing"} 1"#,
        r#"tableswap_live_version{dataset="items"} 1"#,
        r#"tableswap_live_rows{dataset="items"} 1"#,
        r#"http_requests_total{code="200",handler="/datasets/{dataset}",method="PUT"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}
