//! Retries of a request, and the wait before each.

use std::time::Duration;

use iothub_protocol::ErrorCode;
use rand::RngExt as _;

use super::RetryPolicy;
use super::error::{ClientError, ErrorResponse};

/// How often a request is sent at most.
const MAX_ATTEMPTS: u32 = 6;

/// How long a throttled request (429) is retried: limits count per minute and are shared with other
/// clients.
const MAX_THROTTLED_TIME: Duration = Duration::from_secs(90);

/// Ceiling of the first wait. It doubles with each retry; the wait is a random half to whole of it.
const FIRST_CEILING: Duration = Duration::from_millis(250);

/// Longest wait, also of one that the hub asks for (`Retry-After`).
const MAX_WAIT: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub(super) struct Backoff {
    sent: u32,
    waited: Duration,
}

impl Backoff {
    /// The wait before the next attempt; `None` gives up.
    pub(super) fn next(&mut self, error: &ClientError, retry: RetryPolicy) -> Option<Duration> {
        self.sent += 1;
        let enough = match error.status() {
            Some(429) => self.waited >= MAX_THROTTLED_TIME,
            _ => self.sent >= MAX_ATTEMPTS,
        };
        if enough || !is_retryable(error, retry) {
            return None;
        }
        let ceiling =
            MAX_WAIT.min(FIRST_CEILING.saturating_mul(2_u32.saturating_pow(self.sent - 1)));
        let jittered = ceiling.mul_f64(rand::rng().random_range(0.5..=1.0));
        let asked = match error {
            ClientError::Refused(refusal) => refusal.retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let wait = jittered.max(asked.min(MAX_WAIT));
        self.waited += wait;
        Some(wait)
    }
}

/// Whether the error may be transient and the request may be sent again.
fn is_retryable(error: &ClientError, retry: RetryPolicy) -> bool {
    match error {
        // Another job has to end first: the operator decides.
        ClientError::Refused(ErrorResponse {
            code: Some(ErrorCode::ThrottlingMaxActiveJobCountExceeded),
            ..
        }) => false,
        ClientError::Refused(ErrorResponse { status: 429, .. }) => true,
        // Reported at once. A server that closes an idle connection is another matter.
        ClientError::Unreachable {
            connected: false, ..
        }
        | ClientError::TimedOut { .. } => false,
        _ => retry == RetryPolicy::Idempotent && error.is_transient(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, retry_after_s: Option<u64>) -> ClientError {
        ClientError::Refused(ErrorResponse {
            status,
            code: None,
            name: None,
            message: String::new(),
            tracking_id: None,
            retry_after: retry_after_s.map(Duration::from_secs),
            needed_rights: None,
        })
    }

    #[test]
    fn reads_are_retried_on_429_and_5xx_and_writes_on_429_only() {
        for (status, read, write) in [(429, true, true), (503, true, false), (404, false, false)] {
            let is_retried = |retry| {
                Backoff::default()
                    .next(&refused(status, None), retry)
                    .is_some()
            };
            assert_eq!(
                (
                    is_retried(RetryPolicy::Idempotent),
                    is_retried(RetryPolicy::IfThrottled)
                ),
                (read, write),
                "{status}"
            );
        }
    }

    #[test]
    fn waits_double_up_to_the_ceiling_and_end_after_6_attempts() {
        let mut backoff = Backoff::default();
        let mut ceiling = FIRST_CEILING;
        let mut waits = 0;
        while let Some(wait) = backoff.next(&refused(503, None), RetryPolicy::Idempotent) {
            assert!(
                wait >= ceiling / 2 && wait <= ceiling,
                "{wait:?} of {ceiling:?}"
            );
            ceiling *= 2;
            waits += 1;
        }
        assert_eq!(waits, MAX_ATTEMPTS - 1);
    }

    #[test]
    fn a_throttled_request_is_retried_for_90_s() {
        let mut backoff = Backoff::default();
        let mut waited = Duration::ZERO;
        while let Some(wait) = backoff.next(&refused(429, None), RetryPolicy::IfThrottled) {
            waited += wait;
        }
        assert!(
            (MAX_THROTTLED_TIME..MAX_THROTTLED_TIME + MAX_WAIT).contains(&waited),
            "{waited:?}"
        );
    }

    #[test]
    fn retry_after_is_honoured_up_to_the_longest_wait() {
        let wait =
            |asked| Backoff::default().next(&refused(429, Some(asked)), RetryPolicy::Idempotent);
        assert_eq!(wait(7), Some(Duration::from_secs(7)));
        assert_eq!(wait(86_400), Some(MAX_WAIT));
    }
}
