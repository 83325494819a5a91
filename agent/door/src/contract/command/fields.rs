//! Strict reading of a payload: an unknown field is refused by name.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{CommandHeader, MethodReply, Pulse, Slot, duration};

/// Longest reason of a command, and longest name of who gave it, in bytes.
const MAX_TEXT: usize = 256;

/// The payload's object, with known keys only. A misspelt `lockTime` would otherwise lock forever.
pub(in crate::contract) struct Fields<'a> {
    method: &'a str,
    map: Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn read(
        method: &'a str,
        payload: &[u8],
        allowed: &[&str],
    ) -> Result<Self, MethodReply> {
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

    pub(super) fn refuse(&self, key: &str, value: &Value, expected: &str) -> MethodReply {
        MethodReply::bad_payload(self.method, Some(key), &value.to_string(), expected)
    }

    /// The field; `None` if it is absent or `null`.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn duration(&self, key: &str) -> Result<Option<Duration>, MethodReply> {
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

    pub(in crate::contract) fn timestamp(
        &self,
        key: &str,
    ) -> Result<Option<Timestamp>, MethodReply> {
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

    pub(super) fn header(&self) -> Result<CommandHeader, MethodReply> {
        let command_id = match self.get("commandId") {
            None => None,
            Some(value) => {
                let id = value.as_str().and_then(|text| text.parse().ok());
                let refuse =
                    || self.refuse("commandId", value, "1 to 128 visible ASCII characters");
                Some(id.ok_or_else(refuse)?)
            }
        };
        Ok(CommandHeader {
            command_id,
            not_after: self.timestamp("notAfter")?,
            reason: None,
        })
    }

    /// As [`Fields::header`], with the reason.
    pub(in crate::contract) fn header_with_reason(&self) -> Result<CommandHeader, MethodReply> {
        Ok(CommandHeader {
            reason: self.text("reason")?,
            ..self.header()?
        })
    }

    pub(in crate::contract) fn text(&self, key: &str) -> Result<Option<String>, MethodReply> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let text = value.as_str();
        let text = text.filter(|text| (1..=MAX_TEXT).contains(&text.len()));
        let refuse = || self.refuse(key, value, "a text of 1 to 256 bytes");
        Ok(Some(text.ok_or_else(refuse)?.to_owned()))
    }

    /// A pulse; it excludes the fields `others`.
    pub(super) fn pulse(&self, key: &str, others: &[&str]) -> Result<Option<Pulse>, MethodReply> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let Some(pulse) = value.as_str().and_then(Pulse::parse) else {
            return Err(self.refuse(key, value, "\"strike\" or \"extended\""));
        };
        if let Some(other) = others.iter().find(|other| self.get(other).is_some()) {
            let expected = format!("no {other} with a pulse, which has its own time");
            return Err(self.refuse(key, value, &expected));
        }
        Ok(Some(pulse))
    }

    /// A slot that commands fill.
    pub(super) fn slot(&self, key: &str) -> Result<Option<Slot>, MethodReply> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let number = value.as_u64().and_then(|number| u8::try_from(number).ok());
        number
            .and_then(|number| Slot::try_from(number).ok())
            .filter(|slot| slot.is_of_commands())
            .map(Some)
            .ok_or_else(|| self.refuse(key, value, "5, 7, 8 or 9"))
    }
}
