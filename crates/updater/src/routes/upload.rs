//! Uploads: a form with the file as its field `data`, or the file as the body itself.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use dataset::Dataset;
use serde::Deserialize;
use service::{Problem, Role, Trace};
use store::Actor;
use tokio::task::JoinHandle;

use super::content::{Content, Patience, stated_length};
use super::form::Form;
use super::guard;
use super::pump::{Pumped, pump};
use crate::Settings;
use crate::app::Shared;
use crate::body::{self, BodySender};
use crate::expected::{IfMatch, Sha256};
use crate::load::failure::Failure;
use crate::load::options::{LoadOptions, LoadRequest};
use crate::load::registry::NoLoad;
use crate::load::status::LoadStatus;
use crate::load::summary::LoadSummary;

/// What a form may have around its file, in bytes. The limit on the file itself is kept while it is read.
const FORM_BYTES_MAX: u64 = 64 << 10;
/// The values of the header Content-Encoding that are taken. What the bytes are is seen from the bytes.
const ENCODINGS: [&str; 4] = ["identity", "gzip", "x-gzip", "zstd"];

/// What can stand behind the question mark. A misspelled wish must not be a wish that is passed over.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    force: bool,
    sha256: Option<String>,
}

/// `POST /upload`, for the dataset that is meant where none is named.
pub(super) async fn post_default(
    shared: web::Data<Shared>,
    request: HttpRequest,
    query: web::Query<Query>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let dataset = shared.default_dataset().cloned();
    let name = dataset.as_ref().map(|dataset| dataset.name.as_str());
    let actor = may_upload(&request, &query, name)?;
    let dataset = dataset
        .ok_or_else(|| Problem::not_found("there are several datasets: use /datasets/{dataset}/upload"))?;
    Upload::admit(shared, dataset, &request, query.into_inner(), actor)?.form(&request, payload).await
}

/// `POST /datasets/{dataset}/upload`.
pub(super) async fn post(
    shared: web::Data<Shared>,
    request: HttpRequest,
    dataset: web::Path<String>,
    query: web::Query<Query>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let (actor, dataset) = find_allowed(&shared, &request, &query, &dataset)?;
    Upload::admit(shared, dataset, &request, query.into_inner(), actor)?.form(&request, payload).await
}

/// `PUT /datasets/{dataset}`.
pub(super) async fn put(
    shared: web::Data<Shared>,
    request: HttpRequest,
    dataset: web::Path<String>,
    query: web::Query<Query>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let (actor, dataset) = find_allowed(&shared, &request, &query, &dataset)?;
    let mut upload = Upload::admit(shared, dataset, &request, query.into_inner(), actor)?;
    // A form is not the file: the digest of its bytes says nothing about the file.
    upload.options.sha256.extend(Sha256::from_headers(request.headers())?);
    let source = request.headers().get("x-source").and_then(|source| source.to_str().ok());
    let running = upload.start(&request, source.unwrap_or("a raw body"))?;
    let pumped = pump(Content::new(&request, payload), &running.sender, upload.patience()).await;
    running.settle(pumped, wants_no_wait(&request)).await
}

struct Upload {
    shared: web::Data<Shared>,
    dataset: Arc<Dataset>,
    options: LoadOptions,
    actor: Actor,
}

/// A load, and the request that feeds it.
struct Running {
    sender: BodySender,
    load: Arc<LoadStatus>,
    task: JoinHandle<Result<LoadSummary, Failure>>,
}

impl Upload {
    /// Refuses what can be refused before a byte of the body is read.
    fn admit(
        shared: web::Data<Shared>,
        dataset: Arc<Dataset>,
        request: &HttpRequest,
        query: Query,
        actor: Actor,
    ) -> Result<Self, Problem> {
        let Query { dry_run, force, sha256 } = query;
        let headers = request.headers();
        if headers.contains_key(header::CONTENT_RANGE) {
            return Err(Problem::bad_request(
                "an upload replaces the whole dataset and cannot be resumed (Content-Range): send the file from its start",
            ));
        }
        for encoding in headers.get_all(header::CONTENT_ENCODING) {
            let encoding = String::from_utf8_lossy(encoding.as_bytes());
            if !ENCODINGS.iter().any(|known| known.eq_ignore_ascii_case(encoding.trim())) {
                return Err(Problem::unsupported(format!(
                    "Content-Encoding: {encoding} is not read; send gzip, zstd, or the file as it is"
                )));
            }
        }
        let max = shared.settings.upload_bytes_max;
        if let Some(length) =
            stated_length(request).filter(|length| *length > max.saturating_add(FORM_BYTES_MAX))
        {
            return Err(Problem::too_large(format!(
                "the body has {length} bytes, and a file may have {max}"
            )));
        }
        let sha256 = sha256.as_deref().map(Sha256::from_query).transpose()?;
        let if_match = IfMatch::from_headers(headers)?;
        shared
            .loads
            .can_begin(&dataset.name, dry_run)
            .map_err(|why| no_load(&why, request, &shared.settings))?;
        let options = LoadOptions { dry_run, force, sha256: sha256.into_iter().collect(), if_match };
        Ok(Self { shared, dataset, options, actor })
    }

