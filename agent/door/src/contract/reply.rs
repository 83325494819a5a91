//! Replies of a door: an Azure method status and a JSON body.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Alarm, Check, CheckResult, DoorReport, Identity, LockStatus, Lockdown, METHODS, Mode, Raised,
    Reboot, SelfTestReport, SlotState, Want, words,
};
use crate::authority::AuthorityArray;
use crate::schedule::{EntryId, TimedReport, WeekReport};

/// Longest part of an invalid value that is sent back, in characters.
const MAX_SHOWN: usize = 80;

/// Reply to a direct method.
///
/// | status | meaning |
/// |---|---|
/// | 200 | the wanted state is reached: secured for a lock, released for an unlock |
/// | 202 | accepted, not (yet) reached |
/// | 400 | bad payload |
/// | 404 | no such method |
/// | 409 | refused |
/// | 410 | expired |
/// | 500 | a fault; see `error` |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodReply {
    /// See the table.
    pub status: u16,
    /// The JSON body.
    pub body: Box<ReplyBody>,
}

words! {
    /// Why a method failed.
    pub enum ReplyError {
        /// 400: the payload is invalid; see `field`, `value` and `expected`.
        BadPayload = "badPayload",
        /// 404: the door has no such method.
        UnknownMethod = "unknownMethod",
        /// 409: the door's mode allows no unlock (see `heldBy` and `mode`), or a lockdown is newer
        /// than the `allClear`.
        Refused = "refused",
        /// 409: another command already has this `commandId`.
        CommandIdTaken = "commandIdTaken",
        /// 410: the command has expired, or without a trusted clock that cannot be checked.
        Expired = "expired",
        /// 500: the strike did not reach the position within the bond time.
        Jammed = "jammed",
        /// 500: the coil or motor must rest.
        LockFault = "lockFault",
        /// 500: door contact or lock monitor is in fault; see `Response`.
        SensorFault = "sensorFault",
        /// 500: the state could not be saved. A lock acts nevertheless, an unlock does not.
        NotStored = "notStored",
        /// 500: this machine cannot do it.
        NotPossible = "notPossible",
        /// 500: the door did not answer in time; whether it acted is unknown.
        NoAnswer = "noAnswer",
    }
}

/// JSON body of a [`MethodReply`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplyBody {
    /// A sentence for a person.
    #[serde(rename = "Response")]
    pub response: String,
    /// Why the method failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ReplyError>,
    /// 400: the invalid field; absent if the whole payload is invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// 400: the invalid value as JSON text, truncated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// 400: what was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// A duplicate: an earlier delivery of this command was accepted, and this one did nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// When the command of this `commandId` was first accepted; absent if the clock was not
    /// trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Timestamp>,
    /// When a coil of limited duty will end the state, earlier than the command asked for; absent
    /// if the clock is not trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<Timestamp>,
    /// The state of lock and door.
    #[serde(flatten, default)]
    pub status: Option<LockStatus>,
    /// The mode: `getState`, `setMode`, `lockdown`, `allClear`, and unlocks that a mode refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// During a lockdown: the mode that returns after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub displaced_mode: Option<Mode>,
    /// `getState` only: the lockdown, unless it is one of the mode alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lockdown: Option<Lockdown>,
    /// `getState` only: the raised alarms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarms: Option<BTreeMap<Alarm, Raised>>,
    /// `getState` only: the occupied slots of the authority array, the deciding one first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<Vec<SlotState>>,
    /// `getState` only: the wanted state when no slot is occupied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relinquish_default: Option<Want>,
    /// `getState` only: the timed entries and what became of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timed: Option<BTreeMap<EntryId, TimedReport>>,
    /// `getState` only: the week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<WeekReport>,
    /// `selfTest` only: the results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<SelfTestReport>,
    /// `identify` only: the device and its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

