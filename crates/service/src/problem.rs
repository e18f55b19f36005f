//! Problem answers (RFC 9457): what a client can act on. The cause is for the log alone.

use std::error::Error;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Value, json};

/// The media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Keeps browsers from guessing another type than the one that is sent.
pub const NO_SNIFF: (HeaderName, HeaderValue) =
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

/// An answer that says why there is no other.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    more: Vec<(String, Value)>,
    retry_after_seconds: Option<u32>,
    source: Option<Box<dyn Error + Send + Sync>>,
    logged: bool,
    allow: Option<&'static str>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            status,
            code,
            detail,
            more: Vec::new(),
            retry_after_seconds: None,
            source: None,
            logged: false,
            allow: None,
        }
    }

    /// 400: the request is not what the route takes.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed-request", detail)
    }

    /// 401: the token is missing or wrong.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// 403: not from there.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 429: not so often.
    pub fn too_many_requests(detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail);
        Self { retry_after_seconds: Some(6), ..problem }
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// 405: the route has other methods, these.
    pub fn method_not_allowed(detail: impl Into<String>, allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail) }
    }

    /// 408: the request does not come, or too slowly.
    pub fn too_slow(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "too-slow", detail)
    }

    /// 409: another load is running.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// 409 with a type of its own: what was asked for does not fit what is there by now.
    pub fn conflict_of(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 504: the store vanished after it was told to publish.
    pub fn outcome_unknown(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "outcome-unknown", detail)
    }

    /// 412: what the client expects to be there is not.
    pub fn precondition_failed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", detail)
    }

    /// 413: over a limit.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    }

    /// 415: a format that is not read.
    pub fn unsupported(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-format", detail)
    }

    /// 422: the file was refused.
    pub fn refused(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// 500: a defect, or damaged data.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal-error", detail)
    }

    /// 503: not now.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail);
        Self { retry_after_seconds: Some(1), ..problem }
    }

    /// 507: no room.
    pub fn no_space(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "no-space", detail)
    }

    /// What a part of actix refused in its own words.
    pub(crate) fn of_client(status: StatusCode, detail: impl Into<String>) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::not_found(detail),
            StatusCode::PAYLOAD_TOO_LARGE => Self::too_large(detail),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::unsupported(detail),
            _ => Self::new(status, "malformed-request", detail),
        }
    }

    /// Adds a member to the answer.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.push((name.to_owned(), value.into()));
        self
    }

    /// Adds the cause, for the log.
    #[must_use]
    pub fn because(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// Says that the failure stands in the log already.
    #[must_use]
    pub fn logged(self) -> Self {
        Self { logged: true, ..self }
    }

    pub(crate) fn is_logged(&self) -> bool {
        self.logged
    }

    /// The answer's body.
    pub fn to_json(&self) -> Value {
        let mut body = json!({
            "type": format!("urn:tableswap:problem:{}", self.code),
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Value::Object(members) = &mut body {
            members.extend(self.more.clone());
        }
        body
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| -> &(dyn Error + 'static) { source.as_ref() })
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status);
        answer.insert_header((header::CONTENT_TYPE, PROBLEM_JSON));
        answer.insert_header((header::CACHE_CONTROL, "no-store"));
        answer.insert_header(NO_SNIFF);
        if let Some(seconds) = self.retry_after_seconds {
            answer.insert_header((header::RETRY_AFTER, seconds));
        }
        if let Some(methods) = self.allow {
            answer.insert_header((header::ALLOW, methods));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            answer.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        answer.body(self.to_json().to_string())
    }
}

/// An error and its causes in one line.
pub fn chain(error: &dyn Error) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        let said = cause.to_string();
        // Some errors repeat their cause in their own text.
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_for_the_log_and_not_for_the_client() {
        let problem = Problem::unavailable("the store is not available")
            .with("dataset", "promotions")
            .because(std::io::Error::other("connection refused by 10.0.0.1"));
        insta::assert_snapshot!(problem.to_json(), @r#"{"type":"urn:tableswap:problem:unavailable","title":"Service Unavailable","status":503,"detail":"the store is not available","dataset":"promotions"}"#);
        assert_eq!(chain(&problem), "the store is not available: connection refused by 10.0.0.1");
    }

    #[test]
    fn an_answer_has_its_type_and_its_headers() {
        let header = |problem: Problem, name| problem.error_response().headers().get(name).cloned();
        let unavailable = header(Problem::unavailable("no"), header::CONTENT_TYPE);
        assert_eq!(unavailable.unwrap(), "application/problem+json");
        assert_eq!(header(Problem::unavailable("no"), header::RETRY_AFTER).unwrap(), "1");
        assert_eq!(header(Problem::unauthorized("no"), header::WWW_AUTHENTICATE).unwrap(), "Bearer");
    }
}
