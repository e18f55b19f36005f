//! The HTTP client that carries traces to the collector, on the thread that does nothing else.

use std::time::Duration;

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use ureq::Agent;

/// What a collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub(super) struct Client(Agent);

impl Client {
    pub(super) fn new() -> Self {
        Self(
            Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into(),
        )
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, mut body) = self.0.run(request.map(|body| body.to_vec()))?.into_parts();
        Ok(Response::from_parts(head, body.read_to_vec()?.into()))
    }
}
