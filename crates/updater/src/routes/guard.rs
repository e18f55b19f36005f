//! Who may write.

use actix_web::HttpRequest;
use actix_web::http::header::{AUTHORIZATION, HOST, ORIGIN};
use actix_web::http::uri::Authority;
use service::Problem;
use subtle::ConstantTimeEq;

use crate::app::Shared;

/// Lets a write pass that brings the token, where there is one, and that no foreign page has sent.
pub(super) fn may_write(shared: &Shared, request: &HttpRequest) -> Result<(), Problem> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    // A browser sends a form to this machine for any page that asks it to, and says where that page is from.
    if let Some(origin) = header(ORIGIN)
        && !is_own_page(origin, request)
    {
        return Err(Problem::forbidden(format!("writes from pages of {origin} are refused")));
    }
    let Some(token) = &shared.settings.token else { return Ok(()) };
    let given = header(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    if given.as_bytes().ct_eq(token.expose().as_bytes()).into() {
        Ok(())
    } else {
        Err(Problem::unauthorized("send the token as `Authorization: Bearer TOKEN`"))
    }
}

fn is_own_page(origin: &str, request: &HttpRequest) -> bool {
    let origin_host = origin.split_once("://").map_or(origin, |(_, host)| host);
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    // HTTP/2 has the host in the URI.
    host.or_else(|| request.uri().authority().map(Authority::as_str)) == Some(origin_host)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_page_of_our_own_is_known_over_http_1_and_http_2() {
        let http_1 = TestRequest::with_uri("/upload").insert_header((HOST, "here:1322")).to_http_request();
        let http_2 = TestRequest::with_uri("https://here:1322/upload").to_http_request();
        for request in [http_1, http_2] {
            assert!(is_own_page("https://here:1322", &request));
            assert!(!is_own_page("https://there:1322", &request) && !is_own_page("null", &request));
        }
    }
}
