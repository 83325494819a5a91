//! How often, and for how long, a job retries a failed write to the store.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use crate::store::StoreError;

/// The first delay; each further one is twice as long, plus jitter.
const FIRST: Duration = Duration::from_millis(100);

/// The longest delay, before jitter.
const LONGEST: Duration = Duration::from_secs(15);

/// A working store that rejects this write so many times in a row will never accept it.
const REFUSALS: u32 = 5;

/// A store that fails this long (a full disk) may never recover. Then the job gives up; its
/// unstored outcomes are dropped only if the job's end can be stored.
const PATIENCE: Duration = Duration::from_secs(3600);

/// The consecutive write failures of one job.
#[derive(Debug)]
pub(super) struct Retry {
    waits: ExponentialBackoff,
    refused: u32,
    since: Option<Instant>,
}

/// What to do after a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Again {
    pub(super) after: Duration,
    /// The job should end with the error as its reason, if the store accepts that.
    pub(super) give_up: bool,
}

impl Default for Retry {
    fn default() -> Self {
        let waits = ExponentialBuilder::new()
            .with_min_delay(FIRST)
            .with_max_delay(LONGEST)
            .with_factor(2.0)
            .with_jitter()
            .without_max_times()
            .build();
        Self {
            waits,
            refused: 0,
            since: None,
        }
    }
}

impl Retry {
    /// Records that a write failed at `now`. A `lasting` failure recurs even if the store works.
    pub(super) fn failed(&mut self, lasting: bool, now: Instant) -> Again {
        let since = *self.since.get_or_insert(now);
        self.refused = if lasting { self.refused + 1 } else { 0 };
        Again {
            after: self.waits.next().unwrap_or(LONGEST),
            give_up: self.refused >= REFUSALS || now.duration_since(since) >= PATIENCE,
        }
    }

    /// Records a successful write, which resets the backoff.
    pub(super) fn worked(&mut self) {
        if self.since.is_some() {
            *self = Self::default();
        }
    }

    pub(super) const fn is_failing(&self) -> bool {
        self.since.is_some()
    }
}

/// The failure reason of a job that ends because of `error`.
pub(super) fn reason(error: &StoreError) -> String {
    let mut text = format!("The job's progress cannot be stored: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_with_jitter() {
        let now = Instant::now();
        let waits = |retry: &mut Retry| -> Vec<_> {
            (0..20).map(|_| retry.failed(false, now).after).collect()
        };
        let (first, second) = (waits(&mut Retry::default()), waits(&mut Retry::default()));
        for (number, wait) in (0_u32..).zip(&first) {
            let least = LONGEST.min(FIRST * 2_u32.pow(number.min(10)));
            assert!(
                (least..=2 * least).contains(wait),
                "{wait:?} is wait {number}"
            );
        }
        assert_ne!(first, second);
    }

    #[test]
    fn gives_up_after_5_refusals_or_1_hour() {
        let start = Instant::now();
        let mut retry = Retry::default();
        for attempt in 1..=REFUSALS {
            let again = retry.failed(true, start);
            assert_eq!(again.give_up, attempt == REFUSALS, "attempt {attempt}");
        }
        retry.worked();
        assert!(!retry.is_failing());
        for _ in 0..100 {
            assert!(!retry.failed(false, start).give_up);
        }
        assert!(!retry.failed(true, start).give_up, "refused once");
        let late = start + PATIENCE;
        assert!(
            !retry
                .failed(false, late.checked_sub(FIRST).unwrap())
                .give_up
        );
        assert!(retry.failed(false, late).give_up);
        retry.worked();
        assert!(!retry.failed(false, late).give_up);
    }
}
