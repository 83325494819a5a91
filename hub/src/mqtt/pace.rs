//! How fast one device may ask. A device that asks faster is read more slowly, and TCP tells it so;
//! nothing of what it sent is lost or refused.
//!
//! Small requests have large costs: a twin, a commit. Without this a handful of devices that flood
//! the hub take the processor from all others.

use std::time::{Duration, Instant};

/// What one packet costs is counted in units of so many bytes, as IoT Hub's meter counts messages
/// (developer guide, quotas and throttling).
const UNIT: usize = 4096;

/// What a device may use in the long run: 500 units a second. A door that uploads what it kept
/// while it was away stays below.
const UNIT_TIME: Duration = Duration::from_millis(2);

/// What it may use at once after a while of silence: 1,000 units, so that no burst of an honest
/// device is slowed.
const BURST: Duration = Duration::from_secs(2);

/// One device's account, as a generic cell rate algorithm keeps it: a single time.
#[derive(Debug)]
pub(super) struct Pace {
    /// When all that has been used will have been earned.
    settled: Instant,
}

impl Pace {
    /// An account with the whole burst in it.
    pub(super) const fn new(now: Instant) -> Self {
        Self { settled: now }
    }

    /// Books a packet of `length` bytes, and says how long to wait before the next is looked at.
    pub(super) fn charge(&mut self, now: Instant, length: usize) -> Option<Duration> {
        let units = u32::try_from(length.div_ceil(UNIT)).unwrap_or(u32::MAX);
        self.settled = self.settled.max(now) + UNIT_TIME.saturating_mul(units.max(1));
        let ahead = self.settled.duration_since(now);
        ahead.checked_sub(BURST).filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long `packets` of `length` bytes take when they come as fast as they are let.
    fn time_taken(packets: u32, length: usize) -> Duration {
        let start = Instant::now();
        let (mut pace, mut now) = (Pace::new(start), start);
        for _ in 0..packets {
            now += pace.charge(now, length).unwrap_or_default();
        }
        now - start
    }

    #[test]
    fn a_burst_is_not_slowed() {
        assert_eq!(time_taken(1_000, 20), Duration::ZERO);
        assert_eq!(time_taken(10, 256 * 1024), Duration::ZERO);
    }

    #[test]
    fn a_sustained_load_is_limited_to_500_units_a_second() {
        assert_eq!(time_taken(6_000, 20), Duration::from_secs(10));
        assert_eq!(time_taken(3_000, 2 * UNIT), Duration::from_secs(10));
    }

    #[test]
    fn idle_time_restores_the_burst_and_no_more() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let later = start + Duration::from_secs(3600);
        for _ in 0..1_000 {
            assert_eq!(pace.charge(later, 20), None);
        }
        assert_eq!(pace.charge(later, 20), Some(UNIT_TIME));
    }
}
