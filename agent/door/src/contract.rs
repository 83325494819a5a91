//! The wire format that door and `doorctl` share: method payloads, replies and the reported state.
//!
//! Names come from the Matter Door Lock cluster, the BACnet Access Door object and Home Assistant's
//! lock entity.

mod array;
mod command;
pub mod duration;
mod lockdown;
mod reply;
mod self_test;
mod word;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use array::{HeldBy, Slot, SlotState, Want};
pub use command::{
    Command, CommandHeader, CommandId, Goal, Identity, InvalidCommandId, LockDoor, METHODS, Pulse,
    Reboot, Relinquish, SetMode, UnlockDoor,
};
pub use lockdown::{Lockdown, LockdownOrder};
pub use reply::{MethodReply, ReplyBody, ReplyError};
pub use self_test::{Check, CheckResult, SelfTestReport};

pub use word::Word;
pub(crate) use word::words;

words! {
    /// The observed state of the lock (Matter LockState). Without a bond sensor it is the commanded
    /// state, after the bond time.
    pub enum LockState {
        /// The bolt is thrown.
        Locked = "locked",
        /// Moving to locked.
        Locking = "locking",
        /// The bolt is retracted.
        Unlocked = "unlocked",
        /// Moving to unlocked.
        Unlocking = "unlocking",
        /// Driven, but not there within the bond time. Cleared by the next proven movement; not
        /// shown while a bolt is retracted and released is wanted.
        Jammed = "jammed",
        /// Not read yet, or not readable.
        Unknown = "unknown",
    }
}

words! {
    /// The state of the door position switch.
    pub enum DoorState {
        /// The door is open.
        Open = "open",
        /// The door is closed; the lock may be in any state.
        Closed = "closed",
        /// Not read yet, or not readable.
        Unknown = "unknown",
    }
}

words! {
    /// Locked and closed and without a fault: derived, never stored (BACnet Secured_Status).
    pub enum Secured {
        /// Locked, closed, no fault.
        Secured = "secured",
        /// At least one of them is known to be false.
        Unsecured = "unsecured",
        /// The readings do not show it.
        Unknown = "unknown",
    }
}

words! {
    /// How the lock state is known.
    pub enum Proof {
        /// By the bond: the lock monitor input.
        Bond = "bond",
        /// The door is seen closed; the bolt is assumed to be where it was driven.
        Contact = "contact",
        /// By nothing.
        None = "none",
    }
}

words! {
    /// Alarms: conditions that need a person's attention (BACnet DOOR_ALARM_STATE).
    pub enum Alarm {
        /// The door opened without a grant, a request to exit or an unlock.
        ForcedOpen = "forcedOpen",
        /// The door is open for longer than allowed.
        HeldOpen = "heldOpen",
        /// The strike did not reach the driven position, and no movement has been proven since.
        Jammed = "jammed",
        /// The enclosure is open.
        Tamper = "tamper",
        /// An input cannot be read, chatters, is stuck, or contradicts another.
        SensorFault = "sensorFault",
        /// The strike cannot do what is wanted: coil or motor must rest, or an output cannot be
        /// driven.
        LockFault = "lockFault",
        /// The bolt left without a request to exit, a grant or a command, and the door was not seen
        /// to open.
        LockForced = "lockForced",
    }
}

words! {
    /// The operating mode of the door (Matter OperatingMode).
    #[derive(Default)]
    pub enum Mode {
        /// The authority array alone decides.
        #[default]
        Normal = "normal",
        /// Released for free passage: fills slot 9.
        Passage = "passage",
        /// Operators cannot unlock: setting it empties slot 7 and a release in slot 8, and new
        /// unlocks are refused.
        Secure = "secure",
        /// Locked against entry: fills slot 5. Keeps the displaced mode and refuses unlocks.
        Lockdown = "lockdown",
        /// Alarms are recorded as suppressed and not shown; otherwise as `normal`.
        Maintenance = "maintenance",
    }
}

impl Mode {
    /// The modes as text, for error messages.
    pub const EXPECTED: &'static str = "one of normal, passage, secure, lockdown, maintenance";
}

words! {
    /// What caused a change (Matter OperationSource).
    pub enum Source {
        /// A command from the hub.
        Remote = "remote",
        /// The schedule, or the relinquish default.
        Schedule = "schedule",
        /// The request-to-exit input.
        Rex = "rex",
        /// The fire release input.
        Fire = "fire",
        /// An input at the door, or its handle.
        Local = "local",
        /// The coil guard.
        Protection = "protection",
    }
}

/// The part of the state that is in each reply of a door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LockStatus {
    /// The state of the lock.
    pub lock_state: LockState,
    /// The state of the door.
    pub door_state: DoorState,
    /// Whether the door is secured.
    pub secured: Secured,
    /// How the lock state is known.
    pub proof: Proof,
    /// When the operator's lock hold ends; `None` without an end, or if the clock is not trusted.
    pub locked_until: Option<Timestamp>,
    /// The deciding slot. In a reply: the slot that overrides the command's own.
    pub held_by: Option<HeldBy>,
}

words! {
    /// The kind of fault of an input.
    pub enum InputFault {
        /// The input cannot be read.
        Unreadable = "unreadable",
        /// The bolt reads thrown in an open door.
        Contradiction = "contradiction",
        /// The level changes more often than a person could make it: 20 times within 5 s.
        Chatter = "chatter",
        /// A button has been active for 5 minutes.
        Stuck = "stuck",
    }
}

/// A raised alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// Since when; `None` if the clock was not trusted.
    pub since: Option<Timestamp>,
}

/// The reported state of a door: the value of the reported property `door`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DoorReport {
    /// Lock and door; its members are members of the report.
    #[serde(flatten)]
    pub status: LockStatus,
    /// The mode.
    pub mode: Mode,
    /// The lockdown, unless it is one of the mode alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lockdown: Option<Lockdown>,
    /// The raised alarms.
    #[serde(default)]
    pub alarms: BTreeMap<Alarm, Raised>,
}

impl DoorReport {
    /// The report as a twin patch: an alarm that is not raised is `null`, which removes one
    /// reported earlier.
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
    fn the_report_serializes_to_its_wire_form() {
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
                    since: None,
                }),
            },
            mode: Mode::Normal,
            lockdown: None,
            alarms: BTreeMap::from([(Alarm::Jammed, Raised { since: Some(until) })]),
        };
        let text = json!({
            "lockState": "jammed", "doorState": "closed", "secured": "unsecured", "proof": "bond",
            "lockedUntil": "2026-11-23T22:10:00Z",
            "heldBy": {"slot": 8, "until": "2026-11-23T22:10:00Z"},
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
