//! Parses the body of a bulk call. An invalid item is found here but reported when its turn comes.

use std::collections::HashMap;
use std::fmt;

use iothub_protocol::bulk::{ImportMode, MAX_ITEMS};
use iothub_protocol::error::ErrorCode;
use iothub_protocol::id::DeviceId;
use iothub_protocol::twin::{SectionPatch, TwinPatch};
use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::service::twin::check;
use crate::service::{IfMatch, ServiceError};

use super::super::DeviceUpdate;

/// A parsed call. It includes invalid items, each with its error; they fail when their turn comes.
#[derive(Debug)]
pub(crate) struct BulkRequest {
    pub(super) items: Vec<Item>,
}

/// One operation, or why the item is invalid.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) label: ItemLabel,
    pub(super) task: Result<ItemTask, ServiceError>,
}

/// The subject of an item, as far as it could be parsed.
#[derive(Debug, Clone, Default)]
pub(super) struct ItemLabel {
    pub(super) device: Option<String>,
    pub(super) module: Option<String>,
    pub(super) mode: Option<ImportMode>,
}

/// The validated operation of an item.
#[derive(Debug)]
pub(super) struct ItemTask {
    pub(super) device: DeviceId,
    pub(super) operation: Operation,
    pub(super) twin: TwinPatch,
    pub(super) twin_if_match: IfMatch,
}

/// The change to the identity.
#[derive(Debug)]
pub(super) enum Operation {
    Create(DeviceUpdate),
    Update(IfMatch, DeviceUpdate),
    CreateOrUpdate(IfMatch, DeviceUpdate),
    Delete(IfMatch),
    UpdateTwin,
}

/// The members that identify an item. The identity's and the twin's members are parsed by their own
/// types.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a JSON object")]
struct ItemHead {
    id: Option<String>,
    module_id: Option<String>,
    import_mode: Option<String>,
    // Node's client sends a device as it received it, with a lower-case `t`.
    #[serde(rename = "eTag", alias = "etag")]
    etag: Option<String>,
    #[serde(rename = "twinETag", alias = "twinEtag")]
    twin_etag: Option<String>,
}

impl BulkRequest {
    /// Parses the body of a call.
    ///
    /// # Errors
    ///
    /// When the body is not an array of 1 to 100 items, or two items name one identity. A fault
    /// within an item is that item's error.
    pub(crate) fn read(body: &[u8]) -> Result<Self, ServiceError> {
        let RawItems(texts) = serde_json::from_slice(body).map_err(|error| {
            ServiceError::argument(format!(
                "invalid body: {error}; expected an array of 1 to {MAX_ITEMS} registry operations"
            ))
        })?;
        if texts.is_empty() {
            return Err(ServiceError::argument(format!(
                "the body has no registry operations; expected 1 to {MAX_ITEMS}"
            )));
        }
        let items = texts.into_iter().enumerate();
        let items: Vec<Item> = items.map(|(index, text)| item(index, text)).collect();
        let mut seen = HashMap::new();
        for (index, Item { label, .. }) in items.iter().enumerate() {
            let Some(device) = &label.device else {
                continue;
            };
            if let Some(first) = seen.insert((device, &label.module), index) {
                return Err(ServiceError::new(
                    ErrorCode::DeviceDefinedMultipleTimes,
                    format!(
                        "items {first} and {index} both have the id `{device}`; \
                         expected each identity once in a call"
                    ),
                ));
            }
        }
        Ok(Self { items })
    }
}

/// The number of operations by mode, and the devices: the detail in the audit log.
impl fmt::Display for BulkRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} operations", self.items.len())?;
        let mut separator = " (";
        for mode in ImportMode::ALL {
            let of_mode = self
                .items
                .iter()
                .filter(|item| item.label.mode == Some(mode));
            let count = of_mode.count();
            if count > 0 {
                write!(f, "{separator}{} {count}", mode.name())?;
                separator = ", ";
            }
        }
        f.write_str(if separator == ", " { "):" } else { ":" })?;
        for item in &self.items {
            write!(f, " {}", item.label.device.as_deref().unwrap_or("?"))?;
        }
        Ok(())
    }
}

fn item(index: usize, text: &RawValue) -> Item {
    let mut label = ItemLabel::default();
    let task = task(text, &mut label).map_err(|error| ServiceError {
        message: format!("item {index}: {}", error.message),
        ..error
    });
    Item { label, task }
}

