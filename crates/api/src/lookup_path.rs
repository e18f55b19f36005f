//! The path of a lookup, `/{dataset}/{key}`.

use std::borrow::Cow;

use actix_http::Request;
use actix_web::http::Method;
use percent_encoding::percent_decode_str;
use service::Problem;

/// As it stands in the metrics.
pub(crate) const PATTERN: &str = "/{dataset}/{key}";

/// What a lookup asks for.
pub(crate) struct LookupPath<'a> {
    pub(crate) dataset: Cow<'a, str>,
    pub(crate) key: Cow<'a, str>,
}

/// The dataset and the key, if the request is a lookup of one key.
pub(crate) fn parse(request: &Request) -> Option<Result<LookupPath<'_>, Problem>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let path = request.path();
    let (dataset, key) = path.strip_prefix('/')?.split_once('/')?;
    if dataset.is_empty() || key.is_empty() || key.contains('/') {
        return None;
    }
    if !path.contains('%') {
        return Some(Ok(LookupPath { dataset: dataset.into(), key: key.into() }));
    }
    let decode = |part| percent_decode_str(part).decode_utf8();
    // What is not text cannot be a key.
    Some(match (decode(dataset), decode(key)) {
        (Ok(dataset), Ok(key)) => Ok(LookupPath { dataset, key }),
        _ => Err(Problem::not_found("the path is not UTF-8")),
    })
}
