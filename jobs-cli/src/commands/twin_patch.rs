//! Twin patches from the assignments `KEY=VALUE` of the command line.

use iothub_protocol::twin::{Object, SectionPatch, TwinPatch};
use serde_json::{Map, Value};

use crate::failure::Failure;

/// Builds the patch from assignments.
pub(super) fn from_assignments(
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
        Ok(serde_json::to_value(from_assignments(&assignments, &[])?)?)
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
