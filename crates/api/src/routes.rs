//! The routes: many keys at once. One key is looked up in front of them.

mod many;

use actix_web::web::ServiceConfig;
use actix_web::{HttpRequest, HttpResponse};
use service::{Problem, Takes, also_posted, route};

use crate::lookup_path::PATTERN;

/// Adds all routes of the api.
pub(crate) fn configure(config: &mut ServiceConfig) {
    config
        // A key may be called `lookup`, too.
        .service(also_posted(route("/{dataset}/lookup", Takes::Reads, elsewhere), many::post))
        .service(route(PATTERN, Takes::Reads, elsewhere))
        .service(route("/{dataset}", Takes::Reads, many::get));
}

/// The resource of one key is here for the methods that it does not take.
async fn elsewhere(request: HttpRequest) -> Result<HttpResponse, Problem> {
    service::nothing_there(request).await
}
