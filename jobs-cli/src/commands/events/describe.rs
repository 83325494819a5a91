//! Describes an event in words. Texts of devices and callers are printed without control
//! characters.

use door_core::{ClockQuality, EventName};
use iothub_client::HubEvent;
use iothub_protocol::twin::Object;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::printer::{Tone, plain, printable};
use crate::time::on_clock;

/// Maximum length of details, in characters.
const MAX_DETAILS_LEN: usize = 240;

/// An event that arrives this much later than it happened waited for a connection.
const LATE_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// Members of a door's message that are printed in other columns, or do not interest people.
const OMITTED_MEMBERS: [&str; 8] = [
    "seq", "boot", "at", "clock", "kind", "door", "building", "floor",
];

/// Name of the event: from the door's message, else from the hub.
pub(super) fn name(event: &HubEvent) -> &str {
    let name = match event.kind.as_str() {
        "telemetry" => member(event, "kind"),
        _ => event.properties.get("opType").and_then(Value::as_str),
    };
    name.unwrap_or("message")
}

/// The event of a door, if it is known.
pub(super) fn door_event(event: &HubEvent) -> Option<EventName> {
    EventName::parse(name(event))
}

/// The alarm of a door's message.
pub(super) fn alarm(event: &HubEvent) -> Option<&str> {
    match event.kind.as_str() {
        "telemetry" => member(event, "alarm"),
        _ => None,
    }
}

pub(super) fn tone(event: &HubEvent) -> Tone {
    match door_event(event) {
        // A lock that somebody took away.
        Some(EventName::Disarmed) if member(event, "want") == Some("locked") => Tone::Bad,
        Some(
            EventName::AlarmRaised
            | EventName::FireRelease
            | EventName::StorageFault
            | EventName::StateInDoubt,
        ) => Tone::Bad,
        Some(
            EventName::PreAlarm
            | EventName::InputFault
            | EventName::AlarmSuppressed
            | EventName::AlarmRepeated
            | EventName::EventsLost
            | EventName::StateDamaged
            | EventName::Overruled
            | EventName::TimedRepeated
            | EventName::Disarmed,
        ) => Tone::Doubtful,
        Some(EventName::AlarmCleared | EventName::FireReset | EventName::StorageRestored) => {
            Tone::Good
        }
        Some(_) => Tone::Plain,
        None => match name(event) {
            "jobFailed" => Tone::Bad,
            "deviceDisconnected" => Tone::Doubtful,
            _ => Tone::Plain,
        },
    }
}

/// The details beside the name, on one line.
pub(super) fn details(event: &HubEvent, zone: &TimeZone) -> String {
    let mut text = match event.kind.as_str() {
        "telemetry" => message(event, zone),
        "connection" => member(event, "reason").unwrap_or_default().to_owned(),
        "twin" => twin(event.body.as_ref()),
        "job" => job(event),
        _ => String::new(),
    };
    if event.repeated {
        text = format!("{text} (again)").trim_start().to_owned();
    }
    shortened(&text, MAX_DETAILS_LEN)
}

/// A text of another party on one line, of at most `max_len` characters.
pub(super) fn shortened(text: &str, max_len: usize) -> String {
    let text = printable(text);
    match text.char_indices().nth(max_len) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn member<'a>(event: &'a HubEvent, name: &str) -> Option<&'a str> {
    event.body.as_ref()?.get(name)?.as_str()
}

/// `forcedOpen`, `open`, `locked secured=secured proof=bond source=remote`.
fn message(event: &HubEvent, zone: &TimeZone) -> String {
    let Some(Value::Object(body)) = &event.body else {
        return match (&event.body, &event.body_base64) {
            (Some(body), _) => plain(body),
            (None, Some(base64)) => format!("{} bytes that are not JSON", bytes(base64)),
            (None, None) => String::new(),
        };
    };
    if !body.get("kind").is_some_and(Value::is_string) {
        // Not a message of door-agent.
        return Value::Object(body.clone()).to_string();
    }
    let mut parts: Vec<String> = Vec::new();
    for (key, value) in body {
        if OMITTED_MEMBERS.contains(&key.as_str()) {
            continue;
        }
        let is_bare = key == name(event) || key == "alarm";
        parts.push(match is_bare {
            true => plain(value),
            false => format!("{key}={}", plain(value)),
        });
    }
    if let Some(at) = happened(body).filter(|at| is_late(event.time, *at)) {
        parts.push(format!(
            "(happened {})",
            on_clock(&at.to_zoned_datetime(zone.clone()))
        ));
    }
    parts.join(" ")
}

/// Time of the event by the door's clock, when that is synchronised.
fn happened(body: &Object) -> Option<Timestamp> {
    let clock = body.get("clock").and_then(Value::as_str);
    let trusted = clock == Some(ClockQuality::Synchronized.as_str());
    let at = body.get("at")?.as_str()?;
    at.parse().ok().filter(|_| trusted)
}

fn is_late(received: Timestamp, happened: Timestamp) -> bool {
    received.duration_since(happened) >= LATE_AFTER
}

fn bytes(base64: &str) -> usize {
    let padding = base64.bytes().rev().take_while(|byte| *byte == b'=');
    (base64.len() / 4 * 3).saturating_sub(padding.count())
}

