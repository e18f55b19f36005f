//! Random bytes as fields and as dataset definitions.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dataset::{
    CivilTime, Column, ColumnType, Datasets, DefinitionError, RejectReason, Schema, Value, write_decimal,
};

fn column(definition: &str) -> Column {
    let toml = format!(
        "[d]\nkey = \"id\"\ncolumns = [{{ name = \"id\", type = \"uuid\" }}, {{ name = \"c\", {definition} }}]"
    );
    Datasets::from_toml(&toml).unwrap().single().unwrap().schema.columns()[1].clone()
}

/// The class of a result, by which the fuzzer finds inputs that behave in a new way.
fn result_class<T>(parsed: &Result<T, RejectReason>) -> String {
    parsed.as_ref().map_or_else(|reason| reason.code().to_owned(), |_| "valid".to_owned())
}

#[test]
fn a_parsed_timestamp_is_written_as_text_that_parses_to_the_same_timestamp() {
    let format = "%Y-%m-%d %H:%M:%S.%f";
    let written_format =
        column(&format!("type = \"timestamp\", input = \"{format}\", output = \"{format}\""));
    let columns = ["%Y-%m-%d %H:%M:%S %z %Z", "%F %T", "%d.%m.%Y %H:%M:%S.%f %z", "%Y%m%d%H%M%S"]
        .map(|input| column(&format!("type = \"timestamp\", input = \"{input}\", output = \"{format}\"")));
    let seeds: [&[u8]; 5] = [
        b"2018-08-04 05:32:31 +0200 CEST",
        b"2018-10-28 02:30:00 +0100 CET",
        b"2024-02-29 23:59:59",
        b"04.08.2018 05:32:31.123456 -1200",
        b"20180804053231",
    ];
    let tokens: [&[u8]; 12] =
        [b"+", b"-", b"Z", b"UTC", b"CEST", b"EST", b"+14:00", b":", b"60", b"9999", b"0000", b"1000"];
    testkit::fuzz("timestamps", &seeds, &tokens, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return "not text".into() };
        let mut classes = String::new();
        for column in &columns {
            let parsed = column.parse(text);
            classes += &result_class(&parsed);
            let Ok(Value::Timestamp(micros)) = parsed else { continue };
            let CivilTime { year, month, day, hour, minute, second, micros: fraction } =
                CivilTime::from_micros(micros);
            let written =
                format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{fraction:06}");
            assert_eq!(written_format.parse(&written), Ok(Value::Timestamp(micros)), "{text:?} as {written}");
        }
        classes
    });
}

#[test]
fn a_parsed_decimal_is_the_number_in_the_text() {
    let columns = [(12, 6), (38, 30), (1, 0), (38, 0), (30, 30)].map(|(precision, scale)| {
        column(&format!("type = \"decimal\", precision = {precision}, scale = {scale}"))
    });
    let seeds: [&[u8]; 4] = [b"60.683466", b"-0.5", b"+00012.500", b"99999999999999999999999999999999999999"];
    let tokens: [&[u8]; 8] = [b".", b"-", b"+", b"0", b"e5", b"000000000", b"999999999", b","];
    testkit::fuzz("decimals", &seeds, &tokens, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return "not text".into() };
        let mut classes = String::new();
        for column in &columns {
            let parsed = column.parse(text);
            classes += &result_class(&parsed);
            let (Ok(Value::Decimal(number)), ColumnType::Decimal { precision, scale }) =
                (parsed, &column.column_type)
            else {
                continue;
            };
            assert!(number.unsigned_abs() < 10_u128.pow(u32::from(*precision)), "{text:?}");
            let mut written = Vec::new();
            write_decimal(number, *scale, &mut written);
            let written = String::from_utf8(written).unwrap();
            assert_eq!(canonical(&written), canonical(text), "{text:?} as {written}");
            assert_eq!(column.parse(&written), Ok(Value::Decimal(number)), "{text:?} as {written}");
        }
        classes
    });
}

/// The number without a plus sign, leading and trailing zeros.
fn canonical(text: &str) -> String {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let sign = if whole.is_empty() && fraction.is_empty() { "" } else { sign };
    format!("{sign}{whole}.{fraction}")
}

#[test]
fn the_schema_of_an_accepted_definition_survives_a_round_trip_through_json() {
    let seeds: [&[u8]; 3] = [
        b"[promotions]\nkey = \"id\"\ncolumns = [\n  { name = \"id\", type = \"uuid\" },\n  { name = \"price\", type = \"decimal\", precision = 12, scale = 6 },\n]\nheader = \"auto\"\nmax_rejects = 3\n",
        b"[a_b]\nkey = \"t\"\ncolumns = [{ name = \"t\", type = \"timestamp\", input = \"%F %T %z\", output = \"%F %T\" }, { name = \"n\", type = \"text\", max = 9, optional = true }]\nseparator = \";\"\nencoding = \"utf-16le\"\n",
        b"[x]\nkey='i'\ncolumns=[{name='i',type='integer',json='string'},{name='b',type='boolean'},{name='d',type='date'},{name='f',type='float'}]\nduplicates='last'\nmin_rows=2\nmax_shrink_percent=10\nkeep_versions=0\n",
    ];
    let tokens: [&[u8]; 16] = [
        b"\"",
        b"\n",
        b"[",
        b"]",
        b"{",
        b"}",
        b"= ",
        b"%Y",
        b"%",
        b"optional = true",
        b"-1",
        b"65535",
        b"0",
        b"\"text\"",
        b"\"decimal\"",
        b"18446744073709551616",
    ];
    testkit::fuzz("definitions", &seeds, &tokens, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return "not text".into() };
        match Datasets::from_toml(text) {
            Ok(datasets) => {
                for dataset in datasets.iter() {
                    assert!(dataset::is_dataset_name(&dataset.name), "{}", dataset.name);
                    let json = serde_json::to_string(&*dataset.schema).unwrap();
                    assert_eq!(serde_json::from_str::<Schema>(&json).unwrap(), *dataset.schema, "{json}");
                }
                format!("{} datasets", datasets.iter().count().min(3))
            }
            Err(DefinitionError::Dataset { why, .. }) => {
                // The text between backquotes repeats the input, so it would make every result a new one.
                why.split('`').step_by(2).collect::<String>().replace(|char: char| char.is_ascii_digit(), "")
            }
            Err(error) => error.to_string(),
        }
    });
}
