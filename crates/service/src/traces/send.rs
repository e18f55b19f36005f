//! The HTTP client that carries traces to the collector, on the thread that does nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tracing::{info, warn};
use ureq::Agent;

/// What a collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    /// What was sent last did not arrive, which is said once.
    is_failing: AtomicBool,
}

impl Client {
    pub(super) fn new() -> Self {
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
        Self { agent: config.build().into(), is_failing: AtomicBool::new(false) }
    }

    fn tell(&self, failure: Option<String>) {
        let was_failing = self.is_failing.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(error) if !was_failing => warn!(error, "traces are not taken, they are lost"),
            None if was_failing => info!("traces are taken again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.agent.run(request.map(|body| body.to_vec()));
        self.tell(match &sent {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("the collector answers {}", answer.status())),
            Err(error) => Some(error.to_string()),
        });
        let (head, mut body) = sent?.into_parts();
        Ok(Response::from_parts(head, body.read_to_vec()?.into()))
    }
}
