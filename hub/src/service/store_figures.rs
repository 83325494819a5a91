//! The store's figures for the metrics. A scrape must succeed even if the disk is dead or hangs:
//! then it gets the figures of the last successful read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::store::{Store, StoreError};

/// How long a scrape waits for a read.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    /// Number of unfinished jobs, by status.
    pub(super) jobs: Vec<(&'static str, u64)>,
    /// Number of stored events, and their bytes.
    pub(super) events: (u64, u64),
    pub(super) database_bytes: u64,
}

/// The figures of the last read; clones share them.
#[derive(Clone, Default)]
pub(super) struct StoreFigures {
    last: Arc<Mutex<Figures>>,
    /// Held by the running read: there is at most one, also while the disk hangs.
    reading: Arc<tokio::sync::Mutex<()>>,
}

impl StoreFigures {
    /// The store's current figures, or those of the last successful read.
    pub(super) async fn read(&self, store: &Store) -> Figures {
        if let Ok(permit) = Arc::clone(&self.reading).try_lock_owned() {
            let (last, store) = (Arc::clone(&self.last), store.clone());
            let reading = tokio::spawn(async move {
                let _permit = permit;
                match read_figures(&store).await {
                    Ok(read) => *last.lock().unwrap_or_else(PoisonError::into_inner) = read,
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(
                            error,
                            "cannot read the store; metrics show its last figures"
                        );
                    }
                }
            });
            // After the timeout the read continues in its task.
            let _ = tokio::time::timeout(READ_TIMEOUT, reading).await;
        }
        let last = self.last.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn read_figures(store: &Store) -> Result<Figures, StoreError> {
    Ok(Figures {
        jobs: store.job_statistics().await?,
        events: store.event_total().await?,
        database_bytes: store.size().await?,
    })
}
