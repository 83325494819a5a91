//! Method payloads: written by `doorctl`, read here.

mod reboot;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::duration;
use super::reply::MethodReply;
pub use reboot::Reboot;

/// The methods that a door answers; [`Reboot`] is its machine's.
pub const METHODS: [&str; 4] = ["lockDoor", "unlockDoor", "relinquish", "getState"];

const MAX_COMMAND_ID: usize = 128;

/// Names one command over all its deliveries, so that a repeated one acts no second time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommandId(Box<str>);

/// A text that is no command id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a command id has 1 to {MAX_COMMAND_ID} visible ASCII characters")]
pub struct InvalidCommandId;

impl CommandId {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CommandId {
    type Err = InvalidCommandId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=MAX_COMMAND_ID).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidCommandId)
        }
    }
}

impl TryFrom<String> for CommandId {
    type Error = InvalidCommandId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CommandId> for String {
    fn from(id: CommandId) -> Self {
        id.0.into()
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What every command that acts may carry: its name, and how long it may still act.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// Its name over all deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// Judged by a trusted clock, it does not act after this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
}

/// Payload of `lockDoor`: without a time the hold stays until it is relinquished or replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LockDoor {
    /// How long, counted from acceptance; counts when there is no `until`, or no trusted clock to judge it.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "duration_text"
    )]
    pub lock_time: Option<Duration>,
    /// Until when, by a trusted clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Name and validity.
    #[serde(flatten)]
    pub window: Window,
}

/// Payload of `unlockDoor`: with a time an operator grant, without one an operator hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnlockDoor {
    /// How long, counted from acceptance; counts when there is no `until`, or no trusted clock to judge it.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "duration_text"
    )]
    pub unlock_time: Option<Duration>,
    /// Until when, by a trusted clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Name and validity.
    #[serde(flatten)]
    pub window: Window,
}

/// Payload of `relinquish`: empties the operator's slots, 7 and 8.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Relinquish {
    /// Name and validity.
    #[serde(flatten)]
    pub window: Window,
}

/// A direct method that a door understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Lock, for a time or until told otherwise.
    Lock(LockDoor),
    /// Release, for a time or until told otherwise.
    Unlock(UnlockDoor),
    /// Let the lower slots speak again.
    Relinquish(Relinquish),
    /// Tell the state, change nothing.
    GetState,
}

impl Command {
    /// Parses a method call: the payload is an object, a JSON string that holds one, `null` or empty.
    ///
    /// # Errors
    /// The reply to give: 404 for an unknown method, 400 naming the field, its value and what was expected.
    pub fn parse(method: &str, payload: &[u8]) -> Result<Self, MethodReply> {
        let fields = |allowed| Fields::read(method, payload, allowed);
        match method {
            "lockDoor" => {
                let fields = fields(&["lockTime", "until", "commandId", "notAfter"])?;
                Ok(Self::Lock(LockDoor {
                    lock_time: fields.duration("lockTime")?,
                    until: fields.timestamp("until")?,
                    window: fields.window()?,
                }))
            }
            "unlockDoor" => {
                let fields = fields(&["unlockTime", "until", "commandId", "notAfter"])?;
                Ok(Self::Unlock(UnlockDoor {
                    unlock_time: fields.duration("unlockTime")?,
                    until: fields.timestamp("until")?,
                    window: fields.window()?,
                }))
            }
            "relinquish" => {
                let fields = fields(&["commandId", "notAfter"])?;
                Ok(Self::Relinquish(Relinquish {
                    window: fields.window()?,
                }))
            }
            "getState" => fields(&[]).map(|_| Self::GetState),
            _ => Err(MethodReply::unknown_method(method)),
        }
    }

    /// The method's name.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self {
            Self::Lock(_) => "lockDoor",
            Self::Unlock(_) => "unlockDoor",
            Self::Relinquish(_) => "relinquish",
            Self::GetState => "getState",
        }
    }

    /// Name and validity; none for a command that does not act.
    #[must_use]
    pub fn window(&self) -> Option<&Window> {
        match self {
            Self::Lock(lock) => Some(&lock.window),
            Self::Unlock(unlock) => Some(&unlock.window),
            Self::Relinquish(relinquish) => Some(&relinquish.window),
            Self::GetState => None,
        }
    }
}

