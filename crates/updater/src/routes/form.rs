//! A form with the file as its one field.

use std::io;

use actix_multipart::{Field, Multipart};
use futures_util::StreamExt;
use service::Problem;
use tokio::time::{timeout, timeout_at};

use super::pump::{DRAIN_WAIT, Patience, Pumped, drain};

/// The name of the field.
pub(super) const FIELD: &str = "data";

/// A form that is read; actix's own must not be asked for more once it is at its end or has failed.
pub(super) struct Form(Option<Multipart>);

impl Form {
    pub(super) fn new(form: Multipart) -> Self {
        Self(Some(form))
    }

    /// The next field, which must be the file.
    pub(super) async fn next_file(&mut self, patience: Patience) -> Result<Option<Field>, Problem> {
        let Some(form) = &mut self.0 else { return Ok(None) };
        let Ok(next) = timeout_at(patience.next(), form.next()).await else {
            return Err(Problem::bad_request("the form stopped in the middle"));
        };
        let Some(Ok(field)) = next else {
            self.0 = None;
            return match next {
                Some(Err(error)) => Err(Problem::bad_request(format!(
                    "not a form with the file as its field `{FIELD}`: {error}"
                ))),
                _ => Ok(None),
            };
        };
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

    /// Reads behind the file: nothing may be there but the end.
    pub(super) async fn end(&mut self, patience: Patience) -> Pumped {
        let why = match self.next_file(patience).await {
            Ok(None) => return Pumped::Whole,
            Ok(Some(_)) => format!("the form has the field `{FIELD}` twice"),
            Err(problem) => problem.to_string(),
        };
        self.drain().await;
        Pumped::Broken(io::Error::other(why))
    }

    /// Reads on without keeping anything, within limits.
    pub(super) async fn drain(&mut self) {
        let all = async {
            while let Some(form) = &mut self.0 {
                match form.next().await {
                    Some(Ok(field)) => drain(field).await,
                    Some(Err(_)) | None => self.0 = None,
                }
            }
        };
        // A client that is slower than this is cut off.
        let _ = timeout(DRAIN_WAIT, all).await;
    }
}
