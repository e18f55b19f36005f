//! What the sources name, and where they may.

use super::source::Source;
use super::tree::Text;

/// Statements, as far as they cannot be taken for prose: they are written in capitals.
const STATEMENTS: &[&str] = &[
    "SELECT ",
    "INSERT INTO ",
    "REPLACE INTO ",
    "DELETE FROM ",
    "CREATE TABLE",
    "CREATE DATABASE",
    "ALTER TABLE",
    "RENAME TABLE",
    "DROP TABLE",
    "TRUNCATE ",
    "LOAD DATA",
    "SHOW TABLES",
    "SHOW CREATE",
    "SHOW WARNINGS",
    "LOCK TABLE",
    "GET_LOCK(",
    "RELEASE_LOCK(",
    "START TRANSACTION",
    "SET SESSION",
    "SET GLOBAL",
    "information_schema.",
];

/// SQL in a string literal outside of `store/src/mariadb*`.
pub(crate) fn sql(file: &Text) -> Vec<String> {
    if is_under(file, &["crates/store/src/mariadb"]) {
        return Vec::new();
    }
    let is_sql = |literal: &str| {
        STATEMENTS.iter().any(|statement| literal.contains(statement))
            || (literal.contains("UPDATE ") && literal.contains(" SET "))
    };
    let found = Source::parse(file).literals.into_iter().filter(|(_, literal)| is_sql(literal));
    found.map(|(line, _)| file.finding(line, "sql outside of store/src/mariadb")).collect()
}

/// The client library for MariaDB outside of `store/src/mariadb*`.
pub(crate) fn mysql_client(file: &Text) -> Vec<String> {
    words(
        file,
        &["crates/store/src/mariadb"],
        |word| word.starts_with("mysql_"),
        "outside of store/src/mariadb",
    )
}

/// LMDB outside of `store/src/embedded*`.
pub(crate) fn lmdb(file: &Text) -> Vec<String> {
    words(file, &["crates/store/src/embedded"], |word| word == "heed", "outside of store/src/embedded")
}

/// actix outside of the crates that serve.
pub(crate) fn actix(file: &Text) -> Vec<String> {
    let servers = ["crates/api/", "crates/updater/", "crates/service/"];
    words(file, &servers, |word| word.starts_with("actix"), "outside of api, updater and service")
}

/// The environment outside of `service/src/settings*`.
pub(crate) fn environment(file: &Text) -> Vec<String> {
    if is_under(file, &["crates/service/src/settings"]) {
        return Vec::new();
    }
    let reads = |line: &String| {
        let path = line.replace(' ', "");
        path.contains("std::env") || has_word_before(&path, "env", "::") || has_word_before(&path, "envy", "::")
            // A group of imports, such as `use std::{env, fs}`.
            || (path.starts_with("usestd::{") && super::source::words(line).any(|word| word == "env"))
    };
    let lines = Source::parse(file).lines_where(reads);
    lines
        .into_iter()
        .map(|line| file.finding(line, "the environment outside of service/src/settings"))
        .collect()
}

fn words(file: &Text, allowed: &[&str], matches: impl Fn(&str) -> bool, what: &str) -> Vec<String> {
    if is_under(file, allowed) {
        return Vec::new();
    }
    let source = Source::parse(file);
    let lines = source.lines_with_word(&matches);
    lines
        .into_iter()
        .map(|line| file.finding(line, &format!("{} {what}", source.code[line - 1].trim())))
        .collect()
}

fn has_word_before(line: &str, word: &str, behind: &str) -> bool {
    let is_word_char = |char: char| char.is_alphanumeric() || char == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_word_char) && line[at + word.len()..].starts_with(behind))
}

fn is_under(file: &Text, allowed: &[&str]) -> bool {
    allowed.iter().any(|prefix| file.path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> Text {
        Text::new(path, text)
    }

    #[test]
    fn a_statement_outside_of_the_mariadb_store_is_found() {
        let text = "//! SELECT in prose.\nlet a = \"select a file\";\nlet b = \"SELECT id FROM t\";\nlet c = r\"\n UPDATE t SET a = 1\";";
        let what = "sql outside of store/src/mariadb";
        let expected =
            [format!("crates/api/src/read.rs:3: {what}"), format!("crates/api/src/read.rs:4: {what}")];
        assert_eq!(sql(&file("crates/api/src/read.rs", text)), expected);
        assert_eq!(sql(&file("crates/store/src/embedded/read.rs", text)).len(), 2);
        assert!(sql(&file("crates/store/src/mariadb/read.rs", text)).is_empty());
        assert!(sql(&file("crates/store/src/mariadb.rs", text)).is_empty());
    }

    #[test]
    fn the_mysql_client_is_found_where_it_does_not_belong() {
        let text = "// mysql_async in prose\nuse mysql_async::Pool;\n";
        let found = mysql_client(&file("crates/store/src/error.rs", text));
        assert_eq!(
            found,
            ["crates/store/src/error.rs:2: use mysql_async::Pool; outside of store/src/mariadb"]
        );
        assert!(mysql_client(&file("crates/store/src/mariadb/read.rs", text)).is_empty());
    }

    #[test]
    fn lmdb_is_found_where_it_does_not_belong() {
        let text = "fn a() -> heed::Result<()> { heeded(\"heed\") }\n";
        assert_eq!(lmdb(&file("crates/store/src/mariadb.rs", text)).len(), 1);
        assert!(lmdb(&file("crates/store/src/embedded.rs", text)).is_empty());
    }

    #[test]
    fn actix_is_found_where_it_does_not_belong() {
        for text in ["use actix_web::web;\n", "#[actix_web::main]\n", "actix_rt::spawn(x)\n"] {
            assert_eq!(actix(&file("crates/tableswap/src/main.rs", text)).len(), 1, "{text}");
            assert!(actix(&file("crates/service/src/health.rs", text)).is_empty());
        }
    }

    #[test]
    fn a_look_into_the_environment_is_found_outside_of_the_settings() {
        for text in [
            "use std::env;",
            "let a = env::var(b);",
            "std :: env :: args()",
            "use std::{env, fs};",
            "envy::from_env()",
        ] {
            assert_eq!(environment(&file("crates/api/src/main.rs", text)).len(), 1, "{text}");
            assert!(environment(&file("crates/service/src/settings/section.rs", text)).is_empty());
        }
        for text in [
            "use std::process::ExitCode;",
            "env!(\"CARGO_PKG_VERSION\")",
            "let env = 1; // std::env",
            "my_env::x()",
        ] {
            assert!(environment(&file("crates/api/src/main.rs", text)).is_empty(), "{text}");
        }
    }
}
