//! The mode, as part of the array: lockdown is slot 5, passage slot 9, the others are a value
//! beside the slots.
//!
//! Mode `lockdown` displaces the mode and keeps it: when the lockdown ends, by another mode or by
//! relinquishing slot 5, the displaced mode returns. Mode `secure` empties slot 7 and a release in
//! slot 8, so that nothing released before stays released. A lockdown leaves both slots as they
//! are, and what has not expired applies again after it.
//!
//! A desired mode is applied once: it is stored here, and reading the same value again changes
//! nothing, whatever mode was set since. When a desired lockdown is withdrawn, or the mode desired
//! before it is desired again, only the lockdown ends: a mode set over the previously desired one
//! returns with it.
//!
//! Why: docs/decisions/0008-locks-act-unlocks-wait.md.

use serde::{Deserialize, Serialize};

use super::{AuthorityArray, Entry};
use crate::contract::{CommandId, Mode, Slot, Want};

/// A mode that a lockdown can displace: any but lockdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum BaseMode {
    #[default]
    Normal,
    Passage,
    Secure,
    Maintenance,
}

impl From<BaseMode> for Mode {
    fn from(base: BaseMode) -> Self {
        match base {
            BaseMode::Normal => Self::Normal,
            BaseMode::Passage => Self::Passage,
            BaseMode::Secure => Self::Secure,
            BaseMode::Maintenance => Self::Maintenance,
        }
    }
}

impl BaseMode {
    fn of(mode: Mode) -> Option<Self> {
        match mode {
            Mode::Normal => Some(Self::Normal),
            Mode::Passage => Some(Self::Passage),
            Mode::Secure => Some(Self::Secure),
            Mode::Maintenance => Some(Self::Maintenance),
            Mode::Lockdown => None,
        }
    }
}

/// Why an unlock is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Lockdown,
    Secure,
    /// Mode `secure`, set by a doubt.
    InDoubt,
}

impl Refusal {
    /// The reason, for a person.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Lockdown => "the door is in lockdown (slot 5)",
            Self::Secure => "the door is in mode secure, which blocks unlocks in slots 7 and 8",
            Self::InDoubt => {
                "the door is in doubt about its state, and in mode secure until the next \
                 lockDoor, relinquish or setMode"
            }
        }
    }
}

