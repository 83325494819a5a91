//! A door as its twin shows it: assigned and reported values. Parsed leniently: a twin may belong
//! to any device.

use iothub_protocol::twin::{ConnectionState, Object, Twin};
use serde::Serialize;
use serde_json::Value;

use crate::printer::{Cell, Row, Tone, plain};

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
}

/// State of lock and door as reported or answered: words of the contract, or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReportedStatus {
    /// `locked`, `unlocked`, `jammed` ...
    pub(crate) lock_state: String,
    /// `open`, `closed`, `unknown`.
    pub(crate) door_state: String,
    /// `secured`, `unsecured`, `unknown`.
    pub(crate) secured: String,
    /// `bond`, `contact`, `none`.
    pub(crate) proof: String,
}

impl ReportedStatus {
    /// Reads the members of a reported `door`, or of a method's answer.
    pub(crate) fn read(value: &Value) -> Self {
        let word = |name| value.get(name).map_or(String::new(), plain);
        Self {
            lock_state: word("lockState"),
            door_state: word("doorState"),
            secured: word("secured"),
            proof: word("proof"),
        }
    }

    pub(crate) fn reported(twin: &Twin) -> Self {
        reported_door(twin).map_or(Self::default(), Self::read)
    }

    /// The four columns of [`LOCK_TITLES`].
    pub(crate) fn cells(&self) -> [Cell; 4] {
        let lock = match self.lock_state.as_str() {
            "jammed" => Tone::Bad,
            _ => Tone::Plain,
        };
        let secured = match self.secured.as_str() {
            "secured" => Tone::Good,
            "unsecured" => Tone::Bad,
            "unknown" => Tone::Doubtful,
            _ => Tone::Plain,
        };
        [
            Cell::toned(&self.lock_state, lock),
            Cell::from(&self.door_state),
            Cell::toned(&self.secured, secured),
            Cell::from(&self.proof),
        ]
    }
}

/// The titles of [`ReportedStatus::cells`].
pub(crate) const LOCK_TITLES: [&str; 4] = ["lockState", "doorState", "secured", "proof"];

impl From<&Twin> for DoorRow {
    fn from(twin: &Twin) -> Self {
        Self {
            door: twin.device_id.to_string(),
            connection_state: twin.connection_state,
            building: assigned_or_reported(twin, "building"),
            floor: assigned_or_reported(twin, "floor"),
            state: ReportedStatus::reported(twin),
        }
    }
}

impl Row for DoorRow {
    fn titles() -> Vec<&'static str> {
        let mut titles = vec!["door", "connectionState", "building", "floor"];
        titles.extend(LOCK_TITLES);
        titles
    }

    fn cells(&self) -> Vec<Cell> {
        let connection = match self.connection_state {
            ConnectionState::Connected => Cell::from("connected"),
            ConnectionState::Disconnected => Cell::toned("offline", Tone::Doubtful),
        };
        let mut cells = vec![
            Cell::from(&self.door),
            connection,
            Cell::from(&self.building),
            Cell::from(&self.floor),
        ];
        cells.extend(self.state.cells());
        cells
    }
}

/// The assigned value, else the reported one (`{"value": ..}`).
fn assigned_or_reported(twin: &Twin, name: &str) -> String {
    let desired = twin.properties.desired.values.get(name);
    desired
        .or_else(|| reported_value(&twin.properties.reported.values, name))
        .map_or(String::new(), plain)
}

/// The reported property `door`.
pub(crate) fn reported_door(twin: &Twin) -> Option<&Value> {
    twin.properties.reported.values.get("door")
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
    fn an_assigned_value_wins_over_a_reported_one() {
        let reported = json!({
            "building": {"value": 43, "ac": 200}, "floor": {"value": "2", "ac": 200},
            "door": {
                "lockState": "locked", "doorState": "closed", "secured": "secured", "proof": "bond",
            },
        });
        let row = DoorRow::from(&twin(&json!({"floor": 3}), &reported));
        assert_eq!((row.building.as_str(), row.floor.as_str()), ("43", "3"));
        assert_eq!(row.state.secured, "secured");
    }

    #[test]
    fn a_device_that_is_not_a_door_has_empty_columns() {
        let row = DoorRow::from(&twin(
            &json!({}),
            &json!({"door": "front", "temperature": 21}),
        ));
        assert_eq!(row.state, ReportedStatus::default());
        assert_eq!(row.floor, "");
    }
}
