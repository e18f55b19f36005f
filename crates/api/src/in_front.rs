//! The look-up of one key, `GET /{dataset}/{key}`: the way that nearly all requests go.
//!
//! It is answered in front of actix-web, because finding a route costs more than finding a row. An answer that is at
//! hand is given at once; only what has to be waited for sets up a future.

use std::borrow::Cow;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use actix_http::{HttpMessage, Request, Response};
use actix_service::IntoServiceFactory;
use actix_web::body::EitherBody;
use actix_web::dev::{AppConfig, Service, ServiceFactory, ServiceResponse, forward_ready};
use actix_web::http::{Method, Version};
use actix_web::{Error, HttpResponse};
use futures_util::TryFutureExt;
use futures_util::future::{BoxFuture, Either, LocalBoxFuture, MapOk};
use percent_encoding::percent_decode_str;
use service::{Asked, InFlight, Problem, Stream, Streams, TooManyStreams};
use store::{Looked, Outcome};

use crate::gate::Gate;
use crate::look_up::LookUps;
use crate::places::Place;
use crate::together;

/// As it is called in the metrics.
pub(crate) const PATTERN: &str = "/{dataset}/{key}";

/// An application with look-ups in front of it.
pub(crate) struct InFront<F> {
    look_ups: Rc<LookUps>,
    gate: Gate,
    app: F,
}

impl<F: ServiceFactory<Request>> InFront<F> {
    pub(crate) fn new(look_ups: Rc<LookUps>, gate: Gate, app: impl IntoServiceFactory<F, Request>) -> Self {
        Self { look_ups, gate, app: app.into_factory() }
    }
}

impl<F, B> ServiceFactory<Request> for InFront<F>
where
    F: ServiceFactory<
            Request,
            Config = AppConfig,
            Response = ServiceResponse<B>,
            Error = Error,
            InitError = (),
        >,
    F::Future: 'static,
{
    type Response = Response<EitherBody<B>>;
    type Error = Error;
    type Config = AppConfig;
    type Service = InFrontOf<F::Service>;
    type InitError = ();
    type Future = LocalBoxFuture<'static, Result<Self::Service, ()>>;

    fn new_service(&self, config: AppConfig) -> Self::Future {
        let (look_ups, gate) = (self.look_ups.clone(), self.gate.clone());
        let app = self.app.new_service(config);
        Box::pin(async { Ok(InFrontOf { look_ups, gate, app: app.await? }) })
    }
}

/// The service in front of that of an application.
pub(crate) struct InFrontOf<S> {
    look_ups: Rc<LookUps>,
    gate: Gate,
    app: S,
}

type Answered<B> = Result<Response<EitherBody<B>>, Error>;
type Elsewhere<B, F> = MapOk<F, fn(ServiceResponse<B>) -> Response<EitherBody<B>>>;

impl<S, B> Service<Request> for InFrontOf<S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = Response<EitherBody<B>>;
    type Error = Error;
    type Future = Either<Ready<Answered<B>>, Either<Waiting<B>, Elsewhere<B, S::Future>>>;

    forward_ready!(app);

    fn call(&self, request: Request) -> Self::Future {
        if let Err(problem) = self.gate.check(&request) {
            let refused = refused(&self.look_ups, &request, problem);
            return Either::Left(ready(Ok(refused)));
        }
        let Some(asked) = asked(&request) else {
            let elsewhere = self.app.call(request).map_ok(elsewhere as fn(_) -> _);
            return Either::Right(Either::Right(elsewhere));
        };
        let (start, look_ups) = (Instant::now(), &self.look_ups);
        let stream = match open_stream(&request) {
            Ok(stream) => stream,
            Err(refused) => return Either::Left(ready(Ok(outside(refused.response())))),
        };
        let at_once = |outcome, stream| {
            let response = answer(look_ups, &request, start, outcome, stream);
            Either::Left(ready(Ok(response)))
        };
        let (dataset, key) = match asked {
            Ok(asked) => asked,
            Err(problem) => return at_once(Err(problem), stream),
        };
        if let Some(response) = look_ups.not_modified(request.headers(), &dataset) {
            return at_once(Ok(response), stream);
        }
        let place = || look_ups.limits.places.take();
        let waiting = match look_ups.reader.look_up_one(&dataset, &key) {
            Looked::Now(outcome) => {
                return at_once(look_ups.response(request.headers(), &dataset, outcome), stream);
            }
            Looked::Later(outcome) => place().map(|place| (place, Awaited::Later(outcome))),
            Looked::Together(question) => {
                place().map(|place| (place, Awaited::Together(look_ups.together.ask(question))))
            }
        };
        let (place, outcome) = match waiting {
            Ok(waiting) => waiting,
            Err(problem) => return at_once(Err(problem), stream),
        };
        let held = (place, InFlight::new(&look_ups.recorder));
        let (look_ups, dataset) = (look_ups.clone(), dataset.into_owned());
        let asked = Some((request, dataset));
        Either::Right(Either::Left(Waiting {
            look_ups,
            asked,
            start,
            outcome,
            stream,
            _held: held,
            body: PhantomData,
        }))
    }
}

fn elsewhere<B>(response: ServiceResponse<B>) -> Response<EitherBody<B>> {
    Response::from(response).map_body(|_, body| EitherBody::left(body))
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

/// A request whose answer is not yet there.
pub(crate) struct Waiting<B> {
    look_ups: Rc<LookUps>,
    /// And its dataset.
    asked: Option<(Request, String)>,
    start: Instant,
    outcome: Awaited,
    stream: Option<Stream>,
    _held: (Place, InFlight),
    body: PhantomData<fn() -> B>,
}

enum Awaited {
    Later(BoxFuture<'static, Outcome>),
    Together(together::Answer),
}

impl<B> Future for Waiting<B> {
    type Output = Answered<B>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answered<B>> {
        let outcome = match &mut self.outcome {
            Awaited::Later(outcome) => outcome.as_mut().poll(context),
            Awaited::Together(answer) => Pin::new(answer).poll(context),
        };
        let Poll::Ready(outcome) = outcome else { return Poll::Pending };
        // It is not polled again.
        let Some((request, dataset)) = self.asked.take() else { return Poll::Pending };
        let response = self.look_ups.response(request.headers(), &dataset, outcome);
        let stream = self.stream.take();
        Poll::Ready(Ok(answer(&self.look_ups, &request, self.start, response, stream)))
    }
}

/// The dataset and the key.
type DatasetKey<'a> = (Cow<'a, str>, Cow<'a, str>);

/// What a request asks for, if it asks for one key.
fn asked(request: &Request) -> Option<Result<DatasetKey<'_>, Problem>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let path = request.path();
    let (dataset, key) = path.strip_prefix('/')?.split_once('/')?;
    if dataset.is_empty() || key.is_empty() || key.contains('/') {
        return None;
    }
    if !path.contains('%') {
        return Some(Ok((dataset.into(), key.into())));
    }
    let text = |part| percent_decode_str(part).decode_utf8();
    // What is no text is no key.
    Some(match (text(dataset), text(key)) {
        (Ok(dataset), Ok(key)) => Ok((dataset, key)),
        _ => Err(Problem::not_found("the path is not UTF-8")),
    })
}