/// `tags wing=east; desired floor=3; reported door.lockState=locked`.
fn twin(body: Option<&Value>) -> String {
    let mut sections = Vec::new();
    for (title, pointer) in [
        ("tags", "/tags"),
        ("desired", "/properties/desired"),
        ("reported", "/properties/reported"),
    ] {
        let mut leaves = Vec::new();
        if let Some(value) = body.and_then(|body| body.pointer(pointer)) {
            flatten("", value, &mut leaves);
        }
        if !leaves.is_empty() {
            sections.push(format!("{title} {}", leaves.join(" ")));
        }
    }
    sections.join("; ")
}

/// Twins nest at most ten levels; `$metadata` and `$version` are left out.
fn flatten(path: &str, value: &Value, leaves: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members.iter().filter(|(key, _)| !key.starts_with('$')) {
                match path.is_empty() {
                    true => flatten(key, member, leaves),
                    false => flatten(&format!("{path}.{key}"), member, leaves),
                }
            }
        }
        Value::Null => leaves.push(format!("{path}=null")),
        leaf => leaves.push(format!("{path}={}", plain(leaf))),
    }
}

/// `lock-1 running: 1 succeeded, 0 failed of 3`.
fn job(event: &HubEvent) -> String {
    let body = event.body.as_ref();
    let text = |name| Some(body?.get(name)?.as_str()?.to_owned());
    let count = |name| {
        let counts = body?.get("deviceJobStatistics")?;
        counts.get(name)?.as_u64()
    };
    let mut line = format!(
        "{} {}",
        event.job_id.as_deref().unwrap_or_default(),
        text("status").unwrap_or_default()
    );
    if let Some(all) = count("deviceCount") {
        line += &format!(
            ": {} succeeded, {} failed of {all}",
            count("succeededCount").unwrap_or_default(),
            count("failedCount").unwrap_or_default(),
        );
    }
    if let Some(reason) = text("failureReason") {
        line += &format!(": {reason}");
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, more: Value) -> HubEvent {
        let mut document =
            json!({"id": 7, "kind": kind, "time": "2026-11-23T21:00:00Z", "deviceId": "east"});
        if let (Value::Object(document), Value::Object(more)) = (&mut document, more) {
            document.extend(more);
        }
        serde_json::from_value(document).unwrap()
    }

    fn described(kind: &str, more: Value) -> String {
        let event = event(kind, more);
        let details = details(&event, &TimeZone::UTC);
        format!("{} {details}", name(&event))
    }

    #[test]
    fn each_event_kind_has_its_description() {
        for (kind, more, expected) in [
            (
                "telemetry",
                json!({"body": {"seq": 1, "boot": "b", "at": "2026-11-23T20:59:59Z",
                    "clock": "synchronized", "kind": "alarmRaised", "door": "east", "floor": 3,
                    "alarm": "forcedOpen"}}),
                "alarmRaised forcedOpen",
            ),
            (
                "telemetry",
                json!({"body": {"kind": "lockState", "lockState": "locked", "secured": "secured",
                    "proof": "bond", "source": "remote"}}),
                "lockState locked secured=secured proof=bond source=remote",
            ),
            (
                "telemetry",
                json!({"repeated": true, "body": {"at": "2026-11-23T19:00:00Z",
                    "clock": "synchronized", "kind": "doorState", "doorState": "open"}}),
                "doorState open (happened 2026-11-23 19:00:00) (again)",
            ),
            (
                "telemetry",
                json!({"body": {"kind": "requestToExit"}}),
                "requestToExit ",
            ),
            (
                "telemetry",
                json!({"body": {"temperature": 21.5}}),
                "message {\"temperature\":21.5}",
            ),
            ("telemetry", json!({"body": "[[["}), "message [[["),
            (
                "telemetry",
                json!({"bodyBase64": "77u/cGxhaW4="}),
                "message 8 bytes that are not JSON",
            ),
            (
                "connection",
                json!({"properties": {"opType": "deviceDisconnected"},
                    "body": {"reason": "no word for 90 s"}}),
                "deviceDisconnected no word for 90 s",
            ),
            (
                "twin",
                json!({
                    "properties": {"opType": "updateTwin"},
                    "body": {
                        "version": 3,
                        "tags": {"wing": "east", "old": null},
                        "properties": {
                            "desired": {"floor": 3, "$version": 4, "$metadata": {"floor": {}}},
                            "reported": {"door": {"lockState": "locked"}},
                        },
                    },
                }),
                "updateTwin tags wing=east old=null; desired floor=3; reported \
                 door.lockState=locked",
            ),
            (
                "job",
                json!({
                    "jobId": "night",
                    "properties": {"opType": "jobRunning"},
                    "body": {
                        "status": "running",
                        "deviceJobStatistics":
                            {"deviceCount": 3, "succeededCount": 1, "failedCount": 0},
                    },
                }),
                "jobRunning night running: 1 succeeded, 0 failed of 3",
            ),
            (
                "device",
                json!({"properties": {"opType": "createDeviceIdentity"}}),
                "createDeviceIdentity ",
            ),
        ] {
            assert_eq!(described(kind, more), expected);
        }
    }

    #[test]
    fn texts_of_a_device_are_escaped_and_shortened() {
        let wild = described(
            "telemetry",
            json!({"body": {"kind": "x", "text": "\u{1b}[2J\n"}}),
        );
        assert_eq!(wild, "x text=\\u{1b}[2J\\n");
        let long = described(
            "telemetry",
            json!({"body": {"kind": "x", "text": "ä".repeat(1_000)}}),
        );
        assert_eq!(
            long.chars().count(),
            "x ".len() + MAX_DETAILS_LEN + "...".len()
        );
    }
}
