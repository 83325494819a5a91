//! The integrity check of the database: after the start and once a day, and its report.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::store::{Store, StoreError};

/// From the end of a check to the next one.
const INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// From a failed check to the next attempt.
const RETRY: Duration = Duration::from_secs(10 * 60);

/// The result of the last check; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Integrity(Arc<Mutex<IntegrityReport>>);

/// The result of a check.
#[derive(Debug, Clone, Default)]
pub(crate) struct IntegrityReport {
    /// When the check ended; `None` before the first.
    pub(crate) at: Option<Timestamp>,
    /// Number of faults, capped at the reporting limit.
    pub(crate) faults: u64,
}

impl IntegrityReport {
    /// The message for a damaged database; `None` when it is intact.
    pub(crate) fn damage(&self) -> Option<String> {
        let faults = self.faults;
        (faults > 0)
            .then(|| format!("faults in the database: {faults}; `door-hub check` names them"))
    }
}

impl Integrity {
    pub(crate) fn last(&self) -> IntegrityReport {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Checks `store` now and once a day, until `stop`.
    pub(super) async fn run(&self, store: Store, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let wait = match store.inspect(stop.clone()).await {
                Ok(Some(faults)) => {
                    self.record(&faults);
                    INTERVAL
                }
                Ok(None) | Err(StoreError::Closed) => return,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "the integrity check of the database failed");
                    RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn record(&self, faults: &[String]) {
        for fault in faults {
            tracing::error!(fault, "the database is damaged");
        }
        let mut report = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        report.at = Some(Timestamp::now());
        report.faults = faults.len() as u64;
    }
}
