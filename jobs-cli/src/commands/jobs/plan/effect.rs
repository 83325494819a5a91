//! Predicts what a job would do to a door, from the door's last reported state.

use std::time::Duration;

use door_core::contract::{Command, DoorState, LockState, Mode, Word};
use iothub_protocol::job::JobAction;
use iothub_protocol::method::MethodRequest;
use iothub_protocol::twin::{ConnectionState, Object, Twin};
use serde_json::Value;

use crate::commands::digest::short;
use crate::door::{ReportedStatus, reported_mode};
use crate::outcome::door_command;
use crate::printer::plain;
use crate::time::roughly;

/// Longest value shown, in characters.
const MAX_VALUE: usize = 40;

/// The predicted effect on one door, in words.
pub(super) fn effect(action: &JobAction, twin: &Twin) -> String {
    let call = match action {
        JobAction::UpdateTwin(patch) => {
            let mut changes = Vec::new();
            for (prefix, values, now) in [
                ("", patch.desired.values(), &twin.properties.desired.values),
                ("tags.", patch.tags.values(), &twin.tags),
            ] {
                if let Some(values) = values {
                    describe(prefix, values, Some(now), &mut changes);
                }
            }
            return match changes.is_empty() {
                true => "stays as it is".to_owned(),
                false => changes.join(", "),
            };
        }
        JobAction::Method(call) => call,
    };
    let text = effect_of_call(call, twin);
    match (twin.connection_state, call.connect_timeout()) {
        (ConnectionState::Connected, _) => text,
        (ConnectionState::Disconnected, Duration::ZERO) => "fails while offline".to_owned(),
        (ConnectionState::Disconnected, wait) => {
            let wait = jiff::SignedDuration::try_from(wait).unwrap_or_default();
            format!("fails unless it comes online within {}", roughly(wait))
        }
    }
}

/// As [`effect`], on a door that is notified ahead.
pub(super) fn staged(action: &JobAction, twin: &Twin) -> String {
    let JobAction::Method(call) = action else {
        return effect(action, twin);
    };
    let text = effect_of_call(call, twin);
    match twin.connection_state {
        ConnectionState::Connected => format!("staged: {text}"),
        ConnectionState::Disconnected => format!("staged when it connects: {text}"),
    }
}

fn effect_of_call(call: &MethodRequest, twin: &Twin) -> String {
    let state = ReportedStatus::reported(twin);
    match door_command(call) {
        Some(Command::Lock(_)) => locks(&state),
        Some(Command::Unlock(_)) => unlocks(&state, reported_mode(twin)),
        _ => format!("is called: {}", call.method_name()),
    }
}

fn locks(state: &ReportedStatus) -> String {
    match state.lock_state {
        Word::Known(LockState::Jammed) => "may fail: jammed",
        Word::Known(LockState::Locked) => "stays locked",
        _ if state.door_state == DoorState::Open => "locks when it is closed",
        _ => "locks",
    }
    .to_owned()
}

fn unlocks(state: &ReportedStatus, mode: Option<Mode>) -> String {
    match (mode, &state.lock_state) {
        (Some(mode @ (Mode::Lockdown | Mode::Secure)), _) => format!("refuses: mode {mode}"),
        (_, Word::Known(LockState::Jammed)) => "may fail: jammed".to_owned(),
        (_, Word::Known(LockState::Unlocked)) => "stays unlocked".to_owned(),
        _ => "unlocks".to_owned(),
    }
}

/// `week none to office`, with the digests of two weeks of one name.
fn week_change(before: Option<&Value>, after: &Value) -> Option<String> {
    let week = |value: &Value| {
        let member = |name| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let text: Value = serde_json::from_str(member("text")).unwrap_or_default();
        let name = text.get("name").and_then(Value::as_str);
        (!value.is_null()).then(|| {
            let name = name.unwrap_or("(unreadable)").to_owned();
            (name, short(member("digest")).to_owned())
        })
    };
    let (before, after_week) = (before.and_then(week), week(after));
    let acts_now = after.get("now") == Some(&Value::Bool(true));
    if before == after_week && !acts_now {
        return None;
    }
    let names = [&before, &after_week].map(|week| week.as_ref().map(|(name, _)| name));
    let is_same_name = names[0] == names[1];
    let word = |week: Option<(String, String)>| match week {
        None => "none".to_owned(),
        Some((name, digest)) if is_same_name => format!("{name} ({digest})"),
        Some((name, _)) => name,
    };
    let now = if acts_now { ", at once" } else { "" };
    Some(format!(
        "week {} to {}{now}",
        word(before),
        word(after_week)
    ))
}

