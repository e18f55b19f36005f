//! Encodings: what is recognised, what is decoded as the dataset says, and what is refused or reported.

use ingest::Warning;

use crate::{Case, ITEMS, chain, gzip};

fn with(settings: &str) -> Case {
    Case::new(&format!("{ITEMS}\nmax_rejects = 100\n{settings}"))
}

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(bytes).collect()
}

/// Runs a file in pieces of different sizes; all come to the same rows.
async fn json(case: &mut Case, file: &[u8]) -> Vec<String> {
    case.chunk_bytes = 1;
    let json = case.run(file).await.unwrap().json;
    case.chunk_bytes = 1 << 16;
    assert_eq!(case.run(file).await.unwrap().json, json);
    json
}

async fn warnings(case: &Case, file: &[u8]) -> Vec<Warning> {
    case.ingest(file).await.unwrap().warnings
}

const FILE: &str = "code,stock,until\nä€,1,\n\"𝄞\n\",2,2024-01-01\n";
const ROWS: [&str; 2] =
    [r#"{"code":"ä€","stock":1,"until":null}"#, r#"{"code":"𝄞\n","stock":2,"until":"2024-01-01"}"#];

#[tokio::test]
async fn a_byte_order_mark_says_the_encoding() {
    for file in [FILE, &format!("\u{feff}{FILE}"), &format!("\u{feff}\u{feff}\u{feff}{FILE}")] {
        assert_eq!(json(&mut with(""), file.as_bytes()).await, ROWS);
    }
    let marked = format!("\u{feff}{FILE}");
    for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        let file = utf16(&marked, bytes);
        assert_eq!(json(&mut with(""), &file).await, ROWS);
        assert_eq!(json(&mut with(""), &gzip(&file).await).await, ROWS);
        assert_eq!(json(&mut with("encoding = \"utf-16\""), &file).await, ROWS);
        assert_eq!(warnings(&with(""), &file).await, []);
    }
}

#[tokio::test]
async fn a_byte_order_mark_alone_is_an_empty_file() {
    for mark in [&b"\xef\xbb\xbf"[..], b"\xff\xfe", b"\xfe\xff"] {
        for chunk_bytes in [1, 7] {
            let mut case = with("");
            case.chunk_bytes = chunk_bytes;
            let ingested = case.ingest(mark).await.unwrap();
            assert_eq!(
                (ingested.rows, ingested.rejects().count(), ingested.header),
                (0, 0, false),
                "{mark:?}"
            );
        }
    }
}

