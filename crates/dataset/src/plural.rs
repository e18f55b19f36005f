//! Counts with their nouns, for messages.

/// `1 row`, `2 rows`.
pub fn format_count(count: u64, noun: &str) -> String {
    format!("{count} {}", plural(count, noun))
}

/// The noun in the number that fits the count: `row` for 1, `rows` for anything else.
pub fn plural(count: u64, noun: &str) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        let counts = [0, 1, 2].map(|count| format_count(count, "row"));
        assert_eq!(counts, ["0 rows", "1 row", "2 rows"]);
    }
}
