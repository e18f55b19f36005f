//! The look-up of one key, `GET /{dataset}/{key}`: the way that nearly all requests go.
//!
//! It is answered in front of the routes, because finding a route costs more than finding a row. An answer that is at
//! hand is given at once; only what has to be waited for sets up a future. What stands in the head of every answer from
//! one version is made once for each worker.

use std::borrow::Cow;
use std::cell::RefCell;
use std::future::{Ready, ready};
use std::rc::Rc;
use std::time::Instant;

use actix_web::body::{BoxBody, EitherBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use actix_web::{Error, HttpResponse};
use futures_util::future::{Either, LocalBoxFuture};
use percent_encoding::percent_decode_str;
use service::{InFlight, Problem, Recorder};
use store::{Found, Looked, Outcome, Question, Reader};
use tokio::sync::oneshot;

/// The header that says of which version an answer is.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("x-dataset-version");
/// As it is called in the metrics.
pub(crate) const PATTERN: &str = "/{dataset}/{key}";

/// What a worker needs to answer look-ups.
pub(crate) struct LookUps {
    pub(crate) reader: Reader,
    pub(crate) recorder: Rc<Recorder>,
    /// How many requests may be waiting for the store at once, in all workers.
    pub(crate) requests_max: usize,
    pub(crate) cache_control: Option<HeaderValue>,
    /// What was asked for in this turn, and by whom.
    pub(crate) together: RefCell<Vec<(Question, oneshot::Sender<Outcome>)>>,
    /// For each dataset, of the version that was answered from last.
    pub(crate) heads: RefCell<Vec<Rc<Head>>>,
}

/// What all answers from one version share.
pub(crate) struct Head {
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

impl<S, B: 'static> Service<ServiceRequest> for InFrontOf<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<EitherBody<B>>, Error = Error>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Either<Ready<Answered<B>>, Either<LocalBoxFuture<'static, Answered<B>>, S::Future>>;

    forward_ready!(next);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let Some(asked) = asked(&request) else {
            return Either::Right(Either::Right(self.next.call(request)));
        };
        let start = Instant::now();
        let (dataset, key) = match asked {
            Ok(asked) => asked,
            Err(problem) => return Either::Left(ready(self.look_ups.answer(request, start, Err(problem)))),
        };
        if let Some(response) = self.look_ups.not_modified(&request, &dataset) {
            return Either::Left(ready(self.look_ups.answer(request, start, Ok(response))));
        }
        match self.look_ups.reader.look_up_one(&dataset, &key) {
            Looked::Now(outcome) => {
                let response = self.look_ups.response(&request, &dataset, outcome);
                Either::Left(ready(self.look_ups.answer(request, start, response)))
            }
            Looked::Later(outcome) => {
                let dataset = dataset.into_owned();
                let answered = self.look_ups.clone().wait(request, dataset, start, outcome);
                Either::Right(Either::Left(Box::pin(answered)))
            }
            Looked::Together(question) => {
                let (dataset, outcome) = (dataset.into_owned(), self.look_ups.clone().ask(question));
                let answered = self.look_ups.clone().wait(request, dataset, start, outcome);
                Either::Right(Either::Left(Box::pin(answered)))
            }
        }
    }
}

/// The dataset and the key that a request asks for, if it asks for one key.
fn asked(request: &ServiceRequest) -> Option<Result<(Cow<'_, str>, Cow<'_, str>), Problem>> {
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
    async fn wait<B>(
        self: Rc<Self>,
        request: ServiceRequest,
        dataset: String,
        start: Instant,
        outcome: impl Future<Output = Outcome>,
    ) -> Answered<B> {
        let in_flight = InFlight::new(&self.recorder);
        let response = match self.admit() {
            Ok(()) => self.response(&request, &dataset, outcome.await),
            Err(problem) => Err(problem),
        };
        drop(in_flight);
        self.answer(request, start, response)
    }

    /// Asks together with all that arrive in the same turn of this worker.
    async fn ask(self: Rc<Self>, question: Question) -> Outcome {
        let (sender, outcome) = oneshot::channel();
        let is_first = self.together.borrow().is_empty();
        self.together.borrow_mut().push((question, sender));
        if is_first {
            actix_web::rt::spawn(self.clone().ask_together());
        }
        outcome.await.unwrap_or_else(|_| Err(store::Error::Unavailable("the look-up was given up".into())))
    }

    async fn ask_together(self: Rc<Self>) {
        // First the others have their turn, who may ask as well.
        tokio::task::yield_now().await;
        let (questions, askers): (Vec<_>, Vec<_>) = self.together.take().into_iter().unzip();
        for (asker, outcome) in askers.into_iter().zip(self.reader.ask_together(questions).await) {
            // Who is gone needs no answer.
            let _ = asker.send(outcome);
        }
    }

    /// Whether one more request may wait for the store.
    pub(crate) fn admit(&self) -> Result<(), Problem> {
        let waiting = self.recorder.in_flight();
        if waiting > self.requests_max {
            return Err(Problem::unavailable("too many requests are waiting").logged());
        }
        Ok(())
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
        let Some(Found { version, row }) = outcome.map_err(store_problem)? else {
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
    ) -> Answered<B> {
        let response = service::answer(&self.recorder, (PATTERN, request.method()), start, outcome);
        Ok(request.into_response(response.map_into_right_body()))
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

/// The answer where the store gave none.
pub(crate) fn store_problem(error: store::Error) -> Problem {
    match &error {
        // The store has said so in the log, once and not for every request.
        store::Error::Unavailable(_) => Problem::unavailable("the store is not available").logged(),
        _ => Problem::internal("the look-up failed"),
    }
    .because(error)
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
