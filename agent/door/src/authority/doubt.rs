//! A door in doubt: a start found that the newest saved state may be lost.
//!
//! The doubt stands, over restarts too, until the next command of an operator that is accepted:
//! that one knows how the door should be. A mode `secure` that the doubt itself has set ends with
//! it; a mode that was set since stays.

use serde::{Deserialize, Serialize};

use super::mode::BaseMode;
use super::{AuthorityArray, Entry, Slot, Want};

/// Why a door is in doubt, and what the doubt holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Doubt {
    /// What the start found, for a person.
    pub(crate) reason: String,
    /// The mode `secure` is the doubt's own.
    pub(crate) secure: bool,
}

impl AuthorityArray {
    /// Why the door is in doubt; `None` when it is not.
    #[must_use]
    pub fn in_doubt(&self) -> Option<&str> {
        self.doubt.as_ref().map(|doubt| doubt.reason.as_str())
    }

    /// The doubt, to be saved.
    pub(crate) fn doubt(&self) -> Option<&Doubt> {
        self.doubt.as_ref()
    }

    /// Restores a saved doubt, after slots and mode. Where the relinquish default releases, slot 8
    /// holds the door: a lock that ends by itself would not.
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

    /// An operator's command is accepted.
    pub(crate) fn end_doubt(&mut self) {
        if self.doubt.take().is_some_and(|doubt| doubt.secure) {
            self.base = BaseMode::Normal;
        }
    }

    /// Whether the mode `secure` holds only because of the doubt.
    pub(super) fn doubt_secures(&self) -> bool {
        self.doubt.as_ref().is_some_and(|doubt| doubt.secure)
    }
}
