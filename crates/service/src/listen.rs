//! The server of uploads: `HttpServer` of actix-web with [`Connection`]s in the place of sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Protocol, Request};
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_tls::accept::TlsError;
use actix_tls::accept::rustls_0_23::{Acceptor, TlsStream};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, Server, Service, ServiceResponse};
use rustls::ServerConfig;
use tokio::net::TcpStream;

use crate::connection::Connection;
use crate::streams::Streams;

/// The protocol names of ALPN, preferred first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How a server of uploads listens.
#[derive(Debug)]
pub struct Listen {
    /// Where.
    pub listener: TcpListener,
    /// Without it the server speaks plain HTTP.
    pub tls: Option<ServerConfig>,
    /// Threads.
    pub workers: usize,
    /// Open connections of one thread.
    pub connections_max: usize,
    /// How long what a client still sends is read and discarded after its answer.
    pub unread_wait: Duration,
    /// How long open requests have to end when the server stops, in seconds.
    pub stop_wait_seconds: u64,
}

/// Starts to serve an application.
pub fn listen<F, I, S, B>(listen: Listen, app: F) -> io::Result<Server>
where
    F: Fn() -> I + Clone + Send + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig, Response = ServiceResponse<B>> + 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: std::fmt::Debug,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let Listen { listener, tls, workers, connections_max, unread_wait, stop_wait_seconds } = listen;
    let builder = Server::build()
        .workers(workers.max(1))
        .max_concurrent_connections(connections_max)
        .shutdown_timeout(stop_wait_seconds)
        .disable_signals();
    let stop = builder.graceful_shutdown_signal();
    let http = move || {
        let stop = stop.clone();
        let app = app().into_factory().map_err(|error| error.into().error_response());
        HttpService::build()
            .graceful_shutdown_signal(move || {
                let stop = stop.clone();
                async move { stop.notified().await }
            })
            .client_disconnect_timeout(unread_wait)
            .on_connect_ext(|connection: &Connection, data| {
                Streams::on_connect(connection, data);
                data.insert(connection.fault());
            })
            .finish(map_config(app, |()| AppConfig::default()))
    };
    let Some(mut tls) = tls else {
        let builder = builder.listen("http", listener, move || {
            let accept = move |socket: TcpStream| async move {
                let client = socket.peer_addr().ok();
                let connection = Connection::new(socket, true, unread_wait);
                Ok::<Accepted, DispatchError>((connection, Protocol::Http1, client))
            };
            fn_service(accept).and_then(http())
        })?;
        return Ok(builder.run());
    };
    tls.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    let builder = builder.listen("https", listener, move || {
        Acceptor::new(tls.clone())
            .map_err(TlsError::into_service_error)
            .map(move |socket: TlsStream<TcpStream>| accept_tls(socket, unread_wait))
            .and_then(http().map_err(TlsError::Service))
    })?;
    Ok(builder.run())
}

type Accepted = (Connection, Protocol, Option<SocketAddr>);

fn accept_tls(socket: TlsStream<TcpStream>, unread_wait: Duration) -> Accepted {
    let (stream, session) = socket.get_ref();
    let client = stream.peer_addr().ok();
    let is_http_2 = session.alpn_protocol() == Some(PROTOCOLS[0]);
    let protocol = if is_http_2 { Protocol::Http2 } else { Protocol::Http1 };
    (Connection::new(socket, !is_http_2, unread_wait), protocol, client)
}
