//! The desired half of the twin: `building` and `floor`, judged, applied and acknowledged.
//!
//! Pure. A value that is accepted is first persisted by the caller and then acknowledged as `{value, ac: 200, av, ad}` in the reported
//! properties; one that is refused leaves the old value in place and gets `ac` 400 with the reason. Notifications may come late, twice or not at
//! all: the version tells, and a gap means that the twin is read again.

use serde_json::{Map, Value, json};

use crate::storage::Place;

/// Longest `building` or `floor`, in characters.
const MAX_CHARACTERS: usize = 128;

/// What the agent knows of its desired properties.
#[derive(Debug)]
pub(super) struct Desired {
    place: Place,
    building: Verdict,
    floor: Verdict,
    version: Version,
}

/// How a property's latest desired value was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// None was ever desired on this connection's twin.
    Absent,
    Accepted {
        version: u64,
    },
    Refused {
        version: u64,
        reason: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// The twin is to be read; the highest version that a notification told of meanwhile.
    Unread {
        told: u64,
    },
    Read(u64),
}

/// What to do after an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing changed.
    Nothing,
    /// Persist the place, then report the acknowledgements.
    Apply,
    /// A notification is missing: read the twin again.
    ReadAgain,
}

impl Desired {
    /// Starts from the place that was saved.
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            building: Verdict::Absent,
            floor: Verdict::Absent,
            version: Version::Unread { told: 0 },
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// A new connection: the twin is to be read before notifications count.
    pub(super) fn connected(&mut self) {
        self.version = Version::Unread { told: 0 };
    }

    /// The whole desired document was read.
    pub(super) fn handle_document(&mut self, desired: &Map<String, Value>) -> Next {
        let version = version_of(desired);
        let told = match self.version {
            Version::Unread { told } => told,
            Version::Read(read) => read,
        };
        self.version = Version::Read(version);
        for property in [Property::Building, Property::Floor] {
            self.apply(property, desired.get(property.key()), version);
        }
        if version < told {
            // The document was made before the notification that is already here.
            self.version = Version::Unread { told };
            return Next::ReadAgain;
        }
        Next::Apply
    }

    /// A notification of changed desired properties arrived.
    pub(super) fn handle_patch(&mut self, version: u64, patch: &Map<String, Value>) -> Next {
        match &mut self.version {
            Version::Unread { told } => {
                *told = version.max(*told);
                Next::Nothing
            }
            Version::Read(read) if version <= *read => Next::Nothing,
            Version::Read(read) if version > *read + 1 => {
                self.version = Version::Unread { told: version };
                Next::ReadAgain
            }
            Version::Read(read) => {
                *read = version;
                let mut next = Next::Nothing;
                for property in [Property::Building, Property::Floor] {
                    if let Some(value) = patch.get(property.key()) {
                        self.apply(property, Some(value), version);
                        next = Next::Apply;
                    }
                }
                next
            }
        }
    }

    /// The acknowledgements to report, by key; `None` where nothing is desired.
    pub(super) fn acknowledgements(&self) -> [(&'static str, Option<Value>); 2] {
        [
            (
                Property::Building.key(),
                acknowledgement(self.place.building.as_ref(), &self.building),
            ),
            (
                Property::Floor.key(),
                acknowledgement(self.place.floor.as_ref(), &self.floor),
            ),
        ]
    }

    fn apply(&mut self, property: Property, value: Option<&Value>, version: u64) {
        let (place, verdict) = match property {
            Property::Building => (&mut self.place.building, &mut self.building),
            Property::Floor => (&mut self.place.floor, &mut self.floor),
        };
        *verdict = match value {
            None | Some(Value::Null) => {
                *place = None;
                Verdict::Absent
            }
            Some(value) => match check(value) {
                // The same value read again was accepted when it came: that version stays.
                Ok(()) if place.as_ref() == Some(value) => match verdict {
                    Verdict::Accepted { version } => Verdict::Accepted { version: *version },
                    Verdict::Absent | Verdict::Refused { .. } => Verdict::Accepted { version },
                },
                Ok(()) => {
                    *place = Some(value.clone());
                    Verdict::Accepted { version }
                }
                Err(reason) => Verdict::Refused { version, reason },
            },
        };
    }
}

#[derive(Debug, Clone, Copy)]
enum Property {
    Building,
    Floor,
}

impl Property {
    const fn key(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Floor => "floor",
        }
    }
}

/// A building or floor is a string or a number.
fn check(value: &Value) -> Result<(), String> {
    let found = match value {
        Value::Number(_) => return Ok(()),
        Value::String(text) if text.is_empty() => "an empty string",
        Value::String(text) if text.chars().count() > MAX_CHARACTERS => {
            "a string of more than 128 characters"
        }
        Value::String(text) if text.chars().any(char::is_control) => {
            "a string with control characters"
        }
        Value::String(_) => return Ok(()),
        Value::Bool(_) => "true or false",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
        Value::Null => "null",
    };
    Err(format!(
        "expected a string or a number, found {found}; the value before stays"
    ))
}

