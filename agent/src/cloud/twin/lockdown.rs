//! The desired property `lockdown`: `{"id", "by", "at", "reason"}`.

use door_core::DesiredLockdown;
use door_core::contract::Lockdown;
use serde_json::{Map, Value};

use super::verdict::{Verdict, type_name};

#[derive(Debug)]
pub(super) struct LockdownProperty {
    /// As desired, valid or not: a patch changes single members.
    desired: Map<String, Value>,
    accepted: Option<Lockdown>,
    /// `accepted` as given.
    value: Option<Value>,
    verdict: Verdict,
    /// `$version` that ordered the lockdown that was applied last, over restarts too.
    ordered_by: u64,
    /// The latest document is older than that: it says nothing about the lockdown.
    is_outdated: bool,
}

impl LockdownProperty {
    /// Starts from the lockdown that the door has applied.
    pub(super) fn new(applied: &DesiredLockdown) -> Self {
        Self {
            desired: Map::new(),
            accepted: None,
            value: None,
            verdict: Verdict::Absent,
            ordered_by: match applied {
                DesiredLockdown::Lockdown { version, .. } => *version,
                _ => 0,
            },
            is_outdated: false,
        }
    }

    /// A whole document follows, with this value.
    pub(super) fn begin_document(&mut self, value: &Value, version: u64) {
        self.desired.clear();
        self.is_outdated = value.is_null() && version < self.ordered_by;
    }

    /// Applies a desired value, whole or the changed members.
    pub(super) fn apply(&mut self, value: &Value, version: u64) {
        let judged = match value {
            Value::Null => {
                self.desired.clear();
                None
            }
            Value::Object(changes) => {
                self.desired.extend(changes.clone());
                self.desired.retain(|_, value| !value.is_null());
                Some(Lockdown::read(&self.desired))
            }
            other => Some(Err(format!(
                "expected an object, found {}",
                type_name(other)
            ))),
        };
        let is_accepted = matches!(judged, Some(Ok(_)));
        let judged = judged.map(|read| {
            read.map_err(|reason| format!("{reason}; no lockdown begins or ends by it"))
        });
        if is_accepted {
            self.value = Some(self.desired.clone().into());
        }
        self.verdict.judge(&mut self.accepted, judged, version);
        if let Verdict::Accepted { version } = self.verdict {
            self.ordered_by = version;
            self.is_outdated = false;
        }
    }

    /// For the door.
    pub(super) fn desired(&self) -> DesiredLockdown {
        match (&self.verdict, &self.accepted) {
            (Verdict::Refused { .. }, _) => DesiredLockdown::Unreadable,
            (Verdict::Accepted { version }, Some(lockdown)) => DesiredLockdown::Lockdown {
                lockdown: lockdown.clone(),
                version: *version,
            },
            _ if self.is_outdated => DesiredLockdown::Lost,
            _ => DesiredLockdown::Absent,
        }
    }

    pub(super) fn acknowledge(&self, problem: Option<&str>) -> Option<Value> {
        let value = self.value.as_ref().zip(self.accepted.as_ref());
        let value = value.map(|(value, _)| value);
        let mut acknowledged = self.verdict.acknowledge(value, problem)?;
        let left_out = self.left_out();
        if acknowledged["ac"] == 200 && !left_out.is_empty() {
            acknowledged["ad"] = format!("applied; not readable: {}", left_out.join(", ")).into();
        }
        Some(acknowledged)
    }

    /// The members for people that could not be read.
    fn left_out(&self) -> Vec<&'static str> {
        let Some(Lockdown { by, at, reason, .. }) = &self.accepted else {
            return Vec::new();
        };
        let read = [
            ("by", by.is_some()),
            ("at", at.is_some()),
            ("reason", reason.is_some()),
        ];
        let given = |name: &str| {
            self.value
                .as_ref()
                .is_some_and(|value| !value[name].is_null())
        };
        let left_out = read
            .into_iter()
            .filter(|(name, is_read)| !is_read && given(name));
        left_out.map(|(name, _)| name).collect()
    }
}
