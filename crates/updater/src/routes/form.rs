//! A form with the file as its one field.

use std::io;

use actix_web::{HttpMessage, HttpRequest};
use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use service::Problem;

use super::content::{Content, Patience};
use crate::multipart::{Event, FormReader, Head};

/// The name of the field.
const FIELD: &str = "data";
/// What may follow the closing boundary, in bytes: no client sends more than a line break.
const EPILOGUE_BYTES_MAX: usize = 64 << 10;

/// A form that is read.
pub(super) struct Form {
    reader: FormReader,
    content: Content,
    patience: Patience,
}

impl Form {
    pub(super) fn new(request: &HttpRequest, content: Content, patience: Patience) -> Result<Self, Problem> {
        let mime = request.mime_type().ok().flatten();
        let mime = mime.filter(|mime| mime.type_() == "multipart" && mime.subtype() == "form-data");
        let boundary = mime.as_ref().and_then(|mime| mime.get_param("boundary"));
        let Some(boundary) = boundary.filter(|boundary| !boundary.as_str().is_empty()) else {
            return Err(Problem::bad_request(format!(
                "not a form with the file as its field `{FIELD}`: the header Content-Type must be multipart/form-data \
                 with a boundary, as `curl --form {FIELD}=@FILE` sends it; a file without a form is sent by PUT"
            )));
        };
        Ok(Self { reader: FormReader::new(boundary.as_str()), content, patience })
    }

    /// What the headers of the file's part say; it must be the first part.
    pub(super) async fn file(&mut self) -> Result<Head, Problem> {
        let malformed = |error: io::Error| Problem::bad_request(error.to_string());
        match self.patience.wait(next(&mut self.reader, &mut self.content)).await.map_err(malformed)? {
            Event::Part(head) if head.name.as_deref() == Some(FIELD) => Ok(head),
            Event::Part(head) => Err(Problem::bad_request(foreign(&head))),
            _ => Err(Problem::bad_request(format!("the form has no field `{FIELD}` with the file"))),
        }
    }

    /// The bytes of the file.
    pub(super) fn data(&mut self) -> impl Stream<Item = io::Result<Bytes>> + Unpin {
        Box::pin(stream::try_unfold(self, |form| async {
            match next(&mut form.reader, &mut form.content).await? {
                Event::Data(bytes) => Ok(Some((bytes, form))),
                _ => Ok(None),
            }
        }))
    }

    /// Reads behind the file: nothing may be there but the end.
    pub(super) async fn end(&mut self) -> io::Result<()> {
        match self.patience.wait(next(&mut self.reader, &mut self.content)).await? {
            Event::Part(head) if head.name.as_deref() == Some(FIELD) => {
                return Err(io::Error::other(format!("the form has the field `{FIELD}` twice")));
            }
            Event::Part(head) => {
                return Err(io::Error::other(format!("{}, behind the file", foreign(&head))));
            }
            _ => {}
        }
        let mut epilogue_bytes = 0;
        while let Some(bytes) = self.patience.wait(self.content.next().map(Option::transpose)).await? {
            epilogue_bytes += bytes.len();
            if epilogue_bytes > EPILOGUE_BYTES_MAX {
                return Err(io::Error::other("other data follows the closing boundary of the form"));
            }
        }
        Ok(())
    }
}

/// What comes next in a form, with as many bytes of its body as that takes.
async fn next(reader: &mut FormReader, content: &mut Content) -> io::Result<Event> {
    loop {
        match reader.next().map_err(io::Error::other)? {
            Event::NeedsBytes => match content.next().await {
                Some(bytes) => reader.feed(&bytes?),
                None => return Err(io::Error::other(reader.unfinished())),
            },
            event => return Ok(event),
        }
    }
}

fn foreign(head: &Head) -> String {
    let name = head.name.as_deref().unwrap_or_default();
    format!("the form has the field `{name}`; send the file as the field `{FIELD}` and nothing else")
}
