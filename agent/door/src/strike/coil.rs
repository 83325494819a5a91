//! The coil guard: limits how long coil or motor is energised, whatever the authority array wants.
//!
//! Heat is counted in energised time: it grows while energised and decays in proportion while
//! de-energised (`max_on` decays in `cool_down`). Times are on the boot clock.

use std::time::Duration;

use crate::config::Duty;
use crate::time::BootTime;

/// Heat of one coil or motor.
#[derive(Debug, Clone)]
pub(super) struct Coil {
    duty: Option<Duty>,
    /// In energised time, from zero to `max_on`.
    heat: Duration,
    as_of: BootTime,
    energised: bool,
}

impl Coil {
    /// The heat before the start is unknown: half of `max_on` is assumed, but at most what leaves
    /// `min_remaining` for one use.
    pub(super) fn new(duty: Option<Duty>, at: BootTime) -> Self {
        let heat = duty.map_or(Duration::ZERO, |duty| {
            (duty.max_on / 2).min(duty.max_on.saturating_sub(duty.min_remaining))
        });
        Self {
            duty,
            heat,
            as_of: at,
            energised: false,
        }
    }

    /// Changes the limits and keeps the heat.
    pub(super) fn set_duty(&mut self, duty: Option<Duty>) {
        self.duty = duty;
        self.heat = duty.map_or(Duration::ZERO, |duty| self.heat.min(duty.max_on));
    }

    /// Updates the heat to the time `at`.
    pub(super) fn account(&mut self, at: BootTime) {
        let elapsed = at.since(self.as_of);
        self.as_of = self.as_of.max(at);
        let Some(duty) = self.duty else {
            return;
        };
        self.heat = if self.energised {
            (self.heat + elapsed).min(duty.max_on)
        } else {
            self.heat
                .saturating_sub(scale(elapsed, duty.max_on, duty.cool_down))
        };
    }

    pub(super) fn set(&mut self, energised: bool) {
        self.energised = energised;
    }

    pub(super) fn is_energised(&self) -> bool {
        self.energised
    }

    /// Longest energised time and the rest after it; `None` without a limit.
    pub(super) fn limits(&self) -> Option<(Duration, Duration)> {
        self.duty.map(|duty| (duty.max_on, duty.cool_down))
    }

    /// How long it may still be energised.
    pub(super) fn remaining(&self) -> Duration {
        self.duty
            .map_or(Duration::MAX, |duty| duty.max_on - self.heat)
    }

    /// Time of the last update.
    pub(super) fn as_of(&self) -> BootTime {
        self.as_of
    }

    pub(super) fn reserve(&self) -> Duration {
        self.duty.map_or(Duration::ZERO, |duty| duty.reserve)
    }

    /// Whether enough time remains for a use that no input at the door asks for.
    pub(super) fn is_rested(&self) -> bool {
        self.duty
            .is_none_or(|duty| self.remaining() >= duty.min_remaining)
    }

    /// When [`Coil::is_rested`] becomes true, if it stays de-energised.
    pub(super) fn rested_at(&self) -> BootTime {
        self.ready_at(self.duty.map_or(Duration::ZERO, |duty| duty.min_remaining))
    }

    /// When `length` of energised time is available, if it stays de-energised.
    pub(super) fn ready_at(&self, length: Duration) -> BootTime {
        let missing = length.saturating_sub(self.remaining());
        let Some(duty) = self.duty else {
            return self.as_of;
        };
        let rest = scale(missing, duty.cool_down, duty.max_on);
        // Round up, so that `length` is available at the time returned.
        let rounding = Duration::from_nanos(u64::from(missing > Duration::ZERO));
        self.as_of + (rest + rounding)
    }
}

/// `length * by / of`, rounded down.
fn scale(length: Duration, by: Duration, of: Duration) -> Duration {
    let (by, of) = (by.as_nanos(), of.as_nanos().max(1));
    let scaled = length.as_nanos().saturating_mul(by) / of;
    Duration::from_nanos(u64::try_from(scaled).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::at;

    const SECOND: Duration = Duration::from_secs(1);
    const DUTY: Duty = Duty {
        max_on: Duration::from_secs(10),
        cool_down: Duration::from_secs(30),
        reserve: Duration::from_secs(2),
        min_remaining: Duration::from_secs(4),
    };

    #[test]
    fn it_heats_while_on_and_cools_in_proportion_while_off() {
        let mut coil = Coil::new(Some(DUTY), BootTime::default());
        assert_eq!(coil.remaining(), SECOND * 5);
        coil.set(true);
        coil.account(at(4));
        assert_eq!(coil.remaining(), SECOND);
        coil.set(false);
        assert!(!coil.is_rested());
        let rested = coil.rested_at();
        assert!(
            rested.since(at(13)) < Duration::from_micros(1),
            "{rested:?}"
        );
        coil.account(rested);
        assert!(coil.is_rested());
        coil.account(at(100));
        assert_eq!(coil.remaining(), SECOND * 10);
        coil.set(true);
        coil.account(at(200));
        assert_eq!(coil.remaining(), Duration::ZERO);
    }

    #[test]
    fn a_coil_for_continuous_duty_is_always_rested() {
        let mut coil = Coil::new(None, BootTime::default());
        coil.set(true);
        coil.account(at(1_000_000));
        assert!(coil.is_rested());
        assert_eq!(coil.remaining(), Duration::MAX);
    }

    #[test]
    fn changed_limits_apply_to_the_present_heat() {
        let mut coil = Coil::new(Some(DUTY), BootTime::default());
        let longer = Duty {
            max_on: SECOND * 20,
            reserve: SECOND * 3,
            ..DUTY
        };
        coil.set_duty(Some(longer));
        assert_eq!(coil.remaining(), SECOND * 15);
        assert_eq!(coil.reserve(), SECOND * 3);
        let shorter = Duty {
            max_on: SECOND * 4,
            ..DUTY
        };
        coil.set_duty(Some(shorter));
        assert_eq!(coil.remaining(), Duration::ZERO);
        coil.set_duty(None);
        assert_eq!(coil.remaining(), Duration::MAX);
    }
}
