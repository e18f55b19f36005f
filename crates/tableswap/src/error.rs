//! Why a command could not be carried out. A file that is refused is no error: that is an answer.

use std::io;
use std::path::PathBuf;

/// What stopped a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The output cannot be written.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
    /// The machine does not give what the work needs.
    #[error("cannot start to work")]
    Start(#[source] io::Error),
    /// A server stopped by itself.
    #[error("a server stopped")]
    Server(#[source] io::Error),
    /// A server does not answer.
    #[error("no answer from {url} (`tableswap serve` starts both servers here)")]
    Unreachable {
        /// Where it was asked.
        url: String,
        /// Why not.
        #[source]
        source: Box<ureq::Error>,
    },
    /// A server closes the connection while it is being sent to.
    #[error(
        "{url} took no more of the file and its answer was lost: it may want a token (--token-file), or its log says why"
    )]
    CutOff {
        /// Where it was sent.
        url: String,
    },
    /// A server answers with something that is not ours.
    #[error("{url} does not answer as a server of this project does: {why}")]
    Foreign {
        /// Where it was asked.
        url: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// The updater is gone before it said what became of a load.
    #[error(
        "the updater does not say any more what became of load {load}: `tableswap versions` shows what is live"
    )]
    Lost {
        /// The load.
        load: String,
    },
    /// A server says no.
    #[error("{0}")]
    Refused(String),
    /// The datasets cannot be used.
    #[error(transparent)]
    Definition(#[from] dataset::DefinitionError),
    /// There is no such dataset.
    #[error("there is no dataset `{0}`: name one with --dataset, define it with --datasets")]
    NoDataset(String),
    /// The file could not be read as a dataset.
    #[error(transparent)]
    Ingest(#[from] ingest::Error),
    /// The report would replace the file that is checked.
    #[error("--report {0} is the file that is checked: name another one")]
    ReportIsInput(PathBuf),
    /// The report would replace a file that is none.
    #[error(
        "--report {0} is there already and is not a report of rejects: name another file, or remove that one"
    )]
    NotAReport(PathBuf),
    /// The certificates to trust cannot be used.
    #[error("{0} has no certificate in PEM")]
    NoCertificate(PathBuf),
    /// A server of the other kind answers.
    #[error("{url} is the {is}, not the {expected}: name the {expected} with --{expected}")]
    OtherServer {
        /// Where it was asked.
        url: String,
        /// What answers there.
        is: &'static str,
        /// What was expected there.
        expected: &'static str,
    },
    /// The server expects TLS.
    #[error("{url}: the server speaks TLS: use https")]
    SpeaksTls {
        /// Where it was asked.
        url: String,
    },
    /// There is nothing to go back to.
    #[error("`{0}` has no previous version to go back to")]
    NothingBefore(String),
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] service::SettingsError),
    /// It cannot be logged or traced as the settings say.
    #[error(transparent)]
    Telemetry(#[from] service::telemetry::TelemetryError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The updater cannot start.
    #[error(transparent)]
    Updater(#[from] updater::BuildError),
    /// The api cannot start.
    #[error(transparent)]
    Api(#[from] api::BuildError),
    /// A metric is registered twice, which is a defect.
    #[error("cannot register the metrics")]
    Metrics(#[from] store::MetricsError),
}

impl Error {
    /// Whether nobody reads our output any more.
    pub fn is_closed_output(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn file(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File { path: path.into(), source }
    }
}
