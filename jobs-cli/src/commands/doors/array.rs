//! A door's authority array, read from its answer and printed for people. Read leniently: a newer
//! door may have slots that this program does not know.

use door_core::Slot;
use iothub_protocol::audit::AuditEntry;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::printer::{Cell, Row, Tone, plain};
use crate::time;

/// A slot in a door's answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlotEntry {
    slot: u8,
    want: String,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    until: Option<Timestamp>,
    #[serde(default)]
    command_id: Option<String>,
}

/// Effect of a slot on the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Effect {
    /// The door follows this slot.
    Decides,
    /// A lower slot number decides.
    Overruled,
    /// The slot requests nothing.
    Empty,
}

/// One line of `why`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SlotRow {
    /// The slot number; `None` for the default, which applies when all slots are empty.
    pub(super) slot: Option<u8>,
    pub(super) name: String,
    /// `locked` or `released`.
    pub(super) wants: String,
    /// The source, and the command if there was one.
    pub(super) by: String,
    pub(super) until: Option<Timestamp>,
    pub(super) effect: Effect,
    /// Id of the command that filled the slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) command_id: Option<String>,
    /// The policy of the command and its reason, from the hub's audit record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// `until` in the user's zone.
    #[serde(skip)]
    end: String,
    /// Short form of `end`.
    #[serde(skip)]
    short_end: String,
}

impl SlotRow {
    fn new(slot: Option<u8>, name: &str, effect: Effect) -> Self {
        Self {
            slot,
            name: name.to_owned(),
            wants: String::new(),
            by: String::new(),
            until: None,
            effect,
            command_id: None,
            policy: None,
            reason: None,
            end: String::new(),
            short_end: String::new(),
        }
    }

    /// Adds the policy of the command; `record` is sorted newest first.
    pub(super) fn name_policy(&mut self, record: &[AuditEntry]) {
        let Some(command) = &self.command_id else {
            return;
        };
        let Some(call) = record.iter().find(|call| gave_command(call, command)) else {
            return;
        };
        self.by += &format!(", policy {}", call.policy);
        if let Some(reason) = &call.reason {
            self.by += &format!(" ({reason})");
        }
        self.policy = Some(call.policy.clone());
        self.reason.clone_from(&call.reason);
    }
}

/// Whether a call gave this command: its detail is METHOD COMMAND, or TYPE METHOD COMMAND for a
/// job. A hub of version 0.1 does not store the command, but a job's id equals it. A refused call
/// gave none.
fn gave_command(call: &AuditEntry, command: &str) -> bool {
    if call
        .status
        .is_some_and(|status| (400..500).contains(&status))
    {
        return false;
    }
    let mut words = call.detail.iter().flat_map(|detail| detail.split(' '));
    let named = match call.operation.as_str() {
        "method.invoke" => words.nth(1),
        "job.create" if call.target == command => return true,
        "job.create" => words.nth(2),
        _ => None,
    };
    named == Some(command)
}

impl Row for SlotRow {
    fn titles() -> Vec<&'static str> {
        vec!["slot", "name", "wants", "by", "until", "effect"]
    }

    fn table_titles() -> Vec<&'static str> {
        vec!["slot", "name", "wants", "effect", "until", "by"]
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        match (title, self.effect) {
            ("until", _) => Cell::from(&self.end).shown_as(&self.short_end),
            ("effect", Effect::Decides) => Cell::toned("decides", Tone::Good),
            ("effect", Effect::Overruled) => Cell::toned("overruled", Tone::Doubtful),
            ("effect", Effect::Empty) => Cell::from(""),
            _ => Cell::from(plain(member)),
        }
    }
}

