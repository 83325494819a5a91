//! Time as an argument: the caller reads the clocks, this crate never does.
//!
//! Why: docs/decisions/0009-clock-trust.md.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::contract::words;

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
    /// Time since boot, suspend included; monotonic.
    pub boottime: Duration,
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

/// Serde of durations in milliseconds.
pub(crate) mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        u64::try_from(duration.as_millis())
            .unwrap_or(u64::MAX)
            .serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_spelled_as_on_the_wire() {
        let boot = BootId::new(" a-b\n");
        assert_eq!(boot.as_str(), "a-b");
        assert_eq!(boot.to_string(), "a-b");
    }
}
