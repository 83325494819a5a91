//! A door as its twin shows it: assigned and reported values. Parsed leniently: a twin may belong
//! to any device.

use std::fmt;

use door_core::contract::{DoorState, LockState, Lockdown, Mode, Proof, Secured, Word};
use iothub_protocol::DeviceId;
use iothub_protocol::twin::{ConnectionState, Object, Properties, Section, Twin};
use jiff::Timestamp;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::acknowledgement::has_feature;
use crate::printer::{Cell, Row, Tone, plain};
use crate::time;

/// One line of `devices list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DoorRow {
    pub(crate) door: String,
    pub(crate) connection_state: ConnectionState,
    /// The assigned value, else the reported one.
    pub(crate) building: String,
    /// The assigned value, else the reported one.
    pub(crate) floor: String,
    /// Last reported state.
    #[serde(flatten)]
    pub(crate) state: ReportedStatus,
    /// Age of the last report, for an offline door.
    #[serde(skip)]
    pub(crate) age: Option<String>,
}

/// A row of `SELECT deviceId FROM devices`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DoorName {
    pub(crate) device_id: DeviceId,
}

/// A twin in a list of doors. Of the metadata of its reported properties, which is most of the text
/// of a twin, only that of `door` is read.
#[derive(Debug, Deserialize)]
#[serde(from = "Twin<Object, Section, ListedReport>")]
pub(crate) struct ListedTwin(Twin);

impl From<ListedTwin> for Twin {
    fn from(listed: ListedTwin) -> Self {
        listed.0
    }
}

impl From<Twin<Object, Section, ListedReport>> for ListedTwin {
    fn from(twin: Twin<Object, Section, ListedReport>) -> Self {
        Self(Twin {
            device_id: twin.device_id,
            etag: twin.etag,
            device_etag: twin.device_etag,
            status: twin.status,
            status_reason: twin.status_reason,
            status_update_time: twin.status_update_time,
            connection_state: twin.connection_state,
            last_activity_time: twin.last_activity_time,
            cloud_to_device_message_count: twin.cloud_to_device_message_count,
            authentication_type: twin.authentication_type,
            x509_thumbprint: twin.x509_thumbprint,
            model_id: twin.model_id,
            version: twin.version,
            tags: twin.tags,
            properties: Properties {
                desired: twin.properties.desired,
                reported: twin.properties.reported.0,
            },
            capabilities: twin.capabilities,
        })
    }
}

/// Reported properties of a [`ListedTwin`].
#[derive(Debug)]
struct ListedReport(Section);

impl<'de> Deserialize<'de> for ListedReport {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ListedReportVisitor)
    }
}

struct ListedReportVisitor;

impl<'de> Visitor<'de> for ListedReportVisitor {
    type Value = ListedReport;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("reported properties")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<ListedReport, A::Error> {
        #[derive(Deserialize)]
        struct OfDoor {
            door: Option<Value>,
        }
        let (mut values, mut metadata, mut version) = (Object::new(), Object::new(), None);
        while let Some(name) = members.next_key::<String>()? {
            match name.as_str() {
                "$version" => version = Some(members.next_value()?),
                "$metadata" => {
                    let read: OfDoor = members.next_value()?;
                    metadata.extend(read.door.map(|door| ("door".to_owned(), door)));
                }
                _ => {
                    values.insert(name, members.next_value()?);
                }
            }
        }
        Ok(ListedReport(Section {
            values,
            metadata,
            version: version.ok_or_else(|| A::Error::missing_field("$version"))?,
        }))
    }
}

/// State of lock and door as reported or answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReportedStatus {
    pub(crate) lock_state: Word<LockState>,
    pub(crate) door_state: Word<DoorState>,
    pub(crate) secured: Word<Secured>,
    pub(crate) proof: Word<Proof>,
}

