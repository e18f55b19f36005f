//! Whole files through the whole ingest.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod formats;
mod forms;
mod fuzz;
mod records;
mod separators;
mod sorting;
mod text;

use std::sync::Arc;

use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};
use bytes::Bytes;
use dataset::{Dataset, Datasets};
use ingest::{Error, Ingested, Limits, Merged, Outlets, Progress};
use tokio::io::AsyncReadExt;

/// A dataset with one column of most kinds.
const ITEMS: &str = r#"
    [items]
    key = "code"
    columns = [
      { name = "code", type = "text", max = 8 },
      { name = "stock", type = "integer" },
      { name = "until", type = "date", optional = true },
    ]"#;

fn dataset(toml: &str) -> Arc<Dataset> {
    Datasets::from_toml(toml).unwrap().single().unwrap().clone()
}

/// A file on its way in, with the settings of one test.
struct Case {
    dataset: Arc<Dataset>,
    limits: Limits,
    /// In how large pieces the bytes come.
    chunk_bytes: usize,
    work_dir: tempfile::TempDir,
}

/// What came of a file: its rows as JSON lines, and what was found.
struct Outcome {
    json: Vec<String>,
    merged: Merged,
    header: bool,
    sha256: String,
}

impl Case {
    fn new(toml: &str) -> Self {
        let work_dir = tempfile::tempdir().unwrap();
        Self { dataset: dataset(toml), limits: Limits::default(), chunk_bytes: 7, work_dir }
    }

    async fn ingest(&self, file: &[u8]) -> Result<Ingested, Error> {
        self.ingest_with(file, Arc::default()).await
    }

    async fn ingest_with(&self, file: &[u8], progress: Arc<Progress>) -> Result<Ingested, Error> {
        let chunks: Vec<_> =
            file.chunks(self.chunk_bytes).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let report = self.work_dir.path().join("rejects.csv");
        // It panics where it is polled behind its end, as the body of an upload does.
        let body = Box::pin(futures_util::stream::unfold(chunks.into_iter(), async |mut chunks| {
            Some((chunks.next()?, chunks))
        }));
        let outlets = Outlets { report: &report, progress };
        ingest::ingest(body, self.dataset.clone(), &self.limits, outlets).await
    }

    async fn run(&self, file: &[u8]) -> Result<Outcome, Error> {
        let ingested = self.ingest(file).await?;
        let (header, sha256) = (ingested.header, ingested.sha256.clone());
        let (mut rows, mut json) = (ingested.into_rows(3).await?, Vec::new());
        while let Some(batch) = rows.next().await {
            assert!(batch.is_sealed() && batch.check().is_ok());
            for (key, rest) in batch.iter() {
                let (mut row, mut out) = (Vec::new(), Vec::new());
                self.dataset.schema.decode_row(key, rest, &mut row).unwrap();
                dataset::write_row_json(&self.dataset.schema, &row, &mut out);
                json.push(String::from_utf8(out).unwrap());
            }
        }
        Ok(Outcome { json, merged: rows.finish().await?, header, sha256 })
    }

    fn report(&self) -> String {
        std::fs::read_to_string(self.work_dir.path().join("rejects.csv")).unwrap()
    }
}

impl Outcome {
    /// The rejects, one a line: where and why.
    fn rejects(&self) -> String {
        let line = |reject: &ingest::Reject| {
            let column = reject.column.as_deref().unwrap_or("-");
            format!("line {} {column} {:?}: {}", reject.line, reject.value, reject.reason)
        };
        self.merged.rejects.shown().iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// The text of an error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

async fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    GzipEncoder::new(bytes).read_to_end(&mut packed).await.unwrap();
    packed
}

async fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    ZstdEncoder::new(bytes).read_to_end(&mut packed).await.unwrap();
    packed
}
