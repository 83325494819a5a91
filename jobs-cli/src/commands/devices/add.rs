//! `doorctl devices add`: all of it or nothing.

mod from_file;
mod keys_folder;

use anyhow::Context as _;
use doorctl::{DeviceIdentity, HubClient, NewDevice};
use iothub_protocol::twin::TwinPatch;
use iothub_protocol::{DeviceId, ErrorCode};
use serde::Serialize;
use serde_json::Value;

use super::agent_files::AgentFiles;
use crate::cli::devices::file::AddArgs;
use crate::commands::twin;
use crate::failure::{Failure, sentence};
use crate::printer::{Cell, Row};
use crate::session::Session;

/// Azure's port for MQTT over TLS.
const MQTT_PORT: u16 = 8883;

/// The longest name that doorctl gives.
const MAX_NAME: usize = 64;

/// Registers the doors.
pub(super) async fn run(args: &AddArgs, session: &Session) -> anyhow::Result<()> {
    if let Some(path) = &args.from {
        return from_file::run(path, args, session).await;
    }
    let names = names(&args.names)?;
    let files = agent_files(args, session).await?;
    let mut desired = Vec::new();
    for (key, value) in [("building", &args.building), ("floor", &args.floor)] {
        desired.extend(value.as_deref().map(|value| (key.to_owned(), place(value))));
    }
    let patch = twin::patch(&desired, &args.tags)?;
    for name in &names {
        refuse_existing(&session.hub, name).await?;
    }
    let mut made = Vec::new();
    let done = add_all(&session.hub, &names, &patch, &mut made).await;
    let done = done.and_then(|()| match (&files, made.first()) {
        (Some(files), Some(identity)) => files.write(identity),
        _ => Ok(()),
    });
    if let Err(error) = done {
        return Err(undone(session, &made, error).await);
    }
    if let Some(files) = &files {
        session.printer.say(files.to_string());
    }
    let rows: Vec<AddedRow> = made
        .iter()
        .map(|identity| AddedRow::new(identity, args))
        .collect();
    Ok(session.printer.rows(&rows)?)
}

fn names(texts: &[String]) -> anyhow::Result<Vec<DeviceId>> {
    let mut names: Vec<DeviceId> = Vec::new();
    for text in texts {
        let name = name(text)?;
        if names.contains(&name) {
            return Err(Failure::new(format!("NAME {text:?} is given twice")).into());
        }
        names.push(name);
    }
    Ok(names)
}

/// A name that doorctl gives.
pub(super) fn name(text: &str) -> anyhow::Result<DeviceId> {
    fitting(text).map_err(|message| Failure::new(format!("NAME {message}")).into())
}

/// A name that doorctl gives; the error says what stands there and what is expected.
pub(super) fn fitting(text: &str) -> Result<DeviceId, String> {
    let fits = (1..=MAX_NAME).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if !fits {
        return Err(format!(
            "{text:?} cannot be a door's; expected 1 to {MAX_NAME} of letters, digits, `_` and `-`"
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
    files.mqtt_port = match args.mqtt_port {
        Some(port) => port,
        None => session
            .hub
            .door_hub_health()
            .await
            .map_or(MQTT_PORT, |health| health.mqtt_port),
    };
    Ok(Some(files))
}

async fn refuse_existing(hub: &HubClient, name: &DeviceId) -> anyhow::Result<()> {
    match hub.device(name).await {
        Err(error) if error.code() == Some(ErrorCode::DeviceNotFound) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(Failure::new(format!(
            "the hub has a door called {name} already; nothing was changed"
        ))
        .next(format!(
            "choose another name, or look at it: doorctl devices show {name}"
        ))
        .into()),
    }
}

async fn add_all(
    hub: &HubClient,
    names: &[DeviceId],
    patch: &TwinPatch,
    made: &mut Vec<DeviceIdentity>,
) -> anyhow::Result<()> {
    for name in names {
        let device = NewDevice::with_generated_keys(name.clone());
        made.push(
            hub.device_create(&device)
                .await
                .with_context(|| format!("cannot add {name}"))?,
        );
        if *patch != TwinPatch::default() {
            let set = hub.twin_patch(name, patch, None).await;
            set.with_context(|| format!("cannot set properties or tags of {name}"))?;
        }
    }
    Ok(())
}

/// Takes back what was made before the error; says so, or what could not be taken back.
async fn undone(session: &Session, made: &[DeviceIdentity], error: anyhow::Error) -> anyhow::Error {
    let mut left = Vec::new();
    for identity in made {
        if session
            .hub
            .device_delete(&identity.device_id)
            .await
            .is_err()
        {
            left.push(identity.device_id.to_string());
        }
    }
    match left.is_empty() {
        true => error.context("nothing was changed"),
        false => Failure::new(format!(
            "{}; these doors were made and could not be taken back: {}",
            sentence(&error),
            left.join(", ")
        ))
        .next("doorctl devices list")
        .into(),
    }
}

/// A number as a number, anything else as text.
pub(super) fn place(text: &str) -> Value {
    match serde_json::from_str::<serde_json::Number>(text) {
        Ok(number) => Value::Number(number),
        Err(_) => Value::String(text.to_owned()),
    }
}

/// A door that was added.
#[derive(Debug, Serialize)]
struct AddedRow {
    door: String,
    building: Option<String>,
    floor: Option<String>,
}

impl AddedRow {
    fn new(identity: &DeviceIdentity, args: &AddArgs) -> Self {
        Self {
            door: identity.device_id.to_string(),
            building: args.building.clone(),
            floor: args.floor.clone(),
        }
    }
}

impl Row for AddedRow {
    fn titles() -> Vec<&'static str> {
        vec!["door", "building", "floor"]
    }

    fn cells(&self) -> Vec<Cell> {
        let text = |value: &Option<String>| Cell::from(value.clone().unwrap_or_default());
        vec![
            Cell::from(&self.door),
            text(&self.building),
            text(&self.floor),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_none_or_given_twice_are_refused() {
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
    fn a_floor_is_a_number_when_it_looks_like_one() {
        assert_eq!(place("3"), serde_json::json!(3));
        assert_eq!(place("03"), serde_json::json!("03"));
        assert_eq!(place("true"), serde_json::json!("true"));
    }
}
