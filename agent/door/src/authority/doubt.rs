//! A door in doubt: at start the newest saved state may be lost.
//!
//! The doubt lasts, over restarts too, until the next accepted command of an operator, who knows
//! the intended state. A mode `secure` that the doubt has set ends with it; a mode set since stays.
//!
//! Why: docs/decisions/0006-which-way-faults-fall.md.

use serde::{Deserialize, Serialize};

use super::mode::BaseMode;
use super::{AuthorityArray, Entry};
use crate::contract::{Slot, Want};

/// Why a door is in doubt, and which mode is due to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Doubt {
    /// What the start found, for a person.
    pub(crate) reason: String,
    /// The doubt has set the mode `secure`.
    pub(crate) secure: bool,
}

impl AuthorityArray {
    /// Why the door is in doubt; `None` if it is not.
    #[must_use]
    pub fn in_doubt(&self) -> Option<&str> {
        self.doubt.as_ref().map(|doubt| doubt.reason.as_str())
    }

    /// The doubt, for the saved state.
    pub(crate) fn doubt(&self) -> Option<&Doubt> {
        self.doubt.as_ref()
    }

    /// Restores a saved doubt, after slots and mode. If the relinquish default releases, slot 8
    /// holds the door, without an end: when a temporary lock ended, the door would be released.
    pub(crate) fn restore_doubt(&mut self, doubt: Option<&Doubt>) {
        self.doubt = doubt.cloned();
        if self.doubt.is_none() || self.relinquish_default == Want::Locked {
            return;
        }
        let hold = self.clear(Slot::OperatorHold);
        let hold = hold.filter(|entry| entry.want == Want::Locked && entry.expiry.is_none());
        let hold = hold.unwrap_or_else(|| Entry::new(Want::Locked, None));
        self.fill(Slot::OperatorHold, hold);
    }

    /// Ends the doubt: an operator's command is accepted.
    pub(crate) fn end_doubt(&mut self) {
        if self.doubt.take().is_some_and(|doubt| doubt.secure) {
            self.base = BaseMode::Normal;
        }
    }

    /// Whether mode `secure` is due to the doubt alone.
    pub(super) fn doubt_secures(&self) -> bool {
        self.doubt.as_ref().is_some_and(|doubt| doubt.secure)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Expiry, Refusal};
    use super::*;
    use crate::contract::Mode;
    use crate::time::{BootId, BootTime, ClockQuality, Now};

    fn doubt(secure: bool) -> Doubt {
        Doubt {
            reason: "a test".to_owned(),
            secure,
        }
    }

    #[test]
    fn in_doubt_a_released_default_is_held_locked_without_an_end() {
        let now = Now {
            boottime: BootTime::default(),
            boot_id: BootId::new("a"),
            wall: None,
            quality: ClockQuality::Unsynchronized,
        };
        let without_id = Entry::new(Want::Locked, None);
        let with_id = Entry {
            command_id: serde_json::from_str("\"L\"").unwrap(),
            ..Entry::new(Want::Locked, None)
        };
        let ends = Some(Expiry::after(Duration::from_secs(9), &now));
        for (hold, expected) in [
            (None, &without_id),
            (Some(Entry::new(Want::Released, None)), &without_id),
            (Some(Entry::new(Want::Locked, ends)), &without_id),
            (Some(with_id.clone()), &with_id),
        ] {
            let mut array = AuthorityArray::new(Want::Released);
            if let Some(hold) = hold {
                array.fill(Slot::OperatorHold, hold);
            }
            array.restore_doubt(Some(&doubt(true)));
            assert_eq!(array.get(Slot::OperatorHold), Some(expected));
            assert_eq!(array.doubt(), Some(&doubt(true)));
        }
    }

    #[test]
    fn a_refusal_names_the_doubt_only_if_the_doubt_has_set_the_mode() {
        for (secure, refusal) in [(true, Refusal::InDoubt), (false, Refusal::Secure)] {
            let mut array = AuthorityArray::new(Want::Locked);
            array.set_mode(Mode::Secure, None);
            array.restore_doubt(Some(&doubt(secure)));
            assert_eq!(array.refuses_unlock(), Some(refusal));
        }
    }
}
