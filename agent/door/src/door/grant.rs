//! The contact of a reader or keypad: when it releases.
//!
//! A relay whose contact is welded, or stuck after a fault, must not release the door forever. So
//! an activation begins only after the contact was seen idle, and ends after `grant_max`. During a
//! lockdown the contact releases nothing, unless the configuration allows it.

use std::time::Duration;

use crate::sensing::Reading;
use crate::time::BootTime;

/// How long the contact must have been idle before an activation that counts as a first person.
const REST: Duration = Duration::from_secs(2);

/// Looks for a person who is let in by the reader and opens the door.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FirstPerson {
    idle_since: Option<BootTime>,
    granted_at: Option<BootTime>,
}

impl FirstPerson {
    /// Handles a reading of the contact, whether an activation begins, and whether the door opens;
    /// returns whether a person came in.
    pub(super) fn came_in(
        &mut self,
        at: BootTime,
        (grant, is_granted, opens): (Reading, bool, bool),
        strike_time: Duration,
    ) -> bool {
        let has_rested = self.idle_since.is_some_and(|since| since + REST <= at);
        if is_granted && has_rested {
            self.granted_at = Some(at);
        }
        self.idle_since = match grant {
            Some(false) => self.idle_since.or(Some(at)),
            _ => None,
        };
        let granted = self
            .granted_at
            .filter(|granted| at.since(*granted) <= strike_time);
        self.granted_at = granted.filter(|_| !opens);
        granted.is_some() && opens
    }
}

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
