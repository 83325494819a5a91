//! A door in the files of `devices add --from`, `export` and `import`. The JSON form is a line of
//! an Azure export, so that each can read the files of the other.

mod json;
pub(super) mod table;

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::Context as _;
use iothub_protocol::DeviceId;
use iothub_protocol::bulk::{BulkItem, ImportMode, NewProperties};
use iothub_protocol::identity::{Authentication, SymmetricKey, Thumbprints};
use iothub_protocol::sas::SharedAccessKey;
use iothub_protocol::text_file::decode;
use iothub_protocol::twin::limits::{check_growth, check_replacement};
use iothub_protocol::twin::{Capabilities, DeviceStatus, Object, SectionKind};
use serde::Serialize;

use super::keys;
use crate::failure::Failure;

pub(super) use table::FilePurpose;

/// Mistakes that are printed; the others are counted.
const MAX_MISTAKES_SHOWN: usize = 20;

/// Existing doors that are named; the others are counted.
const MAX_DOORS_NAMED: usize = 20;

/// Maximum length of a reason, in characters.
const MAX_REASON: usize = 128;

/// Keys are 16 to 64 bytes, as Azure's are.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// A door of a file; absent members are omitted.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DoorRecord {
    /// The line, or the index in a JSON array, from 1.
    #[serde(skip)]
    pub(super) line: u64,
    pub(super) id: DeviceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<DeviceStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) authentication: Option<Authentication>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) capabilities: Option<Capabilities>,
    pub(super) tags: Object,
    pub(super) properties: NewProperties,
}

/// A mistake in a file, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileMistake {
    line: u64,
    column: Option<String>,
    message: String,
}

impl FileMistake {
    /// A mistake that concerns a whole line.
    fn of_line(line: u64, message: impl Into<String>) -> Self {
        Self::new(line, None, message)
    }

    fn new(line: u64, column: Option<&str>, message: impl Into<String>) -> Self {
        Self {
            line,
            column: column.map(str::to_owned),
            message: message.into(),
        }
    }
}

