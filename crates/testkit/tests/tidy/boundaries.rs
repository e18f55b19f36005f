//! What only one folder of a crate may name.

use super::tree::{Text, words};

/// Statements, as far as they cannot be taken for prose: they are written in capitals.
const STATEMENTS: &str = "SELECT |INSERT INTO |REPLACE INTO |DELETE FROM |CREATE TABLE|CREATE DATABASE|ALTER TABLE|\
    RENAME TABLE|DROP TABLE|TRUNCATE |LOAD DATA|SHOW TABLES|SHOW CREATE|SHOW WARNINGS|LOCK TABLE|GET_LOCK(|\
    RELEASE_LOCK(|START TRANSACTION|SET SESSION|SET GLOBAL|information_schema.";

/// SQL outside of `store/src/mariadb*`.
pub(crate) fn sql(file: &Text) -> Vec<String> {
    let is_sql = |line: &str| {
        STATEMENTS.split('|').any(|statement| line.contains(statement))
            || (line.contains("UPDATE ") && line.contains(" SET "))
    };
    outside(file, "crates/store/src/mariadb", is_sql)
}

/// The client library for MariaDB outside of `store/src/mariadb*`.
pub(crate) fn mysql_client(file: &Text) -> Vec<String> {
    outside(file, "crates/store/src/mariadb", |line| words(line).any(|word| word.starts_with("mysql_")))
}

/// LMDB outside of `store/src/embedded*`.
pub(crate) fn lmdb(file: &Text) -> Vec<String> {
    outside(file, "crates/store/src/embedded", |line| words(line).any(|word| word == "heed"))
}

fn outside(file: &Text, allowed: &str, is_found: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = file.code().filter(|(_, line)| !file.path.starts_with(allowed) && is_found(line));
    lines.map(|(at, line)| file.finding(at, &format!("`{}` outside of {allowed}", line.trim()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rule: fn(&Text) -> Vec<String>, text: &str, paths: [&str; 3]) -> [usize; 3] {
        paths.map(|path| rule(&Text::new(path, text)).len())
    }

    #[test]
    fn what_stands_in_the_wrong_folder_is_found() {
        let paths =
            ["crates/api/src/read.rs", "crates/store/src/embedded/read.rs", "crates/store/src/mariadb.rs"];
        let text = "//! SELECT in prose.\nlet a = \"SELECT id FROM t\";\nlet b = r\"\n UPDATE t SET a = 1\";";
        assert_eq!(counts(sql, text, paths), [2, 2, 0]);
        let text = "// mysql_async in prose\nuse mysql_async::Pool;\n";
        assert_eq!(counts(mysql_client, text, paths), [1, 1, 0]);
        assert_eq!(counts(lmdb, "fn a() -> heed::Result<()> {}\nlet heeded = 1;", paths), [1, 0, 1]);
        let found = mysql_client(&Text::new(paths[0], text));
        assert_eq!(
            found,
            ["crates/api/src/read.rs:2: `use mysql_async::Pool;` outside of crates/store/src/mariadb"]
        );
    }
}
