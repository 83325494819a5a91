//! The contact of a reader or keypad: when it releases.
//!
//! A relay whose contact is welded, or stuck after a fault, must not release the door forever. So
//! an activation begins only after the contact was seen idle, and ends after `grant_max`. During a
//! lockdown the contact releases nothing, unless the configuration allows it.

use std::time::Duration;

use crate::sensing::Reading;
use crate::time::BootTime;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum GrantContact {
    /// Not seen idle since the start, a fault, a lockdown or an activation that was too long.
    #[default]
    Ignored,
    Idle,
    /// Releases since this boot-clock time.
    Active(BootTime),
}

impl GrantContact {
    /// Handles a reading that is not in fault; `None` if it is.
    pub(super) fn read(&mut self, at: BootTime, reading: Reading, max: Duration) {
        *self = match (*self, reading) {
            (_, Some(false)) => Self::Idle,
            (Self::Idle, Some(true)) => Self::Active(at),
            (Self::Active(since), Some(true)) if at < since + max => Self::Active(since),
            (_, _) => Self::Ignored,
        };
    }

    /// An active contact releases nothing until it was seen idle again.
    pub(super) fn block(&mut self) {
        if matches!(self, Self::Active(_)) {
            *self = Self::Ignored;
        }
    }

    pub(super) fn is_active(self) -> bool {
        matches!(self, Self::Active(_))
    }

    /// How much of `max` is left of the present activation.
    pub(super) fn left(self, at: BootTime, max: Duration) -> Duration {
        match self {
            Self::Active(since) => (since + max).since(at),
            Self::Idle | Self::Ignored => Duration::ZERO,
        }
    }
}