impl fmt::Display for FileMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(column) = &self.column {
            write!(f, ", {column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Fails when doors of the records are in `existing`, with their lines and the `next` step.
pub(super) fn refuse_existing(
    records: &[DoorRecord],
    existing: &HashSet<DeviceId>,
    next: &str,
) -> Result<(), Failure> {
    let existing = records
        .iter()
        .filter(|record| existing.contains(&record.id));
    let mut doors: Vec<String> = existing
        .map(|record| format!("{} (line {})", record.id, record.line))
        .collect();
    if doors.is_empty() {
        return Ok(());
    }
    let more = doors.len().saturating_sub(MAX_DOORS_NAMED);
    doors.truncate(MAX_DOORS_NAMED);
    if more > 0 {
        doors.push(format!("and {more} more"));
    }
    Err(Failure::new(format!(
        "the hub already has doors of this file: {}; nothing was changed",
        doors.join(", ")
    ))
    .next(next))
}

/// Reads a file; returns its text and its name for messages. `-` is standard input. `flag` names
/// the source in errors.
pub(super) fn source(path: &Path, flag: &str) -> anyhow::Result<(String, String)> {
    let (bytes, name) = match path.to_str() {
        Some("-") => {
            let mut bytes = Vec::new();
            let read = io::stdin().lock().read_to_end(&mut bytes);
            (read.map(|_| bytes), "standard input".to_owned())
        }
        _ => (fs::read(path), path.display().to_string()),
    };
    let bytes = bytes.with_context(|| format!("{flag}: cannot read {name}"))?;
    let text = decode(bytes).map_err(|error| {
        Failure::new(format!("{name}: {error}; nothing was changed"))
            .next("save it as UTF-8: spreadsheets call it \"CSV UTF-8\"")
    })?;
    Ok((text, name))
}

/// Reads all doors of a file, and finds every mistake before anything is changed. `name` is the
/// file's name for messages.
pub(super) fn read(
    text: &str,
    name: &str,
    purpose: FilePurpose,
) -> Result<Vec<DoorRecord>, Failure> {
    let mut mistakes = Vec::new();
    let is_json = purpose == FilePurpose::Import && json::is_json(text);
    let records = match is_json {
        true => json::read(text, &mut mistakes),
        false => table::read(text, purpose, &mut mistakes),
    };
    for record in &records {
        record.check(&mut mistakes);
    }
    find_duplicates(&records, &mut mistakes);
    mistakes.sort_by_key(|mistake| mistake.line);
    if !mistakes.is_empty() {
        return Err(mistakes_error(name, &mistakes));
    }
    if records.is_empty() {
        return Err(Failure::new(format!(
            "{name} has no doors; nothing was changed"
        )));
    }
    Ok(records)
}

fn mistakes_error(name: &str, mistakes: &[FileMistake]) -> Failure {
    let counted = match mistakes.len() {
        1 => "a mistake".to_owned(),
        many => format!("{many} mistakes"),
    };
    let mut message = format!("{name} has {counted}; nothing was changed");
    for mistake in mistakes.iter().take(MAX_MISTAKES_SHOWN) {
        message += &format!("\n  {mistake}");
    }
    if mistakes.len() > MAX_MISTAKES_SHOWN {
        message += &format!("\n  and {} more", mistakes.len() - MAX_MISTAKES_SHOWN);
    }
    Failure::new(message)
}

/// Finds doors that occur twice.
fn find_duplicates(records: &[DoorRecord], mistakes: &mut Vec<FileMistake>) {
    let mut seen = std::collections::HashMap::new();
    for record in records {
        if let Some(first) = seen.insert(&record.id, record.line) {
            let message = format!(
                "{:?} is on line {first} too; expected each door once",
                record.id.as_str()
            );
            mistakes.push(FileMistake::new(record.line, Some("door"), message));
        }
    }
}

impl DoorRecord {
    /// A door without any facts.
    pub(super) fn new(line: u64, id: DeviceId) -> Self {
        Self {
            line,
            id,
            status: None,
            status_reason: None,
            authentication: None,
            capabilities: None,
            tags: Object::new(),
            properties: NewProperties::default(),
        }
    }

    /// Finds values that the hub would refuse or change.
    fn check(&self, mistakes: &mut Vec<FileMistake>) {
        let mut wrong = |column: &str, message: String| {
            mistakes.push(FileMistake::new(self.line, Some(column), message));
        };
        for (kind, values) in [
            (SectionKind::Tags, &self.tags),
            (SectionKind::Desired, &self.properties.desired),
        ] {
            let fits = check_replacement(kind, values)
                .and_then(|()| check_growth(kind, &Object::new(), values));
            if let Err(error) = fits {
                let text = error.to_string();
                let (path, problem) = text.split_once(": ").unwrap_or(("", &text));
                wrong(path.trim_start_matches("properties."), problem.to_owned());
            }
        }
        let reason = self
            .status_reason
            .as_ref()
            .map(|reason| reason.chars().count());
        if let Some(length) = reason.filter(|length| *length > MAX_REASON) {
            wrong(
                "statusReason",
                format!("{length} characters; expected at most {MAX_REASON}"),
            );
        }
        if let Some(Err(message)) = self.authentication.as_ref().map(check_authentication) {
            wrong("authentication", message);
        }
    }

    /// The operation that creates the door; missing keys are generated here.
    pub(super) fn create(&self) -> anyhow::Result<BulkItem> {
        let authentication = match &self.authentication {
            Some(given) if given.kind != "sas" || given.symmetric_key.is_some() => given.clone(),
            _ => keys::random_pair()?,
        };
        let mut item = BulkItem::new(self.id.clone(), ImportMode::Create);
        item.status = Some(self.status.unwrap_or_default());
        item.status_reason.clone_from(&self.status_reason);
        item.authentication = Some(authentication);
        item.capabilities = self.capabilities;
        item.tags.clone_from(&self.tags);
        item.properties.clone_from(&self.properties);
        Ok(item)
    }

    /// A desired value as text.
    pub(super) fn desired(&self, name: &str) -> String {
        let value = self.properties.desired.get(name);
        value.map_or(String::new(), crate::printer::plain)
    }
}

/// A missing type follows from what is given; `None` if nothing is.
fn authentication(
    kind: Option<String>,
    keys: SymmetricKey,
    thumbprints: Thumbprints,
) -> Option<Authentication> {
    let symmetric_key = (keys != SymmetricKey::default()).then_some(keys);
    let x509_thumbprint = (thumbprints != Thumbprints::default()).then_some(thumbprints);
    let kind = match (kind, &x509_thumbprint, &symmetric_key) {
        (Some(kind), ..) => kind,
        (None, Some(_), _) => "selfSigned".to_owned(),
        (None, None, Some(_)) => "sas".to_owned(),
        (None, None, None) => return None,
    };
    Some(Authentication {
        kind,
        symmetric_key,
        x509_thumbprint,
    })
}

/// Errors never contain a key.
fn check_authentication(authentication: &Authentication) -> Result<(), String> {
    let kinds = ["sas", "selfSigned", "certificateAuthority", "none"];
    if !kinds.contains(&authentication.kind.as_str()) {
        return Err(format!(
            "type {:?}; expected one of {}",
            authentication.kind,
            kinds.join(", ")
        ));
    }
    if let Some(keys) = &authentication.symmetric_key {
        let both = [&keys.primary_key, &keys.secondary_key];
        for key in both.into_iter().flatten() {
            let key = SharedAccessKey::from_base64(key).map_err(|error| error.to_string())?;
            if !KEY_BYTES.contains(&key.as_bytes().len()) {
                let (least, most) = (KEY_BYTES.start(), KEY_BYTES.end());
                return Err(format!(
                    "a key is too short or too long; expected {least} to {most} bytes in base64"
                ));
            }
        }
        if authentication.kind == "sas" && both.iter().any(|key| key.is_none()) {
            return Err(
                "one key is missing; expected both, or none to have them generated".to_owned(),
            );
        }
    }
    let none = Thumbprints::default();
    let thumbprints = authentication.x509_thumbprint.as_ref().unwrap_or(&none);
    if authentication.kind == "selfSigned" && thumbprints.primary_thumbprint.is_none() {
        return Err("no thumbprint; expected the primary one with selfSigned".to_owned());
    }
    Ok(())
}
