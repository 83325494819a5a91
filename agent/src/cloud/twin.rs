//! The desired half of the twin: `building`, `floor`, `mode`, `settings`, `lockdown`, `timed` and
//! `schedule`, validated and acknowledged.
//!
//! Pure. The caller applies and persists an accepted value, which is then acknowledged as
//! `{value, ac: 200, av, ad}` in the reported properties; a refused value leaves the old one in
//! place and gets `ac` 400 with the reason. Notifications may be late, duplicated or lost: the
//! version reveals it, and after a gap the twin is read again.

mod lockdown;
mod schedule;
mod settings;
#[cfg(test)]
mod tests;
mod timed;
mod verdict;

use door_core::contract::Mode;
use door_core::{DesiredDoor, DesiredMode, DoorConfig};
use serde_json::{Map, Value};

use crate::storage::SiteLocation;
use lockdown::LockdownProperty;
use schedule::Schedule;
use settings::Settings;
use timed::Timed;
use verdict::{Verdict, type_name};

/// Longest `building` or `floor`, in characters.
const MAX_CHARACTERS: usize = 128;
/// The desired properties owned by the agent, and the reported ones that acknowledge them.
pub(super) const KEYS: [&str; 7] = [
    "building", "floor", "mode", "settings", "lockdown", "timed", "schedule",
];

/// The desired properties as the agent knows them.
#[derive(Debug)]
pub(super) struct Desired {
    location: SiteLocation,
    building: Verdict,
    floor: Verdict,
    /// The mode accepted last.
    mode: Option<Mode>,
    mode_verdict: Verdict,
    settings: Settings,
    lockdown: LockdownProperty,
    timed: Timed,
    schedule: Schedule,
    version: TwinVersion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TwinVersion {
    /// The twin must be read; holds the highest version notified meanwhile.
    Unread {
        notified: u64,
    },
    Read(u64),
}

/// What the caller must do after an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TwinAction {
    Nothing,
    /// Apply and persist the accepted values, then report the acknowledgements.
    Apply,
    /// A notification is missing: read the twin again.
    ReadAgain,
}

/// Why accepted values could not be applied or saved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ApplyProblems {
    /// Of building and floor.
    pub(super) location: Option<String>,
    /// Of mode, settings, lockdown, timed and schedule.
    pub(super) door: Option<String>,
}

impl Desired {
    /// Starts from the saved values and the configured settings.
    pub(super) fn new(location: SiteLocation, door: DesiredDoor, configured: DoorConfig) -> Self {
        Self {
            location,
            building: Verdict::Absent,
            floor: Verdict::Absent,
            mode: match door.mode {
                DesiredMode::Mode(mode) => Some(mode),
                DesiredMode::Absent | DesiredMode::Unreadable => None,
            },
            mode_verdict: Verdict::Absent,
            settings: Settings::new(door.settings, configured),
            lockdown: LockdownProperty::new(&door.lockdown),
            timed: Timed::new(door.timed, door.timed_version),
            schedule: Schedule::new(door.schedule, door.timed_version, configured),
            version: TwinVersion::Unread { notified: 0 },
        }
    }

    pub(super) fn location(&self) -> &SiteLocation {
        &self.location
    }

    /// The desired state for the controller.
    pub(super) fn door(&self) -> DesiredDoor {
        DesiredDoor {
            mode: match (&self.mode_verdict, self.mode) {
                (Verdict::Refused { .. }, _) => DesiredMode::Unreadable,
                (_, Some(mode)) => DesiredMode::Mode(mode),
                (_, None) => DesiredMode::Absent,
            },
            settings: self.settings.accepted().clone(),
            lockdown: self.lockdown.desired(),
            timed: self.timed.accepted(),
            schedule: self.schedule.accepted(),
            timed_version: self.timed.version().max(self.schedule.version()),
        }
    }

    /// A new connection: the twin must be read before notifications count.
    pub(super) fn connected(&mut self) {
        self.version = TwinVersion::Unread { notified: 0 };
    }

