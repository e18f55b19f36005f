//! Why a file could not be read to its end. A file that was read and then refused is a [`Refusal`](crate::Refusal).

use std::io;

use dataset::{format_count, plural};

use crate::Rejects;

/// What stopped an ingest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source of the bytes failed before it came to its end.
    #[error("the file did not arrive whole")]
    BrokenOff(#[source] io::Error),
    /// A format that is recognised and not read.
    #[error("unsupported format: {0}; send CSV, plain or packed with gzip or zstd")]
    Unsupported(&'static str),
    /// The packed bytes are damaged or end too early.
    #[error("the {format} data is damaged or cut off")]
    Unpack {
        /// The packing.
        format: &'static str,
        /// What the decoder says.
        #[source]
        source: io::Error,
    },
    /// Something else follows the packed data.
    #[error("{} after the end of the {format} data", if *.is_zeros { "zero bytes" } else { "other data" })]
    TrailingData {
        /// The packing.
        format: &'static str,
        /// Whether it is zero bytes, as padding is.
        is_zeros: bool,
    },
    /// More bytes come out of a packed file than its size makes believable.
    #[error("the file unpacks to more than {max} times its size")]
    RatioTooHigh {
        /// How many times the packed size is allowed.
        max: u64,
    },
    /// More bytes than are allowed.
    #[error("the file is larger than {max} bytes{}", if *.unpacked { " when unpacked" } else { "" })]
    TooLarge {
        /// How many are allowed.
        max: u64,
        /// Whether they were counted after unpacking.
        unpacked: bool,
    },
    /// A record that does not end.
    #[error("line {line}: a record is longer than {max} bytes")]
    RecordTooLong {
        /// The line on which it starts.
        line: u64,
        /// How long it may be.
        max: usize,
    },
    /// More rows than are allowed.
    #[error("the file has more than {}", format_count(*.max, "row"))]
    TooManyRows {
        /// How many are allowed.
        max: u64,
    },
    /// Reading stopped because too many rows were refused.
    #[error("stopped after {max} refused {}", plural(*.max, "row"))]
    TooManyRejects {
        /// How many were refused.
        max: u64,
        /// Those that were refused so far.
        rejects: Box<Rejects>,
    },
    /// The first record names some columns of the dataset, but not exactly all.
    #[error("the header does not fit the dataset: expected {expected}; found {found}")]
    HeaderMismatch {
        /// The names of the columns.
        expected: String,
        /// What the first record holds.
        found: String,
    },
    /// The first record names no columns, and the dataset requires that it does.
    #[error("the header is missing: expected {expected}; found {found}")]
    HeaderMissing {
        /// The names of the columns.
        expected: String,
        /// What the first record holds.
        found: String,
    },
    /// Another separator than the one that the dataset sets gives the records the right number of fields.
    #[error("the fields seem to be separated by {found}")]
    WrongSeparator {
        /// What seems to separate them.
        found: &'static str,
    },
    /// The text is in another encoding than the dataset expects.
    #[error("the text seems to be {found}, but the dataset expects {expected}")]
    WrongEncoding {
        /// The encoding that the dataset sets.
        expected: &'static str,
        /// The encoding that the file seems to have.
        found: &'static str,
    },
    /// The text was taken to be in one encoding, and a later part of it is UTF-8.
    #[error("the text is partly {guessed} and partly UTF-8; the setting `encoding` decides for one")]
    MixedEncodings {
        /// The encoding in which it was read.
        guessed: &'static str,
    },
    /// No line ends with LF, and CR stands where lines end.
    #[error("lines end with CR: send the file with LF or CRLF")]
    CarriageReturns,
    /// The file ends inside a quoted field.
    #[error("line {line}: a quoted field is never closed")]
    OpenQuote {
        /// The line on which its record starts.
        line: u64,
    },
    /// The CSV reader refused a record, and not because its source failed.
    #[error("line {line}: the record cannot be read: {why}")]
    UnreadableRecord {
        /// The line on which the record starts.
        line: u64,
        /// What the CSV reader says.
        why: String,
    },
    /// The disk on which rows are sorted and rejects are kept failed.
    #[error("the work directory failed")]
    Work(#[source] io::Error),
    /// The disk on which rows are sorted has no room for the whole file.
    #[error("sorting takes about {needed} bytes more of the work directory, which has room for {room}")]
    NoRoom {
        /// How many bytes are needed, about.
        needed: u128,
        /// How many there are.
        room: u128,
    },
    /// Whoever wanted the rows stopped reading them.
    #[error("the rows are not wanted any more")]
    Unwanted,
    /// A part of the ingest ended without a result, which is a defect.
    #[error("the ingest stopped unexpectedly")]
    Panicked,
    /// The ingest found its own work wrong, which is a defect of this program and no damage.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl Error {
    /// The error as one word, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BrokenOff(_) => "broken-off",
            Self::Unsupported(_) => "unsupported-format",
            Self::Unpack { .. } | Self::TrailingData { .. } | Self::OpenQuote { .. } => "damaged-file",
            Self::TooLarge { .. } | Self::RatioTooHigh { .. } => "too-large",
            Self::RecordTooLong { .. } => "record-too-long",
            Self::TooManyRows { .. } => "too-many-rows",
            Self::TooManyRejects { .. } => "too-many-rejects",
            Self::HeaderMismatch { .. } => "header-mismatch",
            Self::HeaderMissing { .. } => "header-missing",
            Self::WrongSeparator { .. } => "wrong-separator",
            Self::WrongEncoding { .. } => "wrong-encoding",
            Self::MixedEncodings { .. } => "mixed-encodings",
            Self::CarriageReturns => "carriage-returns",
            Self::UnreadableRecord { .. } => "unreadable-record",
            Self::Work(_) => "work-directory",
            Self::NoRoom { .. } => "no-space",
            Self::Unwanted => "unwanted",
            Self::Panicked | Self::Internal(_) => "internal",
        }
    }

    /// What an error of a reader says to the outside, where the record being read starts on `line`.
    pub(crate) fn of_reader(error: io::Error, line: u64) -> Self {
        Fault::take(error).map_or_else(Self::BrokenOff, |fault| fault.into_error(line))
    }

    /// What an error of the sorting on disk says to the outside.
    pub(crate) fn of_work(error: io::Error) -> Self {
        Fault::take(error).map_or_else(Self::Work, |fault| fault.into_error(0))
    }

    /// Whether the file itself is at fault, and not its way here or this machine.
    pub fn is_of_the_file(&self) -> bool {
        !matches!(
            self,
            Self::BrokenOff(_)
                | Self::Work(_)
                | Self::NoRoom { .. }
                | Self::Unwanted
                | Self::Panicked
                | Self::Internal(_)
        )
    }

    /// Whether the cause is a disk without room.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::NoRoom { .. }) || matches!(self, Self::Work(error) if is_no_space(error))
    }
}

