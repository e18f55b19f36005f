//! The look-up of many keys, all answered from one version.

use std::rc::Rc;

use actix_web::{HttpResponse, web};
use serde_json::Value;
use serde_json::value::RawValue;
use service::Problem;

use crate::look_up::{LookUps, VERSION, no_dataset};

type Shared = web::ThinData<Rc<LookUps>>;

/// So many keys can be asked for at once.
const KEYS_MAX: usize = 1000;

/// `GET /{dataset}?id=A&id=B`.
pub(super) async fn get(
    look_ups: Shared,
    dataset: web::Path<String>,
    query: web::Query<Vec<(String, String)>>,
) -> Result<HttpResponse, Problem> {
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
    keys: web::Json<Vec<Box<RawValue>>>,
) -> Result<HttpResponse, Problem> {
    let keys = keys.iter().map(|key| text(key)).collect::<Result<Vec<_>, _>>()?;
    look_up(&look_ups, &dataset, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// A key as it is written: a number must not lose digits on its way.
fn text(key: &RawValue) -> Result<String, Problem> {
    match key.get().as_bytes() {
        [b'"', ..] => {
            serde_json::from_str(key.get()).map_err(|error| Problem::bad_request(error.to_string()))
        }
        [b'-' | b'0'..=b'9' | b't' | b'f', ..] => Ok(key.get().to_owned()),
        _ => Err(Problem::bad_request("a key is a string, a number or a boolean")),
    }
}

async fn look_up(look_ups: &LookUps, dataset: &str, keys: &[&str]) -> Result<HttpResponse, Problem> {
    if keys.len() > KEYS_MAX {
        return Err(Problem::too_large(format!("{} keys are asked for, {KEYS_MAX} is the most", keys.len())));
    }
    let found = look_ups.many(dataset, keys).await?.ok_or_else(|| no_dataset(dataset))?;
    if keys.is_empty() {
        return Err(Problem::bad_request("no key is asked for: name them as ?id=A&id=B"));
    }
    let mut body = format!("{{\"version\":{},\"found\":[", found.version.number).into_bytes();
    let mut missing = Vec::new();
    let before = body.len();
    for (key, row) in keys.iter().zip(found.rows) {
        match row {
            Some(json) => {
                if body.len() > before {
                    body.push(b',');
                }
                body.extend_from_slice(&json);
            }
            None => missing.push(*key),
        }
    }
    body.extend_from_slice(b"],\"missing\":");
    body.extend_from_slice(Value::from(missing).to_string().as_bytes());
    body.push(b'}');
    Ok(HttpResponse::Ok()
        .insert_header((VERSION, found.version.number))
        .content_type("application/json")
        .body(body))
}
