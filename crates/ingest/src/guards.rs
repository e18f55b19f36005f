//! Whether a file that was read whole may replace the dataset.

use dataset::{Guards, format_count};

/// Why a file may not replace the dataset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too many rows were refused.
    #[error("{} refused, {max} {} allowed", were(*.rejected), if *.max == 1 { "is" } else { "are" })]
    TooManyRejects {
        /// How many were.
        rejected: u64,
        /// How many may be.
        max: u64,
    },
    /// No row at all.
    #[error("the file has no rows{}", if *.header { ", only a header" } else { "" })]
    Empty {
        /// Whether there is at least a header.
        header: bool,
    },
    /// Fewer rows than the dataset must have.
    #[error("the file has {}, at least {min} are needed", format_count(*.rows, "row"))]
    TooFewRows {
        /// How many it has.
        rows: u64,
        /// How many it must have.
        min: u64,
    },
    /// Far fewer rows than the live version.
    #[error(
        "the file has {} where the live version has {live}: a loss of more than {percent} %", format_count(*.rows, "row")
    )]
    Shrunk {
        /// How many it has.
        rows: u64,
        /// How many the live version has.
        live: u64,
        /// How much fewer it may be.
        percent: u8,
    },
}

/// "1 row was", "2 rows were".
fn were(rows: u64) -> String {
    format!("{} {}", format_count(rows, "row"), if rows == 1 { "was" } else { "were" })
}

impl Refusal {
    /// All that [`Refusal::code`] can be.
    pub const CODES: [&str; 4] = ["too-many-rejects", "empty-file", "too-few-rows", "shrunk"];

    /// The refusal as one word, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooManyRejects { .. } => "too-many-rejects",
            Self::Empty { .. } => "empty-file",
            Self::TooFewRows { .. } => "too-few-rows",
            Self::Shrunk { .. } => "shrunk",
        }
    }

    /// Refuses a file for its rejects.
    pub fn of_rejects(guards: &Guards, rejected: u64) -> Result<(), Self> {
        let max = guards.max_rejects;
        if rejected > max { Err(Self::TooManyRejects { rejected, max }) } else { Ok(()) }
    }

    /// Refuses a file for its number of rows, where `live` is that of the version it would replace; `None` where there
    /// is none, or where the file was sent with force.
    pub fn of_rows(guards: &Guards, rows: u64, header: bool, live: Option<u64>) -> Result<(), Self> {
        if rows == 0 {
            return Err(Self::Empty { header });
        }
        if rows < guards.min_rows {
            return Err(Self::TooFewRows { rows, min: guards.min_rows });
        }
        let percent = guards.max_shrink_percent;
        let kept_percent = u128::from(100 - percent.min(100));
        match live {
            Some(live) if u128::from(rows) * 100 < u128::from(live) * kept_percent => {
                Err(Self::Shrunk { rows, live, percent })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUARDS: Guards = Guards { max_rejects: 1, min_rows: 3, max_shrink_percent: 50 };

    #[test]
    fn a_file_may_shrink_to_the_limit_and_no_further() {
        assert_eq!(Refusal::of_rows(&GUARDS, 50, false, Some(100)), Ok(()));
        assert_eq!(
            Refusal::of_rows(&GUARDS, 49, false, Some(100)),
            Err(Refusal::Shrunk { rows: 49, live: 100, percent: 50 })
        );
        assert_eq!(Refusal::of_rows(&GUARDS, 49, false, None), Ok(()));
    }

    #[test]
    fn few_rows_and_no_rows_are_told_apart() {
        assert_eq!(Refusal::of_rows(&GUARDS, 2, false, None), Err(Refusal::TooFewRows { rows: 2, min: 3 }));
        assert_eq!(Refusal::of_rows(&GUARDS, 0, true, None), Err(Refusal::Empty { header: true }));
    }

    #[test]
    fn rejects_are_allowed_up_to_their_number() {
        assert_eq!(Refusal::of_rejects(&GUARDS, 1), Ok(()));
        assert_eq!(Refusal::of_rejects(&GUARDS, 2), Err(Refusal::TooManyRejects { rejected: 2, max: 1 }));
    }
}
