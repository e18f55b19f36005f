//! What a client is told of a failure: what it can act on. The cause is for the log.

use ingest::{Error as Ingest, Refusal};
use serde_json::json;
use service::Problem;
use store::Error as Store;

use crate::expected::live_changed;
use crate::load::failure::Failure;
use crate::load::status::LoadStatus;

impl Failure {
    /// The answer to the upload whose load failed.
    pub(crate) fn problem(&self, load: &LoadStatus) -> Problem {
        let problem = match self {
            Self::Refused { refusal, counts, shown, has_report, warnings } => {
                let hint = match refusal {
                    Refusal::Shrunk { .. } => "; if that is right, send it with `?force=true`",
                    _ => "",
                };
                let problem = Problem::refused(refusal.code(), format!("{self}{hint}"))
                    .with("rows", counts.rows)
                    .with("rejected", counts.rejected)
                    .with("duplicates", counts.duplicates)
                    .with("rejects", json!(shown));
                let report = has_report.then(|| format!("/loads/{}/rejects.csv", load.id));
                let problem =
                    report.into_iter().fold(problem, |problem, report| problem.with("report", report));
                if warnings.is_empty() { problem } else { problem.with("warnings", json!(warnings)) }
            }
            Self::Ingest(error) => ingest_problem(error, load),
            Self::Store(error) => store_problem(error),
            Self::DigestMismatch { stated, found } => Problem::refused("digest-mismatch", self.to_string())
                .with("stated", stated.as_str())
                .with("sha256", found.as_str()),
            Self::LiveChanged { live } => live_changed(&load.dataset, *live),
            Self::Superseded { .. } => {
                Problem::conflict_of("superseded", format!("{self}: nothing was published"))
            }
            Self::Withdrawn { version, .. } => {
                let text = format!("{self}: nothing was published; `?force=true` publishes it again");
                Problem::conflict_of("withdrawn-content", text).with("withdrawn", *version)
            }
            Self::Cancelled if load.is_stopped() => {
                Problem::unavailable("the updater is being stopped, nothing was published")
            }
            Self::Cancelled => Problem::conflict("the load was cancelled, nothing was published"),
            Self::Panicked => Problem::internal("the load stopped unexpectedly, nothing was published"),
        };
        problem.with("dataset", load.dataset.as_str()).with("load", load.id.to_string())
    }
}

fn ingest_problem(error: &Ingest, load: &LoadStatus) -> Problem {
    let text = error.to_string();
    match error {
        // Its cause is what this updater found wrong with the request, in its own words.
        Ingest::BrokenOff(cause) => Problem::bad_request(format!("{text}: {cause}")),
        Ingest::Unsupported(_) => Problem::unsupported(text),
        Ingest::TooManyRejects { rejects, .. } => Problem::refused(error.code(), text)
            .with("rejected", rejects.count())
            .with("rejects", json!(rejects.shown()))
            .with("report", format!("/loads/{}/rejects.csv", load.id)),
        Ingest::TooLarge { .. }
        | Ingest::RatioTooHigh { .. }
        | Ingest::RecordTooLong { .. }
        | Ingest::TooManyRows { .. } => Problem::too_large(text),
        Ingest::Unpack { .. }
        | Ingest::TrailingData { .. }
        | Ingest::OpenQuote { .. }
        | Ingest::HeaderMismatch { .. }
        | Ingest::HeaderMissing { .. }
        | Ingest::WrongSeparator { .. }
        | Ingest::WrongEncoding { .. }
        | Ingest::MixedEncodings { .. }
        | Ingest::CarriageReturns
        | Ingest::UnreadableRecord { .. } => Problem::refused(error.code(), text),
        Ingest::NoRoom { .. } => Problem::no_space(text),
        Ingest::Work(_) if error.is_no_space() => Problem::no_space("the work directory has no space left"),
        Ingest::Work(_) | Ingest::Unwanted | Ingest::Panicked | Ingest::Internal(_) => {
            Problem::internal(text)
        }
    }
}

/// The answer where the store could not do what was asked.
pub(crate) fn store_problem(error: &Store) -> Problem {
    let text = error.to_string();
    match error {
        Store::Busy { holder: None, .. } => Problem::conflict(text),
        Store::Busy { holder: Some(holder), .. } => {
            let (host, load) = (&holder.host, &holder.load);
            let text =
                format!("{text}; to cancel that load: curl --request DELETE http://{host}:1322/loads/{load}");
            Problem::conflict(text).with("host", host.as_str()).with("holder", load.as_str())
        }
        Store::OutcomeUnknown { version, .. } => {
            Problem::outcome_unknown(format!("{text}; ask /datasets/{{dataset}}/versions"))
                .with("version", *version)
        }
        Store::LockLost { .. } => Problem::unavailable(format!("{text}; nothing was published")),
        Store::NoSuchVersion { .. } => Problem::not_found(text),
        Store::NoSpace(_) => Problem::no_space(text),
        // Paths and versions of programs are for the log.
        Store::Setup(_) => Problem::unavailable("the store is not set up as it must be; the log says why"),
        Store::Unavailable(_) | Store::SwapTimeout(_) | Store::Refused { .. } | Store::InTheWay(_) => {
            Problem::unavailable(text)
        }
        Store::Damaged { version, .. } => Problem::conflict_of("damaged", text).with("version", *version),
        // Where and what is for the log.
        Store::Corrupt(_) => Problem::internal("the stored data is damaged"),
        Store::Internal(_) => Problem::internal("a defect of this program stopped it; the log says where"),
        Store::NoVersionNumber { .. }
        | Store::OverBudget(_)
        | Store::Miscounted { .. }
        | Store::Warnings(_)
        | Store::Unwanted
        | Store::Other(_) => Problem::internal(text),
    }
}
