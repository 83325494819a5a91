//! Observable values of a door by name: parts of the output of `door-agent status --json`.

use std::collections::BTreeSet;
use std::fmt;

use door_core::contract::{Alarm, DoorState, LockState, Mode, Proof, Secured};
use door_core::{Outputs, Want};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cloud::LinkState;
use crate::gpio::simulated::{Sensor, shortened};
use crate::gpio::words;

/// `KEY=VALUE`: one of the alternative values is seen. `KEY!=VALUE`: none of them is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    key: &'static str,
    equal: bool,
    values: Vec<String>,
}

/// Name of a value, its source and its allowed words.
struct Key {
    name: &'static str,
    source: Source,
}

enum Source {
    /// A word at a JSON pointer; the function checks whether a word is valid.
    Word(&'static str, fn(&str) -> Result<(), String>),
    /// The slot number at a JSON pointer, or `none`.
    Slot(&'static str),
    /// The names of the raised alarms, or `none`.
    Alarms,
    /// The word of an input's level.
    Input,
}

const fn key(name: &'static str, source: Source) -> Key {
    Key { name, source }
}

const STATE_KEYS: [Key; 11] = [
    key(
        "lockState",
        Source::Word("/door/report/lockState", word::<LockState>),
    ),
    key(
        "doorState",
        Source::Word("/door/report/doorState", word::<DoorState>),
    ),
    key(
        "secured",
        Source::Word("/door/report/secured", word::<Secured>),
    ),
    key("proof", Source::Word("/door/report/proof", word::<Proof>)),
    key("mode", Source::Word("/door/report/mode", word::<Mode>)),
    key("want", Source::Word("/door/want", word::<Want>)),
    key("outputs", Source::Word("/door/outputs", word::<Outputs>)),
    key("heldBy", Source::Slot("/door/report/heldBy/slot")),
    key("decides", Source::Slot("/door/slots/0/slot")),
    key("alarm", Source::Alarms),
    key("link", Source::Word("/link/state", word::<LinkState>)),
];

fn all_keys() -> impl Iterator<Item = Key> {
    let inputs = Sensor::ALL.map(|(name, _)| key(name, Source::Input));
    STATE_KEYS.into_iter().chain(inputs)
}

/// The names of all keys, for the help.
#[must_use]
pub fn keys() -> String {
    all_keys()
        .map(|key| key.name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn find(name: &str) -> Option<Key> {
    all_keys().find(|key| key.name == name)
}

impl Condition {
    pub(super) fn parse(word: &str) -> Result<Self, String> {
        let (left, values) = word.split_once('=').unwrap_or((word, ""));
        let (name, equal) = match left.strip_suffix('!') {
            Some(name) => (name, false),
            None => (left, true),
        };
        let Some(key) = find(name) else {
            return Err(format!(
                "unknown key `{}`, expected one of {}",
                shortened(name),
                keys()
            ));
        };
        let values: Vec<_> = values.split('|').map(ToOwned::to_owned).collect();
        for value in &values {
            key.check(value).map_err(|expected| {
                format!("invalid {name} `{}`, expected {expected}", shortened(value))
            })?;
        }
        Ok(Self {
            key: key.name,
            equal,
            values,
        })
    }

    /// Whether it holds in a document of `status --json`.
    #[must_use]
    pub fn holds(&self, status: &Value) -> bool {
        let seen = self.words(status);
        self.values.iter().any(|value| seen.contains(value)) == self.equal
    }

    /// The key and its present value.
    #[must_use]
    pub fn seen(&self, status: &Value) -> String {
        let words: Vec<_> = self.words(status).into_iter().collect();
        format!("{}={}", self.key, words.join(","))
    }

    fn words(&self, status: &Value) -> BTreeSet<String> {
        let source = find(self.key).map(|key| key.source);
        let at = |pointer: &str| {
            let value = status.pointer(pointer).unwrap_or(&Value::Null);
            match value {
                Value::Null => "none".to_owned(),
                Value::String(word) => word.replace(' ', "-"),
                other => other.to_string(),
            }
        };
        match source {
            Some(Source::Word(pointer, _) | Source::Slot(pointer)) => BTreeSet::from([at(pointer)]),
            Some(Source::Input) => BTreeSet::from([at(&format!("/door/inputs/{}", self.key))]),
            Some(Source::Alarms) | None => {
                let alarms = status
                    .pointer("/door/report/alarms")
                    .and_then(Value::as_object);
                let raised: BTreeSet<_> = alarms
                    .into_iter()
                    .flat_map(|map| map.keys().cloned())
                    .collect();
                if raised.is_empty() {
                    BTreeSet::from(["none".to_owned()])
                } else {
                    raised
                }
            }
        }
    }
}

impl Key {
    /// # Errors
    /// What was expected.
    fn check(&self, value: &str) -> Result<(), String> {
        match &self.source {
            Source::Word(_, check) => check(value),
            Source::Slot(_) => match value.parse::<u8>() {
                Ok(1..=16) => Ok(()),
                _ if value == "none" => Ok(()),
                _ => Err("the number of a slot, 1 to 16, or none".to_owned()),
            },
            Source::Alarms if value == "none" => Ok(()),
            Source::Alarms => {
                word::<Alarm>(value).map_err(|expected| format!("none or {expected}"))
            }
            Source::Input => {
                let (active, idle) = words(self.name);
                let idle = idle.replace(' ', "-");
                if value == active || value == idle {
                    Ok(())
                } else {
                    Err(format!("{active} or {idle}"))
                }
            }
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.equal { "=" } else { "!=" };
        write!(f, "{}{sign}{}", self.key, self.values.join("|"))
    }
}

/// Checks that a word is a value of the enum `T` in its wire spelling.
fn word<T: DeserializeOwned>(word: &str) -> Result<(), String> {
    match serde_json::from_value::<T>(Value::from(word)) {
        Ok(_) => Ok(()),
        Err(error) => {
            let text = error.to_string();
            Err(text
                .split_once(", expected ")
                .map_or(text.clone(), |(_, expected)| expected.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_is_evaluated_on_the_status_document() {
        let status = json!({"door": {
            "report": {
                "lockState": "jammed",
                "heldBy": null,
                "alarms": {"jammed": {}, "tamper": {}},
            },
            "slots": [{"slot": 2}],
            "inputs": {"bond": "not thrown"},
        }, "link": {"state": "connected"}});
        for (text, holds, seen) in [
            ("lockState=jammed", true, "lockState=jammed"),
            ("lockState=locked|jammed", true, "lockState=jammed"),
            ("lockState!=locked|jammed", false, "lockState=jammed"),
            ("lockState=locked", false, "lockState=jammed"),
            ("heldBy=none", true, "heldBy=none"),
            ("decides=2", true, "decides=2"),
            ("alarm=tamper", true, "alarm=jammed,tamper"),
            ("alarm!=heldOpen", true, "alarm=jammed,tamper"),
            ("alarm=none", false, "alarm=jammed,tamper"),
            ("link=connected", true, "link=connected"),
            ("bond=not-thrown", true, "bond=not-thrown"),
            ("doorState=open", false, "doorState=none"),
        ] {
            let condition = Condition::parse(text).unwrap();
            assert_eq!(condition.holds(&status), holds, "{text}");
            assert_eq!(condition.seen(&status), seen);
            assert_eq!(condition.to_string(), text);
        }
        let calm = json!({"door": {"report": {"alarms": {}}}});
        assert!(Condition::parse("alarm=none").unwrap().holds(&calm));
    }

    #[test]
    fn an_invalid_value_is_refused_with_the_valid_ones() {
        for (text, expected) in [
            (
                "decides=17",
                "invalid decides `17`, expected the number of a slot, 1 to 16, or none",
            ),
            (
                "alarm=fire",
                "invalid alarm `fire`, expected none or one of `forcedOpen`",
            ),
            ("rex=on", "invalid rex `on`, expected pressed or idle"),
            ("bond=", "invalid bond ``, expected thrown or not-thrown"),
            (
                "want=open",
                "invalid want `open`, expected `locked` or `released`",
            ),
        ] {
            let error = Condition::parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
