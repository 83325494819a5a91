//! State of desired properties, by the door's acknowledgement `{value, ac, av, ad}`. Parsed
//! leniently: a twin may belong to any device.

use door_core::Setting;
use iothub_protocol::twin::{Object, Twin};
use serde::Serialize;
use serde_json::Value;

use crate::printer::plain;
use crate::suggest;

/// Desired properties that every door acknowledges.
const DOOR_PROPERTIES: [&str; 5] = ["building", "floor", "mode", "settings", "lockdown"];

/// Desired properties that doors of 0.1 do not know.
const OF_WEEK: [&str; 2] = ["schedule", "timed"];

/// Sections of a twin; a misspelled section in a key becomes part of the property's name.
const SECTIONS: [&str; 4] = ["desired", "properties", "reported", "tags"];

/// Longest reason shown, in characters.
const MAX_REASON: usize = 200;

/// State of a desired property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state", content = "reason")]
pub(crate) enum AckState {
    /// The door applied the value.
    Applied,
    /// The door refused it, with this reason.
    Refused(String),
    /// The door has not answered yet.
    Pending,
}

/// A desired property and its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PropertyAck {
    /// For example `floor`, `settings.strikeTime`.
    pub(crate) key: String,
    #[serde(flatten)]
    pub(crate) state: AckState,
}

impl PropertyAck {
    /// `floor is refused: expected ...`.
    pub(crate) fn describe(&self) -> String {
        let key = &self.key;
        match &self.state {
            AckState::Applied => format!("{key} is applied"),
            AckState::Refused(reason) => format!("{key} is refused: {reason}"),
            AckState::Pending => format!("{key} is not applied yet"),
        }
    }
}

/// The state of a door's acknowledged properties; with `patch`, of those that it changed.
pub(crate) fn property_acks(twin: &Twin, patch: Option<&Object>) -> Vec<PropertyAck> {
    let (desired, reported) = (&twin.properties.desired, &twin.properties.reported.values);
    let mut acks = Vec::new();
    for key in patch.unwrap_or(&desired.values).keys() {
        // A door that keeps no week has not applied it, but nobody waits until it does.
        let is_of_week = patch.is_none() && OF_WEEK.contains(&key.as_str());
        if !is_of_week && !is_acknowledged(key, reported) {
            continue;
        }
        let (wanted, answer) = (desired.values.get(key), reported.get(key));
        let metadata = desired.metadata.get(key);
        let mut ack = |key: String, wanted, metadata, answer| {
            acks.push(PropertyAck {
                key,
                state: state(wanted, written_version(metadata, desired.version), answer),
            });
        };
        let changed = patch.and_then(|patch| patch.get(key)).or(wanted);
        match changed.and_then(Value::as_object) {
            // These are acknowledged one by one, unless the whole object was refused.
            Some(changed) if key == "settings" || key == "timed" => {
                for name in changed.keys() {
                    let whole = answer.filter(|answer| answer.get("ac").is_some());
                    ack(
                        format!("{key}.{name}"),
                        wanted.and_then(|wanted| wanted.get(name)),
                        metadata.and_then(|metadata| metadata.get(name)),
                        whole.or_else(|| answer?.get(name)),
                    );
                }
            }
            _ => ack(key.clone(), wanted, metadata, answer),
        }
    }
    acks
}

/// The properties that the door has not applied.
pub(crate) fn unapplied(twin: &Twin) -> Vec<PropertyAck> {
    let mut acks = property_acks(twin, None);
    acks.retain(|ack| ack.state != AckState::Applied);
    acks
}

/// Keys of a patch that no door is known to acknowledge: they are only stored.
pub(crate) fn keys_without_ack<'a>(patch: &'a Object, twin: &Twin) -> Vec<&'a str> {
    let reported = &twin.properties.reported.values;
    let keys = patch.keys().map(String::as_str);
    keys.filter(|key| !is_acknowledged(key, reported)).collect()
}

/// Warnings about keys of a patch that doors do not know and that look misspelled.
pub(crate) fn misspelled_keys(patch: &Object) -> Vec<String> {
    let mut texts = Vec::new();
    for (key, value) in patch {
        if DOOR_PROPERTIES.contains(&key.as_str()) {
            let settings = value.as_object().filter(|_| key == "settings");
            for name in settings.into_iter().flat_map(|settings| settings.keys()) {
                if let Err(expected) = Setting::from_name(name) {
                    let known = expected.rsplit("one of ").next().unwrap_or_default();
                    let hint = suggest::hint(name, known.split(", "));
                    texts.push(format!("`settings.{name}`: {expected}{hint}"));
                }
            }
        } else if let Some(closest) = suggest::closest(key, SECTIONS).filter(|_| value.is_object())
        {
            texts.push(format!(
                "`{key}` is stored as a desired property of that name{}",
                suggest::did_you_mean(Some(closest))
            ));
        } else if let Some(closest) = suggest::closest(key, DOOR_PROPERTIES) {
            texts.push(format!(
                "`{key}` is not a desired property that doors know{}",
                suggest::did_you_mean(Some(closest))
            ));
        }
    }
    texts
}