/// The rows of a `getState` answer; `None` when the answer has no array.
pub(super) fn rows(answer: &Value, zone: &TimeZone, now: Timestamp) -> Option<Vec<SlotRow>> {
    let mut entries: Vec<SlotEntry> = serde_json::from_value(answer.get("slots")?.clone()).ok()?;
    entries.sort_by_key(|entry| entry.slot);
    let decides = entries.first().map(|entry| entry.slot);
    let mut rows: Vec<SlotRow> = entries
        .into_iter()
        .map(|entry| {
            let (end, short_end) = match entry.until {
                Some(until) => {
                    let at = until.to_zoned_datetime(zone.clone());
                    let left = time::countdown(until, now);
                    let end = format!("{}, {left}", time::describe(&at));
                    (end, time::soon(&at, now))
                }
                None => ("no end given".to_owned(), "no end given".to_owned()),
            };
            let source = entry.source.unwrap_or_default();
            let effect = match decides == Some(entry.slot) {
                true => Effect::Decides,
                false => Effect::Overruled,
            };
            SlotRow {
                wants: entry.want,
                by: match &entry.command_id {
                    Some(command) => format!("{source}: {command}"),
                    None => source,
                },
                until: entry.until,
                command_id: entry.command_id,
                end,
                short_end,
                ..SlotRow::new(Some(entry.slot), slot_name(entry.slot), effect)
            }
        })
        .collect();
    for slot in Slot::ALL.map(Slot::number) {
        if !rows.iter().any(|row| row.slot == Some(slot)) {
            rows.push(SlotRow::new(Some(slot), slot_name(slot), Effect::Empty));
        }
    }
    rows.sort_by_key(|row| row.slot);
    let default = answer.get("relinquishDefault").and_then(Value::as_str);
    let effect = match decides {
        None => Effect::Decides,
        Some(_) => Effect::Overruled,
    };
    rows.push(SlotRow {
        wants: default.unwrap_or_default().to_owned(),
        by: "configuration".to_owned(),
        ..SlotRow::new(None, "default", effect)
    });
    Some(rows)
}

/// The deciding slot and what it overrules: `slot 5 (lockdown) decides: locked; it overrules slot 8
/// (operator hold: released)`.
pub(super) fn explain(rows: &[SlotRow]) -> String {
    let Some(decides) = rows.iter().find(|row| row.effect == Effect::Decides) else {
        return "the answer has no slots".to_owned();
    };
    let mut text = match decides.slot {
        Some(slot) => format!("slot {slot} ({}) decides: {}", decides.name, decides.wants),
        None => format!(
            "no slot is filled, so the door's default decides: {}",
            decides.wants
        ),
    };
    if decides.until.is_some() {
        text += &format!(", until {}", decides.end);
    }
    let overruled: Vec<String> = rows
        .iter()
        .filter(|row| row.effect == Effect::Overruled)
        .filter_map(|row| {
            let slot = row.slot?;
            Some(format!("slot {slot} ({}: {})", row.name, row.wants))
        })
        .collect();
    if !overruled.is_empty() {
        text += &format!("; it overrules {}", overruled.join(", "));
    }
    text
}

