//! What happens around every request: it is counted and timed, its failure is logged once, and whatever actix would
//! answer in its own words becomes a problem.
//!
//! What is answered well is not logged: at 100,000 look-ups a second that would be the work. What the server could
//! not do is an error, what a client did wrong is there for who debugs.

use std::rc::Rc;
use std::time::Instant;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, StatusCode, Version};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpResponse};
use tracing::{debug, error};

use crate::metrics::{InFlight, Recorder};
use crate::problem::NO_SNIFF;
use crate::streams::{Stream, Streams, TooManyStreams};
use crate::traces::{Answered, Trace, sender_id};
use crate::{Problem, chain, remainder};

/// The middleware, for `App::wrap(from_fn(service::measure))`.
pub async fn measure<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let Some(recorder) = request.app_data::<Rc<Recorder>>().cloned() else {
        return next.call(request).await.map(in_our_words);
    };
    let stream = match open_stream(&request) {
        Ok(stream) => stream,
        Err(refused) => return Ok(request.into_response(refused.response().map_into_right_body())),
    };
    let method = method_label(request.method());
    let _in_flight = InFlight::new(&recorder);
    let (start, trace) = (Instant::now(), recorder.traces.begin(request.headers(), request.method()));
    request.extensions_mut().insert(trace.clone());
    let outcome = remainder::call(request, next).await.map(in_our_words);
    let (handler, status, failure) = match &outcome {
        Ok(response) => (response.request().match_pattern(), response.status(), response.response().error()),
        Err(error) => (None, error.as_response_error().status_code(), Some(error)),
    };
    let handler = handler.as_deref().unwrap_or("unmatched");
    if let Some(failure) = failure {
        log(handler, method, status, failure, || trace.id());
    }
    trace.end_request(handler, status);
    recorder.record(handler, method, status, start.elapsed());
    outcome.map(|response| {
        let mut response = match stream {
            Some(stream) => response.map_body(|_, body| EitherBody::right(stream.hold(body))),
            None => response,
        };
        let (name, value) = NO_SNIFF;
        response.headers_mut().insert(name, value);
        response
    })
}

/// Counts a request over HTTP/2 among those of its connection.
fn open_stream(request: &ServiceRequest) -> Result<Option<Stream>, TooManyStreams> {
    let streams = (request.version() == Version::HTTP_2).then(|| request.request().conn_data::<Streams>());
    streams.flatten().map(Streams::open).transpose()
}

/// A request outside of the routes.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What stands for its path in the metrics.
    pub handler: &'a str,
    /// Its method.
    pub method: &'a Method,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// When it came.
    pub start: Instant,
}

/// Counts a request that was answered outside of the routes, and logs it where it failed.
pub fn answer(recorder: &Recorder, asked: Asked<'_>, outcome: Result<HttpResponse, Problem>) -> HttpResponse {
    let Asked { handler, method, headers, start } = asked;
    let method = method_label(method);
    let response = outcome.unwrap_or_else(HttpResponse::from_error);
    let time = start.elapsed();
    let answered = Answered { handler, method, status: response.status(), time };
    let trace = recorder.traces.answered(headers, answered);
    if let Some(failure) = response.error() {
        let trace_id = || trace.as_ref().map_or_else(|| sender_id(headers), Trace::id);
        log(handler, method, response.status(), failure, trace_id);
    }
    recorder.record(handler, method, response.status(), time);
    response
}

/// Turns an error of actix's own, such as a body over its limit, into a problem.
fn in_our_words<B: MessageBody>(response: ServiceResponse<B>) -> ServiceResponse<EitherBody<B>> {
    let foreign = response.response().error().filter(|error| error.as_error::<Problem>().is_none());
    let Some(problem) = foreign.map(|error| problem(response.status(), error)) else {
        return response.map_into_left_body();
    };
    response.into_response(HttpResponse::from_error(problem)).map_into_right_body()
}

/// A client is told what is wrong with its request; what is wrong with the server is for the log.
fn problem(status: StatusCode, error: &Error) -> Problem {
    if status.is_client_error() {
        return Problem::of_client(status, client_error(error));
    }
    Problem::internal("the request failed").because(error.to_string())
}

/// An error of actix's own, in words of this project.
fn client_error(error: &Error) -> String {
    match error.as_error::<PayloadError>() {
        Some(PayloadError::Overflow) => "the body is larger than is taken here".to_owned(),
        Some(_) => "the body did not arrive whole".to_owned(),
        None => error.to_string(),
    }
}

fn log(
    handler: &str,
    method: &str,
    status: StatusCode,
    error: &Error,
    trace_id: impl Fn() -> Option<String>,
) {
    let problem = error.as_error::<Problem>();
    if problem.is_some_and(Problem::is_logged) {
        return;
    }
    let error = problem.map_or_else(|| error.to_string(), |problem| chain(problem));
    let (code, trace_id) = (status.as_u16(), trace_id());
    if status.is_server_error() {
        error!(handler, method, code, error, trace_id, "request failed");
    } else {
        debug!(handler, method, code, error, trace_id, "request refused");
    }
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