fn task(text: &RawValue, label: &mut ItemLabel) -> Result<ItemTask, ServiceError> {
    let head: ItemHead = read(text)?;
    label.device.clone_from(&head.id);
    label.module = head.module_id.filter(|module| !module.is_empty());
    let mode = mode(head.import_mode.as_deref())?;
    label.mode = Some(mode);
    let id = head.id.ok_or_else(|| missing("id", "a device id"))?;
    let device: DeviceId = id
        .parse()
        .map_err(|error| ServiceError::argument(format!("id is `{id}`: {error}")))?;
    if let Some(module) = &label.module {
        return Err(ServiceError::new(
            ErrorCode::ModuleNotFound,
            format!("moduleId is `{module}`; expected none, because this hub has no modules"),
        ));
    }
    let identity = || {
        let update: DeviceUpdate = read(text)?;
        update.check()?;
        Ok::<_, ServiceError>(update)
    };
    let etag = || condition(head.etag.as_deref(), "eTag");
    let required = |etag: IfMatch, member| match etag {
        IfMatch::Absent => Err(missing(member, "an etag or `*`")),
        etag => Ok(etag),
    };
    let operation = match mode {
        ImportMode::Create => Operation::Create(identity()?),
        ImportMode::Update => Operation::Update(IfMatch::Any, identity()?),
        ImportMode::UpdateIfMatchEtag => Operation::Update(required(etag()?, "eTag")?, identity()?),
        ImportMode::Delete => Operation::Delete(IfMatch::Any),
        ImportMode::DeleteIfMatchEtag => Operation::Delete(required(etag()?, "eTag")?),
        ImportMode::CreateOrUpdate => Operation::CreateOrUpdate(IfMatch::Any, identity()?),
        ImportMode::CreateOrUpdateIfMatchEtag => Operation::CreateOrUpdate(etag()?, identity()?),
        ImportMode::UpdateTwin | ImportMode::UpdateTwinIfMatchEtag => Operation::UpdateTwin,
    };
    let twin_etag = || condition(head.twin_etag.as_deref(), "twinETag");
    let twin_if_match = match mode {
        ImportMode::UpdateTwin => IfMatch::Any,
        ImportMode::UpdateTwinIfMatchEtag => required(twin_etag()?, "twinETag")?,
        _ => twin_etag()?,
    };
    Ok(ItemTask {
        device,
        operation,
        twin: twin(text)?,
        twin_if_match,
    })
}

/// The mode defaults to `createOrUpdate`, as for items of an import job.
fn mode(name: Option<&str>) -> Result<ImportMode, ServiceError> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(ImportMode::CreateOrUpdate);
    };
    ImportMode::from_name(name).ok_or_else(|| {
        let names = ImportMode::ALL.map(|mode| format!("`{}`", mode.name()));
        ServiceError::argument(format!(
            "importMode is `{name}`; expected one of {}",
            names.join(", ")
        ))
    })
}

fn condition(text: Option<&str>, member: &str) -> Result<IfMatch, ServiceError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(IfMatch::Absent);
    };
    IfMatch::read(text).ok_or_else(|| {
        ServiceError::argument(format!("{member} is `{text}`; expected an etag or `*`"))
    })
}

fn missing(member: &str, expected: &str) -> ServiceError {
    let message = format!("{member} is missing; expected {expected}");
    ServiceError::new(ErrorCode::ArgumentNull, message)
}

/// The tags and desired properties. Serialisers write null for a member that was not set.
fn twin(text: &RawValue) -> Result<TwinPatch, ServiceError> {
    let mut patch: TwinPatch = read(text)?;
    for section in [&mut patch.tags, &mut patch.desired] {
        if matches!(section, SectionPatch::Null) {
            *section = SectionPatch::Absent;
        }
    }
    check(&patch)?;
    Ok(patch)
}

