//! `doorctl twin ...`

mod edit;

use iothub_protocol::twin::{Object, SectionPatch, TwinPatch};
use serde_json::{Map, Value};

use super::acknowledge;
use crate::cli::twin::{SetArgs, TwinCommand};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::session::{Session, door, explain_door};

pub(crate) async fn run(command: TwinCommand, session: &Session) -> anyhow::Result<ExitStatus> {
    match command {
        TwinCommand::Show { door: name } => {
            let id = door(&name)?;
            match session.hub.twin(&id).await {
                Ok(twin) => session.printer.document(&twin)?,
                Err(error) => return Err(explain_door(session, &id, error).await),
            }
        }
        TwinCommand::Set(args) => return set(&args, session).await,
        TwinCommand::Edit(args) => return edit::edit(&args, session).await,
    }
    Ok(ExitStatus::Success)
}

async fn set(args: &SetArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let patch = patch(&args.desired, &args.tags)?;
    acknowledge::warn_of_misspelled_keys(patch.desired.values(), &session.printer);
    let id = door(&args.door)?;
    let twin = match session
        .hub
        .twin_patch(&id, &patch, args.etag.as_deref())
        .await
    {
        Ok(twin) => twin,
        Err(error) => return Err(explain_door(session, &id, error).await),
    };
    let version = twin.properties.desired.version;
    session.printer.say(format!(
        "{}: desired version {version}, etag {}",
        twin.device_id, twin.etag
    ));
    session.printer.document(&twin)?;
    acknowledge::wait_for_door(&twin, patch.desired.values(), args.deadline, session).await
}

/// Builds the patch from assignments.
pub(crate) fn patch(
    desired: &[(String, Value)],
    tags: &[(String, Value)],
) -> anyhow::Result<TwinPatch> {
    Ok(TwinPatch {
        etag: None,
        tags: section(tags)?,
        desired: section(desired)?,
    })
}

fn section(assignments: &[(String, Value)]) -> anyhow::Result<SectionPatch> {
    if assignments.is_empty() {
        return Ok(SectionPatch::Absent);
    }
    let mut object = Object::new();
    for (path, value) in assignments {
        insert(&mut object, path, value)?;
    }
    Ok(SectionPatch::Values(object))
}

fn insert(object: &mut Object, path: &str, value: &Value) -> anyhow::Result<()> {
    let collision = || {
        Failure::new(format!(
            "`{path}` is set twice, or is part of another key that is set"
        ))
    };
    let (key, rest) = match path.split_once('.') {
        Some((key, rest)) => (key, Some(rest)),
        None => (path, None),
    };
    match rest {
        None if object.contains_key(key) => Err(collision().into()),
        None => {
            object.insert(key.to_owned(), value.clone());
            Ok(())
        }
        Some(rest) => match object.entry(key).or_insert_with(|| Map::new().into()) {
            Value::Object(inner) => insert(inner, rest, value),
            _ => Err(collision().into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::twin::desired_assignment as assignment;

    fn desired(texts: &[&str]) -> anyhow::Result<Value> {
        let assignments: Vec<_> = texts.iter().map(|text| assignment(text).unwrap()).collect();
        Ok(serde_json::to_value(patch(&assignments, &[])?)?)
    }

    #[test]
    fn values_are_parsed_as_json_and_dots_nest() {
        assert_eq!(
            desired(&[
                "floor=3",
                "name=Lobby East",
                "a.b=true",
                "a.c=null",
                "code=\"7\""
            ])
            .unwrap(),
            json!({"properties": {"desired": {
                "floor": 3, "name": "Lobby East", "a": {"b": true, "c": null}, "code": "7"
            }}})
        );
    }

    #[test]
    fn a_key_that_is_set_twice_is_refused() {
        for texts in [["a=1", "a=2"], ["a=1", "a.b=2"], ["a.b=1", "a.b=2"]] {
            assert!(
                desired(&texts)
                    .unwrap_err()
                    .to_string()
                    .contains("set twice")
            );
        }
    }
}
