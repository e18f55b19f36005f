//! Who may do what: the checks before every request, and those of each route.

use actix_web::body::MessageBody;
use actix_web::dev::{RequestHead, ServiceRequest, ServiceResponse};
use actix_web::http::header::{CACHE_CONTROL, HOST, HeaderName, HeaderValue, ORIGIN};
use actix_web::http::uri::Authority;
use actix_web::http::{ConnectionType, Method, Uri};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, web};
use service::{BodyFault, Caller, Problem, Role};
use store::Actor;

use crate::app::Shared;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The middleware in front of all routes. A client that may not even ask is told so before anything is looked for.
pub(crate) async fn admit<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let shared = request.app_data::<web::Data<Shared>>().cloned();
    let shared = shared.ok_or_else(|| Problem::internal("the updater has no state"))?;
    match identify(&shared, request.head()) {
        Ok(Some(caller)) => drop(request.extensions_mut().insert(caller)),
        Ok(None) => {}
        Err(problem) => return Err(problem.into()),
    }
    let mut response = next.call(request).await?;
    let fault = response.request().conn_data::<BodyFault>();
    if fault.is_some_and(|fault| fault.get().is_some()) {
        // The next request cannot be found.
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    let headers = response.headers_mut();
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

/// Who sends a request; nobody has to say so to ask for health and metrics.
fn identify(shared: &Shared, head: &RequestHead) -> Result<Option<Caller>, Problem> {
    shared.hosts.check(head)?;
    if service::is_open_path(head.uri.path()) {
        return Ok(None);
    }
    let is_read = matches!(head.method, Method::GET | Method::HEAD);
    if is_read && shared.settings.allow_anonymous_reads {
        return shared.access.identify_anonymous(head).map(Some);
    }
    shared.access.identify(head).map(Some)
}

/// Lets a read of a dataset pass that its caller may do.
pub(super) fn may_read(request: &HttpRequest, dataset: &str) -> Result<(), Problem> {
    caller(request)?.authorize(Role::Read, Some(dataset))
}

/// Whether a read of a dataset may pass, where others are shown beside it.
pub(super) fn sees(request: &HttpRequest, dataset: &str) -> bool {
    caller(request).is_ok_and(|caller| caller.is_allowed(Role::Read, Some(dataset)))
}

/// Lets a write pass that its caller may do and that no foreign page has sent.
pub(super) fn may_write(request: &HttpRequest, role: Role, dataset: Option<&str>) -> Result<Caller, Problem> {
    if let Some(page) = foreign_page(request) {
        return Err(Problem::forbidden(format!("writes from pages of {page} are refused")));
    }
    let caller = caller(request)?;
    caller.authorize(role, dataset)?;
    Ok(caller)
}

/// The caller, as loads and the ledger remember it.
pub(super) fn actor(caller: Caller) -> Actor {
    let token = caller.token().map(str::to_owned);
    Actor { token, address: caller.address.to_string(), user_agent: caller.user_agent }
}

fn caller(request: &HttpRequest) -> Result<Caller, Problem> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Problem::internal("nobody found out who sends the request"))
}

/// The site of a foreign page that sends a request. A browser sends a form to this machine for any page that asks it to,
/// and says where that page is from.
fn foreign_page(request: &HttpRequest) -> Option<String> {
    let headers = request.headers();
    if headers.get_all(SEC_FETCH_SITE).any(|site| site.as_bytes().eq_ignore_ascii_case(b"cross-site")) {
        return Some("another site".into());
    }
    let mut origins = headers.get_all(ORIGIN);
    let origin = origins.next()?;
    match (origin.to_str(), origins.next()) {
        (Ok(origin), None) if is_own_page(origin, request) => None,
        (Ok(origin), None) => Some(origin.to_owned()),
        (Err(_), None) => Some("an origin that cannot be read".into()),
        (_, Some(_)) => Some("two origins".into()),
    }
}

fn is_own_page(origin: &str, request: &HttpRequest) -> bool {
    let Ok(origin) = origin.parse::<Uri>() else { return false };
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    // HTTP/2 has the host in the URI.
    let host = host.or_else(|| request.uri().authority().map(Authority::as_str));
    let own = host.and_then(|host| host.parse::<Authority>().ok());
    let default_port = match origin.scheme_str() {
        Some("https") => 443,
        Some("http") => 80,
        _ => return false,
    };
    let place = |at: &Authority| (at.host().to_ascii_lowercase(), at.port_u16().unwrap_or(default_port));
    let (page, own) = (origin.authority().map(place), own.as_ref().map(place));
    page.is_some() && page == own
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
            for own in ["https://here:1322", "https://HERE:1322"] {
                assert!(is_own_page(own, &request), "{own}");
            }
            for foreign in
                ["https://there:1322", "null", "https://here", "https://here:13220", "", "here:1322"]
            {
                assert!(!is_own_page(foreign, &request), "{foreign}");
            }
        }
    }

    #[test]
    fn the_default_port_of_a_scheme_need_not_be_written() {
        for (host, origin) in [
            ("here", "https://here:443"),
            ("here:443", "https://here"),
            ("here:80", "http://here"),
            ("here", "http://here"),
            ("here", "https://here"),
        ] {
            let request = TestRequest::default().insert_header((HOST, host)).to_http_request();
            assert!(is_own_page(origin, &request), "{host} {origin}");
        }
        let request = TestRequest::default().insert_header((HOST, "here:443")).to_http_request();
        assert!(!is_own_page("http://here", &request));
    }

    #[test]
    fn an_origin_that_cannot_be_read_two_of_them_and_another_site_are_foreign() {
        let request = || TestRequest::default().insert_header((HOST, "here"));
        let foreign = |request: TestRequest| foreign_page(&request.to_http_request()).is_some();
        assert!(!foreign(request()));
        assert!(!foreign(request().append_header((ORIGIN, "http://here"))));
        let twice = request().append_header((ORIGIN, "http://here")).append_header((ORIGIN, "http://here"));
        assert!(foreign(twice));
        assert!(foreign(request().append_header((ORIGIN, &b"http://h\xe9re"[..]))));
        assert!(foreign(request().append_header((SEC_FETCH_SITE, "Cross-Site"))));
        assert!(!foreign(request().append_header((SEC_FETCH_SITE, "same-origin"))));
    }
}