pub(super) fn slot_name(slot: u8) -> &'static str {
    match Slot::try_from(slot) {
        Ok(Slot::FireRelease) => "fire release",
        Ok(Slot::RequestToExit) => "request to exit",
        Ok(Slot::LocalGrant) => "local grant",
        Ok(Slot::Lockdown) => "lockdown",
        Ok(Slot::OperatorGrant) => "operator grant",
        Ok(Slot::OperatorHold) => "operator hold",
        Ok(Slot::Passage) => "passage mode",
        Ok(Slot::Schedule) => "weekly schedule",
        Err(_) => "unknown to this doorctl",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(answer: &Value) -> (Vec<String>, String) {
        let now = "2026-11-23T22:00:00Z".parse().unwrap();
        let rows = rows(answer, &TimeZone::UTC, now).unwrap();
        let lines = rows
            .iter()
            .map(|row| {
                let cells: Vec<String> = row.cells().into_iter().map(|cell| cell.text).collect();
                cells.join("|")
            })
            .collect();
        (lines, explain(&rows))
    }

    #[test]
    fn the_lowest_slot_decides_and_overrules_the_others() {
        let (lines, because) = printed(&json!({"relinquishDefault": "locked", "slots": [
            {"slot": 8, "want": "released", "source": "remote", "until": null, "commandId": null},
            {"slot": 5, "want": "locked", "source": "remote", "until": "2026-11-23T22:10:00Z",
                "commandId": "drill"},
        ]}));
        assert_eq!(
            lines,
            [
                "1|fire release||||",
                "2|request to exit||||",
                "3|local grant||||",
                "5|lockdown|locked|remote: drill|Mon 2026-11-23 22:10:00 UTC, in 10 min|decides",
                "7|operator grant||||",
                "8|operator hold|released|remote|no end given|overruled",
                "9|passage mode||||",
                "16|weekly schedule||||",
                "|default|locked|configuration||overruled",
            ]
        );
        assert_eq!(
            because,
            "slot 5 (lockdown) decides: locked, until Mon 2026-11-23 22:10:00 UTC, in 10 min; it \
             overrules slot 8 (operator hold: released)"
        );
    }

    #[test]
    fn the_default_decides_when_the_array_is_empty() {
        let (lines, because) = printed(&json!({"relinquishDefault": "released", "slots": []}));
        assert_eq!(
            lines.last().unwrap(),
            "|default|released|configuration||decides"
        );
        assert_eq!(
            because,
            "no slot is filled, so the door's default decides: released"
        );
    }

    #[test]
    fn an_unknown_slot_is_sorted_by_its_number() {
        let (lines, because) = printed(&json!({"relinquishDefault": "locked", "slots": [
            {"slot": 12, "want": "released"}]}));
        assert_eq!(
            lines[7],
            "12|unknown to this doorctl|released||no end given|decides"
        );
        assert!(because.starts_with("slot 12 (unknown to this doorctl) decides"));
    }

    #[test]
    fn a_slot_names_the_policy_whose_command_filled_it() {
        let call = |operation: &str, target: &str, detail: &str, status: Option<u16>| {
            let call = json!({
                "id": 1, "time": "2026-11-23T21:00:00Z", "policy": "night-guard",
                "peer": "127.0.0.1:1", "operation": operation, "target": target,
                "detail": detail, "status": status,
            });
            serde_json::from_value::<AuditEntry>(call).unwrap()
        };
        let create = |target: &str, detail: &str| {
            let detail = format!("scheduleDeviceMethod lockDoor {detail}");
            call("job.create", target, &detail, Some(200))
        };
        let invoke = |detail: &str, status| call("method.invoke", "east", detail, status);
        let with_reason = AuditEntry {
            reason: Some("fire\u{1b}[2J".to_owned()),
            ..create("drill-2", "drill deviceId IN ['east']")
        };
        for (call, by) in [
            (invoke("lockDoor drill", Some(200)), ", policy night-guard"),
            (create("drill", "*"), ", policy night-guard"),
            (with_reason, ", policy night-guard (fire\u{1b}[2J)"),
            (invoke("lockDoor other", Some(200)), ""),
            (invoke("lockDoor drill", Some(404)), ""),
            (invoke("lockDoor drill", None), ", policy night-guard"),
            (invoke("drill", Some(200)), ""),
            (
                call("twin.update", "drill", "lockDoor drill", Some(200)),
                "",
            ),
            (create("x", "tags.a = 'drill'"), ""),
        ] {
            let answer = json!({"relinquishDefault": "locked", "slots": [
                {"slot": 8, "want": "locked", "source": "remote", "until": null,
                    "commandId": "drill"}]});
            let mut rows = rows(&answer, &TimeZone::UTC, Timestamp::UNIX_EPOCH).unwrap();
            for row in &mut rows {
                row.name_policy(std::slice::from_ref(&call));
            }
            let row = rows.iter().find(|row| row.slot == Some(8)).unwrap();
            assert_eq!(row.by, format!("remote: drill{by}"), "{call:?}");
        }
    }

    #[test]
    fn an_answer_without_slots_gives_no_rows() {
        let now = Timestamp::UNIX_EPOCH;
        for answer in [json!({}), json!({"slots": "none"}), json!(null)] {
            assert_eq!(rows(&answer, &TimeZone::UTC, now), None);
        }
    }
}
