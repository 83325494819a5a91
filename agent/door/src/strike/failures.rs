//! Failed attempts of the strike in a row, and when the next attempt is due.

use std::time::Duration;

use super::Failure;
use crate::contract::Want;
use crate::time::BootTime;

/// Pause between attempts while an input at the door asks: fire release, exit button or reader.
const PAUSE_AT_THE_DOOR: Duration = Duration::from_secs(2);
/// Pauses before the first retries in all other cases.
const PAUSES: [Duration; 3] = [
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(30),
];
/// Pause before every later retry.
const LATER_PAUSE: Duration = Duration::from_secs(60);

/// Failed attempts toward one position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failures {
    pub(super) toward: Want,
    /// Cause of the latest failure.
    pub(super) why: Failure,
    count: usize,
    /// Boot-clock time of the latest failure.
    latest: BootTime,
}

impl Failures {
    /// `before` with one more failure; starts at one if the position differs.
    pub(super) fn after(before: Option<Self>, toward: Want, why: Failure, at: BootTime) -> Self {
        let before = before.filter(|before| before.toward == toward);
        Self {
            toward,
            why,
            count: before.map_or(0, |before| before.count) + 1,
            latest: at,
        }
    }

    /// Boot-clock time of the next attempt.
    pub(super) fn retry_at(self, at_the_door: bool) -> BootTime {
        let pause = match PAUSES.get(self.count - 1) {
            _ if at_the_door => PAUSE_AT_THE_DOOR,
            Some(pause) => *pause,
            None => LATER_PAUSE,
        };
        self.latest + pause
    }
}
