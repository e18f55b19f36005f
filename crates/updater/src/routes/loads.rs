//! Loads: what is running, what became of it, and the rows that were refused.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::json;
use service::{Problem, Role};
use store::State;
use tokio::fs::File;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use super::guard::{self, actor};
use crate::answer::store_problem;
use crate::app::Shared;
use crate::formulas::FormulaGuard;
use crate::load::outcome::Outcome;
use crate::load::status::{LoadEvent, LoadStatus};

/// How often those who follow a load hear of it.
const EVENT_EVERY: Duration = Duration::from_millis(500);

/// `GET /loads`, newest first.
pub(super) async fn list(shared: web::Data<Shared>, request: HttpRequest) -> HttpResponse {
    let loads = shared.loads.list();
    let loads = loads.iter().filter(|load| guard::sees(&request, &load.dataset));
    let loads: Vec<_> = loads.map(|load| load.to_json()).collect();
    HttpResponse::Ok().json(json!({ "loads": loads }))
}

/// `GET /loads/{id}`.
pub(super) async fn show(
    shared: web::Data<Shared>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    match find_to_read(&shared, &request, &id) {
        Ok(load) => Ok(HttpResponse::Ok().json(load.to_json())),
        Err(unknown) => remembered(&shared, &request, &id).await?.ok_or(unknown),
    }
}

/// A load that this process does not know: one of another updater, or of before a restart, as the ledger has it.
async fn remembered(
    shared: &Shared,
    request: &HttpRequest,
    id: &str,
) -> Result<Option<HttpResponse>, Problem> {
    if id.parse::<Uuid>().is_err() {
        return Ok(None);
    }
    for dataset in shared.datasets.iter().filter(|dataset| guard::sees(request, &dataset.name)) {
        let (store, name) = (shared.store.clone(), dataset.name.clone());
        // On the runtime of loads, as all work on the store: the thread of a request ends with its server.
        let versions = shared.runtime.spawn(async move { store.versions(&name).await });
        let versions =
            versions.await.map_err(|error| Problem::internal("the request stopped").because(error))?;
        let versions = versions.map_err(|error| store_problem(&error).because(error))?;
        if let Some(entry) = versions.into_iter().find(|entry| entry.load == id) {
            let outcome = match entry.state {
                State::Loading | State::Staged => None,
                State::Failed => Some(Outcome::Failed),
                State::Superseded => Some(Outcome::Superseded),
                _ => Some(Outcome::Published),
            };
            return Ok(Some(HttpResponse::Ok().json(json!({
                "id": id,
                "dataset": dataset.name,
                "version": entry.version,
                "source": entry.source,
                "started_at": entry.started_at,
                "host": entry.host,
                "actor": entry.actor,
                "phase": outcome.map_or("running", |_| "ended"),
                "outcome": outcome.map(Outcome::as_str),
                "reason": entry.reason,
            }))));
        }
    }
    Ok(None)
}

/// `DELETE /loads/{id}`: cancels it, and answers when nothing is left of it.
pub(super) async fn cancel(
    shared: web::Data<Shared>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    guard::may_write(&request, Role::Operate, None)?;
    let load = find(&shared, &id)?;
    let actor = actor(guard::may_write(&request, Role::Operate, Some(&load.dataset))?);
    load.cancel_for(actor);
    load.ended().await;
    if load.outcome() == Some(Outcome::Cancelled) {
        return Ok(HttpResponse::Ok().json(load.to_json()));
    }
    let outcome = load.outcome().map_or("", Outcome::as_str);
    Err(Problem::conflict(format!("load {id} has ended: {outcome}")).with("outcome", outcome))
}

/// `GET /loads/{id}/events`: every phase, and in between how far it is, until it has ended.
pub(super) async fn events(
    shared: web::Data<Shared>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let load = find_to_read(&shared, &request, &id)?;
    let seen = request.headers().get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let Some(first) = load.next_event(seen.unwrap_or(0), EVENT_EVERY).await else {
        // So a browser does not come back for more.
        return Ok(HttpResponse::NoContent().finish());
    };
    let text = |event: &LoadEvent| {
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

/// What can stand behind the question mark of a report.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportQuery {
    #[serde(default)]
    raw: bool,
}

/// `GET /loads/{id}/rejects.csv`; with `?raw=true` the very bytes that were refused.
pub(super) async fn rejects(
    shared: web::Data<Shared>,
    request: HttpRequest,
    id: web::Path<String>,
    query: web::Query<ReportQuery>,
) -> Result<HttpResponse, Problem> {
    let load = find_to_read(&shared, &request, &id)?;
    let file = File::open(&load.rejects_report).await;
    let file = file.map_err(|_| Problem::not_found(format!("load {id} has no rejects")))?;
    let mut guard = (!query.raw).then(FormulaGuard::default);
    let pieces = ReaderStream::new(file).map(move |piece| {
        piece.map(|piece| match &mut guard {
            Some(guard) => guard.guard(&piece),
            None => piece,
        })
    });
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header((header::CONTENT_DISPOSITION, "attachment; filename=\"rejects.csv\""))
        .streaming(pieces))
}

/// A load that its reader may see. What may not be seen is not there.
fn find_to_read(shared: &Shared, request: &HttpRequest, id: &str) -> Result<Arc<LoadStatus>, Problem> {
    let load = find(shared, id)?;
    guard::may_read(request, &load.dataset)?;
    Ok(load)
}

fn find(shared: &Shared, id: &str) -> Result<Arc<LoadStatus>, Problem> {
    let load = id.parse::<Uuid>().ok().and_then(|id| shared.loads.find(id));
    load.ok_or_else(|| Problem::not_found(format!("there is no load {id}; the last hundred are remembered")))
}
