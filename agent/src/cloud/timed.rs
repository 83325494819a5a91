//! The reported property `timed`: acknowledgements joined with the progress of each entry, and how
//! soon a change of it is reported.

use std::collections::BTreeMap;

use door_core::contract::Alarm;
use door_core::schedule::Progress;
use door_core::{EntryId, TimedReport, TimedState};
use serde_json::{Map, Value};

use crate::controller::Snapshot;

/// How soon a change is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Unchanged,
    /// An entry has begun; its result is about to follow.
    Begun,
    /// The door does as ordered, as many other doors at this instant.
    AsOrdered,
    /// Something else happened, which a person waits for.
    Otherwise,
}

#[derive(Debug, Default)]
pub(super) struct TimedProperty {
    acknowledged: Option<Value>,
    progress: BTreeMap<EntryId, Progress>,
    alarms: Vec<Alarm>,
}

impl TimedProperty {
    pub(super) fn acknowledge(&mut self, acknowledged: Option<Value>) {
        self.acknowledged = acknowledged;
    }

    /// Takes the present progress.
    pub(super) fn follow(&mut self, door: &Snapshot) -> Pace {
        let alarms: Vec<_> = door.report.alarms.keys().copied().collect();
        let mut pace = Pace::Unchanged;
        if alarms != self.alarms {
            pace = Pace::Otherwise;
            self.alarms = alarms;
        }
        for (id, TimedReport { progress, .. }) in &door.timed {
            if self.progress.get(id) == Some(progress) || progress.state == TimedState::Armed {
                continue;
            }
            pace = match (pace, progress.is_as_ordered(), &progress.result) {
                (Pace::Otherwise, _, _) | (_, false, _) => Pace::Otherwise,
                (_, _, None) => Pace::Begun,
                (_, _, Some(_)) => Pace::AsOrdered,
            };
        }
        let each = door.timed.iter();
        self.progress = each
            .map(|(id, timed)| (id.clone(), timed.progress.clone()))
            .collect();
        pace
    }

    pub(super) fn value(&self) -> Option<Value> {
        let mut value = self.acknowledged.clone()?;
        for (id, progress) in &self.progress {
            if let Some(Value::Object(entry)) = value.get_mut(id.as_str()) {
                let progress = serde_json::to_value(progress).unwrap_or_default();
                entry.extend(progress.as_object().cloned().unwrap_or_else(Map::new));
            }
        }
        Some(value)
    }
}
