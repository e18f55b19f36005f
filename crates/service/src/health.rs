//! Health routes that tell the truth: `/healthz` says that the process answers, `/readyz` that it can do its work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::{HttpResponse, web};
use futures_util::future::BoxFuture;
use serde_json::json;
use tracing::{info, warn};

use crate::Problem;

/// Asks a server whether it can do its work, or why not. What it cannot do beside that is a list of reasons.
pub type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<Vec<String>, String>> + Send + Sync>;

/// How long readiness waits for its answer: less than those who ask do.
const CHECK_WAIT: Duration = Duration::from_secs(2);

/// The health of a server.
#[derive(Clone)]
pub struct Health {
    stopping: Arc<AtomicBool>,
    /// What the last answer was, so that the log has the change and not every answer.
    was_ready: Arc<AtomicBool>,
    check: Check,
}

impl Health {
    /// Takes the question that readiness asks.
    pub fn new(check: Check) -> Self {
        Self { stopping: Arc::default(), was_ready: Arc::new(AtomicBool::new(true)), check }
    }

    /// From now on the server is not ready: it is being stopped.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    async fn ready(&self) -> Result<Vec<String>, String> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err("the server is being stopped".into());
        }
        let answer = tokio::time::timeout(CHECK_WAIT, (self.check)()).await;
        let answer = answer.unwrap_or_else(|_| Err("no answer in time".into()));
        let was_ready = self.was_ready.swap(answer.is_ok(), Ordering::Relaxed);
        match &answer {
            Err(reason) if was_ready => warn!(reason, "not ready"),
            Ok(_) if !was_ready => info!("ready again"),
            _ => {}
        }
        answer
    }
}

/// Answers `/healthz`.
pub(crate) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// Answers `/readyz`.
pub(crate) async fn readyz(health: web::Data<Health>) -> Result<HttpResponse, Problem> {
    let unwell = health.ready().await.map_err(|reason| Problem::unavailable(reason).logged())?;
    let mut body = json!({ "status": "ready" });
    if !unwell.is_empty() {
        body["unwell"] = json!(unwell);
    }
    Ok(HttpResponse::Ok().json(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(answer: Result<(), &'static str>) -> Health {
        let answer = move || answer.map(|()| Vec::new()).map_err(str::to_owned);
        Health::new(Arc::new(move || Box::pin(std::future::ready(answer()))))
    }

    #[tokio::test]
    async fn readiness_is_what_the_check_says_until_the_server_stops() {
        assert_eq!(health(Err("no version yet")).ready().await.unwrap_err(), "no version yet");
        let health = health(Ok(()));
        assert_eq!(health.clone().ready().await, Ok(Vec::new()));
        health.clone().stop();
        assert_eq!(health.ready().await.unwrap_err(), "the server is being stopped");
    }

    #[tokio::test]
    async fn a_check_that_hangs_is_not_waited_for() {
        let health = Health::new(Arc::new(|| Box::pin(std::future::pending())));
        assert_eq!(health.ready().await.unwrap_err(), "no answer in time");
    }
}
