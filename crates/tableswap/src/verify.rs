//! `tableswap verify`: whether what is stored is what was published.

use std::process::ExitCode;

use service::Environment;
use store::Store;

use crate::Error;
use crate::output::say;

/// Compares the replicas that the environment names with their primary.
pub(crate) fn run() -> Result<ExitCode, Error> {
    let environment = Environment::from_process()?;
    let store = Store::open(&environment.section("STORE")?, &store::Metrics::new()?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Start)?;
    let comparisons = runtime.block_on(store.compare_replicas())?;
    if comparisons.is_empty() {
        say("there are no replicas to compare: TABLESWAP_STORE_READ_URLS names none, or nothing is live")?;
        return Ok(ExitCode::SUCCESS);
    }
    for it in &comparisons {
        let result = it.difference.as_deref().unwrap_or("equal");
        say(format!("{} version {}, {} rows, {}: {result}", it.dataset, it.version, it.rows, it.replica))?;
    }
    let all_equal = comparisons.iter().all(|it| it.difference.is_none());
    Ok(if all_equal { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
