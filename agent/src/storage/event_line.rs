//! The log line of an event, with structured fields to filter the journal by.

use log::{Level, Record};
use serde_json::Value;

use crate::event_log::EventEntry;

/// A line whose sequence number is not known yet.
pub(super) struct EventLine {
    text: String,
    fields: Vec<(&'static str, String)>,
}

impl EventLine {
    pub(super) fn of(entry: &EventEntry) -> Self {
        let field = |key: &str| entry.fields.get(key).and_then(plain);
        let own = ["door", "building", "floor"];
        let door = field("door").unwrap_or_default();
        let mut text = format!("{door}: {}", entry.kind);
        for (key, value) in &entry.fields {
            if !own.contains(&key.as_str()) {
                text.push_str(&format!(" {key}={value}"));
            }
        }
        let fields = [
            ("BUILDING", field("building")),
            ("FLOOR", field("floor")),
            ("COMMAND_ID", field("commandId")),
            // doorctl uses the id of a job as the id of its commands.
            ("JOB_ID", field("commandId")),
        ];
        // An absent field is left out: an empty one would match a search for it.
        let fields = fields.into_iter();
        Self {
            text,
            fields: fields
                .filter_map(|(key, value)| Some((key, value?)))
                .collect(),
        }
    }

    /// Logs the line, with its sequence number if it was written to the event log.
    pub(super) fn log(mut self, level: Level, seq: Option<u64>) {
        if level > log::max_level() {
            return;
        }
        self.fields.extend(seq.map(|seq| ("SEQ", seq.to_string())));
        log::logger().log(
            &Record::builder()
                .level(level)
                .target(module_path!())
                .module_path_static(Some(module_path!()))
                .file_static(Some(file!()))
                .line(Some(line!()))
                .key_values(&self.fields)
                .args(format_args!("{}", self.text))
                .build(),
        );
    }
}

/// A value without the quotes of JSON.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
