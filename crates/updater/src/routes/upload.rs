//! Uploads: a form with the file as its field `data`, or the file as the body itself.

use std::sync::Arc;
use std::time::Duration;

use actix_multipart::Multipart;
use actix_web::http::header;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use dataset::Dataset;
use serde::Deserialize;
use service::{Problem, Trace};
use tokio::task::JoinHandle;

use super::form::{FIELD, Form};
use super::guard;
use super::pump::{Patience, Pumped, drain, pump};
use crate::app::Shared;
use crate::body::{self, BodySender};
use crate::load::{Failure, Report};
use crate::loads::{Load, NoLoad, Order, Wish};

/// What can stand behind the question mark. A misspelled wish must not be a wish that is passed over.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    force: bool,
}

/// `POST /upload`, for the dataset that is meant where none is named.
pub(super) async fn post_default(
    shared: web::Data<Shared>,
    request: HttpRequest,
    query: web::Query<Query>,
    form: Multipart,
) -> Result<HttpResponse, Problem> {
    let dataset = shared.default_dataset().cloned();
    let dataset = dataset
        .ok_or_else(|| Problem::not_found("there are several datasets: use /datasets/{dataset}/upload"))?;
    Upload { shared, dataset, wish: query.into_inner().into() }.form(&request, form).await
}

/// `POST /datasets/{dataset}/upload`.
pub(super) async fn post(
    shared: web::Data<Shared>,
    request: HttpRequest,
    dataset: web::Path<String>,
    query: web::Query<Query>,
    form: Multipart,
) -> Result<HttpResponse, Problem> {
    let dataset = super::versions::find(&shared, &dataset)?;
    Upload { shared, dataset, wish: query.into_inner().into() }.form(&request, form).await
}

/// `PUT /datasets/{dataset}`.
pub(super) async fn put(
    shared: web::Data<Shared>,
    request: HttpRequest,
    dataset: web::Path<String>,
    query: web::Query<Query>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let allowed = guard::may_write(&shared, &request).and_then(|()| super::versions::find(&shared, &dataset));
    let dataset = match allowed {
        Ok(dataset) => dataset,
        Err(problem) => {
            drain(payload).await;
            return Err(problem);
        }
    };
    let source = request.headers().get("x-source").and_then(|source| source.to_str().ok());
    let upload = Upload { shared, dataset, wish: query.into_inner().into() };
    let running = match upload.start(&request, source.unwrap_or("a raw body")) {
        Ok(running) => running,
        Err(problem) => {
            drain(payload).await;
            return Err(problem);
        }
    };
    let patience = upload.patience();
    let pumped = pump(payload, &running.sender, patience).await;
    running.settle(pumped, wants_no_wait(&request)).await
}

impl From<Query> for Wish {
    fn from(query: Query) -> Self {
        Self { dry_run: query.dry_run, force: query.force }
    }
}

struct Upload {
    shared: web::Data<Shared>,
    dataset: Arc<Dataset>,
    wish: Wish,
}

/// A load, and the request that feeds it.
struct Running {
    sender: BodySender,
    load: Arc<Load>,
    task: JoinHandle<Result<Report, Failure>>,
}

impl Upload {
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
        let order = Order { dataset: &self.dataset.name, source: &source, wish: self.wish, trace };
        let load = loads.begin(order).map_err(|why| no_load(&why, request))?;
        if wants_no_wait(request) {
            load.set_async();
        }
        let length = request.headers().get(header::CONTENT_LENGTH);
        if let Some(bytes) = length.and_then(|length| length.to_str().ok()?.parse().ok()) {
            load.progress.expect_bytes(bytes);
        }
        let (sender, body) = body::channel();
        let job = self.shared.job(self.dataset.clone(), load.clone());
        let task = self.shared.runtime.spawn(loads.tracker().track_future(job.run(body)));
        Ok(Running { sender, load, task })
    }

    async fn form(self, request: &HttpRequest, form: Multipart) -> Result<HttpResponse, Problem> {
        let (mut form, patience) = (Form::new(form), self.patience());
        let first = match guard::may_write(&self.shared, request) {
            Ok(()) => form.next_file(patience).await,
            Err(problem) => Err(problem),
        };
        let mut file = match first {
            Ok(Some(file)) => file,
            Ok(None) => {
                return Err(Problem::bad_request(format!("the form has no field `{FIELD}` with the file")));
            }
            Err(problem) => {
                form.drain().await;
                return Err(problem);
            }
        };
        let source =
            file.content_disposition().and_then(|it| it.get_filename()).unwrap_or("a form").to_owned();
        let running = match self.start(request, &source) {
            Ok(running) => running,
            Err(problem) => {
                drop(file);
                form.drain().await;
                return Err(problem);
            }
        };
        let pumped = pump(&mut file, &running.sender, patience).await;
        drop(file);
        let pumped = match pumped {
            // Only behind the last boundary is the form whole.
            Pumped::Whole => form.end(patience).await,
            Pumped::NotWanted => {
                form.drain().await;
                Pumped::NotWanted
            }
            broken @ Pumped::Broken(_) => broken,
        };
        running.settle(pumped, wants_no_wait(request)).await
    }
}

/// The answer where a load cannot begin.
fn no_load(why: &NoLoad, request: &HttpRequest) -> Problem {
    let NoLoad::InTheWay(first) = why else {
        return Problem::unavailable("as many loads run as may; see /loads");
    };
    let (dataset, id, seconds) = (&first.dataset, first.id, first.elapsed().as_secs());
    let updater = request.connection_info();
    let (scheme, host) = (updater.scheme(), updater.host());
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
            Ok(report) => Ok(HttpResponse::Ok().insert_header(location).json(report)),
            Err(failure) => Err(failure.problem(&self.load).logged()),
        }
    }
}
