//! How a server starts and stops: it binds before it is run, and on a signal readiness goes first, then the work that
//! runs, then the open requests end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::error::JsonPayloadError;
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder, guard};
use prometheus::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{Health, HttpMetrics, Problem, health, metrics};

/// Binds the address on which a server will listen.
pub fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(listen)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {listen}: {error}")))
}

/// How long a stop takes. How long open requests have to end is said to the server itself.
#[derive(Debug, Clone, Copy)]
pub struct StopTimes {
    /// From readiness going until connections are closed: as long as load balancers need to notice.
    pub notice: Duration,
}

/// Runs a server until `shutdown`, and stops it in order; `drain` ends the work that outlives requests.
pub async fn run(
    server: Server,
    health: Health,
    times: StopTimes,
    shutdown: CancellationToken,
    drain: impl Future<Output = ()>,
) -> io::Result<()> {
    let handle = server.handle();
    let stop = async {
        shutdown.cancelled().await;
        health.stop();
        info!("stopping");
        tokio::time::sleep(times.notice).await;
        drain.await;
        handle.stop(true).await;
    };
    // A server that ends by itself, which is a defect, must not be waited for.
    let serve = async {
        let ended = server.await;
        shutdown.cancel();
        ended
    };
    tokio::join!(serve, stop).0
}

/// A token that is cancelled by a signal to stop this process.
pub fn stop_on_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        if let Err(error) = signalled().await {
            error!(%error, "cannot wait for signals");
        }
        stop.cancel();
    });
    token
}

async fn signalled() -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// What every server has: health, metrics, and problem answers where actix would have others.
pub fn configure(config: &mut ServiceConfig, registry: &Registry, metrics: &HttpMetrics, health: &Health) {
    config
        .app_data(web::Data::new(registry.clone()))
        .app_data(web::Data::new(metrics.clone()))
        .app_data(web::Data::new(health.clone()))
        .app_data(
            web::QueryConfig::default()
                .error_handler(|error, _| Problem::bad_request(error.to_string()).into()),
        )
        .app_data(
            web::PathConfig::default().error_handler(|error, request| not_there(request, &error.to_string())),
        )
        .app_data(json_config())
        .service(route("/prometheus", Takes::Reads, metrics::exposition))
        .service(route("/healthz", Takes::Reads, health::healthz))
        .service(route("/readyz", Takes::Reads, health::readyz));
}

/// A body is JSON whether or not its sender says so.
fn json_config() -> web::JsonConfig {
    let config = web::JsonConfig::default().content_type_required(false).content_type(|_| true);
    config.error_handler(|error, _| {
        let text = error.to_string();
        match error {
            JsonPayloadError::Overflow { .. } | JsonPayloadError::OverflowKnownLength { .. } => {
                Problem::too_large(text).into()
            }
            _ => Problem::bad_request(text).into(),
        }
    })
}

/// The methods that a resource takes.
#[derive(Debug, Clone, Copy)]
pub enum Takes {
    /// GET and HEAD.
    Reads,
    /// POST.
    Post,
    /// PUT.
    Put,
}

/// A resource, whose other methods are answered as a problem.
pub fn route<F, Args>(path: &str, takes: Takes, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let (route, allow) = match takes {
        Takes::Reads => (web::route().guard(guard::Any(guard::Get()).or(guard::Head())), "GET, HEAD"),
        Takes::Post => (web::post(), "POST"),
        Takes::Put => (web::put(), "PUT"),
    };
    let wrong_method = move |request: HttpRequest| {
        let text = format!("{} does not take {}", request.path(), request.method());
        std::future::ready(Err::<HttpResponse, _>(Problem::method_not_allowed(text, allow)))
    };
    web::resource(path).route(route.to(handler)).default_service(web::route().to(wrong_method))
}

/// Answers a path that no resource has.
pub async fn nothing_there(request: HttpRequest) -> Result<HttpResponse, Problem> {
    Err(Problem::not_found(format!("nothing is at {}", request.path())))
}

fn not_there(request: &HttpRequest, why: &str) -> actix_web::Error {
    Problem::not_found(format!("nothing is at {}: {why}", request.path())).into()
}
