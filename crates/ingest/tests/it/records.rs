//! CSV as it comes: headers, line ends, quotes, and rows that are refused with the line on which they stand.

use proptest::prelude::*;

use crate::{Case, ITEMS, chain};

#[tokio::test]
async fn a_header_may_order_the_columns() {
    let outcome = Case::new(ITEMS).run(b"until,code,stock\n2024-02-29,007,5\n").await.unwrap();
    assert!(outcome.header);
    assert_eq!(outcome.json, [r#"{"code":"007","stock":5,"until":"2024-02-29"}"#]);
}

#[tokio::test]
async fn a_first_row_that_is_no_header_is_a_row() {
    let outcome = Case::new(ITEMS).run(b"007,5,\n").await.unwrap();
    assert!(!outcome.header);
    assert_eq!(outcome.json, [r#"{"code":"007","stock":5,"until":null}"#]);
}

#[tokio::test]
async fn header_names_match_without_case_and_outer_spaces() {
    let outcome = Case::new(ITEMS).run(b" Until ,CODE,\tstock\r\n2024-02-29,007,5\n").await.unwrap();
    assert!(outcome.header);
    assert_eq!(outcome.json, [r#"{"code":"007","stock":5,"until":"2024-02-29"}"#]);
}

#[tokio::test]
async fn a_header_that_does_not_fit_refuses_the_file() {
    for first in
        ["code,stock", "code,stock,until,extra", "code,stock,end", "code,stock,stock", "Code,STOCK,\u{e9}"]
    {
        let case = Case::new(&format!("{ITEMS}\nmax_rejects = 100"));
        let error = case.ingest(format!("{first}\na,1,\n").as_bytes()).await.unwrap_err();
        assert_eq!((error.code(), error.is_of_the_file()), ("header-mismatch", true), "{first}");
        assert_eq!(
            error.to_string(),
            format!(
                "the header does not fit the dataset: expected code, stock, until; found {}",
                first.replace(',', ", ")
            )
        );
    }
}

#[tokio::test]
async fn a_first_row_with_fewer_than_half_of_the_names_is_a_row() {
    let case = Case::new(&format!("{ITEMS}\nmax_rejects = 100"));
    let outcome = case.run(b"code,1,\nb,2,\n").await.unwrap();
    assert_eq!((outcome.json.len(), outcome.header), (2, false));
}

#[tokio::test]
async fn half_of_the_names_are_a_header_that_does_not_fit_and_fewer_are_a_row() {
    let names = r#"
        [names]
        key = "a"
        columns = [
          { name = "a", type = "text" }, { name = "b", type = "text" },
          { name = "c", type = "text" }, { name = "d", type = "text" },
        ]
        max_rejects = 100"#;
    let case = Case::new(names);
    for (first, is_row) in [("a,x,y,z", true), ("a,x,D,z", false), ("a,b,c", false), ("a,x", true)] {
        let outcome = case.run(format!("{first}\nk,1,2,3\n").as_bytes()).await;
        assert_eq!(outcome.as_ref().is_ok_and(|outcome| !outcome.header), is_row, "{first}");
        assert!(is_row || outcome.is_err_and(|error| error.code() == "header-mismatch"), "{first}");
    }
    // All are texts: as a row it would be taken, and the columns of the others swapped.
    let outcome = case.run(b"D,C, b ,A\n4,3,2,1\n").await.unwrap();
    assert_eq!(outcome.json, [r#"{"a":"1","b":"2","c":"3","d":"4"}"#]);
}

#[tokio::test]
async fn a_header_that_does_not_fit_is_shown_in_part_where_it_is_long() {
    let first = format!("code,stock,{}", vec!["x".repeat(100); 1000].join(","));
    let error = Case::new(ITEMS).ingest(first.as_bytes()).await.unwrap_err().to_string();
    assert!(error.len() < 2000 && error.ends_with(" and 970 more"), "{error}");
}

#[tokio::test]
async fn a_required_header_must_be_there() {
    let required = Case::new(&format!("{ITEMS}\nheader = \"required\"\nmax_rejects = 100"));
    let error = required.ingest(b"a,1,\n").await.unwrap_err();
    assert_eq!(error.code(), "header-missing");
    insta::assert_snapshot!(chain(&error), @"the header is missing: expected code, stock, until; found a, 1, ");
    assert_eq!(required.ingest(b"code,stock\n").await.unwrap_err().code(), "header-mismatch");
    assert!(required.run(b"code,stock,until\na,1,\n").await.unwrap().header);
}

#[tokio::test]
async fn without_a_header_the_first_record_is_data() {
    let none = Case::new(&format!("{ITEMS}\nheader = \"none\"\nmax_rejects = 100"));
    let outcome = none.run(b"code,stock,until\na,1,\n").await.unwrap();
    assert!(!outcome.header);
    insta::assert_snapshot!(outcome.rejects(), @r#"line 1 stock "stock": not a whole number"#);
}

#[tokio::test]
async fn a_second_header_is_a_reject() {
    let outcome = Case::new(ITEMS).run(b"code,stock,until\ncode,stock,until\n").await.unwrap();
    insta::assert_snapshot!(outcome.rejects(), @r#"line 2 stock "stock": not a whole number"#);
}

#[tokio::test]
async fn every_line_end_and_a_byte_order_mark_are_fine() {
    let expected =
        [r#"{"code":"a","stock":1,"until":null}"#, r#"{"code":"b","stock":2,"until":"2024-01-01"}"#];
    for file in [
        "a,1,\nb,2,2024-01-01\n",
        "a,1,\nb,2,2024-01-01",
        "a,1,\r\nb,2,2024-01-01\r\n",
        "a,1,\r\n\r\n\r\nb,2,2024-01-01",
        "\u{feff}a,1,\nb,2,2024-01-01\n",
        "\u{feff}code,stock,until\r\na,1,\r\nb,2,2024-01-01\r\n",
        "\"a\",\"1\",\"\"\r\n\"b\",\"2\",\"2024-01-01\"\r\n",
    ] {
        let outcome = Case::new(ITEMS).run(file.as_bytes()).await.unwrap();
        assert_eq!(outcome.json, expected, "{file:?}: {}", outcome.rejects());
    }
}

#[tokio::test]
async fn quoted_fields_may_hold_commas_quotes_and_line_ends() {
    let outcome = Case::new(ITEMS).run(b"\"a,\"\"\n\",1,\nb,x,\n").await.unwrap();
    assert_eq!(outcome.json.len(), 0);
    insta::assert_snapshot!(outcome.rejects(), @r#"line 3 stock "x": not a whole number"#);
}

#[tokio::test]
async fn each_reject_names_line_column_value_and_reason() {
    let mut case = Case::new(&format!("{ITEMS}\nencoding = \"utf-8\"\nmax_rejects = 100"));
    case.chunk_bytes = 1;
    let file = b"a,1,\nb,2\n\n123456789,3,\n,4,\nc,NaN,\nd,5,2024-02-30\ne\xff,6,\nf\0,7,\ng,8,,\n\xc3,\xa9,\nz,9,\n";
    let outcome = case.run(file).await.unwrap();
    insta::assert_snapshot!(outcome.rejects(), @r#"
    line 2 - "b,2": expected 3 fields, found 2
    line 4 code "123456789": longer than 8 characters
    line 5 code "": empty, but the column is not optional
    line 6 stock "NaN": not a whole number
    line 7 until "2024-02-30": not a date in the format YYYY-MM-DD
    line 8 code "e�": not valid UTF-8
    line 9 code "f\0": contains a NUL byte
    line 10 - "g,8,,": expected 3 fields, found 4
    line 11 code "�": not valid UTF-8
    "#);
    assert_eq!(outcome.json.len(), 2);
}

#[tokio::test]
async fn a_character_that_a_comma_cuts_is_none() {
    let names = r#"
        [names]
        key = "code"
        columns = [{ name = "code", type = "text", max = 8 }, { name = "name", type = "text", max = 8 }]
        encoding = "utf-8"
        max_rejects = 3"#;
    // Without the comma the bytes of the second row are valid, and so are those of the third with the fourth.
    let outcome = Case::new(names).run(b"\xc3\xa4,x\nb\xc3,\xa4\nc,d\xc3\n\xa4e,f\n").await.unwrap();
    insta::assert_snapshot!(outcome.rejects(), @r#"
    line 2 code "b�": not valid UTF-8
    line 3 name "d�": not valid UTF-8
    line 4 code "�e": not valid UTF-8
    "#);
    assert_eq!(outcome.json, [r#"{"code":"ä","name":"x"}"#]);
}

#[tokio::test]
async fn the_report_keeps_the_refused_lines_as_they_came() {
    let case = Case::new(&format!("{ITEMS}\nmax_rejects = 100"));
    case.run(b"a,1,\n\"b,\"\"x\",2 ,\n").await.unwrap();
    insta::assert_snapshot!(case.report(), @r#"
    line,column,value,code,reason,record
    2,stock,2 ,not_integer,not a whole number,"""b,""""x"",2 ,"
    "#);
}

#[tokio::test]
async fn the_report_is_bounded_and_the_count_is_right() {
    let mut case = Case::new(ITEMS);
    case.limits.report_rows_max = 3;
    case.chunk_bytes = 4096;
    let outcome = case.run("a,x,\n".repeat(10_000).as_bytes()).await.unwrap();
    assert_eq!(outcome.merged.rejects.count(), 10_000);
    assert_eq!(outcome.merged.rejects.by_code()["not_integer"], 10_000);
    assert_eq!(case.report().lines().count(), 4);
}

#[tokio::test]
async fn a_file_that_ends_inside_a_quoted_field_is_refused() {
    for file in
        ["a,1,\nb,2,\"2024-01-01", "a,1,\nb,2,\"", "a,1,\nb,2,\"2024\n", "a,1,\n\"b\n\n,2", "\n\"b\"\"\n"]
    {
        let error = Case::new(ITEMS).ingest(file.as_bytes()).await.unwrap_err();
        assert_eq!(chain(&error), "line 2: a quoted field is never closed", "{file:?}");
    }
}

#[tokio::test]
async fn a_record_that_does_not_end_is_refused_without_keeping_it() {
    let mut case = Case::new(ITEMS);
    (case.limits.record_bytes_max, case.chunk_bytes) = (1 << 20, 1 << 16);
    let file = [b"a,1,\nb,".to_vec(), vec![b'x'; 100 << 20]].concat();
    let error = case.ingest(&file).await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @"line 2: a record is longer than 1048576 bytes");
}

#[tokio::test]
async fn more_rows_than_allowed_are_refused() {
    let mut case = Case::new(ITEMS);
    case.limits.rows_max = 2;
    let error = case.ingest(b"a,1,\nb,1,\nc,1,\n").await.unwrap_err();
    insta::assert_snapshot!(chain(&error), @"the file has more than 2 rows");
}

#[tokio::test]
async fn text_behind_a_closing_quote_is_a_reject() {
    for chunk_bytes in [1, 7, 1000] {
        let mut case = Case::new(&format!("{ITEMS}\nmax_rejects = 100"));
        case.chunk_bytes = chunk_bytes;
        let file = b"a,\"8\"4,\n\"b\",\"2\",\"2024-01-01\"\r\n\"c\" ,3,\nd,4,\n\"e\",5,\"2024\"-01-01";
        let outcome = case.run(file).await.unwrap();
        insta::allow_duplicates! { insta::assert_snapshot!(outcome.rejects(), @r#"
        line 1 - "a,84,": text after a closing quote
        line 3 - "c ,3,": text after a closing quote
        line 5 - "e,5,2024-01-01": text after a closing quote
        "#); }
        assert_eq!(outcome.json.len(), 2);
    }
}

#[tokio::test]
async fn a_file_whose_lines_end_with_cr_is_refused_by_name() {
    let long = "a,1,\r".repeat(500_000);
    for file in ["code,stock,until\ra,1,\rb,2,\r", "a,1,\rb,2,", "\"a\n\",1,\rb,2,", &long] {
        let mut case = Case::new(ITEMS);
        case.chunk_bytes = 1 << 16;
        let error = case.ingest(file.as_bytes()).await.unwrap_err();
        assert_eq!(error.code(), "carriage-returns", "{error}");
    }
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(
        file in proptest::collection::vec(
            proptest::sample::select(vec![
                &b"a"[..], b"1", b",", b";", b"\"", b"\r", b"\n", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3\xa4", b"\xfc",
                b"\xd8", b"code,stock,until", b"2024-01-01", b"{", b"<",
            ]),
            0..60,
        ),
        encoding in proptest::sample::select(vec!["auto", "utf-8", "utf-16be", "windows-1252", "shift_jis"]),
        chunk_bytes in 1usize..50,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut case = Case::new(&format!("{ITEMS}\nmax_rejects = 1000\nencoding = \"{encoding}\""));
        case.chunk_bytes = chunk_bytes;
        let answer = runtime.block_on(case.run(&file.concat())).map(|outcome| outcome.json);
        prop_assert!(answer.as_ref().err().is_none_or(ingest::Error::is_of_the_file), "{answer:?}");
        case.chunk_bytes = 1000;
        let whole = runtime.block_on(case.run(&file.concat())).map(|outcome| outcome.json);
        prop_assert_eq!(answer.map_err(|error| error.to_string()), whole.map_err(|error| error.to_string()));
    }
}

#[tokio::test]
async fn no_line_of_a_file_can_pass_for_its_end() {
    let end = "\u{1e}tableswap-end-of-file\u{1e}";
    for file in [format!("a,1,\n{end}\nb,2,\n"), format!("a,1,\n{end}"), format!("a,1,\n{end}\n")] {
        for chunk_bytes in [1, 1000] {
            let mut case = Case::new(ITEMS);
            case.chunk_bytes = chunk_bytes;
            let rejects = case.run(file.as_bytes()).await.unwrap().rejects();
            assert_eq!(rejects, format!("line 2 - {end:?}: expected 3 fields, found 1"), "{file:?}");
        }
    }
}
