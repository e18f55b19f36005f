//! A small server of its own, with a handler for each thing that can go wrong.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpResponse, HttpServer};
use service::{
    Health, HttpMetrics, Listen, Problem, Recorder, StopTimes, Streams, Takes, TlsPaths, Traces, route,
};
use testkit::http::{self, Response};
use tokio_util::sync::CancellationToken;

/// The files of a server that speaks TLS.
pub(crate) struct TlsFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_ca: Option<PathBuf>,
}

/// Longer than any test.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// A server that runs.
pub(crate) struct Site {
    pub(crate) port: u16,
    pub(crate) shutdown: CancellationToken,
    pub(crate) handle: ServerHandle,
    /// Whether its other work has been ended.
    pub(crate) is_drained: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Site {
    /// Starts one on a port of its own, in a plain multi-thread runtime of tokio.
    pub(crate) fn start(notice: Duration) -> Self {
        Self::start_with(notice, None)
    }

    /// Starts one that speaks TLS.
    pub(crate) fn start_tls(files: TlsFiles) -> Self {
        Self::start_with(Duration::ZERO, Some(files))
    }

    fn start_with(notice: Duration, tls: Option<TlsFiles>) -> Self {
        log();
        let shutdown = CancellationToken::new();
        let (sender, receiver) = std::sync::mpsc::channel();
        let (stop, is_drained) = (shutdown.clone(), Arc::new(AtomicBool::new(false)));
        let drained = is_drained.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(async {
                let (server, health, port) = server(tls.as_ref())?;
                sender.send((port, server.handle())).unwrap();
                let drain = async { drained.store(true, Ordering::SeqCst) };
                service::run(server, health, StopTimes { notice }, stop, drain).await
            })
        });
        let (port, handle) = receiver.recv().unwrap();
        Self { port, shutdown, handle, is_drained, thread: Some(thread) }
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        http::get(self.port, path)
    }

    /// Waits until it has stopped, and gives what `run` gave.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic there was seen where it happened.
            let _ = thread.join();
        }
    }
}

fn server(tls: Option<&TlsFiles>) -> io::Result<(actix_web::dev::Server, Health, u16)> {
    let paths = tls.map_or_else(TlsPaths::default, |files| TlsPaths {
        certificate: Some(&files.certificate),
        key: Some(&files.key),
        client_ca: files.client_ca.as_deref(),
    });
    let registry = service::registry().unwrap();
    let tls = service::tls_config("API", paths, &registry).unwrap();
    let listener = service::bind(([127, 0, 0, 1], 0).into(), SEND_TIMEOUT)?;
    let port = listener.local_addr()?.port();
    let metrics = HttpMetrics::register(&registry).unwrap();
    let health = Health::new(Arc::new(|| Box::pin(std::future::ready(Ok(Vec::new())))));
    let asked = health.clone();
    let app = move || {
        let recorder = Recorder::new(&metrics, &Traces::default());
        App::new()
            .wrap(from_fn(service::measure))
            .configure(|config| service::configure(config, &registry, &recorder, &asked))
            .configure(routes)
            .default_service(web::route().to(service::nothing_there))
    };
    let server = if tls.is_some() {
        // As the updater listens.
        let unread_wait = Duration::from_secs(10);
        let (workers, connections_max, stop_wait_seconds) = (2, 1000, 10);
        let listen = Listen { listener, tls, workers, connections_max, unread_wait, stop_wait_seconds };
        service::listen(listen, app)?
    } else {
        // As the api does.
        let server = HttpServer::new(app).on_connect(Streams::on_connect).workers(2);
        server.shutdown_timeout(10).disable_signals().listen(listener)?.run()
    };
    Ok((server, health, port))
}

fn routes(config: &mut ServiceConfig) {
    config
        .app_data(web::PayloadConfig::new(8))
        .service(route("/slow", Takes::Reads, slow))
        .service(route("/broken/{id}", Takes::Reads, broken))
        .service(route("/number/{number}", Takes::Reads, number))
        .service(route("/query", Takes::Reads, query))
        .service(route("/json", Takes::Post, json))
        .service(route("/bytes", Takes::Post, bytes));
}

async fn slow() -> HttpResponse {
    tokio::time::sleep(Duration::from_secs(1)).await;
    HttpResponse::Ok().body("done")
}

async fn broken(id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let problem =
        Problem::unavailable("the store is not available").because(io::Error::other("10.0.0.1 is away"));
    Err(if *id == "logged" { problem.logged() } else { problem })
}

async fn number(_: web::Path<u32>) -> HttpResponse {
    HttpResponse::Ok().body("a number")
}

async fn query(_: web::Query<HashMap<String, u32>>) -> HttpResponse {
    HttpResponse::Ok().body("numbers")
}

async fn json(_: web::Json<Vec<String>>) -> HttpResponse {
    HttpResponse::Ok().body("strings")
}

async fn bytes(_: web::Bytes) -> HttpResponse {
    HttpResponse::Ok().body("bytes")
}

/// The log of all servers here; lines are told apart by what is in them.
pub(crate) fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone());
        tracing::subscriber::set_global_default(lines.finish()).unwrap();
        log
    })
}

#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The lines about a handler, without their time.
    pub(crate) fn about(&self, handler: &str) -> Vec<String> {
        self.with(&format!("\"handler\":\"{handler}\""))
    }

    /// The lines that contain this, without their time.
    pub(crate) fn with(&self, part: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().filter(|line| line.contains(part));
        lines.map(|line| line.split_once(',').unwrap().1.to_owned()).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
