//! Lines for people, and numbers as people read them.

use std::io::{self, Write};

use dataset::plural;

/// Writes a line to standard output.
pub(crate) fn say(line: impl std::fmt::Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{}", printable(&line.to_string()))
}

/// Writes a line to standard error, which nobody has to read.
pub(crate) fn complain(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(&line.to_string()));
}

/// Text without control characters but line breaks: what a server or a file says must not steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.replace(|char: char| char.is_control() && char != '\n', "\u{fffd}")
}

/// A number with its thousands apart, and its noun: 1 row, 2,000 rows.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {}", grouped(number), plural(number, noun))
}

/// A number with its thousands apart: 199,999.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One refused row in one line.
pub(crate) fn reject(line: u64, column: Option<&str>, value: &str, reason: &str) -> String {
    let column = column.map_or_else(String::new, |column| format!(", column {column}"));
    format!("  line {line}{column}: {value:?}: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let shown: Vec<_> = [0, 999, 1000, 199_999, 1_000_000].into_iter().map(grouped).collect();
        assert_eq!(shown, ["0", "999", "1,000", "199,999", "1,000,000"]);
    }
}