    fn patience(&self) -> Patience {
        let settings = &self.shared.settings;
        let seconds = Duration::from_secs;
        Patience::new(seconds(settings.idle_seconds.max(1)), seconds(settings.upload_seconds_max))
    }

    /// Starts the load, which goes on by itself once it has all bytes.
    fn start(&self, request: &HttpRequest, source: &str) -> Result<Running, Problem> {
        let source: String = source.chars().filter(|char| !char.is_control()).take(255).collect();
        let loads = &self.shared.loads;
        let trace = request.extensions().get::<Trace>().cloned().unwrap_or_default().part("load");
        let (options, actor) = (self.options.clone(), self.actor.clone());
        let load_request =
            LoadRequest { dataset: &self.dataset.name, source: &source, options, trace, actor };
        let load = loads.begin(load_request).map_err(|why| no_load(&why, request, &self.shared.settings))?;
        if wants_no_wait(request) {
            load.set_async();
        }
        if let Some(bytes) = stated_length(request) {
            load.progress.expect_bytes(bytes);
        }
        let (sender, body) = body::channel();
        let task = self.shared.load_task(self.dataset.clone(), load.clone());
        // A task of its own, because the load goes on when its client is answered early or goes away.
        let task = self.shared.runtime.spawn(loads.tracker().track_future(task.run(body)));
        Ok(Running { sender, load, task })
    }

    async fn form(self, request: &HttpRequest, payload: web::Payload) -> Result<HttpResponse, Problem> {
        let patience = self.patience();
        let mut form = Form::new(request, Content::new(request, payload), patience)?;
        let source = form.file().await?.filename;
        let running = self.start(request, source.as_deref().unwrap_or("a form"))?;
        let pumped = match pump(form.data(), &running.sender, patience).await {
            // Only behind the last boundary is the form whole.
            Pumped::Whole => form.end().await.map_or_else(Pumped::Broken, |()| Pumped::Whole),
            pumped => pumped,
        };
        running.settle(pumped, wants_no_wait(request)).await
    }
}

/// Who uploads, if that is allowed.
fn may_upload(request: &HttpRequest, query: &Query, dataset: Option<&str>) -> Result<Actor, Problem> {
    let role = if query.force { Role::Operate } else { Role::Upload };
    guard::may_write(request, role, dataset).map(guard::actor)
}

/// The same for a dataset that is named, and the dataset.
fn find_allowed(
    shared: &Shared,
    request: &HttpRequest,
    query: &Query,
    dataset: &str,
) -> Result<(Actor, Arc<Dataset>), Problem> {
    let actor = may_upload(request, query, Some(dataset))?;
    Ok((actor, super::versions::find(shared, dataset)?))
}

/// The answer where a load cannot begin.
fn no_load(why: &NoLoad, request: &HttpRequest, settings: &Settings) -> Problem {
    let NoLoad::InTheWay(first) = why else {
        return Problem::unavailable("as many loads run as may; see /loads");
    };
    let (dataset, id, seconds) = (&first.dataset, first.id, first.elapsed().as_secs());
    let updater = request.connection_info();
    let scheme = if settings.tls_certificate_path.is_some() { "https" } else { updater.scheme() };
    let names_host = request.headers().contains_key(header::HOST) || request.uri().authority().is_some();
    let host = if names_host { updater.host().to_owned() } else { settings.listen.to_string() };
    Problem::conflict(format!(
        "a file of `{dataset}` has been coming for {seconds} s as load {id}; to cancel it: \
         curl --request DELETE {scheme}://{host}/loads/{id}"
    ))
    .with("dataset", dataset.as_str())
    .with("running", id.to_string())
    .with("seconds", seconds)
}

const RESPOND_ASYNC: &str = "respond-async";

/// Whether the client wants its answer as soon as the file has come (RFC 7240).
fn wants_no_wait(request: &HttpRequest) -> bool {
    let prefers = request.headers().get_all("prefer").filter_map(|value| value.to_str().ok());
    let mut wishes = prefers.flat_map(|value| value.split([',', ';'])).map(str::trim);
    wishes.any(|wish| wish.eq_ignore_ascii_case(RESPOND_ASYNC))
}

impl Running {
    /// Tells the load how its bytes ended, and answers with what became of it, or where that will be told.
    async fn settle(self, pumped: Pumped, no_wait: bool) -> Result<HttpResponse, Problem> {
        let location = (header::LOCATION, format!("/loads/{}", self.load.id));
        match pumped {
            Pumped::Whole => {
                self.sender.end().await;
                if no_wait {
                    let applied = ("preference-applied", RESPOND_ASYNC);
                    let mut answer = HttpResponse::Accepted();
                    return Ok(answer
                        .insert_header(location)
                        .insert_header(applied)
                        .json(self.load.to_json()));
                }
            }
            Pumped::Broken(error) => self.sender.fail(error).await,
            Pumped::NotWanted => drop(self.sender),
        }
        let outcome = self.task.await.unwrap_or(Err(Failure::Panicked));
        match outcome {
            Ok(summary) => Ok(HttpResponse::Ok().insert_header(location).json(summary)),
            Err(failure) => Err(failure.problem(&self.load).logged()),
        }
    }
}
