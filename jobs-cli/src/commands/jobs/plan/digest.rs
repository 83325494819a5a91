//! The digest that identifies a plan: a hash of the arguments and of the selected doors. The same
//! arguments for the same doors have the same digest on any machine; the ids and end times that
//! differ on every run are left out.

use iothub_protocol::job::JobAction;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::commands::digest::digest;
use crate::commands::jobs::create::PreparedJob;
use crate::printer::first_names;
use crate::time::TimeForm;

/// Minimum length of a digest on the command line.
pub(super) const MIN_DIGEST_LEN: usize = 8;

/// Doors that are named in a message; the others are counted.
pub(super) const MAX_NAMES_SHOWN: usize = 10;

/// Members of a payload that depend on the time of the run.
const VOLATILE_MEMBERS: [&str; 4] = ["commandId", "notAfter", "until", "reason"];

/// The input of a digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PlanContent {
    hub: String,
    /// `lock`, `twin` ...
    what: String,
    /// The method call or twin patch without the volatile members.
    action: Value,
    /// The query condition that selects the doors.
    condition: String,
    /// The start as typed when it is relative to now, else the instant.
    at: String,
    /// The value of `--id`.
    id: Option<String>,
    max_execution_in_seconds: u64,
    /// Sorted by name.
    pub(super) doors: Vec<String>,
    /// Those of them that are notified ahead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) staged: Vec<String>,
}

impl PlanContent {
    /// The content of a plan for these doors.
    pub(super) fn new(
        prepared: &PreparedJob,
        hub: &str,
        doors: Vec<String>,
        staged: Vec<String>,
    ) -> Self {
        let given = &prepared.start_text;
        let is_relative = given.eq_ignore_ascii_case("now") || given.starts_with('+');
        let at = match is_relative {
            true => given.clone(),
            false => prepared.draft.start().to_string(),
        };
        Self {
            hub: hub.to_owned(),
            what: prepared.what.clone(),
            action: match &prepared.until {
                // The length then depends on the time of the run, unless it was given by itself
                // (`+8h`).
                Some(until) if until.given == TimeForm::Instant => {
                    with_end(stable_action(&prepared.action), until.when.timestamp())
                }
                _ => stable_action(&prepared.action),
            },
            condition: prepared.draft.target.condition.clone(),
            at,
            id: prepared.explicit_id.clone(),
            max_execution_in_seconds: prepared.draft.max_execution.as_secs(),
            doors,
            staged,
        }
    }

    /// The full digest.
    pub(super) fn digest(&self) -> String {
        // A struct has a fixed order of members: the same content gives the same text.
        let text = serde_json::to_vec(self).unwrap_or_default();
        digest(&text)
    }

    /// Describes what differs in `self` from the older `before`.
    pub(super) fn differences(&self, before: &Self) -> Vec<String> {
        let mut texts = Vec::new();
        let missing = |from: &[String], of: &[String]| -> Vec<String> {
            let missing = of.iter().filter(|door| !from.contains(door));
            missing.cloned().collect()
        };
        for (doors, word) in [
            (missing(&before.doors, &self.doors), "joined"),
            (missing(&self.doors, &before.doors), "left"),
            (missing(&before.staged, &self.staged), "staged now"),
            (missing(&self.staged, &before.staged), "not staged now"),
        ] {
            if !doors.is_empty() {
                texts.push(format!("{word}: {}", first_names(&doors, MAX_NAMES_SHOWN)));
            }
        }
        for (name, now, then) in [
            ("hub", &self.hub, &before.hub),
            ("action", &self.what, &before.what),
            ("door selection", &self.condition, &before.condition),
            ("start", &self.at, &before.at),
        ] {
            if now != then {
                texts.push(format!("{name} changed from {then} to {now}"));
            }
        }
        if self.action != before.action {
            let (now, then) = (&self.action, &before.action);
            texts.push(format!("payload changed from {then} to {now}"));
        }
        if self.id != before.id {
            texts.push("--id changed".to_owned());
        }
        if self.max_execution_in_seconds != before.max_execution_in_seconds {
            texts.push("--max-execution changed".to_owned());
        }
        texts
    }
}

fn stable_action(action: &JobAction) -> Value {
    match action {
        JobAction::Method(call) => {
            let mut call = json!(call);
            if let Some(Value::Object(payload)) = call.get_mut("payload") {
                payload.retain(|name, _| !VOLATILE_MEMBERS.contains(&name.as_str()));
            }
            call
        }
        JobAction::UpdateTwin(patch) => json!(patch),
    }
}

/// The action with its end in place of its length.
fn with_end(mut action: Value, until: Timestamp) -> Value {
    if let Some(Value::Object(payload)) = action.get_mut("payload") {
        payload.retain(|name, _| !["lockTime", "unlockTime"].contains(&name.as_str()));
        payload.insert("until".to_owned(), json!(until));
    }
    action
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::digest::short;

    fn content(doors: &[&str]) -> PlanContent {
        PlanContent {
            hub: "localhost".to_owned(),
            what: "lock".to_owned(),
            action: json!({"methodName": "lockDoor"}),
            condition: "properties.desired.floor = 3".to_owned(),
            at: "now".to_owned(),
            id: None,
            max_execution_in_seconds: 300,
            doors: doors.iter().map(|door| (*door).to_owned()).collect(),
            staged: Vec::new(),
        }
    }

    #[test]
    fn the_digest_depends_on_the_arguments_and_the_doors() {
        let before = content(&["a", "b"]);
        assert_eq!(before.digest(), content(&["a", "b"]).digest());
        assert_eq!(before.digest().len(), 64);
        assert_eq!(short(&before.digest()).len(), 12);
        let mut other = before.clone();
        other.max_execution_in_seconds = 60;
        let mut staged = before.clone();
        staged.staged = vec!["b".to_owned()];
        assert_eq!(staged.differences(&before), ["staged now: b"]);
        for changed in [content(&["a"]), content(&["a", "b", "c"]), other, staged] {
            assert_ne!(changed.digest(), before.digest());
        }
    }

    #[test]
    fn differences_name_what_changed() {
        let mut now = content(&["b", "c"]);
        now.what = "unlock".to_owned();
        assert_eq!(
            now.differences(&content(&["a", "b"])),
            ["joined: c", "left: a", "action changed from lock to unlock"]
        );
        assert_eq!(now.differences(&now), [""; 0]);
        let many: Vec<String> = (0..12).map(|n| n.to_string()).collect();
        assert_eq!(
            first_names(&many, MAX_NAMES_SHOWN),
            "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
        );
    }

    #[test]
    fn values_that_differ_on_every_run_are_not_in_the_digest() {
        let call = |payload: &str| {
            let payload = serde_json::value::RawValue::from_string(payload.to_owned()).unwrap();
            let call = iothub_protocol::method::MethodRequest::new("lockDoor".parse().unwrap());
            stable_action(&JobAction::Method(call.with_payload(payload)))
        };
        let first = call(
            r#"{"lockTime":"10m","until":"2026-11-23T22:10:00Z","commandId":"a",
                "notAfter":"2026-11-23T22:05:00Z"}"#,
        );
        assert_eq!(first, call(r#"{"lockTime":"10m","commandId":"b"}"#));
        assert_ne!(first, call(r#"{"lockTime":"11m","commandId":"b"}"#));
    }
}
