//! Random files through the whole ingest.

use crate::{Case, ITEMS, gzip, zstd};

/// What came of a file, as far as it must not depend on how the file was cut.
async fn outcome(case: &Case, file: &[u8]) -> (String, String) {
    match case.run(file).await {
        Ok(outcome) => {
            let codes: Vec<_> = outcome.merged.rejects.by_code().keys().copied().collect();
            let word = format!("rows {} header {} {codes:?}", outcome.json.len().min(3), outcome.header);
            (word, format!("{}\n{:?}", outcome.rejects(), outcome.json))
        }
        Err(error) => (error.code().to_owned(), crate::chain(&error)),
    }
}

#[test]
fn p10_any_bytes_give_the_same_rows_or_error_in_pieces_of_any_size() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let plain = b"code,stock,until\na,1,2024-02-29\n\"b \"\"x\"\"\",-2,\r\nc;3;\n".to_vec();
    let utf_16: Vec<u8> = "\u{feff}a\t1\t\nb\t2\t\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let packed = [runtime.block_on(gzip(&plain)), runtime.block_on(zstd(&plain))];
    let seeds = [&plain, b"a,1,\n".as_slice(), "ä|1|\r\nß|2|".as_bytes(), &utf_16, &packed[0], &packed[1]];
    let tokens: [&[u8]; 16] = [
        b"\"",
        b"\"\"",
        b"\r\n",
        b"\r",
        b"\n",
        b",",
        b";",
        b"\t",
        b"\xef\xbb\xbf",
        b"\0",
        b"\xff\xfe",
        b"code",
        b"9223372036854775808",
        b"2024-02-30",
        b"\x1f\x8b\x08",
        b"\x28\xb5\x2f\xfd",
    ];
    let mut cases = [1, 3, 4096].map(|chunk_bytes| {
        let mut case = Case::new(&format!("{ITEMS}\nmax_rejects = 1000"));
        case.chunk_bytes = chunk_bytes;
        case.limits.record_bytes_max = 300;
        case.limits.sort_memory_bytes = 1 << 20;
        case
    });
    testkit::fuzz("records", &seeds, &tokens, |file| {
        let [first, rest @ ..] = &mut cases;
        let (word, expected) = runtime.block_on(outcome(first, file));
        for case in rest {
            assert_eq!(runtime.block_on(outcome(case, file)).1, expected, "pieces of {}", case.chunk_bytes);
        }
        word
    });
}
