//! What goes over the wire, for both of its ends: method payloads, replies, and the door's reported
//! state.
//!
//! The names are those of the Matter Door Lock cluster, the BACnet Access Door object and Home
//! Assistant's lock entity.

mod command;
pub mod duration;
mod reply;
mod self_test;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use command::{
    Command, CommandId, Identity, InvalidCommandId, LockDoor, METHODS, Pulse, Reboot, Relinquish,
    SetMode, UnlockDoor, Window,
};
pub use reply::{MethodReply, ReplyBody, ReplyError};
pub use self_test::{Check, CheckResult, SelfTestReport};

use crate::authority::{Slot, Want};

/// What the lock is observed to do. Without a bond sensor it is the commanded state after the bond
/// time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LockState {
    /// The bolt is thrown.
    Locked,
    /// On its way to locked.
    Locking,
    /// The bolt is back.
    Unlocked,
    /// On its way to unlocked.
    Unlocking,
    /// Driven, but not there within the bond time. Cleared by the next movement that is proven, and
    /// by a bolt that is back while it is to be.
    Jammed,
    /// Not read yet, or not readable.
    Unknown,
}

/// What the door position switch says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DoorState {
    /// The door stands open.
    Open,
    /// The door is closed, which says nothing about the lock.
    Closed,
    /// Not read yet, or not readable.
    Unknown,
}

/// Locked and closed and without a fault: derived, never stored (BACnet Secured_Status).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Secured {
    /// Locked, closed, no fault.
    Secured,
    /// Known not to be.
    Unsecured,
    /// Nothing here can tell.
    Unknown,
}

/// How the lock state is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Proof {
    /// A lock monitor input sees the bolt.
    Bond,
    /// The door is seen closed; the bolt is taken at its word.
    Contact,
    /// Nothing is seen.
    None,
}

/// Conditions that want a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Alarm {
    /// Opened without a grant, a request to exit or an unlock.
    ForcedOpen,
    /// Open for longer than allowed.
    HeldOpen,
    /// The strike did not get where it was driven, and has not been seen to move since.
    Jammed,
    /// The enclosure was opened.
    Tamper,
    /// An input cannot be read, or two contradict each other.
    SensorFault,
    /// The strike cannot do what it is asked: its coil or motor must rest.
    LockFault,
    /// The bolt left without a request to exit, a grant or a command, and the door is not seen to
    /// open.
    LockForced,
}

impl Alarm {
    /// Every alarm there is.
    pub const ALL: [Self; 7] = [
        Self::ForcedOpen,
        Self::HeldOpen,
        Self::Jammed,
        Self::Tamper,
        Self::SensorFault,
        Self::LockFault,
        Self::LockForced,
    ];

    /// As it is spelled on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ForcedOpen => "forcedOpen",
            Self::HeldOpen => "heldOpen",
            Self::Jammed => "jammed",
            Self::Tamper => "tamper",
            Self::SensorFault => "sensorFault",
            Self::LockFault => "lockFault",
            Self::LockForced => "lockForced",
        }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the door is being run (Matter OperatingMode).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// By the authority array alone.
    #[default]
    Normal,
    /// Released for free passage: slot 9.
    Passage,
    /// No unlock by an operator: setting it empties slot 7 and a release in slot 8, and new ones
    /// are refused.
    Secure,
    /// Locked against entry: slot 5. Keeps the mode that it displaced, and refuses unlocks.
    Lockdown,
    /// Alarms are recorded as suppressed and not shown; all else is as in `normal`.
    Maintenance,
}

impl Mode {
    /// Every mode there is.
    pub const ALL: [Self; 5] = [
        Self::Normal,
        Self::Passage,
        Self::Secure,
        Self::Lockdown,
        Self::Maintenance,
    ];
    /// What to write for one, for messages.
    pub const EXPECTED: &'static str = "one of normal, passage, secure, lockdown, maintenance";

    /// As it is spelled on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Passage => "passage",
            Self::Secure => "secure",
            Self::Lockdown => "lockdown",
            Self::Maintenance => "maintenance",
        }
    }

    /// The mode that is spelled so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who brought a change about (Matter OperationSource).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A command from the hub.
    Remote,
    /// The schedule, or what holds when nobody says otherwise.
    Schedule,
    /// The request-to-exit input.
    Rex,
    /// The fire release input.
    Fire,
    /// An input at the door, or a person working its handle.
    Local,
    /// The coil guard.
    Protection,
}