impl ReportedStatus {
    /// Reads the members of a reported `door`, or of a method's answer.
    pub(crate) fn read(value: &Value) -> Self {
        let word = |name| value.get(name).map_or(String::new(), plain);
        Self {
            lock_state: word("lockState").into(),
            door_state: word("doorState").into(),
            secured: word("secured").into(),
            proof: word("proof").into(),
        }
    }

    pub(crate) fn reported(twin: &Twin) -> Self {
        reported_door(twin).map_or(Self::default(), Self::read)
    }

    /// The cell of a row with these members. The `age` of the last report of an offline door goes
    /// with the lock state; the other cells are in brackets only.
    pub(crate) fn cell(&self, title: &str, member: &Value, age: Option<&str>) -> Cell {
        if let (Some(age), true) = (age, LOCK_TITLES.contains(&title)) {
            return outdated(
                &plain(member),
                if title == LOCK_TITLES[0] { age } else { "" },
            );
        }
        let tone = match (title, &self.secured) {
            ("lockState", _) if self.lock_state == LockState::Jammed => Tone::Bad,
            ("secured", Word::Known(Secured::Secured)) => Tone::Good,
            ("secured", Word::Known(Secured::Unsecured)) => Tone::Bad,
            ("secured", Word::Known(Secured::Unknown)) => Tone::Doubtful,
            _ => Tone::Plain,
        };
        Cell::toned(plain(member), tone)
    }
}

/// The columns of a [`ReportedStatus`].
pub(crate) const LOCK_TITLES: [&str; 4] = ["lockState", "doorState", "secured", "proof"];

impl DoorRow {
    pub(crate) fn new(twin: &Twin, now: Timestamp) -> Self {
        Self {
            door: twin.device_id.to_string(),
            connection_state: twin.connection_state,
            building: assigned_or_reported(twin, "building"),
            floor: assigned_or_reported(twin, "floor"),
            state: ReportedStatus::reported(twin),
            age: report_age(twin, now),
        }
    }
}

/// The age of the last report of a door that is offline now, such as `3h`; empty when unknown.
pub(crate) fn report_age(twin: &Twin, now: Timestamp) -> Option<String> {
    let age = |at| time::age(now.duration_since(at));
    let is_offline = twin.connection_state == ConnectionState::Disconnected;
    is_offline.then(|| reported_at(twin).map_or(String::new(), age))
}

/// When the door last reported its state.
pub(crate) fn reported_at(twin: &Twin) -> Option<Timestamp> {
    let metadata = twin.properties.reported.metadata.get("door")?;
    metadata.get("$lastUpdated")?.as_str()?.parse().ok()
}

/// A cell with the last known state of an offline door, in brackets: `[locked 3h ago]`.
pub(crate) fn outdated(state: &str, age: &str) -> Cell {
    let shown = match (state, age) {
        ("", _) => String::new(),
        (_, "") => format!("[{state}]"),
        _ => format!("[{state} {age} ago]"),
    };
    Cell::toned(state, Tone::Doubtful).shown_as(shown)
}

impl Row for DoorRow {
    const LEAST_IMPORTANT: &'static [&'static str] = &["proof", "building", "floor"];

    fn titles() -> Vec<&'static str> {
        let mut titles = vec!["door", "connectionState", "building", "floor"];
        titles.extend(LOCK_TITLES);
        titles
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        match title {
            "connectionState" => connection_cell(self.connection_state),
            _ => self.state.cell(title, member, self.age.as_deref()),
        }
    }
}

/// The cell of a column `connectionState`.
pub(crate) fn connection_cell(state: ConnectionState) -> Cell {
    match state {
        ConnectionState::Connected => Cell::from("connected"),
        ConnectionState::Disconnected => Cell::toned("offline", Tone::Doubtful),
    }
}

/// The assigned value, else the reported one (`{"value": ..}`).
pub(crate) fn assigned_or_reported(twin: &Twin, name: &str) -> String {
    let desired = twin.properties.desired.values.get(name);
    desired
        .or_else(|| reported_value(&twin.properties.reported.values, name))
        .map_or(String::new(), plain)
}

