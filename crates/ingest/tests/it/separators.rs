//! Separators: recognised by the columns of the dataset, or set and then refused where another one fits.

use crate::{Case, ITEMS, chain};

fn with(settings: &str) -> Case {
    Case::new(&format!("{ITEMS}\nmax_rejects = 100\n{settings}"))
}

const ROWS: [&str; 2] =
    [r#"{"code":"a","stock":1,"until":null}"#, r#"{"code":"b,;","stock":2,"until":"2024-01-01"}"#];

#[tokio::test]
async fn the_separator_is_recognised() {
    for separator in [',', ';', '\t', '|'] {
        let line = |fields: [&str; 3]| fields.join(&separator.to_string()) + "\r\n";
        let rows = line(["a", "1", ""]) + &line(["\"b,;\"", "\"2\"", "2024-01-01"]);
        for file in [
            rows.clone(),
            line(["until", "stock", "code"]) + &line(["", "1", "a"]),
            "\n\n".to_owned() + &rows,
        ] {
            for chunk_bytes in [1, 1000] {
                let mut case = with("");
                case.chunk_bytes = chunk_bytes;
                let outcome = case.run(file.as_bytes()).await.unwrap();
                assert_eq!(outcome.rejects(), "", "{file:?}");
                assert_eq!(outcome.json, ROWS[..outcome.json.len()], "{file:?}");
            }
        }
    }
}

#[tokio::test]
async fn rows_with_a_wrong_number_of_fields_do_not_hide_the_separator() {
    let outcome = with("").run(b"a;1,5\nb;2;\nc;3;\nd,4,\ne;\"5\";2024-01-01\n").await.unwrap();
    assert_eq!(outcome.json.len(), 3);
    insta::assert_snapshot!(outcome.rejects(), @r#"
    line 1 - "a,\"1,5\"": expected 3 fields, found 2
    line 4 - "\"d,4,\"": expected 3 fields, found 1
    "#);
}

#[tokio::test]
async fn of_two_separators_that_divide_the_rows_alike_the_one_with_valid_rows_counts() {
    let outcome = with("").run(b"a,b,c;1;\nd,e,f;2;2024-01-01\n").await.unwrap();
    assert_eq!((outcome.json.len(), outcome.rejects().as_str()), (2, ""));
}

#[tokio::test]
async fn the_names_of_the_columns_show_the_separator_of_a_header_that_does_not_fit() {
    let error = with("").ingest(b"code;stock;end\na;1;\n").await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @"the header does not fit the dataset: expected code, stock, until; found code, stock, end");
}

#[tokio::test]
async fn text_behind_a_quote_is_found_with_any_separator() {
    let rejects = with("").run(b"\"a\";1;\n\"b\"x;2;\n").await.unwrap().rejects();
    insta::assert_snapshot!(rejects, @r#"line 2 - "bx,2,": text after a closing quote"#);
}

#[tokio::test]
async fn one_column_has_no_separator() {
    let mut case =
        Case::new("[c]\nkey = \"code\"\nmax_rejects = 9\ncolumns = [{ name = \"code\", type = \"text\" }]");
    case.chunk_bytes = 100;
    let outcome = case.run(b"a;b\nc,d\n").await.unwrap();
    assert_eq!((outcome.json.len(), outcome.merged.rejects.count()), (1, 1));
}

#[tokio::test]
async fn another_separator_than_the_set_one_is_named() {
    for (set, file, found) in
        [(",", "a;1;\nb;2;\n", "`;`"), (";", "a\t1\t\n", "tabs"), ("|", "code,stock,until\n", "`,`")]
    {
        let case = with(&format!("separator = \"{set}\""));
        let error = case.ingest(file.as_bytes()).await.unwrap_err();
        assert_eq!((error.code(), error.is_of_the_file()), ("wrong-separator", true));
        assert_eq!(error.to_string(), format!("the fields seem to be separated by {found}"));
    }
    assert_eq!(with("separator = \";\"").run(b"a;1;\n").await.unwrap().json.len(), 1);
    // A file that fits no separator is read with the set one, and each of its rows is a reject.
    assert_eq!(with("separator = \";\"").run(b"a\nb\n").await.unwrap().merged.rejects.count(), 2);
}

#[tokio::test]
async fn a_row_that_the_read_ahead_cuts_does_not_count() {
    let first = format!("\"{}\",1,\n", "x,;".repeat(100_000));
    let mut case = with("");
    case.chunk_bytes = 1 << 16;
    let outcome = case.run(format!("{first}b,2,\n").as_bytes()).await.unwrap();
    assert_eq!((outcome.json.len(), outcome.merged.rejects.count()), (1, 1));
}