impl MethodReply {
    /// The body as JSON text.
    #[must_use]
    pub fn body_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.body).expect("a reply has string keys only")
    }

    /// Whether the status is 200 or 202; a duplicate of such a command does not act again.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self.status, 200 | 202)
    }

    /// The reply if the door did not answer in time.
    #[must_use]
    pub fn no_answer(method: &str) -> Self {
        let response = format!("{method}: the door did not answer in time");
        Self::failed(500, ReplyError::NoAnswer, response, None)
    }

    fn new(status: u16, body: ReplyBody) -> Self {
        let body = Box::new(body);
        Self { status, body }
    }

    pub(crate) fn accepted(method: &str, reached: bool, status: LockStatus) -> Self {
        Self::new(
            if reached { 200 } else { 202 },
            ReplyBody {
                status: Some(status),
                ..ReplyBody::new(format!("{method} called successfully"))
            },
        )
    }

    /// Adds the mode to the reply.
    pub(crate) fn with_mode(mut self, mode: Mode, displaced: Option<Mode>) -> Self {
        self.body.mode = Some(mode);
        self.body.displaced_mode = displaced;
        self
    }

    pub(crate) fn state(
        method: &str,
        report: DoorReport,
        array: &AuthorityArray,
        timed: BTreeMap<EntryId, TimedReport>,
        schedule: Option<WeekReport>,
    ) -> Self {
        Self::new(
            200,
            ReplyBody {
                status: Some(report.status),
                mode: Some(report.mode),
                displaced_mode: array.displaced_mode(),
                lockdown: report.lockdown,
                alarms: Some(report.alarms),
                slots: Some(array.slots()),
                relinquish_default: Some(array.relinquish_default()),
                timed: (!timed.is_empty()).then_some(timed),
                schedule,
                ..ReplyBody::new(format!("{method} called successfully"))
            },
        )
    }

    /// 200 if all checks passed, else 500 with the first failure.
    pub(crate) fn self_test(checks: SelfTestReport, jammed: bool, status: LockStatus) -> Self {
        let failed = |check: &Check| check.result == CheckResult::Failed;
        let (error, part) = if failed(&checks.inputs) {
            (Some(ReplyError::SensorFault), "inputs")
        } else if failed(&checks.strike) && jammed {
            (Some(ReplyError::Jammed), "strike")
        } else if failed(&checks.strike) {
            (Some(ReplyError::LockFault), "strike")
        } else if failed(&checks.storage) {
            (Some(ReplyError::NotStored), "storage")
        } else {
            (None, "")
        };
        let response = match error {
            None => "selfTest called successfully".to_owned(),
            Some(_) => format!("selfTest failed: {part}; see checks"),
        };
        Self::new(
            if error.is_none() { 200 } else { 500 },
            ReplyBody {
                error,
                status: Some(status),
                checks: Some(checks),
                ..ReplyBody::new(response)
            },
        )
    }

    pub(crate) fn failed(
        status: u16,
        error: ReplyError,
        response: String,
        door: Option<LockStatus>,
    ) -> Self {
        Self::new(
            status,
            ReplyBody {
                error: Some(error),
                status: door,
                ..ReplyBody::new(response)
            },
        )
    }

    pub(super) fn identity(method: &str, identity: Identity) -> Self {
        Self::new(
            200,
            ReplyBody {
                identity: Some(identity),
                ..ReplyBody::new(format!("{method} called successfully"))
            },
        )
    }

    /// A reply about the machine, without the state of the door.
    pub(super) fn of_machine(status: u16, error: Option<ReplyError>, response: String) -> Self {
        Self::new(
            status,
            ReplyBody {
                error,
                ..ReplyBody::new(response)
            },
        )
    }

    pub(super) fn unknown_method(method: &str) -> Self {
        let response = format!(
            "no such method: {}; expected one of {}, {}, {}",
            shown(method),
            METHODS.join(", "),
            Identity::METHOD,
            Reboot::METHOD
        );
        Self::failed(404, ReplyError::UnknownMethod, response, None)
    }

    pub(crate) fn bad_payload(
        method: &str,
        field: Option<&str>,
        value: &str,
        expected: &str,
    ) -> Self {
        let value = shown(value);
        let field = field.map(shown);
        let place = field.as_deref().unwrap_or("payload");
        let response = format!("{method}: {place} is {value}, expected {expected}");
        Self::new(
            400,
            ReplyBody {
                error: Some(ReplyError::BadPayload),
                field,
                value: Some(value),
                expected: Some(expected.to_owned()),
                ..ReplyBody::new(response)
            },
        )
    }
}

impl ReplyBody {
    fn new(response: String) -> Self {
        Self {
            response,
            ..Self::default()
        }
    }
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{DoorState, LockState, Proof, Secured};

    #[test]
    fn the_reply_serializes_to_its_wire_form() {
        let status = LockStatus {
            lock_state: LockState::Locked,
            door_state: DoorState::Closed,
            secured: Secured::Secured,
            proof: Proof::Bond,
            locked_until: Some("2026-11-23T22:10:00Z".parse().unwrap()),
            held_by: None,
        };
        let reply = MethodReply::accepted("lockDoor", true, status);
        assert_eq!(reply.status, 200);
        let text = reply.body_json();
        assert_eq!(
            std::str::from_utf8(&text).unwrap(),
            r#"{"Response":"lockDoor called successfully","lockState":"locked","doorState":"closed","secured":"secured","proof":"bond","lockedUntil":"2026-11-23T22:10:00Z","heldBy":null}"#
        );
        assert_eq!(
            serde_json::from_slice::<ReplyBody>(&text).unwrap(),
            *reply.body
        );
    }

    #[test]
    fn a_long_value_is_cut_short() {
        let reply = MethodReply::bad_payload("lockDoor", Some("until"), &"ä".repeat(500), "a time");
        assert_eq!(
            reply.body.value.map(|value| value.chars().count()),
            Some(MAX_SHOWN + 1)
        );
    }
}
