//! A column of `devices list`: a named one, or a path into tags or properties.

use iothub_protocol::twin::{Object, Twin};
use serde_json::Value;

use crate::door::DoorRow;
use crate::failure::Failure;
use crate::printer::{Cell, Row as _, plain};
use crate::suggest;

/// Columns from the twin, in addition to those of [`DoorRow`].
const OF_TWIN: [&str; 8] = [
    "status",
    "statusReason",
    "authenticationType",
    "lastActivityTime",
    "version",
    "etag",
    "modelId",
    "cloudToDeviceMessageCount",
];

/// First parts of a path; the long forms are those of the query language.
const SECTIONS: [(&str, Section); 5] = [
    ("tags", Section::Tags),
    ("desired", Section::Desired),
    ("properties.desired", Section::Desired),
    ("reported", Section::Reported),
    ("properties.reported", Section::Reported),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Tags,
    Desired,
    Reported,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    title: String,
    source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// The index of a cell of [`DoorRow`].
    Door(usize),
    /// A member of the twin.
    Twin,
    /// A member of a section.
    Path(Section, Vec<String>),
}

impl Column {
    /// Parses a column; `flag` names its source in errors.
    pub(super) fn parse(flag: &str, text: &str) -> Result<Self, Failure> {
        let text = text.trim();
        let source = if let Some(at) = DoorRow::titles().iter().position(|title| *title == text) {
            Source::Door(at)
        } else if OF_TWIN.contains(&text) {
            Source::Twin
        } else {
            path(text).ok_or_else(|| unknown(flag, text))?
        };
        Ok(Self {
            title: text.to_owned(),
            source,
        })
    }

    /// The title, as given.
    pub(super) fn title(&self) -> &str {
        &self.title
    }

    /// The value of a door.
    pub(super) fn value(&self, twin: &Twin, row: &DoorRow) -> anyhow::Result<Value> {
        let member = |whole: Value| whole.get(&self.title).cloned().unwrap_or_default();
        Ok(match &self.source {
            Source::Door(_) => member(serde_json::to_value(row)?),
            Source::Twin => match self.title.as_str() {
                "version" => Value::from(twin.version),
                "etag" => Value::from(twin.etag.as_str()),
                _ => member(serde_json::to_value(twin)?),
            },
            Source::Path(section, path) => {
                let section: &Object = match section {
                    Section::Tags => &twin.tags,
                    Section::Desired => &twin.properties.desired.values,
                    Section::Reported => &twin.properties.reported.values,
                };
                let (first, rest) = path.split_first().unzip();
                let start = first.and_then(|first| section.get(first));
                let inner = rest
                    .into_iter()
                    .flatten()
                    .try_fold(start, |value, name| value.map(|value| value.get(name)));
                inner.flatten().cloned().unwrap_or_default()
            }
        })
    }

    /// The value as a cell, with the tone of the standard column.
    pub(super) fn cell(&self, value: &Value, row: &DoorRow) -> Cell {
        match self.source {
            Source::Door(at) => row.cells().swap_remove(at),
            Source::Twin | Source::Path(..) => Cell::from(plain(value)),
        }
    }
}

fn path(text: &str) -> Option<Source> {
    let inner = text.strip_prefix("properties.");
    let inner = inner.filter(|inner| !inner.starts_with("tags"));
    SECTIONS.iter().find_map(|(start, section)| {
        let rest = inner
            .unwrap_or(text)
            .strip_prefix(start)?
            .strip_prefix('.')?;
        let path: Vec<String> = rest.split('.').map(str::to_owned).collect();
        path.iter()
            .all(|name| !name.is_empty())
            .then_some(Source::Path(*section, path))
    })
}

fn unknown(flag: &str, text: &str) -> Failure {
    let mut known = DoorRow::titles();
    known.extend(OF_TWIN);
    let section = text.trim_end_matches('.');
    let meant = match suggest::closest(text, known.iter().copied()) {
        _ if SECTIONS.iter().any(|(start, _)| *start == section) => {
            format!("; expected a key after it, such as {section}.KEY")
        }
        Some(meant) => format!("; did you mean `{meant}`?"),
        None => String::new(),
    };
    Failure::new(format!("{flag}: unknown column {text:?}{meant}")).next(format!(
        "expected {}, or a path: tags.KEY, desired.KEY, reported.KEY",
        known.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_and_paths_find_what_a_door_has() {
        let twin: Twin = serde_json::from_value(json!({
            "deviceId": "east", "etag": "AAAAAAAAAAE=", "version": 4, "status": "disabled", "tags": {"wing": "east", "a": {"b": [1]}},
            "properties": {
                "desired": {"floor": 3, "$version": 1},
                "reported": {"door": {"mode": "normal"}, "$version": 1},
            },
        }))
        .unwrap();
        let row = DoorRow::from(&twin);
        for (text, expected) in [
            ("door", json!("east")),
            ("connectionState", json!("Disconnected")),
            ("floor", json!("3")),
            ("status", json!("disabled")),
            ("version", json!(4)),
            ("tags.a.b", json!([1])),
            ("tags.wing.x", json!(null)),
            ("desired.floor", json!(3)),
            ("properties.desired.floor", json!(3)),
            ("properties.reported.door.mode", json!("normal")),
            ("reported.nothing", json!(null)),
        ] {
            let column = Column::parse("--columns", text).unwrap();
            assert_eq!(column.value(&twin, &row).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_slip_in_a_name_is_answered_with_what_was_meant() {
        for (text, meant) in [
            ("flor", "; did you mean `floor`?"),
            ("tags", "; expected a key after it, such as tags.KEY"),
            ("tags.", "; expected a key after it, such as tags.KEY"),
            ("tags.a..b", ""),
        ] {
            let error = Column::parse("--sort", text).unwrap_err().to_string();
            assert_eq!(error, format!("--sort: unknown column {text:?}{meant}"));
        }
    }
}
