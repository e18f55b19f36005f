//! Keeps a spreadsheet from taking a field of a CSV file for a formula.
//!
//! Whoever sends a file decides what stands in its refused rows, and someone else opens the report of them. A field that
//! begins as formulas do gets an apostrophe in front, which spreadsheets take for "this is text".

use bytes::Bytes;

/// Where the bytes so far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// In front of a field.
    #[default]
    FieldStart,
    /// Behind the quote that opens a field.
    QuotedStart,
    Plain,
    Quoted,
    /// Behind a quote in a quoted field: its end, or the first of two.
    QuoteInQuoted,
}

/// Guards a CSV file that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct FormulaGuard(Place);

impl FormulaGuard {
    /// The next piece, with an apostrophe in front of each field that would be a formula.
    pub(crate) fn guard(&mut self, piece: &[u8]) -> Bytes {
        let mut guarded = Vec::with_capacity(piece.len() + 16);
        for byte in piece {
            if matches!(self.0, Place::FieldStart | Place::QuotedStart) && b"=+-@\t\r".contains(byte) {
                guarded.push(b'\'');
            }
            guarded.push(*byte);
            self.0 = match (self.0, byte) {
                (Place::FieldStart, b'"') => Place::QuotedStart,
                (Place::FieldStart | Place::Plain | Place::QuoteInQuoted, b',' | b'\n') => Place::FieldStart,
                (Place::FieldStart | Place::Plain, _) => Place::Plain,
                (Place::QuotedStart | Place::Quoted, b'"') => Place::QuoteInQuoted,
                (Place::QuotedStart | Place::Quoted | Place::QuoteInQuoted, _) => Place::Quoted,
            };
        }
        guarded.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded(text: &str) -> String {
        let whole = FormulaGuard::default().guard(text.as_bytes());
        let mut guard = FormulaGuard::default();
        let bytes: Vec<u8> = text.as_bytes().chunks(1).flat_map(|byte| guard.guard(byte)).collect();
        assert_eq!(bytes, whole, "pieces of any size give the same");
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_field_that_would_be_a_formula_is_marked_as_text_and_no_other_is() {
        assert_eq!(guarded("line,value\n1,=1+1\n2,a=b\n"), "line,value\n1,'=1+1\n2,a=b\n");
        assert_eq!(guarded("=a,+b,-c,@d,\te\n"), "'=a,'+b,'-c,'@d,'\te\n");
        assert_eq!(guarded("\"=a,=b\n=c\",\"\"\"=d\",\"\r\"\n"), "\"'=a,=b\n=c\",\"\"\"=d\",\"'\r\"\n");
        assert_eq!(guarded("\"a\"\",=b\",=c\n"), "\"a\"\",=b\",'=c\n");
        assert_eq!(guarded(",,\n\"\",=\n"), ",,\n\"\",'=\n");
    }
}
