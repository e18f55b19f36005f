//! What can only be found out once the store answers again: whether a swap happened, and what a crash left behind.

use std::sync::Arc;
use std::time::Duration;

use dataset::Dataset;
use store::{Error, State, Store};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::load::outcome::Outcome;
use crate::load::status::LoadStatus;

/// How often a store that does not answer is asked again.
const INTERVAL: Duration = Duration::from_secs(1);

/// Recovers what a crash left behind, as soon as the store answers. A dataset that another updater holds was recovered
/// by that one.
pub(crate) async fn recover(store: Store, dataset: Arc<Dataset>, stopping: CancellationToken) {
    let mut warned = false;
    loop {
        match store.recover(&dataset).await {
            Ok(()) | Err(Error::Busy { .. }) => return,
            Err(error) if !warned => {
                warned = true;
                let (dataset, error) = (&dataset.name, service::chain(&error));
                warn!(dataset, error, "cannot recover the dataset yet");
            }
            Err(_) => {}
        }
        if stopping.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_none() {
            return;
        }
    }
}

/// Finds out whether the version of a load became live, where the store vanished during its swap.
pub(crate) async fn resolve_outcome(
    store: Store,
    dataset: Arc<Dataset>,
    load: Arc<LoadStatus>,
    version: u32,
) {
    loop {
        // The ledger is put right under the lock, by this updater or by another one.
        if let Ok(()) | Err(Error::Busy { .. }) = store.recover(&dataset).await
            && let Ok(versions) = store.versions(&dataset.name).await
        {
            let entry = versions.iter().find(|entry| entry.version == version);
            let outcome = match entry {
                Some(entry) if entry.published_at.is_some() => Some(Outcome::Published),
                Some(entry) if matches!(entry.state, State::Loading | State::Staged) => None,
                Some(_) | None => Some(Outcome::Failed),
            };
            if let Some(outcome) = outcome {
                load.resolve(outcome);
                info!(dataset = dataset.name, load = %load.id, version, %outcome, "the outcome of the load is known");
                return;
            }
        }
        if load.stopping().run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_none() {
            return;
        }
    }
}
