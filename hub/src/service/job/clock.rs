//! The two clocks of a job: it starts by the wall's, which may be set at any time, and ends by one
//! that only goes on.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

/// Tells the time; a test's does as it is told.
#[derive(Clone)]
pub(super) struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// A clock whose wall time is what `wall` says.
    #[cfg(test)]
    pub(super) fn set_by(wall: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(wall))
    }

    /// The time on the wall.
    pub(super) fn wall(&self) -> Timestamp {
        (self.0)()
    }

    /// The time that only goes on.
    #[expect(clippy::unused_self, reason = "both are asked of the clock")]
    pub(super) fn steady(&self) -> Instant {
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
