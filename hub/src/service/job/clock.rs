//! The two clocks of a job: the wall clock, which may be set at any time, starts it; a monotonic
//! one ends it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

/// Supplies the time; tests set the wall clock.
#[derive(Clone)]
pub(super) struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// A clock whose wall time comes from `wall_time`.
    #[cfg(test)]
    pub(super) fn with_wall_clock(
        wall_time: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(wall_time))
    }

    /// Wall-clock time.
    pub(super) fn wall_time(&self) -> Timestamp {
        (self.0)()
    }

    /// Monotonic time.
    #[expect(clippy::unused_self, reason = "callers take both times from the clock")]
    pub(super) fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self(Arc::new(Timestamp::now))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
