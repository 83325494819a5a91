//! Writes CSV that [`super::read`] reads back unchanged.

use std::collections::HashMap;
use std::io;

use iothub_protocol::twin::Object;
use serde_json::Value;

use super::super::DoorRecord;
use crate::cli::twin::scalar;
use crate::commands::devices::status;

/// Writes doors as CSV.
pub(in crate::commands::devices) fn write(
    records: &[DoorRecord],
    with_keys: bool,
) -> io::Result<String> {
    let mut titles: Vec<String> = ["door", "status", "statusReason", "authenticationType"]
        .map(str::to_owned)
        .to_vec();
    if with_keys {
        titles.extend(["primaryKey", "secondaryKey"].map(str::to_owned));
    }
    let rows: Vec<Vec<(String, String)>> = records
        .iter()
        .map(|record| fields(record, with_keys))
        .collect();
    for (title, _) in rows.iter().flatten() {
        if !titles.contains(title) {
            titles.push(title.clone());
        }
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&titles)?;
    for row in &rows {
        let row: HashMap<&str, &str> = row
            .iter()
            .map(|(title, field)| (title.as_str(), field.as_str()))
            .collect();
        writer.write_record(
            titles
                .iter()
                .map(|title| *row.get(title.as_str()).unwrap_or(&"")),
        )?;
    }
    let bytes = writer
        .into_inner()
        .map_err(csv::IntoInnerError::into_error)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

fn fields(record: &DoorRecord, with_keys: bool) -> Vec<(String, String)> {
    let mut fields = vec![("door".to_owned(), record.id.to_string())];
    let mut field = |title: &str, value: Option<String>| {
        fields.extend(value.map(|value| (title.to_owned(), value)));
    };
    field(
        "status",
        record.status.map(|status| status::word(status).to_owned()),
    );
    field("statusReason", record.status_reason.clone());
    if let Some(authentication) = &record.authentication {
        field("authenticationType", Some(authentication.kind.clone()));
        if let (true, Some(keys)) = (with_keys, &authentication.symmetric_key) {
            field("primaryKey", keys.primary_key.clone());
            field("secondaryKey", keys.secondary_key.clone());
        }
        if let Some(thumbprints) = &authentication.x509_thumbprint {
            field("primaryThumbprint", thumbprints.primary_thumbprint.clone());
            field(
                "secondaryThumbprint",
                thumbprints.secondary_thumbprint.clone(),
            );
        }
    }
    leaves("tags", &record.tags, &mut fields);
    leaves("desired", &record.properties.desired, &mut fields);
    fields
}

fn leaves(path: &str, values: &Object, fields: &mut Vec<(String, String)>) {
    for (name, value) in values {
        let path = format!("{path}.{name}");
        match value {
            Value::Object(inner) if !inner.is_empty() => leaves(&path, inner, fields),
            value => fields.push((path, field_of(value))),
        }
    }
}

/// Text without quotes, unless it would be read as something else.
fn field_of(value: &Value) -> String {
    match value {
        Value::String(text)
            if !text.is_empty() && text.trim() == text && scalar(text) == *value =>
        {
            text.clone()
        }
        value => value.to_string(),
    }
}
