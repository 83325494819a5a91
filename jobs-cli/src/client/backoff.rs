//! When a request is sent again, and after which wait.

use std::time::Duration;

use iothub_protocol::ErrorCode;
use rand::Rng as _;

use super::Repeat;
use super::error::{ClientError, Refusal};

/// How often a request is sent at most.
const ATTEMPTS: u32 = 6;

/// What is refused because there was too much of it is sent for so long: limits count by the
/// minute, and others share them.
const THROTTLED: Duration = Duration::from_secs(90);

/// Ceiling of the first wait; doubled each time, the wait a random part of it.
const FIRST: Duration = Duration::from_millis(250);

/// Ceiling of every wait, also of one that the hub asks for.
const LONGEST: Duration = Duration::from_secs(20);

/// The waits of one request.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    sent: u32,
    waited: Duration,
}

impl Backoff {
    /// How long to wait before sending again; `None`: the error stands.
    pub(super) fn next(&mut self, error: &ClientError, repeat: Repeat) -> Option<Duration> {
        self.sent += 1;
        let enough = match error.status() {
            Some(429) => self.waited >= THROTTLED,
            _ => self.sent >= ATTEMPTS,
        };
        if enough || !passes(error, repeat) {
            return None;
        }
        let ceiling = LONGEST.min(FIRST.saturating_mul(2_u32.saturating_pow(self.sent - 1)));
        let jittered = ceiling.mul_f64(rand::rng().random_range(0.5..=1.0));
        let asked = match error {
            ClientError::Refused(refusal) => refusal.retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let wait = jittered.max(asked.min(LONGEST));
        self.waited += wait;
        Some(wait)
    }
}

/// Whether the same request may well succeed in a moment, and may be sent again.
fn passes(error: &ClientError, repeat: Repeat) -> bool {
    match error {
        // Another job has to end first: that is for the person to decide.
        ClientError::Refused(Refusal {
            code: Some(ErrorCode::ThrottlingMaxActiveJobCountExceeded),
            ..
        }) => false,
        ClientError::Refused(Refusal { status: 429, .. }) => true,
        ClientError::Refused(Refusal {
            status: 500..=599, ..
        }) => repeat == Repeat::Freely,
        // A kept connection that the other side had closed. No connection at all is told at once.
        ClientError::Unreachable {
            connected: true, ..
        } => repeat == Repeat::Freely,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, retry_after_s: Option<u64>) -> ClientError {
        ClientError::Refused(Refusal {
            status,
            code: None,
            name: None,
            message: String::new(),
            tracking_id: None,
            retry_after: retry_after_s.map(Duration::from_secs),
        })
    }

    #[test]
    fn reads_are_repeated_on_429_and_5xx_and_writes_on_429_alone() {
        for (status, read, write) in [(429, true, true), (503, true, false), (404, false, false)] {
            let again = |repeat| {
                Backoff::default()
                    .next(&refused(status, None), repeat)
                    .is_some()
            };
            assert_eq!(
                (again(Repeat::Freely), again(Repeat::WhenThrottled)),
                (read, write),
                "{status}"
            );
        }
    }

    #[test]
    fn waits_grow_within_their_ceiling_and_end() {
        let mut backoff = Backoff::default();
        let mut ceiling = FIRST;
        let mut waits = 0;
        while let Some(wait) = backoff.next(&refused(503, None), Repeat::Freely) {
            assert!(
                wait >= ceiling / 2 && wait <= ceiling,
                "{wait:?} of {ceiling:?}"
            );
            ceiling *= 2;
            waits += 1;
        }
        assert_eq!(waits, ATTEMPTS - 1);
    }

    #[test]
    fn too_much_in_a_minute_is_waited_for_longer_than_a_minute() {
        let mut backoff = Backoff::default();
        let mut waited = Duration::ZERO;
        while let Some(wait) = backoff.next(&refused(429, None), Repeat::WhenThrottled) {
            waited += wait;
        }
        assert!(
            (THROTTLED..THROTTLED + LONGEST).contains(&waited),
            "{waited:?}"
        );
    }

    #[test]
    fn the_hub_may_ask_for_a_longer_wait_but_not_for_any() {
        let wait = |asked| Backoff::default().next(&refused(429, Some(asked)), Repeat::Freely);
        assert_eq!(wait(7), Some(Duration::from_secs(7)));
        assert_eq!(wait(86_400), Some(LONGEST));
    }
}