fn acknowledgement(value: Option<&Value>, verdict: &Verdict) -> Option<Value> {
    let (ac, av, ad) = match verdict {
        Verdict::Absent => return None,
        Verdict::Accepted { version } => (200, *version, "applied"),
        Verdict::Refused { version, reason } => (400, *version, reason.as_str()),
    };
    let mut acknowledgement = json!({"ac": ac, "av": av, "ad": ad});
    if let Some(value) = value {
        acknowledgement["value"] = value.clone();
    }
    Some(acknowledgement)
}

fn version_of(document: &Map<String, Value>) -> u64 {
    document
        .get("$version")
        .and_then(Value::as_u64)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other} is no object"),
        }
    }

    fn read(document: Value) -> Desired {
        let mut desired = Desired::new(Place::default());
        assert_eq!(desired.handle_document(&map(document)), Next::Apply);
        desired
    }

    fn acknowledged(desired: &Desired) -> Value {
        desired
            .acknowledgements()
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect::<Map<_, _>>()
            .into()
    }

    #[test]
    fn values_are_kept_as_given_and_acknowledged_with_the_version() {
        let desired = read(json!({"building": 43, "floor": "3a", "other": true, "$version": 5}));
        assert_eq!(desired.place().building, Some(43.into()));
        assert_eq!(
            acknowledged(&desired),
            json!({
                "building": {"value": 43, "ac": 200, "av": 5, "ad": "applied"},
                "floor": {"value": "3a", "ac": 200, "av": 5, "ad": "applied"}
            })
        );
    }

    #[test]
    fn a_bad_value_is_refused_with_the_reason_and_the_old_one_stays() {
        let mut desired = read(json!({"floor": 3, "$version": 5}));
        let next = desired.handle_patch(6, &map(json!({"floor": {"no": 4}, "$version": 6})));
        assert_eq!(next, Next::Apply);
        assert_eq!(desired.place().floor, Some(3.into()));
        assert_eq!(
            acknowledged(&desired),
            json!({"floor": {
                "value": 3, "ac": 400, "av": 6,
                "ad": "expected a string or a number, found an object; the value before stays"
            }})
        );
    }

    #[test]
    fn a_bad_value_with_none_before_is_acknowledged_without_a_value() {
        let desired = read(json!({"floor": [], "$version": 1}));
        assert_eq!(acknowledged(&desired)["floor"].get("value"), None);
        assert_eq!(acknowledged(&desired)["floor"]["ac"], 400);
    }

    #[test]
    fn null_and_absence_take_the_place_away() {
        let mut desired = read(json!({"building": 43, "floor": 3, "$version": 5}));
        desired.handle_patch(6, &map(json!({"building": null, "$version": 6})));
        assert_eq!(desired.place().building, None);
        assert_eq!(acknowledged(&desired).get("building"), None);
        desired.handle_document(&map(json!({"$version": 7})));
        assert_eq!(*desired.place(), Place::default());
    }

    #[test]
    fn old_notifications_are_ignored_and_a_gap_reads_the_twin_again() {
        let mut desired = read(json!({"floor": 3, "$version": 5}));
        let patch = |floor: u64, version: u64| map(json!({"floor": floor, "$version": version}));
        assert_eq!(desired.handle_patch(5, &patch(9, 5)), Next::Nothing);
        assert_eq!(desired.handle_patch(6, &patch(4, 6)), Next::Apply);
        assert_eq!(desired.handle_patch(8, &patch(6, 8)), Next::ReadAgain);
        assert_eq!(desired.place().floor, Some(4.into()));
        // Until it is read, nothing else counts, and a document older than the notification is not enough.
        assert_eq!(desired.handle_patch(9, &patch(7, 9)), Next::Nothing);
        assert_eq!(desired.handle_document(&patch(6, 8)), Next::ReadAgain);
        assert_eq!(desired.handle_document(&patch(7, 9)), Next::Apply);
        assert_eq!(desired.place().floor, Some(7.into()));
        assert_eq!(desired.handle_patch(10, &patch(8, 10)), Next::Apply);
    }

    #[test]
    fn a_twin_that_starts_over_after_the_device_was_made_anew_counts() {
        let mut desired = read(json!({"floor": 3, "$version": 50}));
        desired.connected();
        assert_eq!(
            desired.handle_document(&map(json!({"floor": 4, "$version": 2}))),
            Next::Apply
        );
        assert_eq!(desired.place().floor, Some(4.into()));
    }
}
