//! `doorctl devices add`: adds all given doors or none.

mod from_file;
mod keys_folder;

use iothub_client::HubClient;
use iothub_protocol::bulk::{BulkItem, ImportMode};
use iothub_protocol::twin::{DeviceStatus, TwinPatch, merge};
use iothub_protocol::{DeviceId, ErrorCode};
use serde::Serialize;
use serde_json::Value;

use super::agent_files::AgentFiles;
use super::{keys, registry};
use crate::cli::devices::file::AddArgs;
use crate::commands::interrupt::Interrupt;
use crate::commands::twin_patch;
use crate::failure::{Failure, sentence};
use crate::printer::Row;
use crate::session::Session;

/// The longest door name that doorctl accepts for new doors.
const MAX_NAME: usize = 64;

pub(super) async fn run(args: &AddArgs, session: &Session) -> anyhow::Result<()> {
    if let Some(path) = &args.from {
        return from_file::run(path, args, session).await;
    }
    let names = names(&args.names)?;
    let files = agent_files(args, session).await?;
    let mut desired = Vec::new();
    for (key, value) in [("building", &args.building), ("floor", &args.floor)] {
        desired.extend(
            value
                .as_deref()
                .map(|value| (key.to_owned(), parse_place(value))),
        );
    }
    let patch = twin_patch::from_assignments(&desired, &args.tags)?;
    for name in &names {
        refuse_existing(&session.hub, name).await?;
    }
    let items: Vec<BulkItem> = names
        .iter()
        .map(|name| new_door(name, &patch))
        .collect::<anyhow::Result<_>>()?;
    let describe = |door: &DeviceId| format!("cannot add {door}");
    let interrupt = Interrupt::new();
    // The key is generated here, so that the files can be written before the door is registered.
    if let (Some(files), Some(item)) = (&files, items.first()) {
        let written = files.write(item);
        written
            .map_err(|error| Failure::new(format!("{}; nothing was changed", sentence(&error))))?;
    }
    let created = registry::create_all(&items, describe, &interrupt, session).await;
    if let Some(files) = &files {
        match &created {
            Ok(()) => session.printer.say(files.to_string()),
            Err(_) => files.remove_created(),
        }
    }
    created?;
    let rows: Vec<AddedRow> = names.iter().map(|name| AddedRow::new(name, args)).collect();
    Ok(session.printer.rows(&rows)?)
}

/// The operation that creates a door. Its keys are generated here: they identify the door as ours
/// when the response is lost.
fn new_door(name: &DeviceId, patch: &TwinPatch) -> anyhow::Result<BulkItem> {
    let mut item = BulkItem::new(name.clone(), ImportMode::Create);
    item.status = Some(DeviceStatus::Enabled);
    item.authentication = Some(keys::random_pair()?);
    for (values, patch) in [
        (&mut item.tags, &patch.tags),
        (&mut item.properties.desired, &patch.desired),
    ] {
        if let Some(patch) = patch.values() {
            merge(values, patch);
        }
    }
    Ok(item)
}

fn names(texts: &[String]) -> anyhow::Result<Vec<DeviceId>> {
    let mut names: Vec<DeviceId> = Vec::new();
    for text in texts {
        let name = parse_name(text)?;
        if names.contains(&name) {
            return Err(Failure::new(format!("NAME {text:?} is given twice")).into());
        }
        names.push(name);
    }
    Ok(names)
}

/// Parses the name of a new door.
pub(super) fn parse_name(text: &str) -> anyhow::Result<DeviceId> {
    parse_new_name(text).map_err(|message| Failure::new(format!("NAME {message}")).into())
}

/// Parses the name of a new door; the error has the value and what was expected.
pub(super) fn parse_new_name(text: &str) -> Result<DeviceId, String> {
    let fits = (1..=MAX_NAME).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if !fits {
        return Err(format!(
            "{text:?} is not a door name; expected 1 to {MAX_NAME} of letters, digits, `_` and `-`"
        ));
    }
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

async fn agent_files(args: &AddArgs, session: &Session) -> anyhow::Result<Option<AgentFiles>> {
    let Some(path) = &args.agent_config else {
        return Ok(None);
    };
    let [name] = &args.names[..] else {
        let message = "--agent-config configures one agent; expected one NAME with it";
        return Err(Failure::new(message)
            .next("run `doorctl devices add` once for each door")
            .into());
    };
    let host = super::without_port(session.hub.host_name())?;
    let mut files = AgentFiles::new(path, name, host, session.ca.clone());
    files.refuse_existing()?;
    files.mqtt_port = super::mqtt_port(args.mqtt_port, session).await;
    Ok(Some(files))
}

async fn refuse_existing(hub: &HubClient, name: &DeviceId) -> anyhow::Result<()> {
    match hub.device(name).await {
        Err(error) if error.code() == Some(ErrorCode::DeviceNotFound) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(Failure::new(format!(
            "the hub already has a door {name}; nothing was changed"
        ))
        .next(format!(
            "choose another name, or inspect it: doorctl devices show {name}"
        ))
        .into()),
    }
}

/// Parses a building or floor: a number stays a number, anything else is text.
pub(super) fn parse_place(text: &str) -> Value {
    match serde_json::from_str::<serde_json::Number>(text) {
        Ok(number) => Value::Number(number),
        Err(_) => Value::String(text.to_owned()),
    }
}

#[derive(Debug, Serialize)]
struct AddedRow {
    door: String,
    building: Option<String>,
    floor: Option<String>,
}

impl AddedRow {
    fn new(name: &DeviceId, args: &AddArgs) -> Self {
        Self {
            door: name.to_string(),
            building: args.building.clone(),
            floor: args.floor.clone(),
        }
    }
}

impl Row for AddedRow {
    fn titles() -> Vec<&'static str> {
        vec!["door", "building", "floor"]
    }
}

#[cfg(test)]
mod tests {
    use iothub_protocol::twin::SectionPatch;
    use serde_json::json;

    use super::*;

    #[test]
    fn invalid_and_duplicate_names_are_refused() {
        for (given, part) in [
            (vec!["a b"], "expected 1 to 64"),
            (vec![""], "expected 1 to 64"),
            (vec!["a", "a"], "given twice"),
        ] {
            let given: Vec<String> = given.into_iter().map(str::to_owned).collect();
            let error = names(&given).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_new_door_has_its_own_keys_and_no_null_values() {
        let object = |value: Value| SectionPatch::Values(value.as_object().unwrap().clone());
        let patch = TwinPatch {
            etag: None,
            tags: object(json!({"wing": "east", "old": null})),
            desired: SectionPatch::Absent,
        };
        let name = "east".parse().unwrap();
        let (one, other) = (
            new_door(&name, &patch).unwrap(),
            new_door(&name, &patch).unwrap(),
        );
        assert_eq!(json!(one.tags), json!({"wing": "east"}));
        assert!(one.properties.desired.is_empty());
        assert!(keys::primary_key(&one).is_some());
        assert_ne!(keys::primary_key(&one), keys::primary_key(&other));
    }

    #[test]
    fn a_floor_is_a_number_when_it_looks_like_one() {
        assert_eq!(parse_place("3"), json!(3));
        assert_eq!(parse_place("03"), json!("03"));
        assert_eq!(parse_place("true"), json!("true"));
    }
}
