//! What is checked of every request before it is answered: the host that it names, and its token.

use std::sync::Arc;

use actix_http::Request;
use percent_encoding::percent_decode_str;
use service::{Access, HostCheck, Problem};

/// The checks of one api.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    pub(crate) hosts: HostCheck,
    pub(crate) access: Arc<Access>,
}

impl Gate {
    /// Refuses a request that may not be answered.
    pub(crate) fn check(&self, request: &Request) -> Result<(), Problem> {
        self.hosts.check(request.head())?;
        if self.access.is_open() || service::is_open_path(request.path()) {
            return Ok(());
        }
        let dataset = request.path().trim_start_matches('/').split('/').next().unwrap_or_default();
        let dataset = percent_decode_str(dataset).decode_utf8_lossy();
        self.access.authorize_read(request.head(), &dataset)
    }
}
