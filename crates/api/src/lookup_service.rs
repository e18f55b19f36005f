//! The look-up of one key, `GET /{dataset}/{key}`: the way that nearly all requests go.
//!
//! It is answered in front of actix-web, because finding a route costs more than finding a row. An answer that is at
//! hand is given at once; only what has to be waited for sets up a future.

use std::future::{Ready, ready};
use std::rc::Rc;
use std::time::Instant;

use actix_http::{HttpMessage, Request, Response};
use actix_web::body::EitherBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::Version;
use actix_web::{Error, HttpResponse};
use futures_util::future::{Either, LocalBoxFuture};
use service::{Asked, InFlight, Problem, Stream, Streams, TooManyStreams};
use store::Lookup;

use crate::gate::Gate;
use crate::look_up::LookUps;
use crate::lookup_path::{self, LookupPath, PATTERN};

type Answered<B> = Result<Response<EitherBody<B>>, Error>;
type Answer<B> = Either<Ready<Answered<B>>, LocalBoxFuture<'static, Answered<B>>>;

/// Answers a request if it is a lookup of one key, and hands all others to the application.
pub(crate) fn answer_or_pass_on<S, B>(
    look_ups: &Rc<LookUps>,
    gate: &Gate,
    request: Request,
    app: &S,
) -> Answer<B>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    S::Future: 'static,
{
    if let Err(problem) = gate.check(&request) {
        return Either::Left(ready(Ok(refused(look_ups, &request, problem))));
    }
    let Some(path) = lookup_path::parse(&request) else {
        let response = app.call(request);
        let response =
            async { Ok(Response::from(response.await?).map_body(|_, body| EitherBody::left(body))) };
        return Either::Right(Box::pin(response));
    };
    let start = Instant::now();
    let stream = match open_stream(&request) {
        Ok(stream) => stream,
        Err(refused) => return Either::Left(ready(Ok(outside(refused.response())))),
    };
    let at_once = |outcome, stream| {
        let response = answer(look_ups, &request, start, outcome, stream);
        Either::Left(ready(Ok(response)))
    };
    let LookupPath { dataset, key } = match path {
        Ok(path) => path,
        Err(problem) => return at_once(Err(problem), stream),
    };
    if let Some(response) = look_ups.not_modified(request.headers(), &dataset) {
        return at_once(Ok(response), stream);
    }
    let pending = match look_ups.reader.get(&dataset, &key) {
        Lookup::Ready(outcome) => {
            return at_once(look_ups.response(request.headers(), &dataset, outcome), stream);
        }
        Lookup::Pending(outcome) => outcome,
    };
    let place = match look_ups.limits.places.take() {
        Ok(place) => place,
        Err(problem) => return at_once(Err(problem), stream),
    };
    let in_flight = InFlight::new(&look_ups.recorder);
    let (look_ups, dataset) = (look_ups.clone(), dataset.into_owned());
    Either::Right(Box::pin(async move {
        let _held = (place, in_flight);
        let response = look_ups.response(request.headers(), &dataset, pending.await);
        Ok(answer(&look_ups, &request, start, response, stream))
    }))
}

fn answer<B>(
    look_ups: &LookUps,
    request: &Request,
    start: Instant,
    outcome: Result<HttpResponse, Problem>,
    stream: Option<Stream>,
) -> Response<EitherBody<B>> {
    let asked = Asked { handler: PATTERN, method: request.method(), headers: request.headers(), start };
    let response = service::answer(&look_ups.recorder, asked, outcome);
    outside(match stream {
        Some(stream) => response.map_body(|_, body| stream.hold(body)),
        None => response,
    })
}

/// The answer to a request that the gate does not let in.
fn refused<B>(look_ups: &LookUps, request: &Request, problem: Problem) -> Response<EitherBody<B>> {
    let (method, headers, start) = (request.method(), request.headers(), Instant::now());
    let asked = Asked { handler: "unmatched", method, headers, start };
    outside(service::answer(&look_ups.recorder, asked, Err(problem)))
}

/// An answer that does not come from the application.
fn outside<B>(response: HttpResponse) -> Response<EitherBody<B>> {
    Response::from(response).map_body(|_, body| EitherBody::right(body))
}

/// Counts a request over HTTP/2 among those of its connection.
fn open_stream(request: &Request) -> Result<Option<Stream>, TooManyStreams> {
    let streams = (request.version() == Version::HTTP_2).then(|| request.conn_data::<Streams>());
    streams.flatten().map(Streams::open).transpose()
}
