//! What a door answers: an Azure method status and a JSON body.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Alarm, Check, CheckResult, DoorReport, Identity, LockStatus, METHODS, Mode, Raised, Reboot,
    SelfTestReport, SlotState,
};
use crate::authority::{AuthorityArray, Want};

/// Longest part of a refused value that is sent back.
const MAX_SHOWN: usize = 80;

/// Answer to a direct method.
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
    /// The JSON.
    pub body: Box<ReplyBody>,
}

/// What stood in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReplyError {
    /// 400.
    BadPayload,
    /// 404.
    UnknownMethod,
    /// 409: the door's mode allows no unlock; see `heldBy` and `mode`.
    Refused,
    /// 409: its `commandId` stands for another command.
    CommandIdTaken,
    /// 410: its validity window has passed, or nothing can tell that it has not.
    Expired,
    /// 500: the strike did not get there within the bond time.
    Jammed,
    /// 500: the coil or motor must rest.
    LockFault,
    /// 500: an input cannot be read, or two contradict each other.
    SensorFault,
    /// 500: not on disk. A lock is driven all the same, an unlock is not.
    NotStored,
    /// 500: this machine has no way to do it.
    NotPossible,
    /// 500: the door did not answer in time; what it did is not known.
    NoAnswer,
}

/// JSON body of a [`MethodReply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplyBody {
    /// A sentence for a person.
    #[serde(rename = "Response")]
    pub response: String,
    /// What stood in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ReplyError>,
    /// 400: the field at fault, absent when it is the payload as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// 400: what it held, as JSON text, cut short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// 400: what it should hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// An earlier delivery of this command was accepted, and this one did nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// When the command of this `commandId` was first accepted, when the clock could tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Timestamp>,
    /// The state of lock and door.
    #[serde(flatten, default)]
    pub status: Option<LockStatus>,
    /// How the door is run: `getState`, `setMode`, and what a mode refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Under a lockdown, beside `mode`: what the door goes back to after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub displaced_mode: Option<Mode>,
    /// `getState` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarms: Option<BTreeMap<Alarm, Raised>>,
    /// `getState` only: the occupied slots of the authority array, the deciding one first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<Vec<SlotState>>,
    /// `getState` only: what holds when no slot is occupied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relinquish_default: Option<Want>,
    /// `selfTest` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<SelfTestReport>,
    /// `identify` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

impl MethodReply {
    /// The body as JSON text.
    #[must_use]
    pub fn body_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.body).expect("a reply has string keys only")
    }

    /// 200 or 202: a later delivery of the same command acts no second time.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self.status, 200 | 202)
    }

    /// The reply when the door gave none in time.
    #[must_use]
    pub fn no_answer(method: &str) -> Self {
        let response = format!("{method}: the door did not answer in time");
        Self::failed(500, ReplyError::NoAnswer, response, None)
    }

    pub(crate) fn accepted(method: &str, reached: bool, status: LockStatus) -> Self {
        Self {
            status: if reached { 200 } else { 202 },
            body: Box::new(ReplyBody {
                status: Some(status),
                ..ReplyBody::new(format!("{method} called successfully"))
            }),
        }
    }

    /// The same, telling how the door is run.
    pub(crate) fn with_mode(mut self, mode: Mode, displaced: Option<Mode>) -> Self {
        self.body.mode = Some(mode);
        self.body.displaced_mode = displaced;
        self
    }

    pub(crate) fn state(method: &str, report: DoorReport, array: &AuthorityArray) -> Self {
        Self {
            status: 200,
            body: Box::new(ReplyBody {
                status: Some(report.status),
                mode: Some(report.mode),
                displaced_mode: array.displaced_mode(),
                alarms: Some(report.alarms),
                slots: Some(array.slots()),
                relinquish_default: Some(array.relinquish_default()),
                ..ReplyBody::new(format!("{method} called successfully"))
            }),
        }
    }

    /// 200 when nothing failed, else 500 with the first thing that did.
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
        Self {
            status: if error.is_none() { 200 } else { 500 },
            body: Box::new(ReplyBody {
                error,
                status: Some(status),
                checks: Some(checks),
                ..ReplyBody::new(response)
            }),
        }
    }

    pub(crate) fn failed(
        status: u16,
        error: ReplyError,
        response: String,
        door: Option<LockStatus>,
    ) -> Self {
        Self {
            status,
            body: Box::new(ReplyBody {
                error: Some(error),
                status: door,
                ..ReplyBody::new(response)
            }),
        }
    }

    pub(super) fn identity(method: &str, identity: Identity) -> Self {
        Self {
            status: 200,
            body: Box::new(ReplyBody {
                identity: Some(identity),
                ..ReplyBody::new(format!("{method} called successfully"))
            }),
        }
    }

    /// A reply about the machine, which says nothing of the door.
    pub(super) fn of_machine(status: u16, error: Option<ReplyError>, response: String) -> Self {
        Self {
            status,
            body: Box::new(ReplyBody {
                error,
                ..ReplyBody::new(response)
            }),
        }
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
        Self {
            status: 400,
            body: Box::new(ReplyBody {
                error: Some(ReplyError::BadPayload),
                field,
                value: Some(value),
                expected: Some(expected.to_owned()),
                ..ReplyBody::new(response)
            }),
        }
    }
}

impl ReplyBody {
    fn new(response: String) -> Self {
        Self {
            response,
            error: None,
            field: None,
            value: None,
            expected: None,
            repeated: false,
            first: None,
            status: None,
            mode: None,
            displaced_mode: None,
            alarms: None,
            slots: None,
            relinquish_default: None,
            checks: None,
            identity: None,
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
    fn the_answer_as_it_is_spelled() {
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
