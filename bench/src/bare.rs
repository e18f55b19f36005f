//! The contender `bare`: what the web server alone can do, with an answer that is always the same.

use std::io;
use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Duration;

use actix_web::web::ServiceConfig;
use actix_web::{App, HttpResponse, HttpServer, web};

/// As long as the answer for a promotion.
const BODY: &str = r#"{"id":"84bd5481-ace4-4d45-806e-8365980105d9","price":84.269357,"expiration_date":"2018-06-03 04:16:18"}"#;

/// Serves until it is ended, without middleware.
pub(crate) fn run(port: u16) -> io::Result<()> {
    serve(port, |routes| {
        routes.route("/{dataset}/{key}", web::get().to(answer));
    })
}

/// Serves until it is ended, with the api's number of workers, its backlog and its time for idle connections.
pub(crate) fn serve(
    port: u16,
    routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
) -> io::Result<()> {
    let server = move || App::new().route("/healthz", web::get().to(HttpResponse::Ok)).configure(&routes);
    let server = HttpServer::new(server)
        .workers(available_parallelism().map_or(2, NonZero::get))
        .backlog(4096)
        .keep_alive(Duration::from_secs(75))
        .bind(("127.0.0.1", port))?;
    actix_web::rt::System::new().block_on(server.run())
}

async fn answer(_path: web::Path<(String, String)>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(BODY)
}
