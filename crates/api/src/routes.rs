//! The look-up of one key.

mod many;

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, guard};
use percent_encoding::percent_decode_str;
use service::{Problem, Takes, route};
use store::Reader;

/// The header that says of which version an answer is.
const VERSION: HeaderName = HeaderName::from_static("x-dataset-version");

/// Adds all routes of the api.
pub(crate) fn configure(config: &mut ServiceConfig) {
    config
        // A key may be called `lookup`, so this takes the path for its one method only.
        .service(web::resource("/{dataset}/lookup").guard(guard::Post()).to(many::post))
        .service(route("/{dataset}/{key}", Takes::Reads, one))
        .service(route("/{dataset}", Takes::Reads, many::get));
}

/// `GET /{dataset}/{key}`.
async fn one(
    reader: web::Data<Reader>,
    request: HttpRequest,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (dataset, key) = path.into_inner();
    let found = reader.look_up(&dataset, &[&key]).await.map_err(store_problem)?;
    let found = found.ok_or_else(|| no_dataset(&dataset))?;
    // What is no text is no key; the path's decoder would have put a character in its place.
    let is_text = percent_decode_str(request.uri().path()).decode_utf8().is_ok();
    let Some(json) = found.rows.into_iter().next().flatten().filter(|_| is_text) else {
        return Err(Problem::not_found(format!("`{dataset}` has no such key")).with("version", found.version));
    };
    let etag = format!("\"{dataset}-{}\"", found.version);
    let known = is_known(request.headers(), &etag);
    let mut answer = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer.insert_header((VERSION, HeaderValue::from(found.version))).insert_header((header::ETAG, etag));
    if known {
        return Ok(answer.finish());
    }
    Ok(answer.content_type("application/json").body(json))
}

/// Whether the client says that it has this very answer. What is no etag is passed over.
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let given = headers.get_all(header::IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
    given
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|given| given == "*" || given.strip_prefix("W/").unwrap_or(given) == etag)
}

fn no_dataset(dataset: &str) -> Problem {
    Problem::not_found(format!("there is no dataset `{dataset}`"))
}

/// The answer where the store gave none.
fn store_problem(error: store::Error) -> Problem {
    let problem = match &error {
        store::Error::Unavailable(_) => Problem::unavailable("the store is not available"),
        _ => Problem::internal("the look-up failed"),
    };
    problem.because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(value: &'static [u8]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_bytes(value).unwrap());
        is_known(&headers, "\"promotions-42\"")
    }

    #[test]
    fn an_etag_is_found_among_others_and_nonsense_is_passed_over() {
        for value in [&b"\"promotions-42\""[..], b"W/\"promotions-42\"", b"\"a\", \"promotions-42\"", b"*"] {
            assert!(known(value), "{value:?}");
        }
        for value in [&b"\"promotions-4\""[..], b"promotions-42", b"\"promotions-42", b",,\"", b"\xff\xfe"] {
            assert!(!known(value), "{value:?}");
        }
    }
}
