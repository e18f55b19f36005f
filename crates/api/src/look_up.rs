//! What a worker needs to answer look-ups, and the answers. What stands in the head of every answer from one version is
//! made once for each worker.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::web::Bytes;
use service::{NO_SNIFF, Problem, Recorder};
use store::{AnswerBudget, AnswerBytes, Found, LookUp, Outcome, OverBudget, Reader, VersionId};

use crate::places::Places;

/// The header that says of which version an answer is.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("x-dataset-version");
/// Of look-ups that fail, one goes into the log in so long.
const LOGGED_EVERY: Duration = Duration::from_secs(1);

/// What requests may take, in all workers together.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Requests that wait for the store.
    pub(crate) places: Places,
    /// Bytes of the rows of many keys that are not yet sent.
    pub(crate) answers: AnswerBudget,
    /// Bytes of lists of keys that are being read.
    pub(crate) bodies: AnswerBudget,
    /// How long a client may take nothing of an answer.
    pub(crate) send_timeout: Duration,
}

/// What a worker needs to answer look-ups.
pub(crate) struct LookUps {
    pub(crate) reader: Reader,
    pub(crate) recorder: Rc<Recorder>,
    pub(crate) limits: Limits,
    cache_control: Option<HeaderValue>,
    /// For each dataset, of the version that was answered from last.
    heads: RefCell<Vec<Rc<Head>>>,
    failed_at: Cell<Option<Instant>>,
}

/// What all answers from one version share.
struct Head {
    dataset: String,
    version: VersionId,
    number: HeaderValue,
    etag: HeaderValue,
    /// The body for a key that is not there.
    missing: Bytes,
}

impl LookUps {
    /// For one worker.
    pub(crate) fn new(
        reader: Reader,
        recorder: Rc<Recorder>,
        limits: Limits,
        cache_control: Option<HeaderValue>,
    ) -> Rc<Self> {
        Rc::new(Self {
            reader,
            recorder,
            limits,
            cache_control,
            heads: RefCell::default(),
            failed_at: Cell::default(),
        })
    }

    /// Looks many keys up; nothing where there is no such dataset.
    pub(crate) async fn many(
        &self,
        dataset: &str,
        keys: &[&str],
        bytes: &Arc<AnswerBytes>,
    ) -> Result<Option<LookUp>, Problem> {
        let _place = self.limits.places.take()?;
        self.reader.look_up(dataset, keys, bytes).await.map_err(|error| self.problem(error))
    }

    /// The answer where the store gave none.
    fn problem(&self, error: store::Error) -> Problem {
        if matches!(error, store::Error::Unavailable(_)) {
            // The store has said so in the log, once and not for every request.
            return Problem::unavailable("the store is not available").logged().because(error);
        }
        match error {
            store::Error::OverBudget(why @ OverBudget::TooLarge { .. }) => {
                return Problem::too_large(format!("{why}: ask for fewer keys at once"));
            }
            store::Error::OverBudget(why @ OverBudget::Overloaded) => {
                return Problem::unavailable(why.to_string()).logged();
            }
            _ => {}
        }
        let (problem, now) = (Problem::internal("the look-up failed").because(error), Instant::now());
        if self.failed_at.get().is_some_and(|last| now.duration_since(last) < LOGGED_EVERY) {
            return problem.logged();
        }
        self.failed_at.set(Some(now));
        problem
    }

    /// The answer to who has it already, which needs no look at the store: every row of a version has the same tag.
    pub(crate) fn not_modified(&self, asked: &HeaderMap, dataset: &str) -> Option<HttpResponse> {
        if !asked.contains_key(header::IF_NONE_MATCH) {
            return None;
        }
        let head = self.head(dataset, self.reader.current(dataset)?);
        names(asked, &head.etag).then(|| self.found(&head, StatusCode::NOT_MODIFIED, Bytes::new()))
    }

    /// The answer to a request with the headers `asked`.
    pub(crate) fn response(
        &self,
        asked: &HeaderMap,
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
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            let (name, value) = NO_SNIFF;
            headers.insert(name, value);
            headers.insert(VERSION, head.number.clone());
            return Ok(response);
        };
        if asked.contains_key(header::IF_NONE_MATCH) && (any(asked) || names(asked, &head.etag)) {
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
        let (name, value) = NO_SNIFF;
        headers.insert(name, value);
        headers.insert(VERSION, head.number.clone());
        headers.insert(header::ETAG, head.etag.clone());
        if let Some(value) = &self.cache_control {
            headers.insert(header::CACHE_CONTROL, value.clone());
        }
        response
    }

    fn head(&self, dataset: &str, version: VersionId) -> Rc<Head> {
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
}

impl Head {
    fn new(dataset: &str, version: VersionId) -> Self {
        let missing =
            Problem::not_found(format!("`{dataset}` has no such key")).with("version", version.number);
        // The name of a dataset is letters, digits and underscores.
        let etag = HeaderValue::try_from(format!("\"{}\"", version.tag(dataset)));
        Self {
            dataset: dataset.to_owned(),
            version,
            number: version.number.into(),
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
