//! The routes, one file for each group.

mod guard;
mod loads;
mod upload;
mod versions;

use actix_web::web::{self, ServiceConfig};
use service::route;

/// Adds all routes of the updater.
pub(crate) fn configure(config: &mut ServiceConfig) {
    config
        .service(route("/upload", web::post().to(upload::post_default)))
        .service(route("/datasets/{dataset}/upload", web::post().to(upload::post)))
        .service(route("/datasets/{dataset}", web::put().to(upload::put)))
        .service(route("/loads", web::get().to(loads::list)))
        .service(route("/loads/{id}", web::get().to(loads::show)))
        .service(route("/loads/{id}/rejects.csv", web::get().to(loads::rejects)))
        .service(route("/datasets", web::get().to(versions::datasets)))
        .service(route("/datasets/{dataset}/versions", web::get().to(versions::list)))
        .service(route(
            "/datasets/{dataset}/versions/{version}/activate",
            web::post().to(versions::activate),
        ));
}