fn read<T: DeserializeOwned>(text: &RawValue) -> Result<T, ServiceError> {
    // Serde would also accept an array of members.
    if !text.get().starts_with('{') {
        return Err(ServiceError::argument("the item is not a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_str(text.get());
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.inner();
        ServiceError::argument(if path == "." {
            inner.to_string()
        } else {
            format!("{path}: {inner}")
        })
    })
}

/// The unparsed items of a body; parsing stops at the first one too many.
struct RawItems<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for RawItems<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RawItemsVisitor;

        impl<'de> Visitor<'de> for RawItemsVisitor {
            type Value = RawItems<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawItems<'de>, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = items.next_element()? {
                    if texts.len() == MAX_ITEMS {
                        return Err(serde::de::Error::custom("the array has too many items"));
                    }
                    texts.push(text);
                }
                Ok(RawItems(texts))
            }
        }

        deserializer.deserialize_seq(RawItemsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(body: &str) -> String {
        BulkRequest::read(body.as_bytes()).unwrap_err().message
    }

    /// The errors of a body's items.
    fn item_errors(body: &str) -> Vec<String> {
        let request = BulkRequest::read(body.as_bytes()).unwrap();
        let errors = request.items.into_iter().filter_map(|item| item.task.err());
        errors.map(|error| error.message).collect()
    }

    #[test]
    fn a_call_is_an_array_of_1_to_100_different_identities() {
        for (body, fragment) in [
            ("{}", "expected an array of 1 to 100 registry operations"),
            ("", "expected an array"),
            ("[] []", "expected an array"),
            ("[]", "expected 1 to 100"),
            (
                &format!("[{}0]", "0,".repeat(100)),
                "the array has too many items",
            ),
            (
                r#"[{"id":"a"},{"id":"b"},{"id":"a","importMode":"delete"}]"#,
                "items 0 and 2 both have the id `a`",
            ),
        ] {
            let message = refused(body);
            assert!(message.contains(fragment), "{body}: {message}");
        }
        assert_eq!(item_errors(&format!("[{}0]", "0,".repeat(99))).len(), 100);
        assert!(item_errors(r#"[{"id":"a"},{"id":"A"}]"#).is_empty());
    }

    #[test]
    fn the_error_of_an_invalid_item_names_the_member_and_the_expected_value() {
        for (item, fragment) in [
            ("7", "item 0: the item is not a JSON object"),
            ("{}", "item 0: id is missing; expected a device id"),
            (r#"{"id":"a/b"}"#, "item 0: id is `a/b`: "),
            (
                r#"{"id":"a","importMode":"upsert"}"#,
                "item 0: importMode is `upsert`; expected one of `create`, `update`, ",
            ),
            (
                r#"{"id":"a","importMode":"updateIfMatchETag"}"#,
                "item 0: eTag is missing; expected an etag or `*`",
            ),
            (
                r#"{"id":"a","importMode":"updateTwinIfMatchETag","eTag":"x"}"#,
                "item 0: twinETag is missing",
            ),
            (
                r#"{"id":"a","eTag":"\"open","importMode":"deleteIfMatchETag"}"#,
                "item 0: eTag is `\"open`; expected an etag or `*`",
            ),
            (
                r#"{"id":"a","status":"on"}"#,
                "item 0: status is `on`; expected `enabled` or `disabled`",
            ),
            (
                r#"{"id":"a","authentication":{"type":5}}"#,
                "item 0: authentication.type: invalid type: integer `5`, expected a string",
            ),
            (
                r#"{"id":"a","authentication":{"symmetricKey":"MDEy"}}"#,
                "item 0: authentication.symmetricKey: expected an object with the texts",
            ),
            (
                r#"{"id":"a","authentication":{"symmetricKey":{"primaryKey":["MDEy"]}}}"#,
                "item 0: authentication.symmetricKey: expected an object with the texts",
            ),
            (r#"{"id":"a","tags":{"b.c":1}}"#, "item 0: tags"),
            (
                r#"{"id":"a","moduleId":"m"}"#,
                "item 0: moduleId is `m`; expected none, because this hub has no modules",
            ),
        ] {
            let messages = item_errors(&format!("[{item}]"));
            assert!(
                messages.len() == 1 && messages[0].contains(fragment),
                "{item}: {messages:?}"
            );
            assert!(!messages[0].contains("MDEy"), "a key in {messages:?}");
        }
    }

    #[test]
    fn modes_ignore_case_and_the_audit_detail_counts_them() {
        let request = BulkRequest::read(
            br#"[
                {"id":"a","importMode":"Delete"},
                {"id":"b","importMode":"create"},
                {"id":"c","importMode":"DELETE"},
                {"id":"d"}
            ]"#,
        )
        .unwrap();
        assert_eq!(
            request.to_string(),
            "4 operations (create 1, delete 2, createOrUpdate 1): a b c d"
        );
    }

    proptest! {
        #[test]
        fn no_body_panics_and_no_body_yields_more_than_100_items(
            body in concat!(
                "(\\[|\\{|\\}|\\]|,|:|",
                "\"id\"|\"a\"|\"importMode\"|\"tags\"|\"delete\"|null|1e9| ){0,60}",
            ),
            count in 1..130_usize,
        ) {
            let _ = BulkRequest::read(body.as_bytes());
            let item = |number| format!(r#"{{"id":"{number}"}}"#);
            let items: Vec<String> = (0..count).map(item).collect();
            let read = BulkRequest::read(format!("[{}]", items.join(",")).as_bytes());
            let read = read.ok().map(|request| request.items.len());
            prop_assert_eq!(read, (count <= MAX_ITEMS).then_some(count));
        }
    }
}