/// Whether an error of the operating system says that there is no room: on the disk, in a quota or for the process.
pub fn is_no_space(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// What the readers inside the chain say through `io::Error`, and [`Error`] says to the outside.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("broken off")]
    BrokenOff(#[source] io::Error),
    #[error("too large")]
    TooLarge { max: u64, unpacked: bool },
    #[error("ratio too high")]
    RatioTooHigh { max: u64 },
    #[error("unsupported")]
    Unsupported(&'static str),
    #[error("damaged")]
    Unpack { format: &'static str, source: io::Error },
    #[error("trailing data")]
    TrailingData { format: &'static str, is_zeros: bool },
    #[error("mixed encodings")]
    MixedEncodings { guessed: &'static str },
    #[error("wrong encoding")]
    WrongEncoding { expected: &'static str, found: &'static str },
    #[error("record too long")]
    RecordTooLong { max: usize },
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl Fault {
    /// Gets the fault out of the error that carried it, or the error back.
    pub(crate) fn take(error: io::Error) -> Result<Self, io::Error> {
        if error.get_ref().is_none_or(|inner| !inner.is::<Self>()) {
            return Err(error);
        }
        let fault = error.into_inner().and_then(|inner| inner.downcast().ok());
        fault.map(|fault| *fault).ok_or_else(|| io::ErrorKind::Other.into())
    }

    /// The error for the outside, where the record being read starts on `line`.
    pub(crate) fn into_error(self, line: u64) -> Error {
        match self {
            Self::BrokenOff(source) => Error::BrokenOff(source),
            Self::TooLarge { max, unpacked } => Error::TooLarge { max, unpacked },
            Self::RatioTooHigh { max } => Error::RatioTooHigh { max },
            Self::Unsupported(name) => Error::Unsupported(name),
            Self::Unpack { format, source } => Error::Unpack { format, source },
            Self::TrailingData { format, is_zeros } => Error::TrailingData { format, is_zeros },
            Self::MixedEncodings { guessed } => Error::MixedEncodings { guessed },
            Self::WrongEncoding { expected, found } => Error::WrongEncoding { expected, found },
            Self::RecordTooLong { max } => Error::RecordTooLong { line, max },
            Self::Internal(what) => Error::Internal(what),
        }
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        Self::other(fault)
    }
}
