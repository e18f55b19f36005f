//! The look-up of many keys, all answered from one version.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use service::Problem;

use crate::key_list;
use crate::look_up::{LookUps, VERSION, no_dataset};
use crate::rows_body::RowsBody;

type Shared = web::ThinData<Rc<LookUps>>;

/// So many keys can be asked for at once.
const KEYS_MAX: usize = 1000;

/// `GET /{dataset}?id=A&id=B`.
pub(super) async fn get(
    look_ups: Shared,
    request: HttpRequest,
    dataset: web::Path<String>,
    query: web::Query<Vec<(String, String)>>,
) -> Result<HttpResponse, Problem> {
    // The parser of queries would take any bytes, and put another character in place of what is no UTF-8.
    if percent_decode_str(request.query_string()).decode_utf8().is_err() {
        return Err(Problem::bad_request("a key is not UTF-8"));
    }
    if let Some((name, _)) = query.iter().find(|(name, _)| name != "id") {
        return Err(Problem::bad_request(format!("`{name}` is not known: ask for keys as ?id=A&id=B")));
    }
    let keys: Vec<_> = query.iter().map(|(_, key)| key.as_str()).collect();
    look_up(&look_ups, &dataset, &keys).await
}

/// `POST /{dataset}/lookup`, with a JSON array of keys.
pub(super) async fn post(
    look_ups: Shared,
    dataset: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let keys = key_list::read(payload, &look_ups.limits.bodies).await?;
    look_up(&look_ups, &dataset, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await
}

async fn look_up(look_ups: &LookUps, dataset: &str, keys: &[&str]) -> Result<HttpResponse, Problem> {
    if keys.len() > KEYS_MAX {
        return Err(Problem::too_large(format!("{} keys are asked for, {KEYS_MAX} is the most", keys.len())));
    }
    let mut seen = HashSet::new();
    let keys: Vec<_> = keys.iter().copied().filter(|key| seen.insert(*key)).collect();
    let held = look_ups.limits.answers.begin();
    let found = look_ups.many(dataset, &keys, &held).await?.ok_or_else(|| no_dataset(dataset))?;
    if keys.is_empty() {
        return Err(Problem::bad_request("no key is asked for: name them as ?id=A&id=B"));
    }
    let (mut parts, mut missing, mut sent) = (VecDeque::new(), Vec::new(), HashSet::new());
    parts.push_back(Bytes::from(format!("{{\"version\":{},\"found\":[", found.version.number)));
    for (key, row) in keys.iter().zip(found.rows) {
        match row {
            // Keys that differ only in how they are written share the bytes of their row.
            Some(json) if sent.insert(json.as_ptr()) => {
                if sent.len() > 1 {
                    parts.push_back(Bytes::from_static(b","));
                }
                parts.push_back(json);
            }
            Some(_) => {}
            None => missing.push(*key),
        }
    }
    parts.push_back(Bytes::from(format!("],\"missing\":{}}}", Value::from(missing))));
    let body = BoxBody::new(RowsBody::new(parts, held, look_ups.limits.send_timeout));
    let mut response = HttpResponse::with_body(StatusCode::OK, body);
    let headers = response.headers_mut();
    headers.insert(VERSION, found.version.number.into());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
