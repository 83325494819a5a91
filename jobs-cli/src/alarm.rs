//! Raised alarms of doors, and their acknowledgements: `tags.alarm.<name>`, which belongs to one
//! raising and clears nothing at the door.

use iothub_protocol::twin::{ConnectionState, Twin};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use serde::Serialize;
use serde_json::Value;

use crate::door::{assigned_or_reported, reported_door};
use crate::printer::{Cell, Row, Tone, plain};
use crate::time;

/// The tag with the acknowledgements.
pub(crate) const TAG: &str = "alarm";

/// Somebody may have come in or works on it, then the door stands open, then it has a fault. The
/// page has the same order.
const WORST_FIRST: [&str; 8] = [
    "forcedOpen",
    "lockForced",
    "tamper",
    "heldOpen",
    "jammed",
    "lockFault",
    "supplyFault",
    "sensorFault",
];

/// The first place after unknown alarms, which come after those that somebody caused.
const AFTER_UNKNOWN: usize = 3;

/// An alarm from a door's last report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RaisedAlarm {
    pub(crate) door: String,
    pub(crate) building: String,
    pub(crate) floor: String,
    pub(crate) alarm: String,
    /// Empty when the door had no clock.
    pub(crate) since: String,
    connection_state: ConnectionState,
    /// `None`: not acknowledged.
    pub(crate) acknowledged_by: Option<String>,
    acknowledged_at: Option<String>,
    note: Option<String>,
}

/// The alarms that these doors report: those that nobody acknowledged first, then the worst, then
/// the oldest.
pub(crate) fn raised(twins: &[Twin]) -> Vec<RaisedAlarm> {
    let mut raised: Vec<RaisedAlarm> = twins.iter().flat_map(of_door).collect();
    raised.sort_by_cached_key(|alarm| {
        let mut known = WORST_FIRST.iter();
        let rank = match known.position(|known| *known == alarm.alarm) {
            None => AFTER_UNKNOWN,
            Some(rank) => rank + usize::from(rank >= AFTER_UNKNOWN),
        };
        let names = (alarm.door.clone(), alarm.alarm.clone());
        let is_acknowledged = alarm.acknowledged_by.is_some();
        (is_acknowledged, rank, alarm.since.clone(), names)
    });
    raised
}

fn of_door(twin: &Twin) -> impl Iterator<Item = RaisedAlarm> {
    let alarms = reported_door(twin).and_then(|door| door.get("alarms")?.as_object());
    alarms.into_iter().flatten().map(|(alarm, raised)| {
        let since = raised.get("since").unwrap_or(&Value::Null);
        let acknowledged = twin.tags.get(TAG).and_then(|tag| tag.get(alarm));
        // A merge removes a member that is null: `raised` of a door without a clock is absent.
        let acknowledged = acknowledged
            .filter(|tag| tag.is_object() && tag.get("raised").unwrap_or(&Value::Null) == since);
        let member = |name| acknowledged.map(|tag| tag.get(name).map_or(String::new(), plain));
        RaisedAlarm {
            door: twin.device_id.to_string(),
            building: assigned_or_reported(twin, "building"),
            floor: assigned_or_reported(twin, "floor"),
            alarm: alarm.clone(),
            since: plain(since),
            connection_state: twin.connection_state,
            acknowledged_by: member("by"),
            acknowledged_at: member("at"),
            note: member("note"),
        }
    })
}

impl RaisedAlarm {
    pub(crate) fn text(&self, zone: &TimeZone) -> String {
        let mut text = format!("alarm: {} at {}", self.alarm, self.door);
        for (what, value) in [("building", &self.building), ("floor", &self.floor)] {
            if !value.is_empty() {
                text += &format!(", {what} {value}");
            }
        }
        if !self.since.is_empty() {
            text += &format!(", since {}", in_zone(&self.since, zone, time::describe));
        }
        if self.connection_state == ConnectionState::Disconnected {
            text += ", offline now";
        }
        match self.acknowledgement(zone) {
            Some(acknowledgement) => format!("{text}, acknowledged {acknowledgement}"),
            None => text,
        }
    }

    /// `by alice at TIME: note`.
    pub(crate) fn acknowledgement(&self, zone: &TimeZone) -> Option<String> {
        let by = self.acknowledged_by.as_ref()?;
        let at = self.acknowledged_at.as_deref().unwrap_or_default();
        let at = in_zone(at, zone, time::on_clock);
        let note = self.note.as_deref().unwrap_or_default();
        Some(format!("by {by} at {at}: {note}"))
    }

    /// The same alarm with times of this zone, for a table.
    pub(crate) fn on_clock(self, zone: &TimeZone) -> Self {
        let at = self
            .acknowledged_at
            .map(|at| in_zone(&at, zone, time::on_clock));
        Self {
            since: in_zone(&self.since, zone, time::on_clock),
            acknowledged_at: at,
            ..self
        }
    }
}

