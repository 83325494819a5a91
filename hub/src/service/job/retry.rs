//! Patience with a store that fails: a run that has calls on their way must not lose what they come to.

use std::time::Duration;

use rand::Rng as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use jiff::{SignedDuration, Timestamp};

use crate::service::ServiceError;
use crate::store::StoreError;

/// The first wait; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(100);

/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(10);

/// Waits that grow while the store fails.
#[derive(Debug, Default)]
pub(super) struct Retry {
    failures: u32,
}

impl Retry {
    /// Waits until it is time to try again, or the hub stops. An error that will not pass is handed back.
    pub(super) async fn after(
        &mut self,
        error: ServiceError,
        stop: &CancellationToken,
    ) -> Result<(), ServiceError> {
        if !passes(&error) {
            return Err(error);
        }
        if self.failures == 0 {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "a job waits for the store");
        }
        let wait = self.next();
        // The end of the hub is seen by whoever tries again.
        let _ = stop.run_until_cancelled(tokio::time::sleep(wait)).await;
        Ok(())
    }

    /// It worked.
    pub(super) fn worked(&mut self) {
        if self.failures > 0 {
            tracing::info!("the store works again, and a job goes on");
        }
        self.failures = 0;
    }

    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        let ceiling = LONGEST.min(FIRST * 2_u32.saturating_pow(self.failures).min(1000));
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

/// Whether what failed may work later. What is stored and does not read back stays so.
fn passes(error: &ServiceError) -> bool {
    match error.source.as_deref() {
        None | Some(StoreError::Corrupt { .. }) => false,
        Some(_) => true,
    }
}

/// Time as one run of a job counts it: the wall clock's at its beginning, and from there on as it passes, whatever is done to that clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunClock {
    wall: Timestamp,
    began: Instant,
}

impl RunClock {
    /// Begins at `wall`.
    pub(super) fn begin(wall: Timestamp) -> Self {
        Self {
            wall,
            began: Instant::now(),
        }
    }

    /// The present.
    pub(super) fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.began.elapsed()).unwrap_or(SignedDuration::MAX);
        self.wall.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }

    /// How long it is until `time`.
    pub(super) fn until(&self, time: Timestamp) -> Duration {
        Duration::try_from(time.duration_since(self.now())).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound_and_begin_anew() {
        let mut retry = Retry::default();
        let waits: Vec<_> = (0..40).map(|_| retry.next()).collect();
        assert!(waits[0] <= FIRST && waits[0] >= FIRST / 2, "{waits:?}");
        assert!(waits[5] >= FIRST * 16, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= LONGEST), "{waits:?}");
        assert!(waits[39] >= LONGEST / 2, "{waits:?}");
        retry.worked();
        assert!(retry.next() <= FIRST);
    }

    #[test]
    fn what_does_not_read_back_is_not_tried_again() {
        let error = |source| ServiceError::from(source);
        let damaged = "{".parse::<serde_json::Value>().unwrap_err();
        assert!(!passes(&error(StoreError::Corrupt {
            what: "job",
            source: damaged.into(),
        })));
        assert!(!passes(&ServiceError::argument("no")));
        assert!(passes(&error(StoreError::Deadline)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_counts_from_its_beginning_as_time_passes() {
        let wall: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let clock = RunClock::begin(wall);
        let end = wall + SignedDuration::from_secs(20);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.until(end), Duration::from_secs(15));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(clock.until(end), Duration::ZERO);
        assert_eq!(clock.now(), wall + SignedDuration::from_secs(25));
    }
}
