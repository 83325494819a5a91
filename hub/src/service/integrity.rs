//! Whether the database is whole: looked over after the start and once a day, and reported.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::store::{Store, StoreError};

/// How long after a look the next one begins.
const INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// How long after one that failed.
const RETRY: Duration = Duration::from_secs(10 * 60);

/// What the last look found; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Integrity(Arc<Mutex<Looked>>);

/// What a look found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Looked {
    /// When it ended; `None` before the first.
    pub(crate) at: Option<Timestamp>,
    /// How many faults there are, up to the number that is reported.
    pub(crate) faults: u64,
}

impl Looked {
    /// What to say about it; nothing when the database is whole.
    pub(crate) fn damage(&self) -> Option<String> {
        let faults = self.faults;
        (faults > 0)
            .then(|| format!("faults in the database: {faults}; `door-hub check` names them"))
    }
}

impl Integrity {
    /// What the last look found.
    pub(crate) fn last(&self) -> Looked {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Looks over `store` now and once a day, until `stop`.
    pub(super) async fn keep(&self, store: Store, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let wait = match store.inspect(stop.clone()).await {
                Ok(Some(faults)) => {
                    self.found(&faults);
                    INTERVAL
                }
                Ok(None) | Err(StoreError::Closed) => return,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "the database cannot be looked over");
                    RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn found(&self, faults: &[String]) {
        for fault in faults {
            tracing::error!(fault, "the database is damaged");
        }
        let mut looked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looked.at = Some(Timestamp::now());
        looked.faults = faults.len() as u64;
    }
}
