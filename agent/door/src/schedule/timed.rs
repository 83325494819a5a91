//! Timed entries: a lock or a release that is delivered ahead and begins by the door's own clock.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::contract::{Slot, Want, duration};
use crate::event::EventKind;

/// Longest id, so that the id of its job and suffixes of that fit.
const MAX_ID: usize = 52;
/// Longest `by`, in bytes.
const MAX_BY: usize = 128;
/// Longest `reason`, in bytes.
const MAX_REASON: usize = 256;
const TIME: &str = "a time in UTC and whole seconds, such as \"2026-12-01T21:00:00Z\"";

/// Id of a timed entry: 1 to 52 of `a-z`, `0-9` and `-`; the id of its job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntryId(Box<str>);

impl EntryId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EntryId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        match (1..=MAX_ID).contains(&text.len()) && text.bytes().all(is_plain) {
            true => Ok(Self(text.into())),
            false => Err(format!(
                "expected an id of 1 to {MAX_ID} letters a-z, digits and hyphens"
            )),
        }
    }
}

impl TryFrom<String> for EntryId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<EntryId> for String {
    fn from(id: EntryId) -> Self {
        id.0.into()
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A member of the desired property `timed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedEntry {
    /// What it wants while `from <= now < until`.
    pub want: Want,
    /// Its begin.
    pub from: Timestamp,
    /// Its end; `None`, for a lock alone, lasts until the entry is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Who gave it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Slot 16, in place of the week; `None` for the slot that a call would fill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slot: Option<Slot>,
}

impl TimedEntry {
    pub(super) fn disarmed(&self, id: &EntryId) -> EventKind {
        EventKind::Disarmed {
            id: id.clone(),
            want: self.want,
            from: self.from,
            until: self.until,
        }
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// The invalid member, its value and what was expected.
    pub fn read(value: &Value) -> Result<Self, String> {
        let Value::Object(members) = value else {
            return Err(format!(
                "expected an object with want and from, found {value}"
            ));
        };
        let known = ["want", "from", "until", "by", "reason", "slot"];
        if let Some((name, _)) = members
            .iter()
            .find(|(name, _)| !known.contains(&name.as_str()))
        {
            let known = known.join(", ");
            return Err(format!("{name} is unknown, expected one of {known}"));
        }
        let get = |name: &str| members.get(name).filter(|value| !value.is_null());
        let bad = |name: &str, expected: &str| match get(name) {
            Some(value) => format!("{name} is {value}, expected {expected}"),
            None => format!("{name} is missing, expected {expected}"),
        };
        let text = |name: &str, max: usize| match get(name) {
            None => Ok(None),
            Some(value) => {
                let text = value.as_str();
                let text = text.filter(|text| (1..=max).contains(&text.len()));
                let text = text.ok_or_else(|| bad(name, &format!("1 to {max} bytes of text")));
                text.map(|text| Some(text.to_owned()))
            }
        };
        let time = |name: &str| {
            let text = get(name)?.as_str()?;
            let time: Timestamp = text.parse().ok()?;
            // One spelling for one time: the acknowledgement shows the value as desired.
            (time.subsec_nanosecond() == 0 && time.to_string() == text).then_some(time)
        };
        let want = get("want").and_then(Value::as_str).and_then(Want::parse);
        let want = want.ok_or_else(|| bad("want", "\"locked\" or \"released\""))?;
        let from = time("from").ok_or_else(|| bad("from", TIME))?;
        let until = match (get("until"), want) {
            (None, Want::Locked) => None,
            (None, Want::Released) => return Err(bad("until", "the end of the release")),
            (Some(_), _) => Some(time("until").ok_or_else(|| bad("until", TIME))?),
        };
        let slot = match get("slot") {
            None => None,
            Some(value) if value.as_u64() == Some(16) => Some(Slot::Schedule),
            Some(_) => return Err(bad("slot", "16, or no slot")),
        };
        let longest = SignedDuration::try_from(duration::MAX).unwrap_or(SignedDuration::MAX);
        if until.is_some_and(|until| until <= from) {
            return Err(bad("until", "a time after from"));
        }
        if slot.is_none() && until.is_some_and(|until| until.duration_since(from) > longest) {
            return Err(bad("until", "a time at most 7 days after from"));
        }
        Ok(Self {
            want,
            from,
            until,
            by: text("by", MAX_BY)?,
            reason: text("reason", MAX_REASON)?,
            slot,
        })
    }

    /// The slot that it fills: that of the call that would do the same, or slot 16.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.slot.unwrap_or(match self.want {
            Want::Locked => Slot::OperatorHold,
            Want::Released => Slot::OperatorGrant,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FROM: &str = "2026-12-01T21:00:00Z";

    #[test]
    fn an_entry_is_read_as_it_is_written() {
        for (value, slot) in [
            (json!({"want": "locked", "from": FROM}), 8),
            (
                json!({"want": "locked", "from": FROM, "until": "2026-12-01T21:10:00Z",
                       "by": "alice", "reason": "drill"}),
                8,
            ),
            (
                json!({"want": "released", "from": FROM, "until": "2026-12-08T21:00:00Z"}),
                7,
            ),
            (
                json!({"want": "released", "from": FROM, "until": "2026-12-28T21:00:00Z",
                       "slot": 16}),
                16,
            ),
        ] {
            let entry = TimedEntry::read(&value).unwrap();
            assert_eq!(entry.slot().number(), slot);
            assert_eq!(serde_json::to_value(&entry).unwrap(), value);
            assert_eq!(serde_json::from_value::<TimedEntry>(value).unwrap(), entry);
        }
    }

    #[test]
    fn a_bad_entry_is_refused_with_the_member_its_value_and_what_was_expected() {
        let long = "x".repeat(257);
        for (value, reason) in [
            (
                json!("locked"),
                "expected an object with want and from, found \"locked\"",
            ),
            (
                json!({"from": FROM}),
                "want is missing, expected \"locked\" or \"released\"",
            ),
            (
                json!({"want": "open", "from": FROM}),
                "want is \"open\", expected",
            ),
            (
                json!({"want": "locked"}),
                "from is missing, expected a time in UTC",
            ),
            (
                json!({"want": "locked", "from": "2026-12-01T22:00:00+01:00"}),
                "from is \"2026-12-01T22:00:00+01:00\", expected a time in UTC",
            ),
            (
                json!({"want": "locked", "from": "2026-12-01T21:00:00.5Z"}),
                "from is",
            ),
            (
                json!({"want": "released", "from": FROM}),
                "until is missing",
            ),
            (
                json!({"want": "locked", "from": FROM, "until": FROM}),
                "until is",
            ),
            (
                json!({"want": "locked", "from": FROM, "until": "2026-12-08T21:00:01Z"}),
                "until is \"2026-12-08T21:00:01Z\", expected a time at most 7 days after from",
            ),
            (
                json!({"want": "locked", "from": FROM, "slot": 8}),
                "slot is 8, expected 16",
            ),
            (
                json!({"want": "locked", "from": FROM, "by": ""}),
                "by is \"\", expected 1 to 128",
            ),
            (
                json!({"want": "locked", "from": FROM, "reason": long}),
                "reason is",
            ),
            (
                json!({"want": "locked", "from": FROM, "til": FROM}),
                "til is unknown",
            ),
        ] {
            let found = TimedEntry::read(&value).unwrap_err();
            assert!(found.starts_with(reason), "{value}: {found}");
        }
    }

    #[test]
    fn an_id_is_that_of_a_job() {
        for (text, is_valid) in [
            ("fire-drill-22", true),
            (&*"x".repeat(52), true),
            (&*"x".repeat(53), false),
            ("", false),
            ("Drill", false),
            ("a.b", false),
        ] {
            assert_eq!(text.parse::<EntryId>().is_ok(), is_valid, "{text}");
        }
    }
}
