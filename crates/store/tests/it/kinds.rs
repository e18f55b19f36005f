//! Every type of column, as a value and as a key, comes out of every store as it went in.

use crate::contract::contract;
use crate::fixture::Fixture;

contract!(values_of_every_type_come_back_exactly, keys_of_every_type_are_found_and_sorted);

const VALUES: &str = r#"
    [kinds]
    key = "k"
    columns = [
      { name = "k", type = "integer" },
      { name = "text", type = "text", max = 40, optional = true },
      { name = "long", type = "text", max = 20000 },
      { name = "whole", type = "integer", optional = true },
      { name = "exact", type = "decimal", precision = 38, scale = 10, optional = true },
      { name = "float", type = "float", optional = true },
      { name = "flag", type = "boolean", optional = true },
      { name = "day", type = "date", optional = true },
      { name = "time", type = "timestamp", input = "%F %T.%f", output = "%F %T.%f", optional = true },
      { name = "other", type = "uuid", optional = true },
    ]"#;

async fn values_of_every_type_come_back_exactly(fixture: Fixture) {
    let fixture = fixture.with(VALUES);
    let long = "x".repeat(20_000);
    fixture
        .publish(&[
            "-1;tab\tline\nreturn\rback\\slash quote\"'%_ \u{1f600}\u{1};;-9223372036854775808;-9999999999999999999999999999.9999999999;-1.7976931348623157e308;true;1000-01-01;1000-01-01 00:00:00.000001;00ff5c09-0a0d-2227-8000-5cffffffffff",
            "0;;a;;;;;;;",
            &format!("1;\\N;{long};9223372036854775807;0.0000000001;5e-324;false;9999-12-31;9999-12-31 23:59:59.999999;ffffffff-ffff-ffff-ffff-ffffffffffff"),
        ])
        .await;
    let reader = fixture.reader().await;
    let answer = fixture.ask(&reader, &["-1", "0"]).await;
    assert_eq!(
        answer,
        r#"v1: {"k":-1,"text":"tab\tline\nreturn\rback\\slash quote\"'%_ 😀\u0001","long":"","whole":-9223372036854775808,"exact":-9999999999999999999999999999.9999999999,"float":-1.7976931348623157e+308,"flag":true,"day":"1000-01-01","time":"1000-01-01 00:00:00.000001","other":"00ff5c09-0a0d-2227-8000-5cffffffffff"} {"k":0,"text":null,"long":"a","whole":null,"exact":null,"float":null,"flag":null,"day":null,"time":null,"other":null}"#
    );
    let answer = fixture.ask(&reader, &["1"]).await.replace(&long, "[long]");
    assert_eq!(
        answer,
        r#"v1: {"k":1,"text":"\\N","long":"[long]","whole":9223372036854775807,"exact":0.0000000001,"float":5e-324,"flag":false,"day":"9999-12-31","time":"9999-12-31 23:59:59.999999","other":"ffffffff-ffff-ffff-ffff-ffffffffffff"}"#
    );
}

/// A type with its settings, and keys of it in their order.
const KEYS: [(&str, &[&str]); 8] = [
    (
        r#"type = "uuid""#,
        &[
            "00000000-0000-0000-0000-000000000000",
            "5c270a0d-0000-4000-8000-00005c000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ],
    ),
    (r#"type = "text", max = 255"#, &["000017", "17", "A", "a", "a b", "ab", "ß", "\u{1f600}"]),
    (r#"type = "integer""#, &["-9223372036854775808", "-1", "0", "1", "9223372036854775807"]),
    (
        r#"type = "decimal", precision = 20, scale = 4"#,
        &["-99999999999999.9999", "-0.0001", "0", "9007199254740993.0001", "9007199254740993.0002"],
    ),
    (r#"type = "boolean""#, &["false", "true"]),
    (r#"type = "date""#, &["1000-01-01", "1969-12-31", "1970-01-01", "9999-12-31"]),
    (
        r#"type = "timestamp""#,
        &["1000-01-01 00:00:00", "1969-12-31 23:59:59", "2018-10-28 00:26:55", "2018-10-28 01:26:55"],
    ),
    (
        r#"type = "timestamp", input = "%F %T.%f", output = "%F %T.%f""#,
        &["2018-10-28 00:26:55.1", "2018-10-28 00:26:55.100001"],
    ),
];

async fn keys_of_every_type_are_found_and_sorted(mut fixture: Fixture) {
    for (at, (kind, keys)) in KEYS.into_iter().enumerate() {
        let columns = format!("{{ name = \"k\", {kind} }}, {{ name = \"n\", type = \"integer\" }}");
        fixture = fixture.with(&format!("[keys{at}]\nkey = \"k\"\ncolumns = [{columns}]"));
        let rows: Vec<String> = keys.iter().enumerate().map(|(n, key)| format!("{key};{n}")).collect();
        fixture.publish(&rows.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let reader = fixture.reader().await;
        for (n, key) in keys.iter().enumerate() {
            let answer = fixture.ask(&reader, &[key]).await;
            assert!(answer.ends_with(&format!("\"n\":{n}}}")), "{kind} {key}: {answer}");
        }
        let (_, mut live) = fixture.store.live_rows(fixture.name()).await.unwrap().unwrap();
        let batch = live.recv().await.unwrap().unwrap();
        let found: Vec<_> = batch.iter().map(|(key, _)| fixture.dataset.schema.format_key(key)).collect();
        assert_eq!(found.len(), keys.len(), "{kind}: {found:?}");
        assert!(batch.iter().is_sorted_by(|a, b| a.0 < b.0), "{kind}: {found:?}");
    }
}
