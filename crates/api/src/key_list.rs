//! The body of a request for many keys: a JSON array, read within limits of size and time.

use std::time::Duration;

use actix_web::web::{self, BytesMut};
use futures_util::StreamExt;
use serde_json::value::RawValue;
use service::Problem;
use store::AnswerBudget;
use tokio::time::{Instant, timeout_at};

/// A thousand keys of the longest kind.
const BYTES_MAX: usize = 256 << 10;

/// All bodies that are being read may have 256 times the largest.
const ALL_BYTES_MAX: usize = 256 * BYTES_MAX;

/// A body may take this time, and more for what came at the minimum rate.
const TIMEOUT: Duration = Duration::from_secs(5);
const BYTES_PER_SECOND_MIN: u64 = 32 << 10;

/// What all bodies that are being read may hold.
pub(crate) fn budget() -> AnswerBudget {
    AnswerBudget::new(BYTES_MAX, ALL_BYTES_MAX)
}

/// Reads the keys.
pub(crate) async fn read(mut payload: web::Payload, budget: &AnswerBudget) -> Result<Vec<String>, Problem> {
    let (held, mut body, start) = (budget.begin(), BytesMut::new(), Instant::now());
    loop {
        let earned = Duration::from_millis(body.len() as u64 * 1000 / BYTES_PER_SECOND_MIN);
        let Ok(next) = timeout_at(start + TIMEOUT + earned, payload.next()).await else {
            return Err(Problem::too_slow("the body came too slowly"));
        };
        let Some(piece) = next else { break };
        let piece = piece.map_err(|error| Problem::bad_request(error.to_string()))?;
        held.hold(piece.len()).map_err(|why| match why {
            store::OverBudget::TooLarge { .. } => {
                Problem::too_large(format!("a list of keys may have {BYTES_MAX} bytes"))
            }
            store::OverBudget::Overloaded => {
                Problem::unavailable("too many lists of keys are being read").logged()
            }
        })?;
        body.extend_from_slice(&piece);
    }
    let keys: Vec<&RawValue> = serde_json::from_slice(&body)
        .map_err(|error| Problem::bad_request(format!("the body is no JSON array of keys: {error}")))?;
    keys.into_iter().map(text).collect()
}

/// A key as it is written: a number must not lose digits on its way.
fn text(key: &RawValue) -> Result<String, Problem> {
    match key.get().as_bytes() {
        [b'"', ..] => {
            serde_json::from_str(key.get()).map_err(|error| Problem::bad_request(error.to_string()))
        }
        [b'-' | b'0'..=b'9' | b't' | b'f', ..] => Ok(key.get().to_owned()),
        _ => Err(Problem::bad_request("a key is a string, a number or a boolean")),
    }
}
