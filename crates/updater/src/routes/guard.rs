//! Who may write.

use actix_web::HttpRequest;
use actix_web::http::header::{AUTHORIZATION, HOST, ORIGIN};
use service::Problem;
use subtle::ConstantTimeEq;

use crate::app::Shared;

/// Lets a write pass that brings the token, where there is one, and that no foreign page has sent.
pub(super) fn may_write(shared: &Shared, request: &HttpRequest) -> Result<(), Problem> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    // A browser sends a form to this machine for any page that asks it to, and says where that page is from.
    if let Some(origin) = header(ORIGIN) {
        let origin_host = origin.split_once("://").map_or(origin, |(_, host)| host);
        if Some(origin_host) != header(HOST) {
            return Err(Problem::forbidden(format!("writes from pages of {origin} are refused")));
        }
    }
    let Some(token) = &shared.settings.token else { return Ok(()) };
    let given = header(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    if given.as_bytes().ct_eq(token.expose().as_bytes()).into() {
        Ok(())
    } else {
        Err(Problem::unauthorized("send the token as `Authorization: Bearer TOKEN`"))
    }
}
