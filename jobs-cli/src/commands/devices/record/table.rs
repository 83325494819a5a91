//! Reads doors from CSV: a column for each fact; `tags.` and `desired.` columns nest by dots.

mod quotes;
mod write;

use iothub_protocol::identity::{SymmetricKey, Thumbprints};
use iothub_protocol::twin::{DeviceStatus, Object};
use serde_json::Value;

use super::super::add;
use super::{DoorRecord, FileMistake, authentication};
use crate::cli::twin::scalar;
use crate::commands::twin_patch;
use crate::suggest;

pub(in crate::commands::devices) use write::write;

/// The purpose of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands::devices) enum FilePurpose {
    /// New doors, whose names follow doorctl's rules.
    Add,
    /// Doors with the columns of an export.
    Import,
}

/// Columns of every purpose.
const PLACE_COLUMNS: [&str; 3] = ["door", "building", "floor"];

/// Additional columns of an import.
const IDENTITY_COLUMNS: [&str; 7] = [
    "status",
    "statusReason",
    "authenticationType",
    "primaryKey",
    "secondaryKey",
    "primaryThumbprint",
    "secondaryThumbprint",
];

/// Reads the doors; mistakes are appended to `mistakes`.
pub(super) fn read(
    text: &str,
    purpose: FilePurpose,
    mistakes: &mut Vec<FileMistake>,
) -> Vec<DoorRecord> {
    // The reader would take everything after the quote for one cell.
    if let Some(line) = quotes::unclosed_quote_line(text, delimiter(text)) {
        mistakes.push(FileMistake::of_line(
            line,
            "a quote is opened and not closed",
        ));
        return Vec::new();
    }
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter(text))
        .trim(csv::Trim::All)
        .flexible(true)
        .has_headers(false)
        .from_reader(text.as_bytes());
    let mut lines = reader.records();
    let header = match lines.next() {
        Some(Ok(header)) => header,
        _ => {
            mistakes.push(FileMistake::of_line(
                1,
                "empty; expected a header such as door,building,floor",
            ));
            return Vec::new();
        }
    };
    let columns: Vec<String> = header.iter().map(str::to_owned).collect();
    let before = mistakes.len();
    check_columns(&columns, purpose, mistakes);
    if mistakes.len() > before {
        return Vec::new();
    }
    let mut records = Vec::new();
    let mut line_counter = LineCounter::new(text);
    for fields in lines {
        let fields = match fields {
            Ok(fields) => fields,
            // Unreachable so far: the text is UTF-8, and the reader is flexible about fields.
            Err(error) => {
                mistakes.push(FileMistake::of_line(0, error.to_string()));
                continue;
            }
        };
        let line = line_counter.line(fields.position());
        if fields.len() != columns.len() {
            let message = format!(
                "{} fields; expected {}, as the header has",
                fields.len(),
                columns.len()
            );
            mistakes.push(FileMistake::of_line(line, message));
            continue;
        }
        let cells = columns.iter().map(String::as_str).zip(&fields);
        let cells: Vec<(&str, &str)> = cells.filter(|(_, cell)| !cell.is_empty()).collect();
        records.extend(record(line, &cells, purpose, mistakes));
    }
    records
}

/// The line of a record. The reader's own count places the start of a record before the line feed
/// that ends the previous one.
struct LineCounter<'a> {
    text: &'a [u8],
    byte: usize,
    line: u64,
}

impl<'a> LineCounter<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text: text.as_bytes(),
            byte: 0,
            line: 1,
        }
    }

    fn line(&mut self, position: Option<&csv::Position>) -> u64 {
        let start = position.and_then(|position| usize::try_from(position.byte()).ok());
        let start = start.unwrap_or(self.byte);
        while let Some(byte) = self.text.get(self.byte) {
            if self.byte >= start && !matches!(byte, b'\r' | b'\n') {
                break;
            }
            self.line += u64::from(*byte == b'\n');
            self.byte += 1;
        }
        self.line
    }
}

/// Spreadsheets use semicolons in many locales.
fn delimiter(text: &str) -> u8 {
    let header = text.lines().next().unwrap_or_default();
    match header.contains(',') || !header.contains(';') {
        true => b',',
        false => b';',
    }
}