/// A time of a twin in this zone; other text stays as it is.
fn in_zone(text: &str, zone: &TimeZone, shown: fn(&ZonedDateTime) -> String) -> String {
    let at = text
        .parse()
        .map(|at: Timestamp| at.to_zoned_datetime(zone.clone()));
    at.map_or_else(|_| text.to_owned(), |at| shown(&at))
}

impl Row for RaisedAlarm {
    const LEAST_IMPORTANT: &'static [&'static str] = &["connectionState", "acknowledgedAt"];

    fn titles() -> Vec<&'static str> {
        vec![
            "alarm",
            "door",
            "building",
            "floor",
            "since",
            "connectionState",
            "acknowledgedBy",
            "acknowledgedAt",
            "note",
        ]
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        let tone = match (title, &self.acknowledged_by) {
            ("alarm", None) => Tone::Bad,
            ("alarm", Some(_)) => Tone::Doubtful,
            _ => Tone::Plain,
        };
        match title {
            "connectionState" => crate::door::connection_cell(self.connection_state),
            _ => Cell::toned(plain(member), tone),
        }
    }
}

#[cfg(test)]
mod tests {
    use door_core::contract::Alarm;
    use serde_json::json;

    use super::*;

    fn twin(name: &str, alarms: &Value, tag: &Value) -> Twin {
        serde_json::from_value(json!({
            "deviceId": name, "etag": "AAAAAAAAAAE=", "version": 4,
            "connectionState": "Connected", "tags": {"alarm": tag},
            "properties": {
                "desired": {"$version": 1},
                "reported": {"door": {"alarms": alarms}, "$version": 1},
            },
        }))
        .unwrap()
    }

    #[test]
    fn alarms_have_one_order_here_and_on_the_page() {
        let page = include_str!("../../dashboard/web/model.js");
        let (_, page) = page.split_once("\nconst ALARMS = [").unwrap();
        let (page, _) = page.split_once(']').unwrap();
        let page: Vec<&str> = page.split('\'').skip(1).step_by(2).collect();
        assert_eq!(page, WORST_FIRST);
        for alarm in Alarm::ALL {
            assert!(WORST_FIRST.contains(&alarm.as_str()), "{}", alarm.as_str());
        }
        let since = |hour| json!({"since": format!("2026-11-23T{hour}:00:00Z")});
        let known = json!({"raised": "2026-11-23T20:00:00Z", "by": "eve", "at": "x", "note": "n"});
        let doors = [
            twin(
                "a",
                &json!({"heldOpen": since(19), "battery": since(10)}),
                &json!({}),
            ),
            twin(
                "b",
                &json!({"tamper": since(20)}),
                &json!({"tamper": known}),
            ),
            twin(
                "c",
                &json!({"tamper": since(22), "forcedOpen": since(23)}),
                &json!({}),
            ),
            twin("d", &json!({"tamper": since(21)}), &json!({})),
        ];
        let raised = raised(&doors);
        let order: Vec<String> = raised
            .iter()
            .map(|alarm| format!("{} {}", alarm.door, alarm.alarm))
            .collect();
        let expected = "c forcedOpen, d tamper, c tamper, a battery, a heldOpen, b tamper";
        assert_eq!(order.join(", "), expected);
    }

    #[test]
    fn an_acknowledgement_belongs_to_one_raising() {
        let at = "2026-11-23T20:00:00Z";
        for (since, tag, expected) in [
            (json!(at), json!({"raised": at, "by": "eve"}), Some("eve")),
            (json!(at), json!({"raised": at}), Some("")),
            (
                json!(at),
                json!({"raised": "2026-11-23T19:00:00Z", "by": "eve"}),
                None,
            ),
            (json!(at), json!({"by": "eve"}), None),
            (json!(null), json!({"by": "eve"}), Some("eve")),
            (
                json!(null),
                json!({"raised": null, "by": "eve"}),
                Some("eve"),
            ),
            (json!(null), json!({"raised": at, "by": "eve"}), None),
            (json!(null), json!("eve"), None),
        ] {
            let alarms = json!({"heldOpen": {"since": since}});
            let raised = raised(&[twin("a", &alarms, &json!({"heldOpen": tag}))]);
            let by = raised[0].acknowledged_by.as_deref();
            assert_eq!(by, expected, "{since} {tag}");
        }
        let forced = json!({"raised": at, "by": "eve", "at": at, "note": "closed it"});
        let alarms = json!({"forcedOpen": {"since": at}});
        let raised = raised(&[twin("a", &alarms, &json!({"forcedOpen": forced}))]);
        assert_eq!(
            raised[0].text(&TimeZone::UTC),
            "alarm: forcedOpen at a, since Mon 2026-11-23 20:00:00 UTC, acknowledged by eve at \
             2026-11-23 20:00:00: closed it"
        );
    }
}