/// A payload's object, every key of it known. A misspelt `lockTime` would otherwise lock for ever.
struct Fields<'a> {
    method: &'a str,
    map: Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn read(method: &'a str, payload: &[u8], allowed: &[&str]) -> Result<Self, MethodReply> {
        const EXPECTED: &str = "a JSON object, or a string that holds one";
        let shown = || String::from_utf8_lossy(payload).into_owned();
        let parse = |text: &[u8]| {
            if text.trim_ascii().is_empty() {
                return Ok(Value::Null);
            }
            serde_json::from_slice(text)
                .map_err(|_| MethodReply::bad_payload(method, None, &shown(), EXPECTED))
        };
        let mut value = parse(payload)?;
        if let Value::String(inner) = &value {
            value = parse(inner.as_bytes())?;
        }
        let map = match value {
            Value::Null => Map::new(),
            Value::Object(map) => map,
            other => {
                let shown = other.to_string();
                return Err(MethodReply::bad_payload(method, None, &shown, EXPECTED));
            }
        };
        if let Some((key, value)) = map.iter().find(|(key, _)| !allowed.contains(&key.as_str())) {
            let expected = match allowed {
                [] => "no fields".to_owned(),
                known => format!("one of {}", known.join(", ")),
            };
            let shown = value.to_string();
            return Err(MethodReply::bad_payload(
                method,
                Some(key),
                &shown,
                &expected,
            ));
        }
        Ok(Self { method, map })
    }

    fn refuse(&self, key: &str, value: &Value, expected: &str) -> MethodReply {
        MethodReply::bad_payload(self.method, Some(key), &value.to_string(), expected)
    }

    /// The field, absent when it is missing or `null`.
    fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn duration(&self, key: &str) -> Result<Option<Duration>, MethodReply> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let parsed = match value {
            Value::String(text) => duration::parse(text).ok(),
            Value::Number(number) => number
                .as_u64()
                .and_then(|seconds| duration::from_seconds(seconds).ok()),
            _ => None,
        };
        parsed
            .map(Some)
            .ok_or_else(|| self.refuse(key, value, duration::EXPECTED))
    }

    fn timestamp(&self, key: &str) -> Result<Option<Timestamp>, MethodReply> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        value
            .as_str()
            .and_then(|text| text.parse().ok())
            .map(Some)
            .ok_or_else(|| {
                self.refuse(
                    key,
                    value,
                    "a time with its offset, such as 2026-11-23T22:10:00Z",
                )
            })
    }

    fn window(&self) -> Result<Window, MethodReply> {
        let command_id = match self.get("commandId") {
            None => None,
            Some(value) => {
                let id = value.as_str().and_then(|text| text.parse().ok());
                let refuse =
                    || self.refuse("commandId", value, "1 to 128 visible ASCII characters");
                Some(id.ok_or_else(refuse)?)
            }
        };
        Ok(Window {
            command_id,
            not_after: self.timestamp("notAfter")?,
        })
    }
}

