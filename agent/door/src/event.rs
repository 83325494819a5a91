//! Events: recorded in the event log and sent to the hub from there.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::contract::{
    Alarm, CommandId, DoorState, InputFault, LockState, Mode, Proof, Secured, Slot, Source, Want,
    words,
};
use crate::time::ClockQuality;

/// Something that happened at the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Wall time, trusted or not.
    pub at: Option<Timestamp>,
    /// Whether `at` can be trusted.
    pub clock: ClockQuality,
    /// What happened.
    pub kind: EventKind,
}

/// What happened. Serialized as an object of its fields, with the variant's name as `kind`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum EventKind {
    /// The lock state changed.
    LockState {
        /// The new state.
        lock_state: LockState,
        /// Whether the door is secured.
        secured: Secured,
        /// How the lock state is known.
        proof: Proof,
        /// What caused the change.
        source: Source,
    },
    /// The door was opened or closed, or can no longer be read.
    DoorState {
        /// The new state.
        door_state: DoorState,
    },
    /// The exit button was pressed.
    RequestToExit,
    /// A reader or keypad at the door released it.
    LocalGrant,
    /// The fire release was activated; it is latched until it is reset at the door.
    FireRelease,
    /// The fire release was reset at the door.
    FireReset,
    /// A command was answered.
    Command {
        /// The method's name, such as `lockDoor`.
        method: String,
        /// The command's id, if it had one.
        #[serde(skip_serializing_if = "Option::is_none")]
        command_id: Option<CommandId>,
        /// The reason given with the command.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The status of the answer.
        status: u16,
        /// A duplicate: an earlier delivery was accepted, and this one did nothing.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        repeated: bool,
    },
    /// A hold or grant has expired; the next lower slot decides.
    Expired {
        /// The slot that is empty now.
        slot: Slot,
        /// The wanted state from now on.
        want: Want,
    },
    /// A start did not restore the entry of a slot.
    Dropped {
        /// The slot that is empty now.
        slot: Slot,
        /// Why it was not restored.
        why: DropReason,
    },
    /// A saved desired setting was not applied: this version does not have it, or it does not fit
    /// the configuration.
    SettingDropped {
        /// The setting's name.
        setting: String,
    },
    /// The start found that the newest saved state may be lost. The doubt lasts until the next
    /// accepted command of an operator.
    StateInDoubt {
        /// What the start found.
        reason: String,
    },
    /// The mode changed.
    Mode {
        /// The new mode.
        mode: Mode,
    },
    /// An alarm was raised.
    AlarmRaised {
        /// The alarm.
        alarm: Alarm,
    },
    /// The cause of an alarm is present, but mode `maintenance` suppresses the alarm.
    AlarmSuppressed {
        /// The alarm.
        alarm: Alarm,
    },
    /// An alarm will be raised unless the door is closed.
    PreAlarm {
        /// The alarm.
        alarm: Alarm,
    },
    /// An input is in fault; the alarm is `sensorFault`. Recorded when the fault begins, once a
    /// minute while the input changes, and when it ends.
    InputFault {
        /// The input's key in `[board.inputs]`.
        input: String,
        /// The kind of fault.
        fault: InputFault,
        /// Changes of the level since the fault began; they record no other events.
        #[serde(skip_serializing_if = "is_zero")]
        changes: u64,
        /// The fault has ended.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        ended: bool,
    },
    /// An alarm was raised and cleared more often within a minute than is recorded. The next event
    /// shows the present state of the alarm.
    AlarmRepeated {
        /// The alarm.
        alarm: Alarm,
        /// Number of events that were not recorded.
        omitted: u64,
    },
    /// An alarm was cleared, or the cause of a suppressed one has ended.
    AlarmCleared {
        /// The alarm.
        alarm: Alarm,
    },
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

words! {
    /// Why a start does not restore a slot.
    pub enum DropReason {
        /// The entry has an end, and without a trusted clock it is unknown whether that has passed.
        TimeUnknown = "timeUnknown",
        /// The newest saved state may be lost, and the entry released the door.
        InDoubt = "inDoubt",
        /// The input that fills the slot is not fitted, so nothing could empty it.
        InputNotFitted = "inputNotFitted",
    }
}

impl Event {
    /// Whether it must be written to disk at once: commands, alarms and fire releases.
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

    /// The kind's name and its fields, as spelled on the wire.
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
    fn an_event_serializes_to_its_wire_form() {
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
            json!({
                "lockState": "locked", "secured": "secured", "proof": "bond", "source": "remote",
            })
        );
        let (kind, fields) = event(EventKind::RequestToExit).to_fields();
        assert_eq!((kind.as_str(), fields.len()), ("requestToExit", 0));
    }

    #[test]
    fn commands_modes_alarms_and_fire_releases_are_urgent_and_states_are_not() {
        let alarm = Alarm::Tamper;
        for (kind, is_urgent) in [
            (EventKind::FireRelease, true),
            (EventKind::FireReset, true),
            (EventKind::Mode { mode: Mode::Secure }, true),
            (EventKind::PreAlarm { alarm }, true),
            (EventKind::AlarmRaised { alarm }, true),
            (EventKind::AlarmSuppressed { alarm }, true),
            (EventKind::AlarmCleared { alarm }, true),
            (EventKind::RequestToExit, false),
            (EventKind::LocalGrant, false),
            (
                EventKind::DoorState {
                    door_state: DoorState::Open,
                },
                false,
            ),
            (
                EventKind::Expired {
                    slot: Slot::OperatorGrant,
                    want: Want::Locked,
                },
                false,
            ),
        ] {
            let event = Event {
                at: None,
                clock: ClockQuality::Unsynchronized,
                kind,
            };
            assert_eq!(event.is_urgent(), is_urgent, "{event:?}");
        }
    }

    #[test]
    fn a_fault_is_written_without_changes_and_end_while_it_has_none() {
        for (changes, ended, text) in [
            (0, false, json!({})),
            (3, false, json!({"changes": 3})),
            (0, true, json!({"ended": true})),
        ] {
            let kind = EventKind::InputFault {
                input: "rex".to_owned(),
                fault: InputFault::Stuck,
                changes,
                ended,
            };
            let mut expected = json!({"kind": "inputFault", "input": "rex", "fault": "stuck"});
            let members = expected.as_object_mut().unwrap();
            members.extend(text.as_object().unwrap().clone());
            assert_eq!(serde_json::to_value(&kind).unwrap(), expected);
        }
    }
}
