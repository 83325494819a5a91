//! The desired property `schedule`: the door's week.

use door_core::DoorConfig;
use door_core::schedule::{AssignedWeek, Week, zone};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::verdict::{Verdict, too_old, type_name};

#[derive(Debug)]
pub(super) struct Schedule {
    configured: DoorConfig,
    /// As desired, valid or not: a patch changes single members.
    desired: Map<String, Value>,
    accepted: Option<AssignedWeek>,
    verdict: Verdict,
    /// `$version` of the latest accepted change.
    version: u64,
}

impl Schedule {
    pub(super) fn new(saved: Option<AssignedWeek>, version: u64, configured: DoorConfig) -> Self {
        Self {
            configured,
            desired: Map::new(),
            verdict: match saved {
                Some(_) => Verdict::Accepted { version },
                None => Verdict::Absent,
            },
            accepted: saved,
            version,
        }
    }

    pub(super) fn accepted(&self) -> Option<AssignedWeek> {
        self.accepted.clone()
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Applies the value of a whole document. One that is older than the latest change, from a hub
    /// that was restored, takes away no week and brings none.
    pub(super) fn handle_document(&mut self, value: &Value, version: u64) {
        self.desired.clear();
        if !value.is_null() || version >= self.version {
            self.change(value, version, version < self.version);
        }
    }

    pub(super) fn handle_patch(&mut self, value: &Value, version: u64) {
        self.change(value, version, false);
    }

    fn change(&mut self, value: &Value, version: u64, is_older: bool) {
        let judged = match value {
            Value::Null => {
                self.desired.clear();
                None
            }
            Value::Object(changes) => {
                self.desired.extend(changes.clone());
                self.desired.retain(|_, value| !value.is_null());
                Some(self.read().and_then(|week| match &self.accepted {
                    held if is_older && held.as_ref() != Some(&week) => Err(too_old(self.version)),
                    _ => Ok(week),
                }))
            }
            other => {
                let found = type_name(other);
                Some(Err(format!("expected an object, found {found}")))
            }
        };
        let stays = match self.accepted {
            Some(_) => "; the week before stays",
            None => "",
        };
        let judged = judged.map(|read| read.map_err(|reason| format!("{reason}{stays}")));
        let before = self.accepted.clone();
        self.verdict.judge(&mut self.accepted, judged, version);
        if self.accepted != before {
            self.version = version.max(self.version);
        }
    }

    fn read(&self) -> Result<AssignedWeek, String> {
        let desired = Value::Object(self.desired.clone());
        let assigned: AssignedWeek =
            serde_json::from_value(desired).map_err(|error| error.to_string())?;
        let digest = Sha256::digest(&assigned.text);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        if assigned.digest != digest {
            let found = assigned.digest;
            return Err(format!(
                "digest is {found:?}, expected that of text, {digest}"
            ));
        }
        let week = Week::from_json(&assigned.text).map_err(|error| error.to_string())?;
        zone(&week.zone).map_err(|error| error.to_string())?;
        week.judge(&self.configured)
            .map_err(|error| error.to_string())?;
        Ok(assigned)
    }

    pub(super) fn acknowledge(&self, problem: Option<&str>) -> Option<Value> {
        let value = self.accepted.as_ref();
        let value = value.map(|week| json!({"digest": week.digest}));
        self.verdict.acknowledge(value.as_ref(), problem)
    }
}