#[expect(clippy::ref_option, reason = "serde hands the field over by reference")]
fn duration_text<S: serde::Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration.map(duration::to_text).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lock(payload: &str) -> LockDoor {
        match Command::parse("lockDoor", payload.as_bytes()) {
            Ok(Command::Lock(lock)) => lock,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_payload_is_an_object_a_string_that_holds_one_or_nothing() {
        let ten_minutes = LockDoor {
            lock_time: Some(Duration::from_secs(600)),
            ..LockDoor::default()
        };
        for payload in [
            r#"{"lockTime":"10m"}"#,
            r#""{\"lockTime\":\"10m\"}""#,
            r#"{"lockTime":600}"#,
            r#"{"lockTime":"600","until":null}"#,
            r#" {"lockTime":"PT10M"} "#,
        ] {
            assert_eq!(lock(payload), ten_minutes, "{payload}");
        }
        for payload in ["", " ", "null", "{}", r#""""#, r#""{}""#, r#""null""#] {
            assert_eq!(lock(payload), LockDoor::default(), "{payload}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let window = Window {
            command_id: Some("lock-20261123-220000-x7k2".parse().unwrap()),
            not_after: Some("2026-11-23T22:05:00Z".parse().unwrap()),
        };
        let until = Some("2026-11-23T22:10:00Z".parse().unwrap());
        let time = Some(Duration::from_secs(5400));
        let lock = LockDoor {
            lock_time: time,
            until,
            window: window.clone(),
        };
        let unlock = UnlockDoor {
            unlock_time: time,
            until,
            window: window.clone(),
        };
        let relinquish = Relinquish { window };
        let text = serde_json::to_string(&lock).unwrap();
        assert_eq!(
            text,
            r#"{"lockTime":"1h30m","until":"2026-11-23T22:10:00Z","commandId":"lock-20261123-220000-x7k2","notAfter":"2026-11-23T22:05:00Z"}"#
        );
        for (text, command) in [
            (text, Command::Lock(lock)),
            (
                serde_json::to_string(&unlock).unwrap(),
                Command::Unlock(unlock),
            ),
            (
                serde_json::to_string(&relinquish).unwrap(),
                Command::Relinquish(relinquish),
            ),
            ("{}".to_owned(), Command::GetState),
        ] {
            assert_eq!(
                Command::parse(command.method(), text.as_bytes()),
                Ok(command)
            );
        }
    }

    #[test]
    fn a_refusal_names_the_field_its_value_and_what_was_expected() {
        for (method, payload, field, value) in [
            (
                "lockDoor",
                r#"{"lockTime":"-5m"}"#,
                Some("lockTime"),
                r#""-5m""#,
            ),
            ("lockDoor", r#"{"lockTime":1.5}"#, Some("lockTime"), "1.5"),
            ("lockDoor", r#"{"lockTime":0}"#, Some("lockTime"), "0"),
            (
                "lockDoor",
                r#"{"lokTime":"10m"}"#,
                Some("lokTime"),
                r#""10m""#,
            ),
            (
                "lockDoor",
                r#"{"until":"22:00"}"#,
                Some("until"),
                r#""22:00""#,
            ),
            ("lockDoor", r#"{"until":5}"#, Some("until"), "5"),
            ("unlockDoor", r#"{"lockTime":5}"#, Some("lockTime"), "5"),
            (
                "relinquish",
                r#"{"commandId":""}"#,
                Some("commandId"),
                r#""""#,
            ),
            ("relinquish", r#"{"commandId":7}"#, Some("commandId"), "7"),
            ("getState", r#"{"a":1}"#, Some("a"), "1"),
            ("lockDoor", "[1]", None, "[1]"),
            ("lockDoor", "{", None, "{"),
            ("lockDoor", r#""Door 3""#, None, r#""Door 3""#),
            ("lockDoor", r#""\"{}\"""#, None, r#""{}""#),
            ("lockDoor", "\u{fffd}", None, "\u{fffd}"),
        ] {
            let reply = Command::parse(method, payload.as_bytes()).unwrap_err();
            assert_eq!(reply.status, 400, "{payload}");
            assert_eq!(reply.body.field.as_deref(), field, "{payload}");
            assert_eq!(reply.body.value.as_deref(), Some(value), "{payload}");
            assert!(reply.body.expected.is_some(), "{payload}");
        }
        assert_eq!(Command::parse("openDoor", b"{}").unwrap_err().status, 404);
    }

    proptest! {
        #[test]
        fn no_payload_panics(method in 0..METHODS.len(), payload in "\\PC{0,64}|[{}\\[\\]\":,a-zA-Z0-9\\\\ -]{0,48}") {
            if let Err(reply) = Command::parse(METHODS[method], payload.as_bytes()) {
                prop_assert_eq!(reply.status, 400);
            }
        }

        #[test]
        fn no_bytes_panic(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let parsed = Command::parse("lockDoor", &payload);
            prop_assert!(parsed.is_ok() || parsed.is_err_and(|reply| reply.status == 400));
        }
    }
}
