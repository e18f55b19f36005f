//! Numbers with their nouns, for messages.

/// `1 row`, `2 rows`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{number} {}", plural(number, noun))
}

/// The noun for this number of things: `row`, `rows`.
pub fn plural(number: u64, noun: &str) -> String {
    if number == 1 { noun.to_owned() } else { format!("{noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_not_many() {
        let counted = [0, 1, 2].map(|number| counted(number, "row"));
        assert_eq!(counted, ["0 rows", "1 row", "2 rows"]);
    }
}
