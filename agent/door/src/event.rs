//! What is worth keeping: the events that go to the log and from there to the hub.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::authority::{Slot, Want};
use crate::contract::{
    Alarm, CommandId, DoorState, InputFault, LockState, Mode, Proof, Secured, Source,
};
use crate::time::ClockQuality;

/// Something that happened at the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Wall time, right or wrong.
    pub at: Option<Timestamp>,
    /// Whether that time can be trusted.
    pub clock: ClockQuality,
    /// What happened.
    pub kind: EventKind,
}

/// What happened. Serialized with its name as `kind` beside its fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum EventKind {
    /// The lock state changed.
    LockState {
        /// To this.
        lock_state: LockState,
        /// What follows for the door.
        secured: Secured,
        /// How it is known.
        proof: Proof,
        /// Who brought it about.
        source: Source,
    },
    /// The door was opened or closed, or cannot be read.
    DoorState {
        /// What it is now.
        door_state: DoorState,
    },
    /// Somebody asked to leave.
    RequestToExit,
    /// A reader or keypad at the door let somebody in.
    LocalGrant,
    /// The fire release came, and holds until it is reset at the door.
    FireRelease,
    /// The fire release was reset at the door.
    FireReset,
    /// A command was answered.
    Command {
        /// The method.
        method: String,
        /// Its name, when it had one.
        #[serde(skip_serializing_if = "Option::is_none")]
        command_id: Option<CommandId>,
        /// Why it was given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The status that was answered.
        status: u16,
        /// It had been carried out before, and was not again.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        repeated: bool,
    },
    /// A hold or grant reached its end; what lies below speaks again.
    Expired {
        /// The slot that is empty now.
        slot: Slot,
        /// What the strike should be from here on.
        want: Want,
    },
    /// What was in force before the start no longer is.
    Dropped {
        /// The slot that is empty now.
        slot: Slot,
        /// Why.
        why: DropReason,
    },
    /// A setting that was desired does not act: this version does not have it, or it does not fit
    /// what is configured.
    SettingDropped {
        /// Its name among the desired settings.
        setting: String,
    },
    /// The start found that the newest saved state may be lost. It stands until the next accepted
    /// command of an operator.
    StateInDoubt {
        /// What it found.
        reason: String,
    },
    /// The door is run otherwise from here on.
    Mode {
        /// How.
        mode: Mode,
    },
    /// An alarm was raised.
    AlarmRaised {
        /// Which.
        alarm: Alarm,
    },
    /// An alarm that mode `maintenance` keeps from being raised: its cause is there.
    AlarmSuppressed {
        /// Which.
        alarm: Alarm,
    },
    /// An alarm will be raised unless somebody closes the door.
    PreAlarm {
        /// Which.
        alarm: Alarm,
    },
    /// An input cannot be believed: what the alarm `sensorFault` is about. Recorded when the fault
    /// begins, once a minute while the input still changes, and when it ends.
    InputFault {
        /// The key of its table in `[board.inputs]`.
        input: String,
        /// Why.
        fault: InputFault,
        /// How often its level changed since the fault began; no other event says so meanwhile.
        #[serde(skip_serializing_if = "is_zero")]
        changes: u64,
        /// It can be believed again.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        ended: bool,
    },
    /// An alarm was raised and cleared more often within a minute than is recorded; the event after
    /// this one says how it stands.
    AlarmRepeated {
        /// Which.
        alarm: Alarm,
        /// Events that were not recorded.
        omitted: u64,
    },
    /// An alarm was cleared, or the cause of a suppressed one has gone.
    AlarmCleared {
        /// Which.
        alarm: Alarm,
    },
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Why a start empties a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DropReason {
    /// Nothing can tell whether its time has passed.
    TimeUnknown,
    /// The newest saved state may be lost, and it released the door.
    InDoubt,
    /// The input that fills it is not fitted, so that nothing could empty it.
    InputNotFitted,
}

impl Event {
    /// Commands, alarms and fire releases reach the disk at once; the rest may wait a little.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        matches!(
            self.kind,
            EventKind::Command { .. }
                | EventKind::Mode { .. }
                | EventKind::AlarmRaised { .. }
                | EventKind::AlarmSuppressed { .. }
                | EventKind::AlarmCleared { .. }
                | EventKind::PreAlarm { .. }
                | EventKind::InputFault { .. }
                | EventKind::AlarmRepeated { .. }
                | EventKind::StateInDoubt { .. }
                | EventKind::FireRelease
                | EventKind::FireReset
        )
    }

    /// The kind's name and its fields, as they are spelled on the wire.
    #[must_use]
    pub fn to_fields(&self) -> (String, Map<String, Value>) {
        let text = serde_json::to_value(&self.kind).expect("an event has string keys only");
        let Value::Object(mut fields) = text else {
            unreachable!("a tagged enum serializes to an object")
        };
        let Some(Value::String(kind)) = fields.shift_remove("kind") else {
            unreachable!("the tag is a string")
        };
        (kind, fields)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_as_it_is_spelled() {
        let event = |kind| Event {
            at: None,
            clock: ClockQuality::Unsynchronized,
            kind,
        };
        let (kind, fields) = event(EventKind::LockState {
            lock_state: LockState::Locked,
            secured: Secured::Secured,
            proof: Proof::Bond,
            source: Source::Remote,
        })
        .to_fields();
        assert_eq!(kind, "lockState");
        assert_eq!(
            Value::Object(fields),
            json!({"lockState": "locked", "secured": "secured", "proof": "bond", "source": "remote"})
        );
        let (kind, fields) = event(EventKind::RequestToExit).to_fields();
        assert_eq!((kind.as_str(), fields.len()), ("requestToExit", 0));
    }
}
