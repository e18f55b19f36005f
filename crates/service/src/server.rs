//! How a server starts and stops: it binds before it is run, and on a signal readiness goes first, then the work that
//! runs, then the open requests end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, error};
use prometheus::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

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
    tokio::join!(server, stop).0
}

/// Waits for a signal to stop.
pub async fn stop_signal() -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// What every server has: health, metrics, and problem answers where actix would have others.
pub fn configure(config: &mut ServiceConfig, registry: &Registry, metrics: &HttpMetrics, health: &Health) {
    let refuse = |error: String| error::Error::from(Problem::bad_request(error));
    config
        .app_data(web::Data::new(registry.clone()))
        .app_data(web::Data::new(metrics.clone()))
        .app_data(web::Data::new(health.clone()))
        .app_data(web::QueryConfig::default().error_handler(move |error, _| refuse(error.to_string())))
        .app_data(
            web::PathConfig::default().error_handler(|error, request| not_there(request, &error.to_string())),
        )
        .app_data(web::JsonConfig::default().error_handler(move |error, _| refuse(error.to_string())))
        .service(route("/prometheus", web::get().to(metrics::exposition)))
        .service(route("/healthz", web::get().to(health::healthz)))
        .service(route("/readyz", web::get().to(health::readyz)));
}

/// A resource with one route, whose other methods are answered as a problem.
pub fn route(path: &str, route: actix_web::Route) -> actix_web::Resource {
    web::resource(path).route(route).default_service(web::route().to(wrong_method))
}

/// Answers a method that a resource does not have.
pub async fn wrong_method(request: HttpRequest) -> Result<HttpResponse, Problem> {
    Err(Problem::method_not_allowed(format!("{} does not take {}", request.path(), request.method())))
}

/// Answers a path that no resource has.
pub async fn nothing_there(request: HttpRequest) -> Result<HttpResponse, Problem> {
    Err(Problem::not_found(format!("nothing is at {}", request.path())))
}

fn not_there(request: &HttpRequest, why: &str) -> error::Error {
    Problem::not_found(format!("nothing is at {}: {why}", request.path())).into()
}
