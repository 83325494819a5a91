//! The authority array as on the wire: its slots by number, and what they want.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CommandId, Source, words};
use crate::config::Fitted;

words! {
    /// The wanted state of the strike.
    pub enum Want {
        /// Locked against entry.
        Locked = "locked",
        /// Released: the door can be opened.
        Released = "released",
    }
}

/// A slot of the array, ordered by priority; serialized as its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Slot {
    /// 1: the fire release input; latched until it is reset at the door.
    FireRelease,
    /// 2: the request-to-exit input. No command can disable it.
    RequestToExit,
    /// 3: the local grant input: an existing reader or keypad, service at the door.
    LocalGrant,
    /// 5: mode `lockdown`, locked against entry. Slots 1 to 3 still win.
    Lockdown,
    /// 7: `unlockDoor` with a time.
    OperatorGrant,
    /// 8: `lockDoor`, or `unlockDoor` without a time.
    OperatorHold,
    /// 9: mode `passage`, released.
    Passage,
    /// 16: the schedule.
    Schedule,
}

impl Slot {
    /// All slots, highest priority first.
    pub const ALL: [Self; 8] = [
        Self::FireRelease,
        Self::RequestToExit,
        Self::LocalGrant,
        Self::Lockdown,
        Self::OperatorGrant,
        Self::OperatorHold,
        Self::Passage,
        Self::Schedule,
    ];

    /// The slot's number; 1 is the highest priority.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::FireRelease => 1,
            Self::RequestToExit => 2,
            Self::LocalGrant => 3,
            Self::Lockdown => 5,
            Self::OperatorGrant => 7,
            Self::OperatorHold => 8,
            Self::Passage => 9,
            Self::Schedule => 16,
        }
    }

    /// The reported source of a change that this slot decides.
    #[must_use]
    pub fn source(self) -> Source {
        match self {
            Self::FireRelease => Source::Fire,
            Self::RequestToExit => Source::Rex,
            Self::LocalGrant => Source::Local,
            Self::Lockdown | Self::OperatorGrant | Self::OperatorHold | Self::Passage => {
                Source::Remote
            }
            Self::Schedule => Source::Schedule,
        }
    }

    /// Whether an input at the door fills it. Such a slot is never blocked, and only the fire latch
    /// is saved.
    pub(crate) fn is_at_the_door(self) -> bool {
        self <= Self::LocalGrant
    }

    /// Whether commands fill and empty it.
    pub(crate) fn is_of_commands(self) -> bool {
        !self.is_at_the_door() && self != Self::Schedule
    }

    /// Key of the input that fills it, in `[board.inputs]`; `None` for the other slots.
    #[must_use]
    pub fn input(self) -> Option<&'static str> {
        match self {
            Self::FireRelease => Some("fire"),
            Self::RequestToExit => Some("rex"),
            Self::LocalGrant => Some("grant"),
            _ => None,
        }
    }

    /// Whether the input that fills it is fitted; true for the other slots.
    pub(crate) fn is_fitted(self, fitted: Fitted) -> bool {
        match self {
            Self::FireRelease => fitted.fire,
            Self::RequestToExit => fitted.rex,
            Self::LocalGrant => fitted.grant,
            _ => true,
        }
    }

    /// Whether its entry is restored after a restart. A button press is not.
    #[must_use]
    pub fn outlasts_restart(self) -> bool {
        self.is_of_commands() || self == Self::FireRelease
    }
}

impl From<Slot> for u8 {
    fn from(slot: Slot) -> Self {
        slot.number()
    }
}

impl TryFrom<u8> for Slot {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        Self::ALL
            .into_iter()
            .find(|slot| slot.number() == number)
            .ok_or_else(|| format!("{number} is not a slot of the authority array"))
    }
}

/// The deciding slot of the authority array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBy {
    /// The slot, as its number.
    pub slot: Slot,
    /// When it ends; `None` without an end, or if the clock is not trusted.
    pub until: Option<Timestamp>,
    /// Since when it keeps the door's week from deciding; absent without a week, or if that is not
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// An occupied slot of the authority array, as in the reply to `getState`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotState {
    /// The slot, as its number.
    pub slot: Slot,
    /// The wanted state.
    pub want: Want,
    /// What filled it.
    pub source: Source,
    /// When it ends; `None` without an end, or if the clock is not trusted.
    pub until: Option<Timestamp>,
    /// Id of the command that filled it.
    pub command_id: Option<CommandId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slots_at_the_door_name_the_input_that_fills_them() {
        let inputs = Slot::ALL.map(|slot| (slot.number(), slot.input()));
        assert_eq!(
            inputs,
            [
                (1, Some("fire")),
                (2, Some("rex")),
                (3, Some("grant")),
                (5, None),
                (7, None),
                (8, None),
                (9, None),
                (16, None),
            ]
        );
    }

    #[test]
    fn a_slot_is_spelled_by_its_number() {
        for slot in Slot::ALL {
            let text = serde_json::to_string(&slot).unwrap();
            assert_eq!(text, slot.number().to_string());
            assert_eq!(serde_json::from_str::<Slot>(&text).unwrap(), slot);
        }
        assert!(serde_json::from_str::<Slot>("4").is_err());
    }
}
