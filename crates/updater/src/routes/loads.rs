//! Loads: what is running, what became of it, and the rows that were refused.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use service::Problem;
use tokio::fs::File;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use super::guard;
use crate::app::Shared;
use crate::loads::{Event, Load};

/// How often those who follow a load hear of it.
const EVENT_EVERY: Duration = Duration::from_millis(500);

/// `GET /loads`, newest first.
pub(super) async fn list(shared: web::Data<Shared>) -> HttpResponse {
    let loads: Vec<_> = shared.loads.list().iter().map(|load| load.to_json()).collect();
    HttpResponse::Ok().json(serde_json::json!({ "loads": loads }))
}

/// `GET /loads/{id}`.
pub(super) async fn show(shared: web::Data<Shared>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(find(&shared, &id)?.to_json()))
}

/// `DELETE /loads/{id}`: cancels it, and answers when nothing is left of it.
pub(super) async fn cancel(
    shared: web::Data<Shared>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    guard::may_write(&shared, &request)?;
    let load = find(&shared, &id)?;
    load.cancel.cancel();
    load.ended().await;
    let json = load.to_json();
    if json["outcome"] == "cancelled" {
        return Ok(HttpResponse::Ok().json(json));
    }
    let outcome = json["outcome"].as_str().unwrap_or_default();
    Err(Problem::conflict(format!("load {id} has ended: {outcome}")).with("outcome", outcome))
}

/// `GET /loads/{id}/events`: every phase, and in between how far it is, until it has ended.
pub(super) async fn events(
    shared: web::Data<Shared>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let load = find(&shared, &id)?;
    let seen = request.headers().get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let Some(first) = load.next_event(seen.unwrap_or(0), EVENT_EVERY).await else {
        // So a browser does not come back for more.
        return Ok(HttpResponse::NoContent().finish());
    };
    let text = |event: &Event| {
        let text = format!("id: {}\nevent: {}\ndata: {}\n\n", event.number, event.name, event.data);
        Ok::<_, Infallible>(Bytes::from(text))
    };
    let (start, seen) = (text(&first), first.number);
    let events = stream::unfold((load, seen), move |(load, seen)| async move {
        let event = load.next_event(seen, EVENT_EVERY).await?;
        Some((text(&event), (load, event.number)))
    });
    let events = stream::once(ready(start)).chain(events);
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(events))
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
