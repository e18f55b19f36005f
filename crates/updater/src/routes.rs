//! The routes, one file for each group.

mod content;
mod form;
mod guard;
mod loads;
mod pump;
mod upload;
mod versions;

use actix_web::web::ServiceConfig;
use service::{Takes, also_deleted, route};

pub(crate) use self::guard::admit;

/// Adds all routes of the updater.
pub(crate) fn configure(config: &mut ServiceConfig) {
    config
        .service(route("/upload", Takes::Post, upload::post_default))
        .service(route("/datasets/{dataset}/upload", Takes::Post, upload::post))
        .service(route("/datasets/{dataset}", Takes::Put, upload::put))
        .service(route("/loads", Takes::Reads, loads::list))
        .service(also_deleted(route("/loads/{id}", Takes::Reads, loads::show), loads::cancel))
        .service(route("/loads/{id}/events", Takes::Reads, loads::events))
        .service(route("/loads/{id}/rejects.csv", Takes::Reads, loads::rejects))
        .service(route("/datasets", Takes::Reads, versions::datasets))
        .service(route("/datasets/{dataset}/versions", Takes::Reads, versions::list))
        .service(route("/datasets/{dataset}/versions/{version}/activate", Takes::Post, versions::activate));
}
