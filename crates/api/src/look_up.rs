//! The look-up of one key, `GET /{dataset}/{key}`: the way that nearly all requests go.
//!
//! It is answered in front of the routes, because finding a route costs more than finding a row. An answer that is at
//! hand is given at once; only what has to be waited for sets up a future. What stands in the head of every answer from
//! one version is made once for each worker.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::body::{BoxBody, EitherBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use actix_web::{Error, HttpResponse};
use futures_util::future::{BoxFuture, Either};
use percent_encoding::percent_decode_str;
use service::{InFlight, Problem, Recorder};
use store::{Found, LookUp, Looked, Outcome, Reader};

use crate::together::{self, Together};

/// The header that says of which version an answer is.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("x-dataset-version");
/// As it is called in the metrics.
pub(crate) const PATTERN: &str = "/{dataset}/{key}";

/// Of look-ups that fail, one goes into the log in so long.
const LOGGED_EVERY: Duration = Duration::from_secs(1);

/// What a worker needs to answer look-ups.
pub(crate) struct LookUps {
    reader: Reader,
    recorder: Rc<Recorder>,
    together: Rc<Together>,
    places: Places,
    cache_control: Option<HeaderValue>,
    /// For each dataset, of the version that was answered from last.
    heads: RefCell<Vec<Rc<Head>>>,
    failed_at: Cell<Option<Instant>>,
}

/// The places for requests that wait for the store, in all workers together.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    taken: Arc<AtomicUsize>,
    max: usize,
}

/// A place, until it is dropped.
pub(crate) struct Place(Arc<AtomicUsize>);

/// What all answers from one version share.
struct Head {
    dataset: String,
    version: u32,
    number: HeaderValue,
    etag: HeaderValue,
    /// The body for a key that is not there.
    missing: Bytes,
}

/// The middleware, for `App::wrap`.
pub(crate) struct InFront(pub(crate) Rc<LookUps>);

/// The middleware in front of what it wraps.
pub(crate) struct InFrontOf<S> {
    look_ups: Rc<LookUps>,
    next: S,
}

impl<S, B: 'static> Transform<S, ServiceRequest> for InFront
where
    S: Service<ServiceRequest, Response = ServiceResponse<EitherBody<B>>, Error = Error>,
{
    type Response = S::Response;
    type Error = Error;
    type Transform = InFrontOf<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, next: S) -> Self::Future {
        ready(Ok(InFrontOf { look_ups: self.0.clone(), next }))
    }
}

type Answered<B> = Result<ServiceResponse<EitherBody<B>>, Error>;

fn at_once<B, F>(response: ServiceResponse<EitherBody<B>>) -> Either<Ready<Answered<B>>, F> {
    Either::Left(ready(Ok(response)))
}

impl<S, B: 'static> Service<ServiceRequest> for InFrontOf<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<EitherBody<B>>, Error = Error>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Either<Ready<Answered<B>>, Either<Waiting<B>, S::Future>>;

    forward_ready!(next);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let Some(asked) = asked(&request) else {
            return Either::Right(Either::Right(self.next.call(request)));
        };
        let start = Instant::now();
        let (dataset, key) = match asked {
            Ok(asked) => asked,
            Err(problem) => return at_once(self.look_ups.answer(request, start, Err(problem))),
        };
        if let Some(response) = self.look_ups.not_modified(&request, &dataset) {
            return at_once(self.look_ups.answer(request, start, Ok(response)));
        }
        let place = || self.look_ups.places.take();
        let waiting = match self.look_ups.reader.look_up_one(&dataset, &key) {
            Looked::Now(outcome) => {
                let response = self.look_ups.response(&request, &dataset, outcome);
                return at_once(self.look_ups.answer(request, start, response));
            }
            Looked::Later(outcome) => place().map(|place| (place, Awaited::Later(outcome))),
            Looked::Together(question) => {
                place().map(|place| (place, Awaited::Together(self.look_ups.together.ask(question))))
            }
        };
        let (place, outcome) = match waiting {
            Ok(waiting) => waiting,
            Err(problem) => return at_once(self.look_ups.answer(request, start, Err(problem))),
        };
        let held = (place, InFlight::new(&self.look_ups.recorder));
        let (look_ups, dataset) = (self.look_ups.clone(), dataset.into_owned());
        let asked = Some((request, dataset));
        Either::Right(Either::Left(Waiting {
            look_ups,
            asked,
            start,
            outcome,
            _held: held,
            body: PhantomData,
        }))
    }
}

