//! Datasets and their versions: what is there, and going back to what was.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use dataset::Dataset;
use serde_json::json;
use service::{Problem, Role};
use store::{Actor, Ending, Entry, State, VersionId};
use tracing::{info, warn};

use super::guard;
use crate::answer::store_problem;
use crate::app::Shared;
use crate::expected::{IfMatch, live_changed};
use crate::recovery::recover;

/// The dataset of that name.
pub(super) fn find(shared: &Shared, name: &str) -> Result<Arc<Dataset>, Problem> {
    shared
        .datasets
        .get(name)
        .cloned()
        .ok_or_else(|| Problem::not_found(format!("there is no dataset `{name}`")))
}

/// `GET /datasets`.
pub(super) async fn datasets(shared: web::Data<Shared>, request: HttpRequest) -> HttpResponse {
    let live = shared.reader.live();
    let shown = |dataset: &Arc<Dataset>| {
        let live = live.iter().find(|live| live.dataset == dataset.name);
        json!({
            "dataset": dataset.name,
            "live": live.map(|live| live.version),
            "rows": live.map(|live| live.rows),
            "published_at": live.and_then(|live| live.published_at),
            "schema": *dataset.schema,
        })
    };
    let visible = shared.datasets.iter().filter(|dataset| guard::sees(&request, &dataset.name));
    let shown: Vec<_> = visible.map(shown).collect();
    HttpResponse::Ok().json(json!({ "datasets": shown }))
}

/// `GET /datasets/{dataset}/versions`, newest first.
pub(super) async fn list(
    shared: web::Data<Shared>,
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    guard::may_read(&request, &name)?;
    let dataset = find(&shared, &name)?;
    let (store, name) = (shared.store.clone(), dataset.name.clone());
    // On the runtime of loads, as all work on the store: the thread of a request ends with its server.
    let read = shared.runtime.spawn(async move { store.versions(&name).await });
    let versions = read.await.map_err(gone)?.map_err(|error| store_problem(&error).because(error))?;
    let live = versions.iter().find(|entry| entry.state == State::Live);
    let id = live.map(|entry| VersionId { number: entry.version, content: entry.content_id() });
    Ok(HttpResponse::Ok().json(json!({
        "dataset": dataset.name,
        "live": live.map(|entry| entry.version),
        "etag": id.map(|id| format!("\"{}\"", id.tag(&dataset.name))),
        "versions": versions,
    })))
}

/// `POST /datasets/{dataset}/versions/{version}/activate`.
pub(super) async fn activate(
    shared: web::Data<Shared>,
    request: HttpRequest,
    path: web::Path<(String, u32)>,
) -> Result<HttpResponse, Problem> {
    let (name, version) = path.into_inner();
    let actor = guard::actor(guard::may_write(&request, Role::Operate, Some(&name))?);
    let if_match = IfMatch::from_headers(request.headers())?;
    let dataset = find(&shared, &name)?;
    let (own, definition, activating) = (shared.clone(), dataset.clone(), actor.clone());
    // A task of its own, because a client that goes away must not stop a swap halfway.
    let task = async move {
        let allows = |live: Option<&Entry>| {
            if_match.as_ref().is_none_or(|expected| expected.allows(&definition.name, live))
        };
        if if_match.is_some() {
            // A rollback that is refused cancels nothing.
            let versions = own.store.versions(&definition.name).await?;
            let live = versions.iter().find(|entry| entry.state == State::Live);
            if !allows(live) {
                return Ok(Err(live.map(|live| live.version)));
            }
        }
        // Whoever goes back does not want what is on its way.
        own.loads.cancel(&definition.name, &activating).await;
        let mut publisher = own.store.publisher(&definition).await?;
        if !allows(publisher.live()) {
            let live = publisher.live().map(|live| live.version);
            if let Err(error) = publisher.end(Ending::Told).await {
                // The client is told why nothing was activated.
                warn!(dataset = definition.name, error = service::chain(&error), "cannot give the lock back");
            }
            return Ok(Err(live));
        }
        publisher.activate_for(activating);
        let activated = publisher.activate(version).await;
        if let Err(store::Error::OutcomeUnknown { .. }) = &activated {
            // A task of its own, because the client is answered now and the ledger says what happened as soon as the
            // database answers.
            tokio::spawn(recover(own.store.clone(), definition, own.loads.stopping().clone()));
        }
        activated.map(Ok)
    };
    let task = shared.runtime.spawn(shared.loads.tracker().track_future(task));
    let activated = task.await.map_err(gone)?.map_err(|error| store_problem(&error).because(error))?;
    let activated = activated.map_err(|live| live_changed(&dataset.name, live))?;
    let Actor { token, address, user_agent } = &actor;
    info!(
        dataset = dataset.name,
        version,
        before = activated.before,
        token,
        address,
        user_agent,
        "version activated"
    );
    Ok(HttpResponse::Ok().json(json!({
        "dataset": dataset.name,
        "version": activated.live.version,
        "before": activated.before,
    })))
}

fn gone(error: tokio::task::JoinError) -> Problem {
    Problem::internal("the request stopped unexpectedly").because(error)
}
