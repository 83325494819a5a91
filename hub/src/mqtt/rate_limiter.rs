//! Rate limit of one device. A device that sends faster is read more slowly, and TCP's flow control
//! slows it down; nothing that it sent is lost or rejected.
//!
//! Small requests have large costs: a twin, a commit. Without the limit, a handful of flooding
//! devices would take the CPU from all others.

use std::time::{Duration, Instant};

/// Bytes of one unit of cost, which is how IoT Hub's meter counts messages (developer guide, quotas
/// and throttling).
const UNIT: usize = 4096;

/// The sustained rate: 500 units a second. A door that uploads its backlog after an outage stays
/// below it.
const UNIT_TIME: Duration = Duration::from_millis(2);

/// The burst after an idle time: 1,000 units, so that no burst of an honest device is slowed.
const BURST: Duration = Duration::from_secs(2);

/// The limiter of one device, a generic cell rate algorithm: its state is a single time.
#[derive(Debug)]
pub(super) struct RateLimiter {
    /// When all units used so far will have been earned (the theoretical arrival time).
    earned_at: Instant,
}

impl RateLimiter {
    /// A limiter with the whole burst available.
    pub(super) const fn new(now: Instant) -> Self {
        Self { earned_at: now }
    }

    /// Charges a packet of `length` bytes, and returns how long to wait before the next is read.
    pub(super) fn charge(&mut self, now: Instant, length: usize) -> Option<Duration> {
        let units = u32::try_from(length.div_ceil(UNIT)).unwrap_or(u32::MAX);
        self.earned_at = self.earned_at.max(now) + UNIT_TIME.saturating_mul(units.max(1));
        let ahead = self.earned_at.duration_since(now);
        ahead.checked_sub(BURST).filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long `packets` of `length` bytes take at the fastest allowed rate.
    fn time_taken(packets: u32, length: usize) -> Duration {
        let start = Instant::now();
        let (mut limiter, mut now) = (RateLimiter::new(start), start);
        for _ in 0..packets {
            now += limiter.charge(now, length).unwrap_or_default();
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
        let mut limiter = RateLimiter::new(start);
        let later = start + Duration::from_secs(3600);
        for _ in 0..1_000 {
            assert_eq!(limiter.charge(later, 20), None);
        }
        assert_eq!(limiter.charge(later, 20), Some(UNIT_TIME));
    }
}