/// Appends each changed value: `floor 3 to 4`, `tags.wing none to east`.
fn describe(prefix: &str, values: &Object, now: Option<&Object>, changes: &mut Vec<String>) {
    let word = |value: Option<&Value>| match value {
        None | Some(Value::Null) => "none".to_owned(),
        Some(value) => match plain(value) {
            long if long.chars().count() > MAX_VALUE => {
                long.chars().take(MAX_VALUE).chain("...".chars()).collect()
            }
            text => text,
        },
    };
    for (key, value) in values {
        let before = now.and_then(|now| now.get(key));
        if prefix.is_empty() && key == "schedule" {
            changes.extend(week_change(before, value));
            continue;
        }
        match value {
            Value::Object(inner) => {
                let below = before.and_then(Value::as_object);
                describe(&format!("{prefix}{key}."), inner, below, changes);
            }
            value if before.unwrap_or(&Value::Null) == value => {}
            value => changes.push(format!(
                "{prefix}{key} {} to {}",
                word(before),
                word(Some(value))
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use iothub_protocol::twin::{SectionPatch, TwinPatch};
    use serde_json::json;

    use super::*;
    use crate::cli::twin::desired_assignment as assignment;
    use crate::commands::twin_patch::from_assignments;

    fn twin(connection: &str, door: &Value) -> Twin {
        serde_json::from_value(json!({
            "deviceId": "a", "etag": "AAAAAAAAAAE=", "version": 4, "connectionState": connection,
            "tags": {"wing": "west", "access": {"group": "staff"}},
            "properties": {
                "desired": {"floor": 3, "$version": 1},
                "reported": {"door": door, "$version": 1},
            },
        }))
        .unwrap()
    }

    fn called(method: &str, connection: &str, door: &Value) -> String {
        let call = MethodRequest::new(method.parse().unwrap());
        effect(&JobAction::Method(call), &twin(connection, door))
    }

    #[test]
    fn the_effect_of_a_call_follows_from_the_reported_state() {
        let door = |lock: &str, door: &str| json!({"lockState": lock, "doorState": door});
        for (method, door, expected) in [
            ("lockDoor", door("unlocked", "closed"), "locks"),
            (
                "lockDoor",
                door("unlocked", "open"),
                "locks when it is closed",
            ),
            ("lockDoor", door("locked", "closed"), "stays locked"),
            ("unlockDoor", door("jammed", "closed"), "may fail: jammed"),
            ("unlockDoor", door("locked", "closed"), "unlocks"),
            (
                "unlockDoor",
                json!({"lockState": "locked", "mode": "lockdown"}),
                "refuses: mode lockdown",
            ),
            ("identify", json!({}), "is called: identify"),
        ] {
            assert_eq!(called(method, "Connected", &door), expected);
        }
        let offline = called("lockDoor", "Disconnected", &json!({}));
        assert_eq!(offline, "fails while offline");
    }

    #[test]
    fn a_week_is_named_in_its_effect() {
        let week = |name: &str, digest: &str| {
            let text = json!({"name": name, "zone": "UTC"}).to_string();
            json!({"digest": digest, "text": text, "now": null})
        };
        let at_once = json!({"digest": "a", "text": "{}", "now": true});
        for (before, after, expected) in [
            (json!(null), week("w", &"a".repeat(64)), "week none to w"),
            (week("v", "a"), week("w", "b"), "week v to w"),
            (week("v", "a"), json!(null), "week v to none"),
            (
                week("w", &"a".repeat(64)),
                week("w", "b"),
                "week w (aaaaaaaaaaaa) to w (b)",
            ),
            (json!(null), at_once, "week none to (unreadable), at once"),
            (week("w", "a"), week("w", "a"), "stays as it is"),
        ] {
            let mut twin = twin("Connected", &json!({}));
            twin.properties.desired.values =
                [("schedule".to_owned(), before)].into_iter().collect();
            let values = [("schedule".to_owned(), after)].into_iter().collect();
            let patch = TwinPatch {
                desired: SectionPatch::Values(values),
                ..TwinPatch::default()
            };
            assert_eq!(effect(&JobAction::UpdateTwin(patch), &twin), expected);
        }
    }

    #[test]
    fn the_effect_of_a_twin_change_lists_the_differences() {
        let texts = |texts: &[&str]| -> Vec<(String, Value)> {
            texts.iter().map(|text| assignment(text).unwrap()).collect()
        };
        let change = |desired: &[&str], tags: &[&str]| {
            let patch = from_assignments(&texts(desired), &texts(tags)).unwrap();
            effect(
                &JobAction::UpdateTwin(patch),
                &twin("Disconnected", &json!({})),
            )
        };
        assert_eq!(
            change(
                &["floor=4", "building=43"],
                &["wing=null", "access.group=staff"]
            ),
            "floor 3 to 4, building none to 43, tags.wing west to none"
        );
        assert_eq!(change(&["floor=3"], &["old=null"]), "stays as it is");
    }
}
