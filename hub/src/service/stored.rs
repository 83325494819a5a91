//! What monitoring shows of the store. It must answer also when the disk is dead or hangs: then it
//! shows what was read last.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::store::{Store, StoreError};

/// How long it waits for a reading.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is in the store.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// Jobs that are not over, by status.
    pub(super) jobs: Vec<(&'static str, u64)>,
    /// Events that are kept, and their bytes.
    pub(super) events: (u64, u64),
    /// The size of the database.
    pub(super) database_bytes: u64,
}

/// What was read last; clones share it.
#[derive(Clone, Default)]
pub(super) struct Stored {
    last: Arc<Mutex<Counts>>,
    /// Held by the one reading that runs: a disk that hangs holds no more of them.
    reading: Arc<tokio::sync::Mutex<()>>,
}

impl Stored {
    /// What is in the store, or what was there when it could last be read.
    pub(super) async fn read(&self, store: &Store) -> Counts {
        if let Ok(only) = Arc::clone(&self.reading).try_lock_owned() {
            let (last, store) = (Arc::clone(&self.last), store.clone());
            let reading = tokio::spawn(async move {
                let _only = only;
                match counts(&store).await {
                    Ok(read) => *last.lock().unwrap_or_else(PoisonError::into_inner) = read,
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "metrics show the store as it was");
                    }
                }
            });
            // It goes on without us.
            let _ = tokio::time::timeout(PATIENCE, reading).await;
        }
        let last = self.last.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn counts(store: &Store) -> Result<Counts, StoreError> {
    Ok(Counts {
        jobs: store.job_statistics().await?,
        events: store.event_total().await?,
        database_bytes: store.size().await?,
    })
}
