//! Uploads: a form with the file as its field `data`, or the file as the body itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_multipart::{Field, Multipart};
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use dataset::Dataset;
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use service::Problem;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::guard;
use crate::app::Shared;
use crate::body::{self, BodySender};
use crate::load::{Failure, Report};
use crate::loads::{Load, Wish};

/// The one field of a form.
const FIELD: &str = "data";
/// Of a file that is not wanted any more so much is still read, and for so long, because a client that is cut off while
/// it sends does not see the answer.
const DRAIN_BYTES: usize = 64 << 20;
const DRAIN_WAIT: Duration = Duration::from_secs(10);
const DRAIN_PAUSE: Duration = Duration::from_millis(200);

/// What can stand behind the question mark. A misspelled wish must not be a wish that is passed over.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    force: bool,
}

/// `POST /upload`: the dataset is the only one, or else promotions.
pub(super) async fn post_default(
    shared: web::Data<Shared>,
    request: HttpRequest,
    query: web::Query<Query>,
    form: Multipart,
) -> Result<HttpResponse, Problem> {
    let dataset = shared.datasets.only().or_else(|| shared.datasets.get("promotions")).cloned();
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
    guard::may_write(&shared, &request)?;
    let dataset = super::versions::find(&shared, &dataset)?;
    let source = request.headers().get("x-source").and_then(|source| source.to_str().ok());
    let upload = Upload { shared, dataset, wish: query.into_inner().into() };
    let running = upload.start(source.unwrap_or("a raw body"));
    let patience = upload.patience();
    let pumped = pump(payload, &running.sender, patience).await;
    running.settle(pumped).await
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

/// How long a client may take.
#[derive(Clone, Copy)]
struct Patience {
    idle: Duration,
    end: Instant,
}

impl Patience {
    /// Until when the next bytes must come.
    fn next(self) -> Instant {
        self.end.min(Instant::now() + self.idle)
    }
}

/// How the bytes of a request came to their end.
enum Pumped {
    Whole,
    NotWanted,
    Broken(io::Error),
}

impl Upload {
    fn patience(&self) -> Patience {
        let settings = &self.shared.settings;
        let idle = Duration::from_secs(settings.idle_seconds.max(1));
        Patience { idle, end: Instant::now() + Duration::from_secs(settings.upload_seconds_max) }
    }

    /// Starts the load, which goes on by itself once it has all bytes.
    fn start(&self, source: &str) -> Running {
        let source: String = source.chars().filter(|char| !char.is_control()).take(255).collect();
        let loads = &self.shared.loads;
        let load = loads.begin(&self.dataset.name, &source, self.wish);
        let (sender, body) = body::channel();
        let job = self.shared.job(self.dataset.clone(), load.clone());
        let task = self.shared.runtime.spawn(loads.tracker().track_future(job.run(body)));
        Running { sender, load, task }
    }

    async fn form(self, request: &HttpRequest, mut form: Multipart) -> Result<HttpResponse, Problem> {
        guard::may_write(&self.shared, request)?;
        let first = self.next_field(&mut form).await?;
        let Some(mut field) = first else {
            return Err(Problem::bad_request(format!("the form has no field `{FIELD}` with the file")));
        };
        let source =
            field.content_disposition().and_then(|it| it.get_filename()).unwrap_or("a form").to_owned();
        let (running, patience) = (self.start(&source), self.patience());
        let pumped = pump(&mut field, &running.sender, patience).await;
        drop(field);
        // Only behind the last boundary is the form whole.
        let pumped = match pumped {
            Pumped::Whole => match self.next_field(&mut form).await {
                Ok(None) => Pumped::Whole,
                Ok(Some(_)) => {
                    Pumped::Broken(io::Error::other(format!("the form has the field `{FIELD}` twice")))
                }
                Err(problem) => Pumped::Broken(io::Error::other(problem.to_string())),
            },
            Pumped::NotWanted => {
                drain(form_bytes(form)).await;
                Pumped::NotWanted
            }
            broken @ Pumped::Broken(_) => broken,
        };
        running.settle(pumped).await
    }

    /// The next field of a form, which must be the file.
    async fn next_field(&self, form: &mut Multipart) -> Result<Option<Field>, Problem> {
        let next = tokio::time::timeout_at(self.patience().next(), form.next()).await;
        let next = next.map_err(|_| Problem::bad_request("the form stopped in the middle"))?;
        let Some(field) = next else { return Ok(None) };
        let field = field.map_err(|error| {
            Problem::bad_request(format!("not a form with the file as its field `{FIELD}`: {error}"))
        })?;
        match field.name() {
            Some(FIELD) => Ok(Some(field)),
            name => {
                let name = name.unwrap_or_default();
                Err(Problem::bad_request(format!(
                    "the form has the field `{name}`; send the file as the field `{FIELD}`"
                )))
            }
        }
    }
}

impl Running {
    /// Tells the load how its bytes ended, and answers with what became of it.
    async fn settle(self, pumped: Pumped) -> Result<HttpResponse, Problem> {
        match pumped {
            Pumped::Whole => self.sender.end().await,
            Pumped::Broken(error) => self.sender.fail(error).await,
            Pumped::NotWanted => drop(self.sender),
        }
        let outcome = self.task.await.unwrap_or(Err(Failure::Panicked));
        match outcome {
            Ok(report) => {
                let location = format!("/loads/{}", self.load.id);
                Ok(HttpResponse::Ok().insert_header((header::LOCATION, location)).json(report))
            }
            Err(failure) => Err(failure.problem(&self.load).logged()),
        }
    }
}

/// Hands the bytes of a stream to a load.
async fn pump<S, E>(mut bytes: S, sender: &BodySender, patience: Patience) -> Pumped
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    loop {
        let next = tokio::select! {
            // A client that is slow, or silent, learns at once that there is nothing more to send.
            () = sender.not_wanted() => None,
            next = tokio::time::timeout_at(patience.next(), bytes.next()) => Some(next),
        };
        let Some(next) = next else {
            drain(bytes).await;
            return Pumped::NotWanted;
        };
        match next {
            // If nobody takes it, the next turn sees that.
            Ok(Some(Ok(piece))) => drop(sender.send(piece).await),
            Ok(Some(Err(error))) => return Pumped::Broken(io::Error::other(error.to_string())),
            Ok(None) => return Pumped::Whole,
            Err(_) => {
                let text = format!(
                    "the client was too slow: no byte came for {} seconds, or all took too long",
                    patience.idle.as_secs()
                );
                return Pumped::Broken(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        }
    }
}

/// Reads on without keeping anything, within limits.
async fn drain<S, E>(mut bytes: S)
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    let all = async {
        let mut left = DRAIN_BYTES;
        // A client that pauses is waiting, or will read its answer when it goes on.
        while let Ok(Some(Ok(piece))) = tokio::time::timeout(DRAIN_PAUSE, bytes.next()).await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                return;
            }
        }
    };
    // A client that is slower than this is cut off.
    let _ = tokio::time::timeout(DRAIN_WAIT, all).await;
}

/// The bytes of whatever else a form holds.
fn form_bytes(form: Multipart) -> impl Stream<Item = Result<Bytes, actix_multipart::MultipartError>> + Unpin {
    Box::pin(form.flat_map(|field| match field {
        Ok(field) => field.left_stream(),
        Err(error) => futures_util::stream::iter([Err(error)]).right_stream(),
    }))
}
