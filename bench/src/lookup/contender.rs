//! Who is measured, and with which requests.

use anyhow::bail;

use crate::draws::Draw;

/// One line of the tables.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) backend: Backend,
    /// What is set for the api, besides its address and its store.
    pub(crate) settings: &'static [(&'static str, &'static str)],
    pub(crate) draw: Draw,
    pub(crate) answer: Answer,
}

/// What answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// [`bare`](crate::bare).
    Bare,
    /// An api on files.
    Embedded,
    /// An api on MariaDB.
    Mariadb,
    /// [`plain`](crate::plain).
    MariadbPlain,
    /// An api on MariaDB with a millisecond of network each way between them.
    MariadbFar,
}

/// What every answer has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 200 with the row.
    Found,
    /// 404.
    Missing,
    /// 304, because the client names the version that it has.
    NotModified,
}

/// The one to which all others are compared.
pub(crate) const BARE: &str = "bare";

const UNCACHED: &[(&str, &str)] = &[("TABLESWAP_STORE_CACHE_BYTES", "0")];
const ONE_BY_ONE: &[(&str, &str)] =
    &[("TABLESWAP_STORE_CACHE_BYTES", "0"), ("TABLESWAP_STORE_BATCH_KEYS_MAX", "1")];

/// In the order of their turns, and of the tables.
const ALL: &[Contender] = &[
    contender(BARE, Backend::Bare, &[], Draw::Uniform),
    contender("embedded", Backend::Embedded, &[], Draw::Uniform),
    contender("mariadb", Backend::Mariadb, UNCACHED, Draw::Uniform),
    contender("mariadb-one-by-one", Backend::Mariadb, ONE_BY_ONE, Draw::Uniform),
    contender("mariadb-plain", Backend::MariadbPlain, &[], Draw::Uniform),
    contender("mariadb-far", Backend::MariadbFar, UNCACHED, Draw::Uniform),
    contender("mariadb-cached", Backend::Mariadb, &[], Draw::Uniform),
    contender("hot", Backend::Mariadb, &[], Draw::Hot),
    contender("zipf", Backend::Mariadb, &[], Draw::Zipf),
    contender("zipf-embedded", Backend::Embedded, &[], Draw::Zipf),
    contender("misses-embedded", Backend::Embedded, &[], Draw::Absent).answered(Answer::Missing),
    contender("misses-mariadb", Backend::Mariadb, UNCACHED, Draw::Absent).answered(Answer::Missing),
    contender("304", Backend::Embedded, &[], Draw::Uniform).answered(Answer::NotModified),
];

/// At these numbers of connections some are measured, whatever was asked for.
pub(crate) const MORE_CONNECTIONS: [usize; 2] = [16, 2000];
const AT_MORE_CONNECTIONS: [&str; 3] = [BARE, "embedded", "mariadb"];

const fn contender(
    name: &'static str,
    backend: Backend,
    settings: &'static [(&'static str, &'static str)],
    draw: Draw,
) -> Contender {
    Contender { name, backend, settings, draw, answer: Answer::Found }
}

impl Contender {
    const fn answered(mut self, answer: Answer) -> Contender {
        self.answer = answer;
        self
    }

    /// Whether it has turns with so many connections, if these were asked for.
    pub(crate) fn has_turns_at(&self, connections: usize, asked_for: &[usize]) -> bool {
        asked_for.contains(&connections) || AT_MORE_CONNECTIONS.contains(&self.name)
    }

    /// Whether it needs the database.
    pub(crate) fn is_on_mariadb(&self) -> bool {
        !matches!(self.backend, Backend::Bare | Backend::Embedded)
    }
}

/// Those of these names and bare, or all where there are none.
pub(crate) fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Contender>> {
    if let Some(unknown) = names.iter().find(|name| ALL.iter().all(|contender| contender.name != **name)) {
        let known: Vec<&str> = ALL.iter().map(|contender| contender.name).collect();
        bail!("there is no contender `{unknown}`: there are {}", known.join(", "));
    }
    let is_chosen = |contender: &&Contender| {
        names.is_empty() || contender.name == BARE || names.iter().any(|name| name == contender.name)
    };
    Ok(ALL.iter().filter(is_chosen).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_is_always_measured_and_an_unknown_name_is_refused() {
        let names = |only: &[&str]| -> anyhow::Result<Vec<&str>> {
            let only: Vec<String> = only.iter().map(ToString::to_string).collect();
            Ok(chosen(&only)?.iter().map(|contender| contender.name).collect())
        };
        assert_eq!(names(&[]).unwrap().len(), 13);
        assert_eq!(names(&["hot", "embedded"]).unwrap(), ["bare", "embedded", "hot"]);
        assert!(names(&["embeded"]).unwrap_err().to_string().starts_with("there is no contender `embeded`"));
    }

    #[test]
    fn only_three_have_turns_at_numbers_that_were_not_asked_for() {
        let at = |connections| ALL.iter().filter(|one| one.has_turns_at(connections, &[64])).count();
        assert_eq!((at(64), at(16)), (13, 3));
    }
}