impl AuthorityArray {
    /// The present mode.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self.displaced_mode() {
            Some(_) => Mode::Lockdown,
            None => self.base.into(),
        }
    }

    /// The mode that returns when the lockdown ends; `None` without a lockdown.
    #[must_use]
    pub fn displaced_mode(&self) -> Option<Mode> {
        self.get(Slot::Lockdown).map(|_| self.base.into())
    }

    /// Why an unlock by an operator is refused now. A lock is never refused, nor an input at the
    /// door.
    pub(crate) fn refuses_unlock(&self) -> Option<Refusal> {
        match self.mode() {
            Mode::Lockdown => Some(Refusal::Lockdown),
            Mode::Secure if self.doubt_secures() => Some(Refusal::InDoubt),
            Mode::Secure => Some(Refusal::Secure),
            Mode::Normal | Mode::Passage | Mode::Maintenance => None,
        }
    }

    /// Sets the mode; a lockdown over it stays.
    pub(crate) fn set_mode(&mut self, mode: Mode, command_id: Option<&CommandId>) {
        let entry = |want| Entry {
            command_id: command_id.cloned(),
            ..Entry::new(want, None)
        };
        let Some(base) = BaseMode::of(mode) else {
            self.mode_lockdown = true;
            (self.lockdown_at, self.lockdown_by) = (None, None);
            self.fill_by_mode(command_id);
            return;
        };
        self.end_mode_lockdown();
        self.base = base;
        if let Some(doubt) = &mut self.doubt {
            doubt.secure = false;
        }
        if base == BaseMode::Passage {
            self.fill(Slot::Passage, entry(Want::Released));
        } else {
            self.clear(Slot::Passage);
        }
        if base == BaseMode::Secure {
            self.clear(Slot::OperatorGrant);
            let hold = self.entries.get(&Slot::OperatorHold);
            let hold = hold.map(|entry| entry.want);
            if hold == Some(Want::Released) {
                self.clear(Slot::OperatorHold);
            }
        }
    }

    /// Empties a slot that commands fill. Slot 5 ends the lockdown, slot 9 passage mode.
    pub(crate) fn relinquish(&mut self, slot: Slot) {
        match slot {
            Slot::Lockdown => self.end_lockdowns(),
            other => drop(self.clear(other)),
        }
        if slot == Slot::Passage && self.base == BaseMode::Passage {
            self.base = BaseMode::Normal;
        }
    }

    /// The desired mode that was last applied.
    #[must_use]
    pub fn desired_mode(&self) -> Option<Mode> {
        self.desired
    }

    /// The desired mode before the present desired lockdown.
    #[must_use]
    pub fn desired_before(&self) -> Option<Mode> {
        self.desired_before
    }

    /// Applies a change of the desired mode; `None` if no mode is desired any more.
    pub(crate) fn follow_desired(&mut self, desired: Option<Mode>) {
        self.unstored = None;
        if desired == self.desired {
            return;
        }
        let was_lockdown = self.desired == Some(Mode::Lockdown);
        match desired {
            // The lockdown is withdrawn: the mode desired before has been applied already, and must
            // not undo a mode set since.
            back if was_lockdown && (back.is_none() || back == self.desired_before) => {
                self.end_mode_lockdown();
            }
            Some(mode) => self.set_mode(mode, None),
            None => {}
        }
        self.desired_before = match desired {
            Some(Mode::Lockdown) if was_lockdown => self.desired_before,
            Some(Mode::Lockdown) => self.desired,
            _ => None,
        };
        self.desired = desired;
    }

    /// This desired mode could not be saved, and did not act if it releases.
    pub(crate) fn keep_unstored_mode(&mut self, desired: Option<Option<Mode>>) {
        self.unstored = desired;
    }

    /// A mode is set now: the retry of a desired mode that was read before must not undo it.
    pub(crate) fn follow_unstored_mode(&mut self) {
        let unstored = self.unstored.take();
        if let Some(mode) = unstored.filter(|mode| *mode != self.desired) {
            self.desired = mode;
            self.desired_before = None;
        }
    }

    /// Restores the applied desired modes from a saved state.
    pub(crate) fn restore_desired(&mut self, desired: Option<Mode>, before: Option<Mode>) {
        self.desired = desired;
        self.desired_before = before;
    }

    /// The mode beside the slots, for the saved state.
    pub(crate) fn base_mode(&self) -> BaseMode {
        self.base
    }

    /// Restores a saved mode. Slot 5 is restored like any other slot.
    pub(crate) fn restore_mode(&mut self, base: BaseMode) {
        self.base = base;
        if base != BaseMode::Passage {
            self.clear(Slot::Passage);
        } else if self.get(Slot::Passage).is_none() {
            self.fill(Slot::Passage, Entry::new(Want::Released, None));
        }
    }

    /// The wanted state by the slots of commands alone, without the inputs at the door.
    pub(crate) fn remote_want(&self) -> Want {
        self.entries()
            .find(|(slot, _)| !slot.is_at_the_door())
            .map_or(self.relinquish_default, |(_, entry)| entry.want)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(array: &AuthorityArray) -> Vec<u8> {
        array.entries().map(|(slot, _)| slot.number()).collect()
    }

    #[test]
    fn a_lockdown_keeps_the_mode_that_it_displaced() {
        for mode in [Mode::Normal, Mode::Passage, Mode::Secure, Mode::Maintenance] {
            let mut array = AuthorityArray::new(Want::Locked);
            array.set_mode(mode, None);
            let before = array.clone();
            array.set_mode(Mode::Lockdown, None);
            array.set_mode(Mode::Lockdown, None);
            assert_eq!(array.mode(), Mode::Lockdown);
            assert_eq!(array.displaced_mode(), Some(mode));
            assert_eq!(array.want(), Want::Locked);
            array.relinquish(Slot::Lockdown);
            assert_eq!(array, before);
        }
    }

    #[test]
    fn a_mode_keeps_the_id_of_the_command_that_set_it() {
        let id: CommandId = serde_json::from_str("\"A\"").unwrap();
        for (mode, slot) in [
            (Mode::Lockdown, Slot::Lockdown),
            (Mode::Passage, Slot::Passage),
        ] {
            let mut array = AuthorityArray::new(Want::Locked);
            array.set_mode(mode, Some(&id));
            let held = array.get(slot).unwrap();
            assert_eq!(held.command_id.as_ref(), Some(&id), "{mode:?}");
        }
    }

    #[test]
    fn the_slots_of_a_mode_are_those_of_that_mode_only() {
        let mut array = AuthorityArray::new(Want::Locked);
        for (mode, expected) in [
            (Mode::Passage, vec![9]),
            (Mode::Lockdown, vec![5, 9]),
            (Mode::Passage, vec![9]),
            (Mode::Maintenance, vec![]),
            (Mode::Lockdown, vec![5]),
            (Mode::Normal, vec![]),
        ] {
            array.set_mode(mode, None);
            assert_eq!((array.mode(), slots(&array)), (mode, expected));
        }
        array.set_mode(Mode::Passage, None);
        array.relinquish(Slot::Passage);
        assert_eq!((array.mode(), slots(&array)), (Mode::Normal, vec![]));
    }

    #[test]
    fn secure_empties_unlocks_and_keeps_a_lock() {
        for (hold, left) in [(Want::Released, vec![]), (Want::Locked, vec![8])] {
            let mut array = AuthorityArray::new(Want::Released);
            array.fill(Slot::OperatorGrant, Entry::new(Want::Released, None));
            array.fill(Slot::OperatorHold, Entry::new(hold, None));
            array.set_mode(Mode::Secure, None);
            assert_eq!(slots(&array), left);
        }
    }

    #[test]
    fn a_release_applies_again_after_a_lockdown() {
        let mut array = AuthorityArray::new(Want::Locked);
        array.fill(Slot::OperatorHold, Entry::new(Want::Released, None));
        array.set_mode(Mode::Lockdown, None);
        assert_eq!(array.want(), Want::Locked);
        array.relinquish(Slot::Lockdown);
        assert_eq!(array.want(), Want::Released);
    }

    #[test]
    fn a_saved_mode_is_restored_with_or_without_its_slot() {
        for base in [
            BaseMode::Normal,
            BaseMode::Passage,
            BaseMode::Secure,
            BaseMode::Maintenance,
        ] {
            for with_slot in [false, true] {
                let mut array = AuthorityArray::new(Want::Locked);
                if with_slot {
                    array.fill(Slot::Passage, Entry::new(Want::Released, None));
                }
                array.restore_mode(base);
                let mut set = AuthorityArray::new(Want::Locked);
                set.set_mode(base.into(), None);
                assert_eq!(array, set);
            }
        }
    }

    #[test]
    fn a_lockdown_desired_twice_keeps_the_mode_desired_before_it() {
        let mut array = AuthorityArray::new(Want::Locked);
        for desired in [Mode::Passage, Mode::Lockdown, Mode::Lockdown] {
            array.follow_desired(Some(desired));
        }
        assert_eq!(array.desired_before(), Some(Mode::Passage));
    }
}
