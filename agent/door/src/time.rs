//! Time as an argument: the caller reads the clocks, this crate never does.
//!
//! Why: docs/decisions/0009-clock-trust.md.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::contract::words;

/// A moment on the boot clock: time since boot, suspend included; monotonic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct BootTime(Duration);

impl BootTime {
    /// The time since `earlier`; zero if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The moment at this time since boot.
impl From<Duration> for BootTime {
    fn from(since_boot: Duration) -> Self {
        Self(since_boot)
    }
}

impl From<BootTime> for Duration {
    fn from(time: BootTime) -> Self {
        time.0
    }
}

/// Later by a length of time; saturates.
impl Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(length))
    }
}

/// The kernel's id of one boot of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(Box<str>);

impl BootId {
    /// Takes the kernel's text; white space at the ends is dropped.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

words! {
    /// Whether the wall clock can be trusted.
    pub enum ClockQuality {
        /// Set by a time source since this boot.
        Synchronized = "synchronized",
        /// Not set since this boot: a Raspberry Pi has no clock that runs without power.
        Unsynchronized = "unsynchronized",
    }
}

/// The present moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Now {
    /// On the boot clock.
    pub boottime: BootTime,
    /// The boot that `boottime` counts from.
    pub boot_id: BootId,
    /// The wall clock's reading, trusted or not.
    pub wall: Option<Timestamp>,
    /// Whether `wall` can be trusted.
    pub quality: ClockQuality,
}

impl Now {
    /// The wall clock's reading if it is trusted.
    #[must_use]
    pub fn trusted_wall(&self) -> Option<Timestamp> {
        match self.quality {
            ClockQuality::Synchronized => self.wall,
            ClockQuality::Unsynchronized => None,
        }
    }

    /// Time from now until `then`, zero if it has passed; `None` without a trusted clock.
    #[must_use]
    pub fn until(&self, then: Timestamp) -> Option<Duration> {
        let wall = self.trusted_wall()?;
        Some(
            then.duration_since(wall)
                .try_into()
                .unwrap_or(Duration::ZERO),
        )
    }

    /// The wall time `wait` from now; `None` without a trusted clock.
    #[must_use]
    pub fn wall_after(&self, wait: Duration) -> Option<Timestamp> {
        let wait = SignedDuration::try_from(wait).ok()?;
        self.trusted_wall()?.checked_add(wait).ok()
    }
}

/// The moment at this time since boot.
#[cfg(test)]
pub(crate) fn at(seconds: u64) -> BootTime {
    Duration::from_secs(seconds).into()
}

/// Serde of durations and moments in milliseconds.
pub(crate) mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<T: Copy + Into<Duration>, S: Serializer>(
        time: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let time: Duration = (*time).into();
        u64::try_from(time.as_millis())
            .unwrap_or(u64::MAX)
            .serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T: From<Duration>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        u64::deserialize(deserializer).map(|ms| Duration::from_millis(ms).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_length_of_time_leads_before_the_boot_or_past_the_last_moment() {
        let length = Duration::from_secs(5);
        assert_eq!(at(7).since(at(2)), length);
        assert_eq!(at(2).since(at(7)), Duration::ZERO);
        assert_eq!(at(2) + length, at(7));
        let last = BootTime::from(Duration::MAX);
        assert_eq!(last + length, last);
    }

    #[test]
    fn a_boot_is_spelled_as_on_the_wire() {
        let boot = BootId::new(" a-b\n");
        assert_eq!(boot.as_str(), "a-b");
        assert_eq!(boot.to_string(), "a-b");
    }
}
