//! How a server starts and stops: it binds before it is run, and on a signal readiness goes first, then the work that
//! runs, then the open requests end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::error::{JsonPayloadError, PathError, QueryPayloadError};
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder, Route, guard};
use prometheus::Registry;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::TcpSocket;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::metrics::Recorder;
use crate::{Health, Problem, health, metrics};

/// So many connections may wait to be accepted, if the kernel lets them. The 128 of the standard library are fewer
/// than one burst of clients, and a client that finds no room tries again only after a second.
const BACKLOG: u32 = 4096;

/// Binds the address on which a server will listen. Must be called within a tokio runtime.
///
/// A client that takes nothing of an answer for `send_timeout` is cut off: the kernel gives up on a window that stays
/// closed. Connections inherit this from the socket that accepts them.
pub fn bind(listen: SocketAddr, send_timeout: Duration) -> io::Result<TcpListener> {
    listen_on(listen, send_timeout)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {listen}: {error}")))
}

fn listen_on(listen: SocketAddr, send_timeout: Duration) -> io::Result<TcpListener> {
    let socket = if listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait until the kernel has forgotten the connections of before.
    socket.set_reuseaddr(true)?;
    let send_timeout_millis = u32::try_from(send_timeout.as_millis()).unwrap_or(u32::MAX);
    set_tcp_user_timeout(&socket, send_timeout_millis)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)?.into_std()
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
    let mut server = pin!(server);
    let early = tokio::select! {
        ended = &mut server => Some(ended),
        () = shutdown.cancelled() => None,
    };
    // Whatever shares the token ends with a server that ends by itself, which is a defect.
    shutdown.cancel();
    health.stop();
    if let Some(ended) = early {
        // Nobody is left to be given notice, but the work still ends in order.
        drain.await;
        return ended.and(Err(io::Error::other("the server ended by itself")));
    }
    info!("stopping");
    let stop = async {
        tokio::time::sleep(times.notice).await;
        drain.await;
        handle.stop(true).await;
    };
    tokio::join!(server, stop).0
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
pub fn configure(config: &mut ServiceConfig, registry: &Registry, recorder: &Rc<Recorder>, health: &Health) {
    config
        .app_data(web::Data::new(registry.clone()))
        .app_data(recorder.clone())
        .app_data(web::Data::new(health.clone()))
        .app_data(
            web::QueryConfig::default()
                .error_handler(|error, _| Problem::bad_request(query_error(&error)).into()),
        )
        .app_data(
            web::PathConfig::default()
                .error_handler(|error, request| not_there(request, &path_error(&error))),
        )
        .app_data(json_config())
        .service(route("/prometheus", Takes::Reads, metrics::exposition))
        .service(route("/healthz", Takes::Reads, health::healthz))
        .service(route("/readyz", Takes::Reads, health::readyz));
}

/// Whether a path is one of health and metrics, which need no token.
pub fn is_open_path(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/prometheus")
}

/// A body is JSON whether or not its sender says so.
fn json_config() -> web::JsonConfig {
    let config = web::JsonConfig::default().content_type_required(false).content_type(|_| true);
    config.error_handler(|error, _| match error {
        JsonPayloadError::Overflow { limit } | JsonPayloadError::OverflowKnownLength { limit, .. } => {
            Problem::too_large(format!("the body is larger than {limit} bytes")).into()
        }
        JsonPayloadError::Deserialize(error) => {
            Problem::bad_request(format!("the body is not the JSON that is expected here: {error}")).into()
        }
        _ => Problem::bad_request("the body did not arrive whole").into(),
    })
}

fn query_error(error: &QueryPayloadError) -> String {
    match error {
        QueryPayloadError::Deserialize(error) => format!("behind the question mark: {error}"),
        _ => "what stands behind the question mark cannot be read".to_owned(),
    }
}

fn path_error(error: &PathError) -> String {
    match error {
        PathError::Deserialize(error) => error.to_string(),
        _ => "the path cannot be read".to_owned(),
    }
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
    web::resource(path).route(route.to(handler)).default_service(other_methods(allow))
}

/// A resource that is read and deleted.
pub fn also_deleted<F, Args>(read: Resource, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    read.route(web::delete().to(handler)).default_service(other_methods("GET, HEAD, DELETE"))
}

/// A resource that is read and takes POST.
pub fn also_posted<F, Args>(read: Resource, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    read.route(web::post().to(handler)).default_service(other_methods("GET, HEAD, POST"))
}

fn other_methods(allow: &'static str) -> Route {
    web::route().to(move |request: HttpRequest| {
        let text = format!("{} does not take {}", request.path(), request.method());
        std::future::ready(Err::<HttpResponse, _>(Problem::method_not_allowed(text, allow)))
    })
}

/// Answers a path that no resource has.
pub async fn nothing_there(request: HttpRequest) -> Result<HttpResponse, Problem> {
    Err(Problem::not_found(format!("nothing is at {}", request.path())))
}

fn not_there(request: &HttpRequest, why: &str) -> actix_web::Error {
    Problem::not_found(format!("nothing is at {}: {why}", request.path())).into()
}