/// Doors acknowledge these five, those that they list as features, and any other property that they
/// acknowledged before.
fn is_acknowledged(key: &str, reported: &Object) -> bool {
    let answer = reported.get(key);
    // A door that never reported may have any feature.
    let is_new = !reported.contains_key("device") && OF_WEEK.contains(&key);
    DOOR_PROPERTIES.contains(&key)
        || is_new
        || has_feature(key, reported)
        || answer.is_some_and(|answer| answer.get("ac").is_some() && answer.get("av").is_some())
}

/// Whether a door can keep a desired property that older agents cannot: `schedule`, `timed`.
pub(crate) fn has_feature(key: &str, reported: &Object) -> bool {
    let features = reported
        .get("device")
        .and_then(|device| device.get("features"));
    features.and_then(|features| features.get(key)?.as_bool()) == Some(true)
}

/// The version of the desired properties that wrote a value: the newest in its metadata.
fn written_version(metadata: Option<&Value>, version: u64) -> u64 {
    fn newest(metadata: &Value) -> Option<u64> {
        let below = metadata.as_object()?.iter();
        let below = below.filter_map(|(key, value)| match key.as_str() {
            "$lastUpdatedVersion" => value.as_u64(),
            _ => newest(value),
        });
        below.max()
    }
    metadata.and_then(newest).unwrap_or(version)
}

