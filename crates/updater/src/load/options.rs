//! What a sender asks for.

use service::Trace;
use store::Actor;

use crate::expected::{IfMatch, Sha256};

/// What a sender can ask for beside the load itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct LoadOptions {
    /// Everything but the publication.
    pub(crate) dry_run: bool,
    /// Pass the shrink guard.
    pub(crate) force: bool,
    /// The digests that the file must have.
    pub(crate) sha256: Vec<Sha256>,
    /// The versions of which one must be live.
    pub(crate) if_match: Option<IfMatch>,
}

/// The request for a load.
#[derive(Debug, Clone)]
pub(crate) struct LoadRequest<'a> {
    /// The dataset that it loads.
    pub(crate) dataset: &'a str,
    /// Where the file comes from, as its sender names it.
    pub(crate) source: &'a str,
    pub(crate) options: LoadOptions,
    /// Where it stands in a trace.
    pub(crate) trace: Trace,
    /// Who sends it.
    pub(crate) actor: Actor,
}
