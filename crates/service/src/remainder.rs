//! What is still to come of a request over HTTP/2 when its answer is ready.
//!
//! A request that is refused may not have been read. HTTP/2 then ends the stream of its body with a reset, and although
//! the answer stands before that, clients such as curl 7.88 report an error in its place. So what is short is read first.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::{Method, Version};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage};
use futures_util::stream::poll_fn;
use futures_util::{Stream, StreamExt};

/// So many bytes are read. Who sends more is still sending when the answer comes, and looks at it.
const BYTES_MAX: usize = 64 * 1024;

/// So long an answer waits for them.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Answers a request, after its body has been read as far as it is short.
pub(crate) async fn call<B: MessageBody>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    if request.version() != Version::HTTP_2 || matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.call(request).await;
    }
    let body = Rc::new(RefCell::new(request.take_payload()));
    request.set_payload(stream(&body).boxed_local().into());
    let outcome = next.call(request).await;
    // Who does not send in time gets the answer all the same.
    let _ = tokio::time::timeout(WAIT_MAX, read(stream(&body))).await;
    outcome
}

type Chunk = <Payload as Stream>::Item;

fn stream(body: &Rc<RefCell<Payload>>) -> impl Stream<Item = Chunk> + Unpin + 'static {
    let body = body.clone();
    poll_fn(move |context| Pin::new(&mut *body.borrow_mut()).poll_next(context))
}

async fn read(mut body: impl Stream<Item = Chunk> + Unpin) {
    let mut read_bytes = 0;
    while let Some(Ok(chunk)) = body.next().await {
        read_bytes += chunk.len();
        if read_bytes > BYTES_MAX {
            return;
        }
    }
}
