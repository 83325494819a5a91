//! A column of `devices list`: a named one, or a path into tags or properties.

use iothub_protocol::twin::{Object, Twin};
use serde_json::Value;

use crate::door::{DoorRow, LOCK_TITLES, outdated};
use crate::failure::Failure;
use crate::printer::{Cell, Row as _, plain};
use crate::suggest;

/// Columns from the twin, in addition to those of [`DoorRow`].
const TWIN_COLUMNS: [&str; 8] = [
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
const SECTIONS: [(&str, TwinSection); 5] = [
    ("tags", TwinSection::Tags),
    ("desired", TwinSection::Desired),
    ("properties.desired", TwinSection::Desired),
    ("reported", TwinSection::Reported),
    ("properties.reported", TwinSection::Reported),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TwinSection {
    Tags,
    Desired,
    Reported,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    title: String,
    source: ColumnSource,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ColumnSource {
    /// The index of a cell of [`DoorRow`].
    Door(usize),
    /// A member of the twin.
    Twin,
    /// A member of a section.
    Path(TwinSection, Vec<String>),
}

impl Column {
    /// Parses a column; `flag` names its source in errors.
    pub(super) fn parse(flag: &str, text: &str) -> Result<Self, Failure> {
        let text = text.trim();
        let source = if let Some(at) = DoorRow::titles().iter().position(|title| *title == text) {
            ColumnSource::Door(at)
        } else if TWIN_COLUMNS.contains(&text) {
            ColumnSource::Twin
        } else {
            path(text).ok_or_else(|| unknown_column(flag, text))?
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
            ColumnSource::Door(_) => member(serde_json::to_value(row)?),
            ColumnSource::Twin => match self.title.as_str() {
                "version" => Value::from(twin.version),
                "etag" => Value::from(twin.etag.as_str()),
                _ => member(serde_json::to_value(twin)?),
            },
            ColumnSource::Path(section, path) => {
                let section: &Object = match section {
                    TwinSection::Tags => &twin.tags,
                    TwinSection::Desired => &twin.properties.desired.values,
                    TwinSection::Reported => &twin.properties.reported.values,
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

    /// The value as a cell, with the tone of the standard column. What an offline door last
    /// reported is in brackets with its age.
    pub(super) fn cell(&self, value: &Value, row: &DoorRow) -> Cell {
        let is_reported = match self.source {
            ColumnSource::Door(_) => LOCK_TITLES.contains(&self.title.as_str()),
            ColumnSource::Twin => false,
            ColumnSource::Path(section, _) => section == TwinSection::Reported,
        };
        if let (Some(age), true) = (&row.age, is_reported) {
            return outdated(&plain(value), age);
        }
        match self.source {
            ColumnSource::Door(at) => row.cells().swap_remove(at),
            ColumnSource::Twin | ColumnSource::Path(..) => Cell::from(plain(value)),
        }
    }
}

fn path(text: &str) -> Option<ColumnSource> {
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
            .then_some(ColumnSource::Path(*section, path))
    })
}

fn unknown_column(flag: &str, text: &str) -> Failure {
    let mut known = DoorRow::titles();
    known.extend(TWIN_COLUMNS);
    let section = text.trim_end_matches('.');
    let suggestion = match SECTIONS.iter().any(|(start, _)| *start == section) {
        true => format!("; expected a key after it, such as {section}.KEY"),
        false => suggest::hint(text, known.iter().copied()),
    };
    Failure::new(format!("{flag}: unknown column {text:?}{suggestion}")).next(format!(
        "expected {}, or a path: tags.KEY, desired.KEY, reported.KEY",
        known.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_found_by_name_or_path() {
        let twin: Twin = serde_json::from_value(json!({
            "deviceId": "east", "etag": "AAAAAAAAAAE=", "version": 4, "status": "disabled",
            "tags": {"wing": "east", "a": {"b": [1]}},
            "properties": {
                "desired": {"floor": 3, "$version": 1},
                "reported": {"door": {"mode": "normal"}, "$version": 1},
            },
        }))
        .unwrap();
        let row = DoorRow::new(&twin, Timestamp::UNIX_EPOCH);
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
    fn an_unknown_column_gets_a_suggestion() {
        for (text, suggestion) in [
            ("flor", "; did you mean `floor`?"),
            ("tags", "; expected a key after it, such as tags.KEY"),
            ("tags.", "; expected a key after it, such as tags.KEY"),
            ("tags.a..b", ""),
        ] {
            let error = Column::parse("--sort", text).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("--sort: unknown column {text:?}{suggestion}")
            );
        }
    }
}