/// Which slot of the authority array decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBy {
    /// Its number.
    pub slot: Slot,
    /// When it ends, when it has an end and the clock can tell.
    pub until: Option<Timestamp>,
}

/// An occupied slot of the authority array, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotState {
    /// Its number.
    pub slot: Slot,
    /// What it asks for.
    pub want: Want,
    /// Who filled it.
    pub source: Source,
    /// When it ends, when it has an end and the clock can tell.
    pub until: Option<Timestamp>,
    /// The command that filled it.
    pub command_id: Option<CommandId>,
}

/// The part of the door's state that every answer carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LockStatus {
    /// What the lock does.
    pub lock_state: LockState,
    /// Whether the door is open.
    pub door_state: DoorState,
    /// What follows from both.
    pub secured: Secured,
    /// How it is known.
    pub proof: Proof,
    /// Until when the operator's lock hold lasts, when it has an end and the clock can tell.
    pub locked_until: Option<Timestamp>,
    /// Who decides. In an answer: the slot above the command's own that overrides it.
    pub held_by: Option<HeldBy>,
}

/// Why an input cannot be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InputFault {
    /// It cannot be read.
    Unreadable,
    /// The bolt is seen thrown in an open door.
    Contradiction,
    /// It changes more often than anybody could make it.
    Chatter,
    /// A button that nobody has let go of for minutes.
    Stuck,
}

/// An alarm that is raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// Since when, when the clock could tell.
    pub since: Option<Timestamp>,
}

/// All that is reported of the door: the value of the reported property `door`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DoorReport {
    /// Lock, door, and what follows.
    #[serde(flatten)]
    pub status: LockStatus,
    /// How the door is being run.
    pub mode: Mode,
    /// The alarms that are raised.
    #[serde(default)]
    pub alarms: BTreeMap<Alarm, Raised>,
}

impl DoorReport {
    /// The whole report as a twin patch: an alarm that is not raised is `null`, so that one
    /// reported earlier goes away.
    #[must_use]
    pub fn to_patch(&self) -> Map<String, Value> {
        let text = serde_json::to_value(self).expect("a report has string keys only");
        let Value::Object(mut patch) = text else {
            unreachable!("a struct serializes to an object")
        };
        let alarms = patch.entry("alarms").or_insert_with(|| Map::new().into());
        if let Value::Object(alarms) = alarms {
            for alarm in Alarm::ALL {
                alarms.entry(alarm.as_str()).or_insert(Value::Null);
            }
        }
        patch
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_report_as_it_is_spelled() {
        let until: Timestamp = "2026-11-23T22:10:00Z".parse().unwrap();
        let report = DoorReport {
            status: LockStatus {
                lock_state: LockState::Jammed,
                door_state: DoorState::Closed,
                secured: Secured::Unsecured,
                proof: Proof::Bond,
                locked_until: Some(until),
                held_by: Some(HeldBy {
                    slot: Slot::OperatorHold,
                    until: Some(until),
                }),
            },
            mode: Mode::Normal,
            alarms: BTreeMap::from([(Alarm::Jammed, Raised { since: Some(until) })]),
        };
        let text = json!({
            "lockState": "jammed", "doorState": "closed", "secured": "unsecured", "proof": "bond",
            "lockedUntil": "2026-11-23T22:10:00Z", "heldBy": {"slot": 8, "until": "2026-11-23T22:10:00Z"},
            "mode": "normal", "alarms": {"jammed": {"since": "2026-11-23T22:10:00Z"}},
        });
        assert_eq!(serde_json::to_value(&report).unwrap(), text);
        assert_eq!(serde_json::from_value::<DoorReport>(text).unwrap(), report);
        let patch = report.to_patch();
        assert_eq!(patch["alarms"]["sensorFault"], Value::Null);
        assert_eq!(patch["alarms"]["jammed"]["since"], "2026-11-23T22:10:00Z");
        assert_eq!(patch["alarms"].as_object().map(Map::len), Some(7));
    }
}
