//! The form of a file makes no difference: the same rows come out of every one that is accepted.

use std::collections::BTreeMap;

use csv::{QuoteStyle, Terminator, WriterBuilder};
use proptest::prelude::*;
use proptest::sample::select;

use crate::{Case, ITEMS, gzip, zstd};

/// Rows by their keys: the other two fields.
type Rows = BTreeMap<String, (i64, String)>;

/// How the name of a column is spelled.
type Spelling = fn(&str) -> String;

/// How a file is written.
#[derive(Debug, Clone)]
struct Form {
    separator: u8,
    quotes: QuoteStyle,
    line_end: Terminator,
    is_last_line_ended: bool,
    /// The order of the columns and how their names are spelled, where there is a header.
    header: Option<([usize; 3], Spelling)>,
    encoding: Encoding,
    packing: Packing,
}

#[derive(Debug, Clone, Copy)]
enum Encoding {
    Utf8,
    Utf8WithMark,
    Utf16(fn(u16) -> [u8; 2]),
}

#[derive(Debug, Clone, Copy)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
    /// The halves of the file, packed one by one.
    GzipTwice,
}

/// Comma, LF, no more quotes than needed, no header, plain.
const PLAINEST: Form = Form {
    separator: b',',
    quotes: QuoteStyle::Necessary,
    line_end: Terminator::Any(b'\n'),
    is_last_line_ended: true,
    header: None,
    encoding: Encoding::Utf8,
    packing: Packing::Plain,
};

impl Form {
    fn text(&self, rows: &Rows) -> String {
        let mut csv = WriterBuilder::new()
            .delimiter(self.separator)
            .quote_style(self.quotes)
            .terminator(self.line_end)
            .from_writer(Vec::new());
        let order = self.header.map_or([0, 1, 2], |(order, _)| order);
        if let Some((_, spell)) = self.header {
            csv.write_record(order.map(|at| spell(["code", "stock", "until"][at]))).unwrap();
        }
        for (code, (stock, until)) in rows {
            let fields = [code.clone(), stock.to_string(), until.clone()];
            csv.write_record(order.map(|at| &fields[at])).unwrap();
        }
        let mut text = String::from_utf8(csv.into_inner().unwrap()).unwrap();
        if !self.is_last_line_ended {
            text.truncate(text.trim_end_matches(['\r', '\n']).len());
        }
        text
    }

    async fn file(&self, rows: &Rows) -> Vec<u8> {
        let text = self.text(rows);
        let marked = format!("\u{feff}{text}");
        let bytes = match self.encoding {
            Encoding::Utf8 => text.into_bytes(),
            Encoding::Utf8WithMark => marked.into_bytes(),
            Encoding::Utf16(bytes) => marked.encode_utf16().flat_map(bytes).collect(),
        };
        match self.packing {
            Packing::Plain => bytes,
            Packing::Gzip => gzip(&bytes).await,
            Packing::Zstd => zstd(&bytes).await,
            Packing::GzipTwice => {
                let (half, other) = bytes.split_at(bytes.len() / 2);
                [gzip(half).await, gzip(other).await].concat()
            }
        }
    }
}

fn rows() -> impl Strategy<Value = Rows> {
    let code = "[a-z0-9äß€𝄞 ,;|\"\t\n]{1,8}";
    let until = prop_oneof![Just(String::new()), (1..=28).prop_map(|day| format!("2024-02-{day:02}"))];
    proptest::collection::btree_map(code, (any::<i64>(), until), 1..30)
}

fn form() -> impl Strategy<Value = Form> {
    let spelling: [Spelling; 3] = [
        str::to_owned,
        |name| name.to_uppercase(),
        |name| format!(" {}{}\t", &name[..1].to_uppercase(), &name[1..]),
    ];
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let encodings = [
        Encoding::Utf8,
        Encoding::Utf8WithMark,
        Encoding::Utf16(u16::to_le_bytes),
        Encoding::Utf16(u16::to_be_bytes),
    ];
    let packings = [Packing::Plain, Packing::Gzip, Packing::Zstd, Packing::GzipTwice];
    let parts = (
        select(b",;\t|".to_vec()),
        select(vec![QuoteStyle::Necessary, QuoteStyle::Always, QuoteStyle::NonNumeric]),
        select(vec![Terminator::Any(b'\n'), Terminator::CRLF]),
        any::<bool>(),
        proptest::option::of((select(orders.to_vec()), select(spelling.to_vec()))),
        select(encodings.to_vec()),
        select(packings.to_vec()),
    );
    parts.prop_map(|(separator, quotes, line_end, is_last_line_ended, header, encoding, packing)| Form {
        separator,
        quotes,
        line_end,
        is_last_line_ended,
        header,
        encoding,
        packing,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_file_in_any_form_and_in_pieces_of_any_size_gives_the_same_rows(
        rows in rows(),
        form in form(),
        chunk_bytes in prop_oneof![1usize..8, 1usize..2000],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut case = Case::new(&format!("{ITEMS}\nmax_rejects = 1000"));
        runtime.block_on(async {
            let expected = case.run(&PLAINEST.file(&rows).await).await.unwrap();
            prop_assert_eq!(expected.rejects(), "");
            prop_assert_eq!(expected.json.len(), rows.len());
            case.chunk_bytes = chunk_bytes;
            let outcome = case.run(&form.file(&rows).await).await.unwrap();
            prop_assert_eq!(outcome.rejects(), "");
            prop_assert_eq!(outcome.header, form.header.is_some());
            prop_assert_eq!(outcome.json, expected.json);
            Ok(())
        })?;
    }
}