fn check_columns(columns: &[String], purpose: FilePurpose, mistakes: &mut Vec<FileMistake>) {
    if !columns.iter().any(|column| column == "door") {
        // Without a header, the first line is data, maybe keys: it must not be printed.
        mistakes.push(FileMistake::of_line(
            1,
            "no column `door`; expected a header with it, such as door,building,floor",
        ));
        return;
    }
    let named: Vec<&str> = match purpose {
        FilePurpose::Add => PLACE_COLUMNS.to_vec(),
        FilePurpose::Import => PLACE_COLUMNS.into_iter().chain(IDENTITY_COLUMNS).collect(),
    };
    for (at, column) in columns.iter().enumerate() {
        let path = ["tags.", "desired."]
            .iter()
            .find_map(|start| column.strip_prefix(start));
        let is_path = path.is_some_and(|path| !path.split('.').any(str::is_empty));
        if columns[..at].contains(column) {
            mistakes.push(FileMistake::new(1, Some(column), "duplicate column"));
        } else if !is_path && !named.contains(&column.as_str()) {
            let hint = suggest::hint(column, named.iter().copied());
            let known = named.join(", ");
            let message = format!(
                "unknown column {column:?}; expected {known}, tags.KEY or desired.KEY{hint}"
            );
            mistakes.push(FileMistake::of_line(1, message));
        }
    }
}

fn record(
    line: u64,
    cells: &[(&str, &str)],
    purpose: FilePurpose,
    mistakes: &mut Vec<FileMistake>,
) -> Option<DoorRecord> {
    let before = mistakes.len();
    let mut wrong = |column: &str, message: String| {
        mistakes.push(FileMistake::new(line, Some(column), message));
    };
    let cell = |name: &str| {
        cells
            .iter()
            .find(|(column, _)| *column == name)
            .map(|(_, cell)| *cell)
    };
    let id = match (cell("door"), purpose) {
        (None, _) => Err("empty; expected the name of the door".to_owned()),
        (Some(name), FilePurpose::Add) => add::parse_new_name(name),
        (Some(name), FilePurpose::Import) => name.parse().map_err(|error| format!("{error}")),
    };
    let (mut tags, mut desired) = (Vec::new(), Vec::new());
    for (column, cell) in cells {
        if let Some(path) = column.strip_prefix("tags.") {
            tags.push((path.to_owned(), scalar(cell)));
        } else if let Some(path) = column.strip_prefix("desired.") {
            desired.push((path.to_owned(), scalar(cell)));
        } else if ["building", "floor"].contains(column) {
            desired.push(((*column).to_owned(), add::parse_place(cell)));
        }
    }
    let mut section = |name: &str, values: &[(String, Value)]| -> Object {
        for (path, value) in values {
            if value.is_null() {
                let column = format!("{name}.{path}");
                wrong(
                    &column,
                    "null; expected a value, or an empty cell".to_owned(),
                );
            }
        }
        match twin_patch::from_assignments(values, &[]) {
            Ok(patch) => patch.desired.values().cloned().unwrap_or_default(),
            Err(error) => {
                wrong(name, error.to_string());
                Object::new()
            }
        }
    };
    let (tags, desired) = (section("tags", &tags), section("desired", &desired));
    let status = match cell("status") {
        None => None,
        Some("enabled") => Some(DeviceStatus::Enabled),
        Some("disabled") => Some(DeviceStatus::Disabled),
        Some(other) => {
            wrong("status", format!("{other:?}; expected enabled or disabled"));
            None
        }
    };
    let id = id.map_err(|message| wrong("door", message)).ok()?;
    if mistakes.len() > before {
        return None;
    }
    let owned = |name: &str| cell(name).map(str::to_owned);
    let mut record = DoorRecord::new(line, id);
    record.status = status;
    record.status_reason = owned("statusReason");
    let keys = SymmetricKey {
        primary_key: owned("primaryKey"),
        secondary_key: owned("secondaryKey"),
    };
    let thumbprints = Thumbprints {
        primary_thumbprint: owned("primaryThumbprint"),
        secondary_thumbprint: owned("secondaryThumbprint"),
    };
    record.authentication = authentication(owned("authenticationType"), keys, thumbprints);
    record.tags = tags;
    record.properties.desired = desired;
    Some(record)
}

