//! What can only be found out once the store answers again: whether a swap happened, and what a crash left behind.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use dataset::Dataset;
use store::{Backoff, Error, Retry, State, Store};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::load::outcome::Outcome;
use crate::load::status::LoadStatus;

/// A store that does not answer is asked again every second.
const BACKOFF: Backoff = Backoff::Constant(Duration::from_secs(1));

/// Recovers what a crash left behind, as soon as the store answers. A dataset that another updater holds was recovered
/// by that one.
pub(crate) async fn recover(store: Store, dataset: Arc<Dataset>, stopping: CancellationToken) {
    let (mut retry, mut warned) = (Retry::new(Duration::MAX, BACKOFF), false);
    loop {
        let error = match store.recover(&dataset).await {
            Ok(()) | Err(Error::Busy { .. }) => return,
            Err(error) => error,
        };
        if !mem::replace(&mut warned, true) {
            let (dataset, error) = (&dataset.name, service::chain(&error));
            warn!(dataset, error, "cannot recover the dataset yet");
        }
        if retry.pause(error, || !stopping.is_cancelled()).await.is_err() {
            // The next start recovers.
            return;
        }
    }
}

/// Finds out whether the version of a load became live, after the store vanished during its swap.
pub(crate) async fn resolve_outcome(
    store: Store,
    dataset: Arc<Dataset>,
    load: Arc<LoadStatus>,
    version: u32,
) {
    let mut retry = Retry::new(Duration::MAX, BACKOFF);
    let outcome = loop {
        match outcome_in_ledger(&store, &dataset, version).await {
            Ok(outcome) => break outcome,
            Err(error) => {
                if retry.pause(error, || !load.is_stopped()).await.is_err() {
                    return;
                }
            }
        }
    };
    load.resolve(outcome);
    info!(dataset = dataset.name, load = %load.id, version, %outcome, "the outcome of the load is known");
}

/// The ledger is put right under the lock, by this updater or by another one.
async fn outcome_in_ledger(store: &Store, dataset: &Arc<Dataset>, version: u32) -> store::Result<Outcome> {
    match store.recover(dataset).await {
        Ok(()) | Err(Error::Busy { .. }) => {}
        Err(error) => return Err(error),
    }
    let versions = store.versions(&dataset.name).await?;
    match versions.iter().find(|entry| entry.version == version) {
        Some(entry) if entry.published_at.is_some() => Ok(Outcome::Published),
        Some(entry) if matches!(entry.state, State::Loading | State::Staged) => {
            Err(Error::Busy { dataset: dataset.name.clone(), holder: None })
        }
        Some(_) | None => Ok(Outcome::Failed),
    }
}
