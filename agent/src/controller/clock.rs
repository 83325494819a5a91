//! The clocks: monotonic time since boot, and a wall clock that may be wrong.

#[cfg(debug_assertions)]
mod simulated;

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use door_core::{BootId, BootTime, ClockQuality, Now};
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use crate::gpio::ClockTrust;

/// Created by systemd-timesyncd once a time source has set the clock (systemd-timesyncd.service(8),
/// "Files"). If another program keeps the time, the configuration says `clock = "system"`.
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";
#[cfg(target_os = "linux")]
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// How long the result of the synchronisation check is cached.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Source of [`Now`] for the controller.
#[derive(Debug, Clone)]
pub struct Clock {
    boot_id: BootId,
    trust: ClockTrust,
    quality: ClockQuality,
    checked_at: Option<Instant>,
    #[cfg(test)]
    test_clock: Option<TestClock>,
}

/// Controls the wall clock in tests.
#[cfg(test)]
#[derive(Debug, Clone)]
pub(super) struct TestClock(std::sync::Arc<std::sync::Mutex<(jiff::SignedDuration, ClockQuality)>>);

#[cfg(test)]
impl TestClock {
    /// Offsets the wall clock by `by` from the machine's.
    pub(super) fn step(&self, by: jiff::SignedDuration, quality: ClockQuality) {
        *self.0.lock().unwrap() = (by, quality);
    }
}

impl Clock {
    /// A clock with the given trust in the wall clock.
    #[must_use]
    pub fn new(trust: ClockTrust) -> Self {
        Self {
            boot_id: boot_id(),
            trust,
            quality: ClockQuality::Unsynchronized,
            checked_at: None,
            #[cfg(test)]
            test_clock: None,
        }
    }

    #[cfg(test)]
    pub(super) fn for_test() -> (Self, TestClock) {
        let state = (jiff::SignedDuration::ZERO, ClockQuality::Synchronized);
        let test_clock = TestClock(std::sync::Arc::new(std::sync::Mutex::new(state)));
        let clock = Self {
            test_clock: Some(test_clock.clone()),
            ..Self::new(ClockTrust::System)
        };
        (clock, test_clock)
    }

    pub fn now(&mut self) -> Now {
        #[cfg(test)]
        if let Some(TestClock(state)) = &self.test_clock {
            let (by, quality) = *state.lock().unwrap();
            return Now {
                boottime: boottime(),
                boot_id: self.boot_id.clone(),
                wall: Timestamp::now().checked_add(by).ok(),
                quality,
            };
        }
        #[cfg(debug_assertions)]
        if let Some(now) = simulated::now(&self.boot_id) {
            return now;
        }
        Now {
            boottime: boottime(),
            boot_id: self.boot_id.clone(),
            wall: Some(Timestamp::now()),
            quality: self.quality(),
        }
    }

    fn quality(&mut self) -> ClockQuality {
        let fresh = self
            .checked_at
            .is_some_and(|at| at.elapsed() < CHECK_INTERVAL);
        if !fresh {
            self.checked_at = Some(Instant::now());
            let trusted = match self.trust {
                ClockTrust::System => true,
                // On tmpfs: the check does not block on a disk.
                ClockTrust::Synchronized => Path::new(SYNCHRONIZED).exists(),
            };
            self.quality = if trusted {
                ClockQuality::Synchronized
            } else {
                ClockQuality::Unsynchronized
            };
        }
        self.quality
    }
}

/// Time since boot, including suspend on Linux.
fn boottime() -> BootTime {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).expect("time since boot is not negative");
    let nanoseconds = u64::try_from(time.tv_nsec).expect("below a second, not negative");
    BootTime::from(Duration::from_secs(seconds)) + Duration::from_nanos(nanoseconds)
}

/// The kernel's id of this boot. Without one each start of the program counts as a boot: then only
/// the wall clock carries times over.
pub(super) fn boot_id() -> BootId {
    static BOOT: OnceLock<BootId> = OnceLock::new();
    BOOT.get_or_init(|| {
        #[cfg(debug_assertions)]
        if let Some(boot) = simulated::boot_id() {
            return boot;
        }
        #[cfg(target_os = "linux")]
        if let Ok(text) = std::fs::read_to_string(BOOT_ID) {
            return BootId::new(&text);
        }
        let started = Timestamp::now().as_microsecond();
        BootId::new(&format!("start-{started}-{}", std::process::id()))
    })
    .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_monotonic_and_the_boot_id_constant() {
        let mut clock = Clock::new(ClockTrust::System);
        let (first, second) = (clock.now(), clock.now());
        assert!(second.boottime >= first.boottime);
        assert_eq!(first.boot_id, second.boot_id);
        assert!(first.trusted_wall().is_some());
        assert_eq!(first.boot_id, boot_id());
    }
}
