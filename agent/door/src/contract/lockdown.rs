//! A lockdown on the wire: the desired property, the reported member, and the payload of the two
//! methods.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::command::{CommandHeader, CommandId, Fields};
use super::reply::MethodReply;

/// A lockdown. It acts once per id, whichever of property and method arrives first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lockdown {
    /// The id; `None` if it was called without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<CommandId>,
    /// Who ordered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When it was ordered; if it was called without a time, when the door accepted it by a trusted
    /// clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Lockdown {
    /// Reads the desired property. Only `id` decides: unknown members and unreadable others are
    /// left out, because a lockdown of a later version locks too.
    ///
    /// # Errors
    /// The reason for the acknowledgement: the invalid member, and what was expected.
    pub fn read(value: &Map<String, Value>) -> Result<Self, String> {
        let get = |name| value.get(name).cloned().unwrap_or_default();
        let id: Option<CommandId> = serde_json::from_value(get("id"))
            .map_err(|error| format!("expected {{\"id\", \"by\", \"at\", \"reason\"}}: {error}"))?;
        if id.is_none() {
            return Err("expected an object with \"id\", found none".to_owned());
        }
        Ok(Self {
            id,
            by: serde_json::from_value(get("by")).unwrap_or_default(),
            at: serde_json::from_value(get("at")).unwrap_or_default(),
            reason: serde_json::from_value(get("reason")).unwrap_or_default(),
        })
    }
}

/// For people: `ID by NAME: REASON`.
impl fmt::Display for Lockdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => write!(f, "{id}")?,
            None => f.write_str("without an id")?,
        }
        if let Some(by) = &self.by {
            write!(f, " by {by}")?;
        }
        match &self.reason {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

/// Payload of `lockdown` and of `allClear`. The id of a lockdown is its command id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LockdownOrder {
    /// Who ordered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When it was ordered. An `allClear` does not end a lockdown that was ordered after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Id, validity and reason.
    #[serde(flatten)]
    pub header: CommandHeader,
}

impl LockdownOrder {
    pub(super) const FIELDS: &'static [&'static str] =
        &["by", "at", "commandId", "notAfter", "reason"];

    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, MethodReply> {
        Ok(Self {
            by: fields.text("by")?,
            at: fields.timestamp("at")?,
            header: fields.header_with_reason()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_desired_lockdown_needs_an_id_and_ignores_unknown_members() {
        for (value, expected) in [
            (json!({"id": "L1"}), Ok("L1")),
            (
                json!({"id": "L1", "by": "alice", "at": "2026-11-23T22:00:00Z", "reason": "drill",
                    "level": 3}),
                Ok("L1 by alice: drill"),
            ),
            (json!({"by": "alice"}), Err("\"id\"")),
            (json!({"id": null}), Err("\"id\"")),
            (json!({"id": 7}), Err("invalid type: integer `7`")),
            (json!({"id": ""}), Err("1 to 128 visible")),
            (
                json!({"id": "L1", "at": "soon", "by": "bob"}),
                Ok("L1 by bob"),
            ),
            (
                json!({"id": "L1", "at": 7, "by": 7, "reason": "fire"}),
                Ok("L1: fire"),
            ),
            (
                json!({"id": "L1", "by": "bob", "reason": []}),
                Ok("L1 by bob"),
            ),
        ] {
            let read = Lockdown::read(value.as_object().unwrap());
            match (read, expected) {
                (Ok(lockdown), Ok(text)) => assert_eq!(lockdown.to_string(), text),
                (Err(reason), Err(part)) => assert!(reason.contains(part), "{value}: {reason}"),
                other => panic!("{value}: {other:?}"),
            }
        }
    }
}
