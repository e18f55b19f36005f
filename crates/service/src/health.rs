//! Health routes that tell the truth: `/healthz` says that the process answers, `/readyz` that it can do its work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::{HttpResponse, web};
use futures_util::future::BoxFuture;
use serde_json::json;

use crate::Problem;

/// Asks a server whether it can do its work, or why not.
pub type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// How long readiness waits for its answer: less than those who ask do.
const CHECK_WAIT: Duration = Duration::from_secs(2);

/// The health of a server.
#[derive(Clone)]
pub struct Health {
    stopping: Arc<AtomicBool>,
    check: Check,
}

impl Health {
    /// Takes the question that readiness asks.
    pub fn new(check: Check) -> Self {
        Self { stopping: Arc::default(), check }
    }

    /// From now on the server is not ready: it is being stopped.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    async fn ready(&self) -> Result<(), String> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err("the server is being stopped".into());
        }
        let answer = tokio::time::timeout(CHECK_WAIT, (self.check)()).await;
        answer.unwrap_or_else(|_| Err("no answer in time".into()))
    }
}

/// Answers `/healthz`.
pub(crate) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// Answers `/readyz`.
pub(crate) async fn readyz(health: web::Data<Health>) -> Result<HttpResponse, Problem> {
    health.ready().await.map_err(Problem::unavailable)?;
    Ok(HttpResponse::Ok().json(json!({"status": "ready"})))
}
