//! Reads what is stored again and again, so that damage is known before somebody needs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dataset::Dataset;
use store::Store;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// From the end of one scrub to the next.
const INTERVAL: Duration = Duration::from_hours(6);

/// Scrubs a dataset until the updater is stopped. The store counts what is damaged.
pub(crate) async fn scrub(store: Store, dataset: Arc<Dataset>, stopping: CancellationToken) {
    while stopping.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        scrub_once(&store, &dataset, &stopping).await;
    }
}

async fn scrub_once(store: &Store, dataset: &Arc<Dataset>, stopping: &CancellationToken) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = async {
        stopping.cancelled().await;
        stop.store(true, Ordering::Relaxed);
        std::future::pending::<()>().await;
    };
    let scrubbed = tokio::select! {
        scrubbed = store.scrub(dataset, stop.clone()) => scrubbed,
        () = stopped => return,
    };
    match scrubbed {
        Ok(damaged) => {
            for damage in damaged {
                error!(
                    dataset = dataset.name,
                    error = service::chain(&damage),
                    "a stored version is damaged"
                );
            }
        }
        Err(error) => {
            warn!(dataset = dataset.name, error = service::chain(&error), "cannot scrub the dataset");
        }
    }
}