#[cfg(test)]
mod tests {
    use iothub_protocol::text_file::decode;
    use serde_json::json;

    use super::super::read;
    use super::*;

    #[test]
    fn columns_nest_and_empty_cells_are_ignored() {
        let text = "door,building,floor,tags.wing,tags.access.group,desired.settings.strikeTime\n\
                    east,43,3,east,staff,5\nwest, 43 ,mezzanine,,,\n";
        let records = read(text, "f", FilePurpose::Add).unwrap();
        assert_eq!(
            records[0].tags,
            *json!({"wing": "east", "access": {"group": "staff"}})
                .as_object()
                .unwrap()
        );
        assert_eq!(
            json!(records[0].properties.desired),
            json!({"building": 43, "floor": 3, "settings": {"strikeTime": 5}})
        );
        assert_eq!(
            json!(records[1].properties.desired),
            json!({"building": 43, "floor": "mezzanine"})
        );
        assert_eq!((records[1].line, records[1].tags.len()), (3, 0));
        let semicolons = text.replace(',', ";");
        assert_eq!(read(&semicolons, "f", FilePurpose::Add).unwrap(), records);
        let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        let windows = decode(windows.into_bytes()).unwrap();
        assert_eq!(read(&windows, "f", FilePurpose::Add).unwrap(), records);
    }

    #[test]
    fn every_mistake_has_line_and_column() {
        let text = concat!(
            "door,floor,tags.wing,tags.wing.a\n",
            "a b,3,,\neast,3\neast,3,x,y\nwest,1,null,\n,1,,\nnorth,1,,\nnorth,2,,\n",
        );
        insta::assert_snapshot!(
            read(text, "doors.csv", FilePurpose::Add)
                .unwrap_err()
                .to_string()
        );
        insta::assert_snapshot!(
            read(
                "door,flor,status,floor,floor\n",
                "doors.csv",
                FilePurpose::Add
            )
            .unwrap_err()
            .to_string()
        );
        insta::assert_snapshot!(
            read("", "doors.csv", FilePurpose::Add)
                .unwrap_err()
                .to_string()
        );
        insta::assert_snapshot!(
            read("door\n", "doors.csv", FilePurpose::Add)
                .unwrap_err()
                .to_string()
        );
        let text = "door,status,primaryKey\neast,on,\nwest,,c2VjcmV0\n";
        insta::assert_snapshot!(
            read(text, "doors.csv", FilePurpose::Import)
                .unwrap_err()
                .to_string()
        );
    }

    #[test]
    fn a_file_without_its_header_is_not_quoted() {
        let text = "east,enabled,c2VjcmV0\nwest,enabled,c2VjcmV0\n";
        let error = read(text, "doors.csv", FilePurpose::Import)
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 1: no column `door`;"), "{error}");
        assert!(!error.contains("east") && !error.contains("c2V"), "{error}");
    }

    #[test]
    fn an_unclosed_quote_is_a_mistake() {
        let text = "door,tags.note\neast,\"here\nwest,there\n";
        let error = read(text, "doors.csv", FilePurpose::Add)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "doors.csv has a mistake; nothing was changed\n  line 2: a quote is opened and not \
             closed"
        );
    }

    #[test]
    fn written_csv_is_read_back_unchanged() {
        let mut record = DoorRecord::new(2, "east".parse().unwrap());
        record.status = Some(DeviceStatus::Disabled);
        record.status_reason = Some("stolen, \"maybe\"".to_owned());
        record.tags = json!({"a": "3", "b": 3, "c": "", "d": " x ", "e": {}, "f": [1, "x"],
            "g": {"h": true, "i": "null"}, "j": "x,\"y\"\nz"})
        .as_object()
        .unwrap()
        .clone();
        record.properties.desired = json!({"floor": "03", "mode": "normal"})
            .as_object()
            .unwrap()
            .clone();
        let text = write(std::slice::from_ref(&record), false).unwrap();
        assert_eq!(read(&text, "f", FilePurpose::Import).unwrap(), [record]);
    }
}
