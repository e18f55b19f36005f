//! Rust text taken apart, roughly: what is code, and what stands in string literals. Comments are in neither.

use super::tree::Text;

pub(crate) struct Source {
    /// The code line by line, with blanks in place of comments and of what literals contain.
    pub(crate) code: Vec<String>,
    /// The string literals, each with the line where it begins, counted from 1.
    pub(crate) literals: Vec<(usize, String)>,
}

impl Source {
    pub(crate) fn parse(file: &Text) -> Source {
        let mut scan = Scan { rest: &file.text, code: String::new(), literals: Vec::new() };
        while !scan.rest.is_empty() {
            scan.step();
        }
        Source { code: scan.code.lines().map(str::to_owned).collect(), literals: scan.literals }
    }

    /// The lines, from 1, whose code has a word for which `matches` is true.
    pub(crate) fn lines_with_word(&self, matches: impl Fn(&str) -> bool) -> Vec<usize> {
        let has = |line: &String| words(line).any(&matches);
        self.lines_where(has)
    }

    /// The lines, from 1, whose code is as `matches` says.
    pub(crate) fn lines_where(&self, matches: impl Fn(&String) -> bool) -> Vec<usize> {
        self.code.iter().enumerate().filter(|(_, line)| matches(line)).map(|(at, _)| at + 1).collect()
    }
}

/// The identifiers and keywords of a line of code.
pub(crate) fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|char: char| !char.is_alphanumeric() && char != '_').filter(|word| !word.is_empty())
}

struct Scan<'a> {
    rest: &'a str,
    code: String,
    literals: Vec<(usize, String)>,
}

impl Scan<'_> {
    /// Takes one comment, literal or character.
    fn step(&mut self) {
        let rest = self.rest;
        if rest.starts_with("//") {
            self.blank(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.blank(block_comment(rest));
        } else if let Some(hashes) = self.raw_string() {
            self.literal(hashes + 2, &format!("\"{}", "#".repeat(hashes)));
        } else if rest.starts_with('"') {
            self.literal(1, "\"");
        } else if let Some(length) = char_literal(rest) {
            self.blank(length);
        } else {
            let char = rest.chars().next().unwrap_or_default();
            self.code.push(char);
            self.rest = &rest[char.len_utf8()..];
        }
    }

    /// The number of hashes, where a raw string begins here: `r"`, `r#"`, also behind the `b` or `c` of its kind.
    fn raw_string(&self) -> Option<usize> {
        let behind = self.rest.strip_prefix('r')?;
        let hashes = behind.len() - behind.trim_start_matches('#').len();
        let mut before = self.code.chars().rev().skip_while(|char| matches!(char, 'b' | 'c'));
        let inside_a_word = before.next().is_some_and(|char| char.is_alphanumeric() || char == '_');
        (behind[hashes..].starts_with('"') && !inside_a_word).then_some(hashes)
    }

    /// Takes a string literal whose opening is so long and that ends with `end`; only plain ones have escapes.
    fn literal(&mut self, opening: usize, end: &str) {
        let content = &self.rest[opening..];
        let length =
            if opening == 1 { plain_length(content) } else { content.find(end).unwrap_or(content.len()) };
        let line = self.code.matches('\n').count() + 1;
        self.literals.push((line, content[..length].to_owned()));
        self.code.push('"');
        self.blank((opening + length + end.len()).min(self.rest.len()));
        self.code.push('"');
    }

    /// Passes over so many bytes, but keeps the ends of their lines.
    fn blank(&mut self, length: usize) {
        let (gone, rest) = self.rest.split_at(length);
        self.code.push(' ');
        self.code.extend(gone.chars().filter(|char| *char == '\n'));
        self.rest = rest;
    }
}

/// The length of a string's content up to the quote that ends it.
fn plain_length(content: &str) -> usize {
    let mut escaped = false;
    let end = content.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.unwrap_or(content.len())
}

/// The length of a block comment, in which others may be nested.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let pair = rest.as_bytes().get(at..at + 2);
        match pair {
            Some(b"/*") => depth += 1,
            Some(b"*/") => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The length of a character literal, where one begins here; a lifetime is none.
fn char_literal(rest: &str) -> Option<usize> {
    let content = rest.strip_prefix('\'')?;
    if let Some(escape) = content.strip_prefix('\\') {
        // What is escaped may itself be a quote.
        let end = escape.char_indices().skip(1).find(|(_, char)| *char == '\'')?.0;
        return Some(end + 3);
    }
    let first = content.chars().next()?.len_utf8();
    content[first..].starts_with('\'').then_some(first + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Source {
        Source::parse(&Text::new("a.rs", text))
    }

    #[test]
    fn comments_are_neither_code_nor_literals() {
        let source = parse("a // b \"c\"\nd /* e /* \"f\" */ g\n */ h");
        assert_eq!(source.lines_with_word(|_| true), [1, 2, 3]);
        assert_eq!(source.code.join(" ").split_whitespace().collect::<Vec<_>>(), ["a", "d", "h"]);
        assert!(source.literals.is_empty());
    }

    #[test]
    fn literals_are_taken_out_of_the_code() {
        let source = parse("a(\"b \\\" // c\") + r#\"d \" e\"# + br\"f\\\";\nlet var = r\"g\";\nb\"h\"");
        let texts: Vec<&str> = source.literals.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["b \\\" // c", "d \" e", "f\\", "g", "h"]);
        assert_eq!(source.literals.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 1, 1, 2, 3]);
        assert!(source.lines_with_word(|word| "cdefgh".contains(word)).is_empty(), "{:?}", source.code);
    }

    #[test]
    fn characters_that_look_like_quotes_and_lifetimes_do_not_confuse() {
        let source = parse("f::<'a>('\"', '\\'', '\\\\', '\\u{1F}', 'é'); g(\"x\") // y\nr#type");
        assert_eq!(source.literals, [(1, "x".to_owned())]);
        assert_eq!(source.lines_with_word(|word| word == "g" || word == "type"), [1, 2]);
    }

    #[test]
    fn a_literal_of_several_lines_keeps_the_count_of_lines() {
        assert_eq!(parse("\"a\nb\"\nc").lines_with_word(|word| word == "c"), [3]);
    }
}