    /// Handles the whole desired document.
    pub(super) fn handle_document(&mut self, desired: &Map<String, Value>) -> TwinAction {
        let version = version_of(desired);
        let notified = match self.version {
            TwinVersion::Unread { notified } => notified,
            TwinVersion::Read(read) => read,
        };
        self.version = TwinVersion::Read(version);
        for key in KEYS {
            let value = desired.get(key).unwrap_or(&Value::Null);
            match (key, value) {
                ("settings", Value::Object(settings)) => self.settings.keep_only(settings),
                ("lockdown", _) => self.lockdown.begin_document(value, version),
                ("timed", value) => {
                    self.timed.handle_document(value, version);
                    continue;
                }
                ("schedule", value) => {
                    self.schedule.handle_document(value, version);
                    continue;
                }
                _ => {}
            }
            self.apply(key, value, version);
        }
        if version < notified {
            // The document is older than a notification that already arrived.
            self.version = TwinVersion::Unread { notified };
            return TwinAction::ReadAgain;
        }
        TwinAction::Apply
    }

    /// Handles a notification of changed desired properties.
    pub(super) fn handle_patch(&mut self, version: u64, patch: &Map<String, Value>) -> TwinAction {
        match &mut self.version {
            TwinVersion::Unread { notified } => {
                *notified = version.max(*notified);
                TwinAction::Nothing
            }
            TwinVersion::Read(read) if version <= *read => TwinAction::Nothing,
            TwinVersion::Read(read) if version > *read + 1 => {
                self.version = TwinVersion::Unread { notified: version };
                TwinAction::ReadAgain
            }
            TwinVersion::Read(read) => {
                *read = version;
                let mut next = TwinAction::Nothing;
                for key in KEYS {
                    if let Some(value) = patch.get(key) {
                        self.apply(key, value, version);
                        next = TwinAction::Apply;
                    }
                }
                next
            }
        }
    }

    /// JSON of the acknowledgements to report, by key; `None` where nothing is desired.
    pub(super) fn acknowledgements(
        &self,
        problems: &ApplyProblems,
    ) -> [(&'static str, Option<String>); 7] {
        let (location, door) = (problems.location.as_deref(), problems.door.as_deref());
        let SiteLocation { building, floor } = &self.location;
        let mode = self.mode.map(|mode| Value::from(mode.as_str()));
        let text = |value: Option<Value>| value.map(|value| value.to_string());
        let each = [
            text(self.building.acknowledge(building.as_ref(), location)),
            text(self.floor.acknowledge(floor.as_ref(), location)),
            text(self.mode_verdict.acknowledge(mode.as_ref(), door)),
            self.settings.acknowledge(door),
            text(self.lockdown.acknowledge(door)),
            self.timed.acknowledge(door),
            text(self.schedule.acknowledge(door)),
        ];
        let mut keys = KEYS.into_iter();
        each.map(|it| (keys.next().unwrap_or_default(), it))
    }

    fn apply(&mut self, key: &str, value: &Value, version: u64) {
        let location = match key {
            "building" => (&mut self.location.building, &mut self.building),
            "floor" => (&mut self.location.floor, &mut self.floor),
            "mode" => {
                let parsed = match value {
                    Value::Null => None,
                    value => Some(read_mode(value)),
                };
                self.mode_verdict.judge(&mut self.mode, parsed, version);
                return;
            }
            "lockdown" => {
                self.lockdown.apply(value, version);
                return;
            }
            "timed" => {
                self.timed.handle_patch(value, version);
                return;
            }
            "schedule" => {
                self.schedule.handle_patch(value, version);
                return;
            }
            _ => {
                self.settings.apply(value, version);
                return;
            }
        };
        let (held, verdict) = location;
        let checked = match value {
            Value::Null => None,
            value => Some(check_location(value).map(|()| value.clone())),
        };
        verdict.judge(held, checked, version);
    }
}

/// Checks that a building or floor is a string or a number.
fn check_location(value: &Value) -> Result<(), String> {
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
        other => type_name(other),
    };
    Err(format!(
        "expected a string or a number, found {found}; the previous value stays"
    ))
}

fn read_mode(value: &Value) -> Result<Mode, String> {
    value.as_str().and_then(Mode::parse).ok_or_else(|| {
        format!(
            "expected {}, found {}; the previous value stays",
            Mode::EXPECTED,
            type_name(value)
        )
    })
}

fn version_of(document: &Map<String, Value>) -> u64 {
    document
        .get("$version")
        .and_then(Value::as_u64)
        .unwrap_or(0)
}