#[tokio::test]
async fn windows_1252_is_read_with_a_warning() {
    let file = b"M\xfcller,1,\nCaf\xe9 \x80,2,\n";
    let expected =
        [r#"{"code":"Café €","stock":2,"until":null}"#, r#"{"code":"Müller","stock":1,"until":null}"#];
    assert_eq!(json(&mut with(""), file).await, expected);
    let [warning] = warnings(&with(""), file).await[..] else { panic!("no warning") };
    assert_eq!((warning, warning.code()), (Warning::GuessedEncoding("windows-1252"), "guessed-encoding"));
    insta::assert_snapshot!(warning, @"the text is not UTF-8 and was read as windows-1252");
    // Set by the dataset, it is no surprise.
    assert_eq!(json(&mut with("encoding = \"windows-1252\""), file).await, expected);
    assert_eq!(warnings(&with("encoding = \"windows-1252\""), file).await, []);
}

#[tokio::test]
async fn the_first_bytes_that_are_not_ascii_decide_wherever_they_stand() {
    let ascii: String = (0..40_000).map(|n| format!("{n:08},1,\n")).collect();
    for chunk_bytes in [1000, 1 << 16, 1 << 20] {
        let mut case = with("");
        case.chunk_bytes = chunk_bytes;
        let outcome = case.run(&[ascii.as_bytes(), b"M\xfcller,1,\n"].concat()).await.unwrap();
        assert_eq!(outcome.json.last().unwrap(), r#"{"code":"Müller","stock":1,"until":null}"#);
        let outcome = case.run(format!("{ascii}Müller,1,\n").as_bytes()).await.unwrap();
        assert_eq!(outcome.json.last().unwrap(), r#"{"code":"Müller","stock":1,"until":null}"#);
        assert_eq!(outcome.json.len(), 40_001);
    }
}

#[tokio::test]
async fn utf8_behind_a_guess_is_refused() {
    let ascii: String = (0..40_000).map(|n| format!("{n:08},1,\n")).collect();
    let file = [b"M\xfcller,1,\n", ascii.as_bytes(), "Café,1,\n".as_bytes()].concat();
    let mut case = with("");
    case.chunk_bytes = 1 << 16;
    let error = case.ingest(&file).await.unwrap_err();
    assert_eq!((error.code(), error.is_of_the_file()), ("mixed-encodings", true));
    insta::assert_snapshot!(chain(&error), @"the text is partly windows-1252 and partly UTF-8; the setting `encoding` decides for one");
    let mut case = with("encoding = \"utf-8\"");
    case.chunk_bytes = 1 << 16;
    assert_eq!(case.run(&file).await.unwrap().merged.rejects.count(), 1);
}

#[tokio::test]
async fn damaged_utf8_stays_utf8_and_its_rows_are_rejects() {
    let outcome = with("").run("ä,1,\nö,2,\n".as_bytes()).await.unwrap();
    assert_eq!(outcome.json.len(), 2);
    let outcome = with("").run(b"\xc3\xa4,1,\n\xc3\xb6,2,\n\xfc,3,\n").await.unwrap();
    assert_eq!(outcome.rejects(), "line 3 code \"\u{fffd}\": not valid UTF-8");
    let outcome = with("encoding = \"utf-8\"").run(b"\xfc,3,\n").await.unwrap();
    assert_eq!(outcome.rejects(), "line 1 code \"\u{fffd}\": not valid UTF-8");
}

#[tokio::test]
async fn what_cannot_be_decoded_is_a_reject() {
    // A half of a pair, and an odd byte at the end.
    let file = [
        &b"\xff\xfe"[..],
        &utf16("a,1,\n", u16::to_le_bytes),
        b"\x00\xd8",
        &utf16(",2,\n", u16::to_le_bytes),
        b"b",
    ];
    let rejects = with("").run(&file.concat()).await.unwrap().rejects();
    assert!(rejects.starts_with("line 2 code \"\u{fffd}\": not valid UTF-8\nline 3"), "{rejects}");
}

#[tokio::test]
async fn another_encoding_than_the_expected_one_is_named() {
    let utf16_file = utf16(&format!("\u{feff}{FILE}"), u16::to_le_bytes);
    for (setting, file, found) in [
        ("utf-8", &utf16_file[..], "UTF-16LE"),
        ("utf-8", &utf16_file[2..], "UTF-16LE"),
        ("utf-16le", FILE.as_bytes(), "UTF-8"),
        ("windows-1252", "\u{feff}a,1,\n".as_bytes(), "UTF-8"),
        ("windows-1252", FILE.as_bytes(), "UTF-8"),
    ] {
        let error = with(&format!("encoding = \"{setting}\"")).ingest(file).await.unwrap_err();
        assert_eq!((error.code(), error.is_of_the_file()), ("wrong-encoding", true), "{setting}");
        assert!(chain(&error).starts_with(&format!("the text seems to be {found}, but")), "{error}");
    }
    let cyrillic = b"\xcf\xf0\xe8\xe2\xe5\xf2 \xec\xe8\xf0,1,\n";
    assert_eq!(warnings(&with(""), cyrillic).await, [Warning::OtherEncoding("windows-1251")]);
}

#[tokio::test]
async fn text_that_is_no_csv_is_refused_by_name() {
    let marked = utf16("\u{feff}<html>", u16::to_le_bytes);
    for (file, name) in [
        (&utf16(FILE, u16::to_le_bytes)[..], "UTF-16 without a byte order mark"),
        (&utf16(FILE, u16::to_be_bytes), "UTF-16 without a byte order mark"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"\xef\xbb\xbf  <html>", "HTML"),
        (&marked, "HTML"),
        (b"[{\"code\": \"a\"}]", "JSON"),
        (&gzip(b"{\"code\": \"a\"}").await, "JSON"),
        (&gzip(&gzip(FILE.as_bytes()).await).await, "a packed file in a packed file"),
        (&gzip(b"PK\x03\x04").await, "zip or xlsx"),
    ] {
        let mut case = with("");
        case.chunk_bytes = 1;
        let error = case.ingest(file).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("unsupported format: {name}; ")), "{error}");
    }
}
