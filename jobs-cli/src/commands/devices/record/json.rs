//! Reads doors from lines of JSON, or from a JSON array.

use iothub_protocol::identity::{SymmetricKey, Thumbprints};
use iothub_protocol::twin::{Capabilities, DeviceStatus, Object};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{DoorRecord, FileMistake, authentication};
use crate::suggest;

/// Members that an export writes.
const EXPORTED_MEMBERS: [&str; 7] = [
    "id",
    "status",
    "statusReason",
    "authentication",
    "capabilities",
    "tags",
    "properties",
];

/// Ignored members of an Azure export: set by the hub, or without meaning for doors.
const IGNORED_MEMBERS: [&str; 5] = [
    "eTag",
    "twinETag",
    "importMode",
    "deviceScope",
    "parentScopes",
];

/// Members of a section that the hub maintains.
const HUB_MEMBERS: [&str; 2] = ["$metadata", "$version"];

/// Whether a file is JSON: an array, or an object on one of the first two lines.
pub(super) fn is_json(text: &str) -> bool {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    text.trim_start().starts_with('[') || lines.take(2).any(|line| line.starts_with('{'))
}

/// Reads the doors; mistakes are appended to `mistakes`.
pub(super) fn read(text: &str, mistakes: &mut Vec<FileMistake>) -> Vec<DoorRecord> {
    let mut values: Vec<(u64, Value)> = Vec::new();
    if text.trim_start().starts_with('[') {
        match serde_json::from_str::<Vec<Value>>(text) {
            Ok(items) => values.extend((1..).zip(items)),
            Err(error) => mistakes.push(not_json(u64::try_from(error.line()).unwrap_or(0), &error)),
        }
    } else {
        let mut is_first = true;
        for (line, text) in (1..).zip(text.lines().map(str::trim)) {
            if text.is_empty() {
                continue;
            }
            // An Azure export without keys begins with a line of plain text. One that names an id
            // is a damaged line.
            let is_note = !text.starts_with('{') && !text.contains("\"id\"");
            if std::mem::take(&mut is_first) && is_note {
                continue;
            }
            match serde_json::from_str(text) {
                Ok(value) => values.push((line, value)),
                Err(error) => mistakes.push(not_json(line, &error)),
            }
        }
    }
    let mut records = Vec::new();
    for (line, value) in values {
        match record(line, value) {
            Ok(record) => records.push(record),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    records
}

/// Gives the place but not the text, which may contain a key.
fn not_json(line: u64, error: &serde_json::Error) -> FileMistake {
    let column = error.column();
    FileMistake::of_line(
        line,
        format!("not JSON at column {column}; expected a door a line, or an array of doors"),
    )
}

fn record(line: u64, value: Value) -> Result<DoorRecord, FileMistake> {
    let wrong = |member: &str, message: String| FileMistake::new(line, Some(member), message);
    let Value::Object(mut members) = value else {
        return Err(FileMistake::of_line(
            line,
            "not an object; expected a door such as {\"id\":\"lobby-east\"}",
        ));
    };
    if let Some(unknown) = members.keys().find(|name| {
        !EXPORTED_MEMBERS
            .iter()
            .chain(&IGNORED_MEMBERS)
            .any(|known| known == name)
    }) {
        let hint = suggest::hint(unknown, EXPORTED_MEMBERS);
        return Err(wrong(unknown, format!("unknown member{hint}")));
    }
    let id = match members.get("id").and_then(Value::as_str) {
        Some(text) => text
            .parse()
            .map_err(|error| wrong("id", format!("{error}")))?,
        None => {
            return Err(wrong(
                "id",
                "missing; expected the name of the door".to_owned(),
            ));
        }
    };
    let mut take = |name: &str| members.remove(name).filter(|value| !value.is_null());
    let mut record = DoorRecord::new(line, id);
    record.status = member(
        line,
        "status",
        take("status"),
        "\"enabled\" or \"disabled\"",
    )?
    .map(|status: DeviceStatus| status);
    record.status_reason = member(line, "statusReason", take("statusReason"), "text")?;
    let form = "{\"type\":\"sas\",\"symmetricKey\":{\"primaryKey\":..,\"secondaryKey\":..}}";
    let given: Option<GivenAuthentication> =
        member(line, "authentication", take("authentication"), form)?;
    record.authentication = given.and_then(|given| {
        let (keys, thumbprints) = (given.symmetric_key, given.x509_thumbprint);
        authentication(
            given.kind,
            keys.unwrap_or_default(),
            thumbprints.unwrap_or_default(),
        )
    });
    let capabilities: Option<Capabilities> = member(
        line,
        "capabilities",
        take("capabilities"),
        "{\"iotEdge\":false}",
    )?;
    record.capabilities = capabilities.filter(|capabilities| capabilities.iot_edge);
    record.tags = section(line, "tags", take("tags"))?;
    if let Some(properties) = take("properties") {
        let Value::Object(mut properties) = properties else {
            return Err(wrong(
                "properties",
                "expected an object with `desired`".to_owned(),
            ));
        };
        record.properties.desired =
            section(line, "properties.desired", properties.remove("desired"))?;
        // The door will report these again.
        properties.remove("reported");
        if let Some(unknown) = properties.keys().next() {
            return Err(wrong(
                "properties",
                format!("has {unknown:?}; expected `desired`"),
            ));
        }
    }
    Ok(record)
}

fn member<T: DeserializeOwned>(
    line: u64,
    name: &str,
    value: Option<Value>,
    expected: &str,
) -> Result<Option<T>, FileMistake> {
    let value = value.map(serde_json::from_value).transpose();
    // The parser's error would repeat the value, which may be a key.
    value.map_err(|_| FileMistake::new(line, Some(name), format!("expected {expected}")))
}

fn section(line: u64, name: &str, value: Option<Value>) -> Result<Object, FileMistake> {
    let mut values: Object = member(line, name, value, "an object")?.unwrap_or_default();
    values.retain(|name, _| !HUB_MEMBERS.contains(&name.as_str()));
    Ok(values)
}

/// `authentication` of a line. Azure also writes null members for the authentication types that a
/// device does not use, and its documentation shows lines without a type.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GivenAuthentication {
    #[serde(rename = "type")]
    kind: Option<String>,
    symmetric_key: Option<SymmetricKey>,
    x509_thumbprint: Option<Thumbprints>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{FilePurpose, read};

    #[test]
    fn a_line_of_an_azure_export_is_read() {
        let text = concat!(
            r#"{"id":"east","eTag":"MQ==","importMode":"create","status":"disabled","#,
            r#""statusReason":"x","authentication":{"type":"sas","symmetricKey":"#,
            r#"{"primaryKey":"MDEyMzQ1Njc4OWFiY2RlZg==","#,
            r#""secondaryKey":"MDEyMzQ1Njc4OWFiY2RlZg=="},"#,
            r#""x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null}},"#,
            r#""twinETag":"AAAAAAAAAAE=","tags":{"wing":"east"},"#,
            r#""properties":{"desired":{"floor":3,"$metadata":{},"$version":4},"#,
            r#""reported":{"$version":1}},"capabilities":{"iotEdge":false}}"#,
        );
        let records = read(text, "f", FilePurpose::Import).unwrap();
        assert_eq!(
            serde_json::to_value(&records[0]).unwrap(),
            json!({
                "id": "east", "status": "disabled", "statusReason": "x",
                "authentication": {
                    "type": "sas",
                    "symmetricKey": {
                        "primaryKey": "MDEyMzQ1Njc4OWFiY2RlZg==",
                        "secondaryKey": "MDEyMzQ1Njc4OWFiY2RlZg==",
                    },
                },
                "tags": {"wing": "east"}, "properties": {"desired": {"floor": 3}},
            })
        );
        let array = format!("[{text}]");
        assert_eq!(read(&array, "f", FilePurpose::Import).unwrap(), records);
    }

    #[test]
    fn a_missing_type_follows_from_keys_and_thumbprints() {
        let key = "MDEyMzQ1Njc4OWFiY2RlZg==";
        let keys = format!(r#""symmetricKey":{{"primaryKey":"{key}","secondaryKey":"{key}"}}"#);
        let thumbprint = r#""x509Thumbprint":{"primaryThumbprint":"AB"}"#;
        for (authentication, kind) in [
            // The line of Microsoft's documentation.
            (keys.clone(), Some("sas")),
            (
                format!(r#""type":null,{keys},"x509Thumbprint":null"#),
                Some("sas"),
            ),
            (thumbprint.to_owned(), Some("selfSigned")),
            (
                format!(r#""symmetricKey":null,{thumbprint}"#),
                Some("selfSigned"),
            ),
            (
                r#""symmetricKey":{"primaryKey":null,"secondaryKey":null}"#.to_owned(),
                None,
            ),
            (
                r#""type":"sas","symmetricKey":null"#.to_owned(),
                Some("sas"),
            ),
            (String::new(), None),
        ] {
            let line = format!(
                r#"{{"id":"Device1","eTag":"MA==","status":"enabled","authentication":{{{authentication}}}}}"#
            );
            let records = read(&line, "f", FilePurpose::Import).unwrap();
            let given = records[0].authentication.as_ref();
            assert_eq!(given.map(|given| given.kind.as_str()), kind, "{line}");
        }
    }

    #[test]
    fn the_plain_text_before_an_export_without_keys_is_ignored() {
        let door = r#"{"id":"east","status":"enabled"}"#;
        for (text, line) in [
            (
                format!("The keys are excluded from this export.\n{door}\n"),
                2,
            ),
            (format!("\n\u{20}\nKeys: none\n\n{door}"), 5),
        ] {
            let records = read(&text, "f", FilePurpose::Import).unwrap();
            assert_eq!((records.len(), records[0].line), (1, line), "{text}");
        }
        for (text, line) in [
            (format!("{door}\nThe keys are excluded.\n"), "line 2"),
            (format!("\"id\":\"vault\"}}\n{door}\n"), "line 1"),
        ] {
            let refused = read(&text, "f", FilePurpose::Import).unwrap_err();
            let expected = format!("{line}: not JSON");
            assert!(refused.to_string().contains(&expected), "{refused}");
        }
    }

    #[test]
    fn mistakes_have_line_numbers_and_contain_no_keys() {
        let text = [
            r#"{"id":"east","tag":{}}"#,
            r#"{"id":"a b"}"#,
            r#"{"id":"west","authentication":"c2VjcmV0"}"#,
            "{\"id\"",
            concat!(
                r#"{"id":"north","authentication":{"type":"sas","#,
                r#""symmetricKey":{"primaryKey":"c2VjcmV0"}}}"#,
            ),
            r#"{"id":"south","tags":{"a":null}}"#,
            r#"{"id":"south","properties":{"desires":1}}"#,
        ];
        let error = read(&text.join("\n"), "doors.jsonl", FilePurpose::Import)
            .unwrap_err()
            .to_string();
        insta::assert_snapshot!(error);
        assert!(!error.contains("c2VjcmV0"));
    }
}
