//! The reported property `timed`: acknowledgements joined with the progress of each entry, and how
//! soon a change of it is reported.

use std::collections::BTreeMap;

use door_core::contract::Alarm;
use door_core::schedule::Progress;
use door_core::{EntryId, TimedReport, TimedState};
use serde_json::value::RawValue;

use super::reported::Members;
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
    progress: BTreeMap<EntryId, Progress>,
    alarms: Vec<Alarm>,
}

impl TimedProperty {
    /// Whether the progress of an entry differs from what was taken last.
    pub(super) fn has_progressed(&self, door: &Snapshot) -> bool {
        let present = door.timed.iter().map(|(id, timed)| (id, &timed.progress));
        !present.eq(&self.progress)
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
        if self.has_progressed(door) {
            let each = door.timed.iter();
            self.progress = each
                .map(|(id, timed)| (id.clone(), timed.progress.clone()))
                .collect();
        }
        pace
    }

    /// Adds the progress of each entry to its acknowledgement.
    pub(super) fn join(&self, acknowledged: &str) -> Option<String> {
        let mut joined: Members = serde_json::from_str(acknowledged).ok()?;
        for (id, progress) in &self.progress {
            let entry = joined.get_mut(id.as_str());
            if let Some(entry) = entry.filter(|entry| entry.get().starts_with('{')) {
                let progress = serde_json::to_string(progress).ok()?;
                let head = entry.get().strip_suffix('}')?;
                *entry = RawValue::from_string(format!("{head},{}", &progress[1..])).ok()?;
            }
        }
        serde_json::to_string(&joined).ok()
    }
}

#[cfg(test)]
mod tests {
    use door_core::contract::{Proof, Secured};
    use door_core::schedule::TimedResult;

    use super::*;

    #[test]
    fn progress_is_appended_to_the_acknowledgement_of_its_entry_alone() {
        let result = TimedResult {
            secured: Secured::Secured,
            proof: Proof::Bond,
            reached: true,
            error: None,
        };
        let holding = Progress {
            state: TimedState::Holding,
            at: "2026-12-01T21:00:00.5Z".parse().ok(),
            result: Some(result),
            ..Progress::default()
        };
        let each = [
            ("a", holding),
            ("ac", Progress::default()),
            ("c", Progress::default()),
        ];
        let each = each.map(|(id, progress)| (id.parse().unwrap(), progress));
        let subject = TimedProperty {
            progress: each.into(),
            ..TimedProperty::default()
        };
        for (acknowledged, expected) in [
            (
                r#"{"a":{"ac":200,"value":{}},"b":{"ac":400},"c":{"ac":200}}"#,
                r#"{"a":{"ac":200,"value":{},"state":"holding","at":"2026-12-01T21:00:00.5Z","secured":"secured","proof":"bond","reached":true},"b":{"ac":400},"c":{"ac":200,"state":"armed"}}"#,
            ),
            // `timed` as a whole was refused.
            (
                r#"{"ac":400,"av":1,"ad":"a"}"#,
                r#"{"ac":400,"av":1,"ad":"a"}"#,
            ),
        ] {
            assert_eq!(subject.join(acknowledged).unwrap(), expected);
        }
    }
}