/// A request whose answer is not yet there.
pub(crate) struct Waiting<B> {
    look_ups: Rc<LookUps>,
    /// And its dataset.
    asked: Option<(ServiceRequest, String)>,
    start: Instant,
    outcome: Awaited,
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
        let response = self.look_ups.response(&request, &dataset, outcome);
        Poll::Ready(Ok(self.look_ups.answer(request, self.start, response)))
    }
}

impl Places {
    pub(crate) fn new(max: usize) -> Self {
        Self { taken: Arc::default(), max }
    }

    /// Takes a place, or says that there is none.
    pub(crate) fn take(&self) -> Result<Place, Problem> {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        // Where there is none, dropping it makes up for the count.
        let place = Place(self.taken.clone());
        if taken >= self.max {
            return Err(Problem::unavailable("too many requests are waiting").logged());
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The dataset and the key.
type DatasetKey<'a> = (Cow<'a, str>, Cow<'a, str>);

/// What a request asks for, if it asks for one key.
fn asked(request: &ServiceRequest) -> Option<Result<DatasetKey<'_>, Problem>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let path = request.head().uri.path();
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

impl LookUps {
    /// For one worker.
    pub(crate) fn new(
        reader: Reader,
        recorder: Rc<Recorder>,
        places: Places,
        cache_control: Option<HeaderValue>,
    ) -> Rc<Self> {
        Rc::new(Self {
            together: Together::new(reader.clone()),
            reader,
            recorder,
            places,
            cache_control,
            heads: RefCell::default(),
            failed_at: Cell::default(),
        })
    }

    /// Looks many keys up; nothing where there is no such dataset.
    pub(crate) async fn many(&self, dataset: &str, keys: &[&str]) -> Result<Option<LookUp>, Problem> {
        let _place = self.places.take()?;
        self.reader.look_up(dataset, keys).await.map_err(|error| self.problem(error))
    }

    /// The answer where the store gave none.
    fn problem(&self, error: store::Error) -> Problem {
        if matches!(error, store::Error::Unavailable(_)) {
            // The store has said so in the log, once and not for every request.
            return Problem::unavailable("the store is not available").logged().because(error);
        }
        let (problem, now) = (Problem::internal("the look-up failed").because(error), Instant::now());
        if self.failed_at.get().is_some_and(|last| now.duration_since(last) < LOGGED_EVERY) {
            return problem.logged();
        }
        self.failed_at.set(Some(now));
        problem
    }

    /// The answer to who has it already, which needs no look at the store: every row of a version has the same tag.
    fn not_modified(&self, request: &ServiceRequest, dataset: &str) -> Option<HttpResponse> {
        if !request.headers().contains_key(header::IF_NONE_MATCH) {
            return None;
        }
        let head = self.head(dataset, self.reader.current(dataset)?);
        names(request.headers(), &head.etag)
            .then(|| self.found(&head, StatusCode::NOT_MODIFIED, Bytes::new()))
    }

    fn response(
        &self,
        request: &ServiceRequest,
        dataset: &str,
        outcome: Outcome,
    ) -> Result<HttpResponse, Problem> {
        let Some(Found { version, row }) = outcome.map_err(|error| self.problem(error))? else {
            return Err(no_dataset(dataset));
        };
        let head = self.head(dataset, version);
        let Some(json) = row else {
            let mut response =
                HttpResponse::with_body(StatusCode::NOT_FOUND, BoxBody::new(head.missing.clone()));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(service::PROBLEM_JSON));
            headers.insert(VERSION, head.number.clone());
            return Ok(response);
        };
        let headers = request.headers();
        if headers.contains_key(header::IF_NONE_MATCH) && (any(headers) || names(headers, &head.etag)) {
            return Ok(self.found(&head, StatusCode::NOT_MODIFIED, Bytes::new()));
        }
        Ok(self.found(&head, StatusCode::OK, json))
    }

    fn found(&self, head: &Head, status: StatusCode, json: Bytes) -> HttpResponse {
        let mut response = if status == StatusCode::OK {
            let mut response = HttpResponse::with_body(status, BoxBody::new(json));
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        } else {
            HttpResponse::new(status)
        };
        let headers = response.headers_mut();
        headers.insert(VERSION, head.number.clone());
        headers.insert(header::ETAG, head.etag.clone());
        if let Some(value) = &self.cache_control {
            headers.insert(header::CACHE_CONTROL, value.clone());
        }
        response
    }

    fn head(&self, dataset: &str, version: u32) -> Rc<Head> {
        let mut heads = self.heads.borrow_mut();
        let known = heads.iter_mut().find(|head| head.dataset == dataset);
        match known {
            Some(head) if head.version == version => head.clone(),
            Some(head) => {
                *head = Rc::new(Head::new(dataset, version));
                head.clone()
            }
            None => {
                let head = Rc::new(Head::new(dataset, version));
                heads.push(head.clone());
                head
            }
        }
    }

    fn answer<B>(
        &self,
        request: ServiceRequest,
        start: Instant,
        outcome: Result<HttpResponse, Problem>,
    ) -> ServiceResponse<EitherBody<B>> {
        let response = service::answer(&self.recorder, (PATTERN, request.method()), start, outcome);
        request.into_response(response.map_into_right_body())
    }
}

impl Head {
    fn new(dataset: &str, version: u32) -> Self {
        let missing = Problem::not_found(format!("`{dataset}` has no such key")).with("version", version);
        // The name of a dataset is letters, digits and underscores.
        let etag = HeaderValue::try_from(format!("\"{dataset}-{version}\""));
        Self {
            dataset: dataset.to_owned(),
            version,
            number: version.into(),
            etag: etag.unwrap_or_else(|_| HeaderValue::from_static("\"\"")),
            missing: missing.to_json().to_string().into(),
        }
    }
}

/// Whether the client says that it has this very answer. What is no etag is passed over.
fn names(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    tags(headers).any(|given| given.strip_prefix("W/").unwrap_or(given).as_bytes() == etag.as_bytes())
}

/// Whether the client has any answer.
fn any(headers: &HeaderMap) -> bool {
    tags(headers).any(|given| given == "*")
}

fn tags(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let given = headers.get_all(header::IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
    given.flat_map(|value| value.split(',')).map(str::trim)
}

pub(crate) fn no_dataset(dataset: &str) -> Problem {
    Problem::not_found(format!("there is no dataset `{dataset}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &'static [u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_bytes(value).unwrap());
        headers
    }

    #[test]
    fn an_etag_is_found_among_others_and_nonsense_is_passed_over() {
        let etag = HeaderValue::from_static("\"promotions-42\"");
        for value in [&b"\"promotions-42\""[..], b"W/\"promotions-42\"", b"\"a\", \"promotions-42\""] {
            assert!(names(&headers(value), &etag), "{value:?}");
        }
        for value in
            [&b"\"promotions-4\""[..], b"promotions-42", b"\"promotions-42", b",,\"", b"\xff\xfe", b"*"]
        {
            assert!(!names(&headers(value), &etag), "{value:?}");
        }
        assert!(any(&headers(b"*")) && any(&headers(b"\"a\", *")) && !any(&headers(b"\"*\"")));
    }
}
