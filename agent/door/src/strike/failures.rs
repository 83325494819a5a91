//! Attempts of the strike that failed in a row, and when the next one is due.

use std::time::Duration;

use super::Failure;
use crate::authority::Want;

/// The pause between two attempts while somebody waits at the door: fire release, exit button or
/// reader.
const PAUSE_AT_THE_DOOR: Duration = Duration::from_secs(2);
/// The pauses before the first attempts for anybody else.
const PAUSES: [Duration; 3] = [
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(30),
];
/// The pause before every later attempt.
const LATER_PAUSE: Duration = Duration::from_secs(60);

/// Attempts toward one position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failures {
    pub(super) toward: Want,
    /// Why the latest one failed.
    pub(super) why: Failure,
    count: usize,
    /// Boot-clock time at which the latest one failed.
    latest: Duration,
}

impl Failures {
    /// One more than before.
    pub(super) fn after(before: Option<Self>, toward: Want, why: Failure, at: Duration) -> Self {
        let before = before.filter(|before| before.toward == toward);
        Self {
            toward,
            why,
            count: before.map_or(0, |before| before.count) + 1,
            latest: at,
        }
    }

    /// When the next attempt is due.
    pub(super) fn retry_at(self, at_the_door: bool) -> Duration {
        let pause = match PAUSES.get(self.count - 1) {
            _ if at_the_door => PAUSE_AT_THE_DOOR,
            Some(pause) => *pause,
            None => LATER_PAUSE,
        };
        self.latest + pause
    }
}
