//! Rows that are put aside in key order before it is known whether they become a version.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::publish::sole;
use super::snapshot::Writer;
use crate::publisher::Rows;
use crate::{Error, Result};

/// A file of rows without a version. It is removed unless it is staged.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    writer: Option<Arc<Writer>>,
}

impl Draft {
    pub(super) async fn create(path: PathBuf) -> Result<Self> {
        tokio::task::spawn_blocking(move || {
            let writer = Some(Arc::new(Writer::create(&path)?));
            Ok(Self { path, writer })
        })
        .await?
    }

    /// Takes rows until they are at their end.
    pub async fn fill(&mut self, rows: Rows) -> Result<()> {
        match &self.writer {
            Some(writer) => append(writer, rows).await,
            None => Ok(()),
        }
    }

    /// Gives the file another name, under which it stays.
    pub(super) fn keep_as(mut self, path: &Path) -> Result<Writer> {
        fs::rename(&self.path, path)?;
        let writer = self.writer.take().ok_or_else(|| Error::corrupt("the draft is gone"))?;
        sole(writer)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            // What cannot be removed now is removed by the next publisher.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Appends rows until they are at their end.
pub(super) async fn append(writer: &Arc<Writer>, mut rows: Rows) -> Result<()> {
    while let Some(batch) = rows.recv().await {
        let writer = writer.clone();
        tokio::task::spawn_blocking(move || writer.append(&batch)).await??;
    }
    Ok(())
}