/// The reported property `door`.
pub(crate) fn reported_door(twin: &Twin) -> Option<&Value> {
    twin.properties.reported.values.get("door")
}

/// The reported mode, if it is one of the contract.
pub(crate) fn reported_mode(twin: &Twin) -> Option<Mode> {
    Mode::parse(reported_door(twin)?.get("mode")?.as_str()?)
}

/// The lockdown of a reported `door`, or of a method's answer.
pub(crate) fn reported_lockdown(door: &Value) -> Option<Lockdown> {
    serde_json::from_value(door.get("lockdown")?.clone()).ok()
}

/// Whether a door can keep a timed entry.
pub(crate) fn can_stage(twin: &Twin) -> bool {
    has_feature("timed", &twin.properties.reported.values)
}

/// The value of a property that the door acknowledged.
pub(crate) fn reported_value<'a>(reported: &'a Object, name: &str) -> Option<&'a Value> {
    reported.get(name)?.get("value")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn twin(desired: &Value, reported: &Value) -> Twin {
        let section = |values: &Value| {
            let mut section = values.clone();
            section["$metadata"] = json!({"$lastUpdated": "2026-11-23T21:00:00Z"});
            section["$version"] = json!(3);
            section
        };
        serde_json::from_value(json!({
            "deviceId": "lobby-east", "etag": "AAAAAAAAAAE=", "version": 4,
            "connectionState": "Connected",
            "properties": {"desired": section(desired), "reported": section(reported)},
        }))
        .unwrap()
    }

    #[test]
    fn a_listed_twin_lacks_only_metadata_of_other_reported_properties_than_the_door() {
        let mut document = serde_json::to_value(twin(
            &json!({"floor": 3, "settings": {"strikeTime": 5}}),
            &json!({"door": {"lockState": "locked"}, "floor": {"value": 3, "ac": 200, "av": 1}}),
        ))
        .unwrap();
        let at = json!({"$lastUpdated": "2026-11-23T21:00:00Z"});
        document["tags"] = json!({"wing": "east"});
        document["properties"]["reported"]["$metadata"] =
            json!({"$lastUpdated": "2026-11-23T22:00:00Z", "door": at, "floor": at});
        let listed: ListedTwin = serde_json::from_value(document.clone()).unwrap();
        let listed = Twin::from(listed);
        assert_eq!(reported_at(&listed), "2026-11-23T21:00:00Z".parse().ok());

        let mut expected = document.clone();
        expected["properties"]["reported"]["$metadata"] = json!({"door": at});
        assert_eq!(serde_json::to_value(&listed).unwrap(), expected);

        let reported = document["properties"]["reported"].as_object_mut().unwrap();
        reported.remove("$metadata");
        let listed: ListedTwin = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(
            Twin::from(listed).properties.reported.metadata,
            Object::new()
        );
        document["properties"]["reported"] = json!({"door": {}});
        let error = serde_json::from_value::<ListedTwin>(document).unwrap_err();
        assert!(error.to_string().contains("$version"), "{error}");
    }

    #[test]
    fn an_assigned_value_wins_over_a_reported_one() {
        let reported = json!({
            "building": {"value": 43, "ac": 200}, "floor": {"value": "2", "ac": 200},
            "door": {
                "lockState": "locked", "doorState": "closed", "secured": "secured", "proof": "bond",
            },
        });
        let row = DoorRow::new(
            &twin(&json!({"floor": 3}), &reported),
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!((row.building.as_str(), row.floor.as_str()), ("43", "3"));
        assert_eq!(row.state.secured, Secured::Secured);
    }

    #[test]
    fn a_device_that_is_not_a_door_has_empty_columns() {
        let reported = json!({"door": "front", "temperature": 21});
        let row = DoorRow::new(&twin(&json!({}), &reported), Timestamp::UNIX_EPOCH);
        assert_eq!(row.state, ReportedStatus::default());
        assert_eq!(row.floor, "");
    }
}
