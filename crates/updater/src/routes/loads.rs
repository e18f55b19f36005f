//! Loads: what is running, what became of it, and the rows that were refused.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use service::Problem;
use tokio::fs::File;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use crate::app::Shared;
use crate::loads::Load;

/// `GET /loads`, newest first.
pub(super) async fn list(shared: web::Data<Shared>) -> HttpResponse {
    let loads: Vec<_> = shared.loads.list().iter().map(|load| load.to_json()).collect();
    HttpResponse::Ok().json(serde_json::json!({ "loads": loads }))
}

/// `GET /loads/{id}`.
pub(super) async fn show(shared: web::Data<Shared>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(find(&shared, &id)?.to_json()))
}

/// `GET /loads/{id}/rejects.csv`.
pub(super) async fn rejects(
    shared: web::Data<Shared>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let load = find(&shared, &id)?;
    let file = File::open(&load.report).await;
    let file = file.map_err(|_| Problem::not_found(format!("load {id} has no rejects")))?;
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header((header::CONTENT_DISPOSITION, "attachment; filename=\"rejects.csv\""))
        .streaming(ReaderStream::new(file)))
}

fn find(shared: &Shared, id: &str) -> Result<Arc<Load>, Problem> {
    let load = id.parse::<Uuid>().ok().and_then(|id| shared.loads.find(id));
    load.ok_or_else(|| Problem::not_found(format!("there is no load {id}; the last hundred are remembered")))
}
