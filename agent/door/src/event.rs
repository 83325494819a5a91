//! Events: recorded in the event log and sent to the hub from there.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::contract::{
    Alarm, CommandId, DoorState, InputFault, LockState, Lockdown, Mode, Proof, Secured, Slot,
    Source, Want, Word, words,
};
use crate::schedule::EntryId;
use crate::time::{ClockQuality, Now};

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

/// Declares the kinds of events, each with its name and its members on the wire.
macro_rules! event_kinds {
    ($(
        $(#[$doc:meta])* $kind:ident = $name:literal
        $({ $($(#[$attribute:meta])* $member:ident: $type:ty,)* })?,
    )+) => {
        /// What happened. Serialized as an object of its members, with its name as `kind`.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all_fields = "camelCase")]
        pub enum EventKind {
            $(
                $(#[$doc])* #[serde(rename = $name)]
                $kind $({ $($(#[$attribute])* $member: $type,)* })?,
            )+
        }

        impl EventKind {
            /// Its name.
            #[must_use]
            pub fn name(&self) -> EventName {
                match self {
                    $(Self::$kind { .. } => EventName::$kind,)+
                }
            }
        }

        words! {
            /// The name of an [`EventKind`].
            pub enum EventName {
                $($(#[$doc])* $kind = $name,)+
            }
        }
    };
}

event_kinds! {
    /// The lock state changed.
    LockState = "lockState" {
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
    DoorState = "doorState" {
        /// The new state.
        door_state: DoorState,
    },
    /// The exit button was pressed.
    RequestToExit = "requestToExit",
    /// A reader or keypad at the door released it.
    LocalGrant = "localGrant",
    /// The fire release was activated; it is latched until it is reset at the door.
    FireRelease = "fireRelease",
    /// The fire release was reset at the door.
    FireReset = "fireReset",
    /// A command was answered.
    Command = "command" {
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
    Expired = "expired" {
        /// The slot that is empty now.
        slot: Slot,
        /// The wanted state from now on.
        want: Want,
    },
    /// A start did not restore the entry of a slot.
    Dropped = "dropped" {
        /// The slot that is empty now.
        slot: Slot,
        /// Why it was not restored.
        why: DropReason,
    },
    /// A saved desired setting was not applied: this version does not have it, or it does not fit
    /// the configuration.
    SettingDropped = "settingDropped" {
        /// The setting's name.
        setting: String,
    },
    /// The start found that the newest saved state may be lost. The doubt lasts until the next
    /// accepted command of an operator.
    StateInDoubt = "stateInDoubt" {
        /// What the start found.
        reason: String,
    },
    /// A timed entry began to speak.
    TimedStarted = "timedStarted" {
        /// The entry.
        id: EntryId,
        /// What it wants.
        want: Want,
        /// The slot that it fills.
        slot: Slot,
        /// Who gave it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A timed entry reached its end.
    TimedEnded = "timedEnded" {
        /// The entry.
        id: EntryId,
        /// What it wanted.
        want: Want,
        /// It never spoke: the door was off, or something overruled it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        missed: bool,
    },
    /// A timed entry has begun and does not speak.
    Overruled = "overruled" {
        /// The entry.
        id: EntryId,
        /// What it wants.
        want: Want,
        /// What overrules it.
        why: String,
    },
    /// A timed entry began, ended or was overruled more often within a minute than is recorded. The
    /// next event shows its present state, unless it has not begun or was removed.
    TimedRepeated = "timedRepeated" {
        /// The entry.
        id: EntryId,
        /// Number of events that were not recorded.
        omitted: u64,
    },
    /// Another week was assigned, or none.
    ScheduleChanged = "scheduleChanged" {
        /// Its name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Its digest; absent if there is none any more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// A window of the week ended what somebody had left open.
    TakenOver = "takenOver" {
        /// The slot that is empty now.
        slot: Slot,
        /// Id of the command that had filled it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command_id: Option<CommandId>,
    },
    /// A timed entry was removed before its end, or a lock replaced by one that locks less.
    Disarmed = "disarmed" {
        /// The entry.
        id: EntryId,
        /// What it wanted.
        want: Want,
        /// Its begin.
        from: Timestamp,
        /// Its end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// The mode changed, or another lockdown applies.
    Mode = "mode" {
        /// The new mode.
        mode: Mode,
        /// The lockdown, unless it is one of the mode alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lockdown: Option<Lockdown>,
    },
    /// An alarm was raised.
    AlarmRaised = "alarmRaised" {
        /// The alarm.
        alarm: Alarm,
        /// For `lockFault`: the output that cannot be driven, and why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The cause of an alarm is present, but mode `maintenance` suppresses the alarm.
    AlarmSuppressed = "alarmSuppressed" {
        /// The alarm.
        alarm: Alarm,
    },
    /// An alarm will be raised unless the door is closed.
    PreAlarm = "preAlarm" {
        /// The alarm.
        alarm: Alarm,
    },
    /// An input is in fault; the alarm is `sensorFault`. Recorded when the fault begins, once a
    /// minute while the input changes, and when it ends.
    InputFault = "inputFault" {
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
    AlarmRepeated = "alarmRepeated" {
        /// The alarm.
        alarm: Alarm,
        /// Number of events that were not recorded.
        omitted: u64,
    },
    /// An alarm was cleared, or the cause of a suppressed one has ended.
    AlarmCleared = "alarmCleared" {
        /// The alarm.
        alarm: Alarm,
    },
    /// Events are missing from the log.
    EventsLost = "eventsLost" {
        /// Number of lost events.
        lost: u64,
        /// First and last sequence number of the hole, if known. Events that never got a number
        /// have that of this event.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<u64>,
        /// Boot of `from`, if it is not that of this event.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from_boot: Option<String>,
        /// See `from`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<u64>,
        /// Boot of `to`, if it is not that of this event.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to_boot: Option<String>,
        /// Number of lost events by kind; the kinds of damaged records are unknown.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        kinds: BTreeMap<String, u64>,
    },
    /// The disk does not accept writes.
    StorageFault = "storageFault" {
        /// What cannot be written, and why.
        problem: String,
    },
    /// The disk accepts writes again.
    StorageRestored = "storageRestored" {
        /// What could not be written.
        problem: Option<String>,
        /// Start of the problem.
        since: Option<Timestamp>,
    },
    /// A damaged file was set aside.
    StateDamaged = "stateDamaged" {
        /// The file.
        file: String,
        /// Where it is kept, if it could be.
        kept_as: Option<String>,
        /// The damage.
        reason: String,
    },
    /// The method `reboot` was accepted.
    RebootRequested = "rebootRequested" {
        /// The reason given with the command.
        reason: Option<String>,
        /// The command's id, if it had one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command_id: Option<CommandId>,
    },
    /// The method `identify` was called.
    Identify = "identify",
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
    /// Something that happens now.
    #[must_use]
    pub fn new(now: &Now, kind: EventKind) -> Self {
        Self {
            at: now.wall,
            clock: now.quality,
            kind,
        }
    }

    /// Whether it must be written to disk at once: commands, alarms, fire releases, what is timed
    /// and faults of the disk.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        matches!(
            self.kind,
            EventKind::Command { .. }
                | EventKind::Mode { .. }
                | EventKind::TimedStarted { .. }
                | EventKind::TimedEnded { missed: true, .. }
                | EventKind::Overruled { .. }
                | EventKind::TimedRepeated { .. }
                | EventKind::Disarmed { .. }
                | EventKind::ScheduleChanged { .. }
                | EventKind::TakenOver { .. }
                | EventKind::AlarmRaised { .. }
                | EventKind::AlarmSuppressed { .. }
                | EventKind::AlarmCleared { .. }
                | EventKind::PreAlarm { .. }
                | EventKind::InputFault { .. }
                | EventKind::AlarmRepeated { .. }
                | EventKind::StateInDoubt { .. }
                | EventKind::FireRelease
                | EventKind::FireReset
                | EventKind::StorageFault { .. }
                | EventKind::StorageRestored { .. }
                | EventKind::StateDamaged { .. }
                | EventKind::RebootRequested { .. }
        )
    }
}

/// An event as the log stores it and the hub gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorEvent {
    /// Number of the event within its boot, from 1.
    pub seq: u64,
    /// The boot; `<boot>-<seq>` is the message id.
    pub boot: String,
    /// Wall time, trusted or not.
    pub at: Option<Timestamp>,
    /// Whether `at` can be trusted.
    pub clock: ClockQuality,
    /// The kind. Of another version of the agent, it may be foreign.
    pub kind: Word<EventName>,
    /// The device id.
    pub door: String,
    /// Desired property `building`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub building: Option<Value>,
    /// Desired property `floor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Value>,
    /// The members of the kind.
    #[serde(flatten)]
    pub members: Map<String, Value>,
}

impl DoorEvent {
    /// The event of this door; the log numbers it when it is written.
    #[must_use]
    pub fn new(event: &Event, door: &str, building: Option<Value>, floor: Option<Value>) -> Self {
        Self {
            seq: 0,
            boot: String::new(),
            at: event.at,
            clock: event.clock,
            kind: Word::Foreign(String::new()),
            door: door.to_owned(),
            building,
            floor,
            members: Map::new(),
        }
        .with_kind(&event.kind)
    }

    /// Another event of the same door at the same time.
    #[must_use]
    pub fn with_kind(self, kind: &EventKind) -> Self {
        let members = serde_json::to_value(kind).expect("an event has string keys only");
        let Value::Object(mut members) = members else {
            unreachable!("a tagged enum serializes to an object")
        };
        members.shift_remove("kind");
        Self {
            kind: Word::Known(kind.name()),
            members,
            ..self
        }
    }

    /// The JSON text that the log stores and the hub gets.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an event has string keys only")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: EventKind) -> Event {
        Event {
            at: Some("2026-11-23T22:00:00.123Z".parse().unwrap()),
            clock: ClockQuality::Synchronized,
            kind,
        }
    }

    #[test]
    fn an_event_is_written_in_the_order_of_its_members_and_read_back() {
        let kinds = BTreeMap::from([("doorState".to_owned(), 38), ("lockState".to_owned(), 2)]);
        for (kind, text) in [
            (
                EventKind::LockState {
                    lock_state: LockState::Locked,
                    secured: Secured::Secured,
                    proof: Proof::Bond,
                    source: Source::Remote,
                },
                r#""kind":"lockState","door":"east","building":43,"lockState":"locked","secured":"secured","proof":"bond","source":"remote""#,
            ),
            (
                EventKind::RequestToExit,
                r#""kind":"requestToExit","door":"east","building":43"#,
            ),
            (
                EventKind::EventsLost {
                    lost: 40,
                    from: Some(17),
                    from_boot: Some("a".to_owned()),
                    to: Some(63),
                    to_boot: None,
                    kinds,
                },
                r#""kind":"eventsLost","door":"east","building":43,"lost":40,"from":17,"fromBoot":"a","to":63,"kinds":{"doorState":38,"lockState":2}"#,
            ),
            (
                EventKind::StorageRestored {
                    problem: None,
                    since: None,
                },
                r#""kind":"storageRestored","door":"east","building":43,"problem":null,"since":null"#,
            ),
            (
                EventKind::RebootRequested {
                    reason: None,
                    command_id: Some("r-1".parse().unwrap()),
                },
                r#""kind":"rebootRequested","door":"east","building":43,"reason":null,"commandId":"r-1""#,
            ),
        ] {
            let written = DoorEvent {
                seq: 7,
                boot: "b".to_owned(),
                ..DoorEvent::new(&event(kind.clone()), "east", Some(43.into()), None)
            };
            let json = written.to_json();
            let expected = format!(
                r#"{{"seq":7,"boot":"b","at":"2026-11-23T22:00:00.123Z","clock":"synchronized",{text}}}"#
            );
            assert_eq!(std::str::from_utf8(&json).unwrap(), expected);
            assert_eq!(serde_json::from_slice::<DoorEvent>(&json).unwrap(), written);
            assert_eq!(serde_json::from_slice::<EventKind>(&json).unwrap(), kind);
        }
    }

    #[test]
    fn an_event_of_another_version_keeps_its_name_and_members() {
        let text = r#"{"seq":1,"boot":"b","at":null,"clock":"unsynchronized","kind":"bellRung","door":"east","floor":"3","bell":{"tone":2}}"#;
        let event: DoorEvent = serde_json::from_str(text).unwrap();
        assert_eq!(event.kind, Word::Foreign("bellRung".to_owned()));
        assert_eq!(std::str::from_utf8(&event.to_json()).unwrap(), text);
    }

    #[test]
    fn commands_modes_alarms_and_fire_releases_are_urgent_and_states_are_not() {
        let alarm = Alarm::Tamper;
        for (kind, is_urgent) in [
            (EventKind::FireRelease, true),
            (EventKind::FireReset, true),
            (
                EventKind::Mode {
                    mode: Mode::Secure,
                    lockdown: None,
                },
                true,
            ),
            (EventKind::PreAlarm { alarm }, true),
            (
                EventKind::AlarmRaised {
                    alarm,
                    reason: None,
                },
                true,
            ),
            (EventKind::AlarmSuppressed { alarm }, true),
            (EventKind::AlarmCleared { alarm }, true),
            (
                EventKind::TimedEnded {
                    id: "l".parse().unwrap(),
                    want: Want::Locked,
                    missed: true,
                },
                true,
            ),
            (EventKind::RequestToExit, false),
            (EventKind::LocalGrant, false),
            (EventKind::Identify, false),
            (
                EventKind::StorageFault {
                    problem: "full".to_owned(),
                },
                true,
            ),
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
            let event = event(kind);
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
