//! The routes: many keys at once. One key is looked up in front of them.

mod many;

use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, guard};
use service::{Problem, Takes, route};

use crate::in_front::PATTERN;

/// Adds all routes of the api.
pub(crate) fn configure(config: &mut ServiceConfig) {
    config
        // A key may be called `lookup`, so this takes the path for its one method only.
        .service(web::resource("/{dataset}/lookup").guard(guard::Post()).to(many::post))
        .service(route(PATTERN, Takes::Reads, elsewhere))
        .service(route("/{dataset}", Takes::Reads, many::get));
}

/// The resource of one key is here for the methods that it does not take.
async fn elsewhere(request: HttpRequest) -> Result<HttpResponse, Problem> {
    service::nothing_there(request).await
}