fn state(wanted: Option<&Value>, written: u64, answer: Option<&Value>) -> AckState {
    let answer = answer.filter(|answer| !answer.is_null());
    let number = |name: &str| answer.and_then(|answer| answer.get(name)?.as_u64());
    let is_current = number("av").is_some_and(|av| av >= written);
    let Some(wanted) = wanted.filter(|wanted| !wanted.is_null()) else {
        // A door reports nothing about a removed property.
        return match answer.is_none() || is_current {
            true => AckState::Applied,
            false => AckState::Pending,
        };
    };
    // The same value written again is not acknowledged again: the door has applied it.
    let applied = answer.and_then(|answer| answer.get("value"));
    let digest = |value: Option<&Value>| value?.get("digest").cloned();
    // A week is acknowledged by its digest alone, which does not say whether `now` was obeyed.
    let acts_now = wanted.get("now").is_some_and(|now| *now == true);
    let is_applied = applied == Some(wanted)
        || !acts_now
            && digest(applied).is_some_and(|applied| Some(applied) == digest(Some(wanted)));
    match number("ac") {
        Some(202) => AckState::Pending,
        Some(200..=299) if is_current || is_applied => AckState::Applied,
        Some(300..) if is_current => {
            let reason = answer.and_then(|answer| answer.get("ad"));
            let reason = reason.map_or("no reason given".to_owned(), plain);
            AckState::Refused(reason.chars().take(MAX_REASON).collect())
        }
        _ => AckState::Pending,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn twin(desired: &Value, reported: &Value) -> Twin {
        let stamp = json!({"$lastUpdatedVersion": 5});
        let mut wanted = desired.clone();
        wanted["$version"] = json!(7);
        wanted["$metadata"] = json!({
            "floor": stamp, "colour": stamp,
            "settings": {"strikeTime": stamp, "settleTime": stamp},
        });
        // A missing property has no metadata.
        let is_there = |key: &str| desired.get(key).is_some();
        let metadata = wanted["$metadata"].as_object_mut().unwrap();
        metadata.retain(|key, _| is_there(key));
        let mut answered = reported.clone();
        answered["$version"] = json!(3);
        serde_json::from_value(json!({
            "deviceId": "east", "etag": "AAAAAAAAAAE=", "version": 4,
            "properties": {"desired": wanted, "reported": answered},
        }))
        .unwrap()
    }

    #[test]
    fn a_desired_property_has_the_state_that_the_door_acknowledged() {
        let floor = json!({"floor": 3});
        let removed = json!({"floor": null});
        let (applied, pending) = ("floor is applied", "floor is not applied yet");
        for (desired, answer, expected) in [
            (&floor, json!({"value": 3, "ac": 200, "av": 5}), applied),
            (&floor, json!({"value": 3, "ac": 200, "av": 6}), applied),
            (&floor, json!({"value": 2, "ac": 200, "av": 4}), pending),
            (&floor, json!({"value": 3, "ac": 200, "av": 4}), applied),
            (
                &floor,
                json!({"value": 2, "ac": 400, "av": 5, "ad": "expected a number"}),
                "floor is refused: expected a number",
            ),
            (
                &floor,
                json!({"value": 2, "ac": 400, "av": 4, "ad": "older"}),
                pending,
            ),
            (
                &floor,
                json!({"value": 3, "ac": 500, "av": 5, "ad": "lost"}),
                "floor is refused: lost",
            ),
            (
                &floor,
                json!({"ac": 400, "av": 5}),
                "floor is refused: no reason given",
            ),
            (&floor, json!({"value": 3, "ac": 202, "av": 5}), pending),
            (&floor, json!(3), pending),
            (&removed, json!({"value": 3, "ac": 200, "av": 5}), pending),
        ] {
            check_acks(desired, &json!({"floor": answer}), &[expected]);
        }
        check_acks(&floor, &json!({}), &[pending]);
        check_acks(&removed, &json!({}), &[applied]);
        for (desired, reported, expected) in [
            // Any key that was acknowledged before; others are only stored.
            (
                json!({"colour": "red"}),
                json!({"colour": {"value": "blue", "ac": 200, "av": 4}}),
                &["colour is not applied yet"][..],
            ),
            (json!({"colour": "red"}), json!({"colour": "red"}), &[]),
            (json!({"colour": "red"}), json!({}), &[]),
            // A week by its digest, entries one by one, both by features.
            (
                json!({"schedule": {"digest": "a", "text": "{}"}}),
                json!({"schedule": {"value": {"digest": "a"}, "ac": 200, "av": 4}}),
                &["schedule is applied"],
            ),
            (
                json!({"schedule": {"digest": "a", "text": "{}"}}),
                json!({"schedule": {"value": {"digest": "b"}, "ac": 200, "av": 4}}),
                &["schedule is not applied yet"],
            ),
            (
                json!({"schedule": {"digest": "a", "text": "{}", "now": true}}),
                json!({"schedule": {"value": {"digest": "a"}, "ac": 200, "av": 4}}),
                &["schedule is not applied yet"],
            ),
            (
                json!({"timed": {"x": {"want": "locked"}}}),
                json!({"device": {"features": {"timed": true}}}),
                &["timed.x is not applied yet"],
            ),
            // Settings one by one, or all at once if they are not an object.
            (
                json!({"settings": {"strikeTime": "xyz", "settleTime": "1s", "newest": "1s"}}),
                json!({"settings": {
                    "strikeTime": {"ac": 400, "av": 5, "ad": "no time"},
                    "settleTime": {"value": "1s", "ac": 200, "av": 5},
                }}),
                &[
                    "settings.strikeTime is refused: no time",
                    "settings.settleTime is applied",
                    "settings.newest is not applied yet",
                ],
            ),
            (
                json!({"settings": 5}),
                json!({"settings": {"ac": 400, "av": 7, "ad": "no object"}}),
                &["settings is refused: no object"],
            ),
        ] {
            check_acks(&desired, &reported, expected);
        }
    }

    #[test]
    fn a_week_is_unapplied_at_a_door_that_keeps_none() {
        let desired = json!({"schedule": {"digest": "a", "text": "{}"}, "timed": {"x": {}}});
        for device in [json!(null), json!({"features": {"lockdown": true}})] {
            let acks = unapplied(&twin(&desired, &json!({"device": device})));
            let texts: Vec<String> = acks.iter().map(PropertyAck::describe).collect();
            let expected = ["schedule is not applied yet", "timed.x is not applied yet"];
            assert_eq!(texts, expected, "{device}");
        }
    }

    fn check_acks(desired: &Value, reported: &Value, expected: &[&str]) {
        // Null in a patch removes the value.
        let patch = desired.as_object().unwrap().clone();
        let mut stored = desired.clone();
        let members = stored.as_object_mut().unwrap();
        members.retain(|_, value| !value.is_null());
        let twin = twin(&stored, reported);
        let acks = property_acks(&twin, Some(&patch));
        let texts: Vec<String> = acks.iter().map(PropertyAck::describe).collect();
        assert_eq!(texts, expected, "{desired} {reported}");
        let is_stored_only = !keys_without_ack(&patch, &twin).is_empty();
        assert_eq!(is_stored_only, expected.is_empty(), "{desired} {reported}");
    }

    #[test]
    fn a_misspelled_key_is_reported_before_it_is_stored() {
        for (patch, expected) in [
            (
                json!({"settings": {"strikTime": "5s"}}),
                Some("did you mean `strikeTime`?"),
            ),
            (
                json!({"settings": {"wholly": "5s"}}),
                Some("expected one of"),
            ),
            (json!({"flor": 3}), Some("did you mean `floor`?")),
            (
                json!({"setings": {"strikeTime": "5s"}}),
                Some("did you mean `settings`?"),
            ),
            (
                json!({"desird": {"floor": 3}}),
                Some("did you mean `desired`?"),
            ),
            (
                json!({"property": {"desired": {"floor": 3}}}),
                Some("did you mean `properties`?"),
            ),
            (json!({"tag": {"wing": 3}}), Some("did you mean `tags`?")),
            (json!({"tag": "east"}), None),
            (
                json!({"settings": {"strikeTime": "5s"}, "floor": 3, "wifi": {"ssid": "x"}}),
                None,
            ),
        ] {
            let texts = misspelled_keys(patch.as_object().unwrap());
            match expected {
                Some(part) => assert!(texts[0].contains(part), "{patch}: {texts:?}"),
                None => assert!(texts.is_empty(), "{patch}: {texts:?}"),
            }
        }
    }
}
