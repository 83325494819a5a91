//! The log line of an event, with structured fields to filter the journal by.

use door_core::DoorEvent;
use log::{Level, Record};
use serde_json::Value;

/// Logs the event; its sequence number only if it was written to the event log.
pub(super) fn log(event: &DoorEvent, level: Level, written: bool) {
    if level > log::max_level() {
        return;
    }
    let mut text = format!("{}: {}", event.door, event.kind);
    for (key, value) in &event.members {
        text.push_str(&format!(" {key}={value}"));
    }
    let command_id = event.members.get("commandId").and_then(plain);
    let fields = [
        ("BUILDING", event.building.as_ref().and_then(plain)),
        ("FLOOR", event.floor.as_ref().and_then(plain)),
        ("COMMAND_ID", command_id.clone()),
        // doorctl uses the id of a job as the id of its commands.
        ("JOB_ID", command_id),
        ("SEQ", written.then(|| event.seq.to_string())),
    ];
    // An absent field is left out: an empty one would match a search for it.
    let fields = fields.into_iter();
    let fields: Vec<_> = fields
        .filter_map(|(key, value)| Some((key, value?)))
        .collect();
    log::logger().log(
        &Record::builder()
            .level(level)
            .target(module_path!())
            .module_path_static(Some(module_path!()))
            .file_static(Some(file!()))
            .line(Some(line!()))
            .key_values(&fields)
            .args(format_args!("{text}"))
            .build(),
    );
}

/// A value without the quotes of JSON.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
