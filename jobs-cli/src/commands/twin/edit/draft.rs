//! Tags and desired properties as a text to edit, and the changes of an edited text.

use std::fmt;

use iothub_protocol::text_file::decode;
use iothub_protocol::twin::limits::{check_growth, check_patch};
use iothub_protocol::twin::{Object, SectionKind, SectionPatch, Twin, TwinPatch, merge};
use serde_json::{Value, json};
use similar::TextDiff;

/// Context lines of a diff.
const CONTEXT: usize = 3;

/// The editable part of a twin.
#[derive(Debug)]
pub(super) struct TwinDraft {
    tags: Object,
    desired: Object,
}

/// The changes of an edited text.
#[derive(Debug)]
pub(super) struct TwinChange {
    /// Minimal; null for removed members.
    pub(super) patch: TwinPatch,
    /// For people.
    pub(super) diff: String,
}

/// Why an edited text is invalid.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EditMistake(String);

impl fmt::Display for EditMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TwinDraft {
    pub(super) fn of(twin: &Twin) -> Self {
        Self {
            tags: twin.tags.clone(),
            desired: twin.properties.desired.values.clone(),
        }
    }

    pub(super) fn text(&self) -> anyhow::Result<String> {
        Ok(text(&self.tags, &self.desired)?)
    }

    /// The changes of an edited text, if any.
    pub(super) fn change(&self, edited: &[u8]) -> Result<Option<TwinChange>, EditMistake> {
        let (tags, desired) = read(edited)?;
        let patch = TwinPatch {
            etag: None,
            tags: section(SectionKind::Tags, &self.tags, &tags)?,
            desired: section(SectionKind::Desired, &self.desired, &desired)?,
        };
        if patch == TwinPatch::default() {
            return Ok(None);
        }
        let (new_tags, new_desired) = (
            after(&self.tags, &patch.tags),
            after(&self.desired, &patch.desired),
        );
        let texts = text(&self.tags, &self.desired)
            .and_then(|before| Ok((before, text(&new_tags, &new_desired)?)));
        let (before, after) = texts.map_err(|error| EditMistake(error.to_string()))?;
        let diff = TextDiff::from_lines(&before, &after);
        Ok(Some(TwinChange {
            diff: diff.unified_diff().context_radius(CONTEXT).to_string(),
            patch,
        }))
    }
}

fn text(tags: &Object, desired: &Object) -> serde_json::Result<String> {
    let both = json!({"tags": tags, "desired": desired});
    Ok(serde_json::to_string_pretty(&both)? + "\n")
}

fn after(present: &Object, patch: &SectionPatch) -> Object {
    let mut after = present.clone();
    if let Some(patch) = patch.values() {
        merge(&mut after, patch);
    }
    after
}

/// Parses an edited text.
fn read(edited: &[u8]) -> Result<(Object, Object), EditMistake> {
    let edited = decode(edited.to_vec()).map_err(|error| EditMistake(error.to_string()))?;
    let value: Value = serde_json::from_str(&edited).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        EditMistake(format!("line {line}, column {column}: not JSON: {what}"))
    })?;
    let expected = "expected {\"tags\": {..}, \"desired\": {..}}";
    let Value::Object(mut members) = value else {
        return Err(EditMistake(format!("not an object; {expected}")));
    };
    let mut section = |name: &str| match members.remove(name) {
        Some(Value::Object(values)) => Ok(values),
        Some(_) => Err(EditMistake(format!(
            "`{name}` is not an object; {expected}"
        ))),
        None => Err(EditMistake(format!("`{name}` is missing; {expected}"))),
    };
    let both = (section("tags")?, section("desired")?);
    match members.keys().next() {
        Some(unknown) => Err(EditMistake(format!(
            "unknown member `{unknown}`; {expected}"
        ))),
        None => Ok(both),
    }
}

/// The patch of a section, checked against the limits.
fn section(kind: SectionKind, old: &Object, new: &Object) -> Result<SectionPatch, EditMistake> {
    let patch = difference(old, new);
    if patch.is_empty() {
        return Ok(SectionPatch::Absent);
    }
    let patched = SectionPatch::Values(patch.clone());
    check_patch(kind, &patch)
        .and_then(|()| check_growth(kind, old, &after(old, &patched)))
        .map_err(|error| EditMistake(error.to_string()))?;
    Ok(patched)
}

/// The minimal patch from `old` to `new`; null for removed members. A null in `new` counts as
/// removed.
fn difference(old: &Object, new: &Object) -> Object {
    let mut patch = Object::new();
    for name in old.keys() {
        if new.get(name).is_none_or(Value::is_null) {
            patch.insert(name.clone(), Value::Null);
        }
    }
    for (name, new) in new {
        match (old.get(name), new) {
            (_, Value::Null) => {}
            (Some(Value::Object(old)), Value::Object(new)) => {
                let inner = difference(old, new);
                if !inner.is_empty() {
                    patch.insert(name.clone(), inner.into());
                }
            }
            (Some(old), new) if old == new => {}
            (_, new) => {
                patch.insert(name.clone(), new.clone());
            }
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> TwinDraft {
        let object = |value: Value| value.as_object().unwrap().clone();
        TwinDraft {
            tags: object(json!({"wing": "east", "access": {"group": "staff", "level": 2}})),
            desired: object(json!({"floor": 3, "list": [1, 2]})),
        }
    }

    fn changed(tags: &Value, desired: &Value) -> Result<Option<Value>, EditMistake> {
        let edited = json!({"desired": desired, "tags": tags}).to_string();
        let change = draft().change(edited.as_bytes())?;
        Ok(change.map(|change| serde_json::to_value(change.patch).unwrap()))
    }

    #[test]
    fn only_changes_are_sent() {
        let same = json!({"wing": "east", "access": {"level": 2, "group": "staff"}});
        let floor = json!({"floor": 3, "list": [1, 2]});
        assert_eq!(changed(&same, &floor), Ok(None));
        for (tags, desired, patch) in [
            (
                json!({"wing": "west", "access": {"level": 2}}),
                floor,
                json!({"tags": {"wing": "west", "access": {"group": null}}}),
            ),
            (
                json!({}),
                json!({"floor": {"a": 1}, "list": [1], "new": {}}),
                json!({"tags": {"wing": null, "access": null},
                    "properties": {"desired": {"floor": {"a": 1}, "list": [1], "new": {}}}}),
            ),
            (
                same.clone(),
                json!({"floor": null}),
                json!({"properties": {"desired": {"floor": null, "list": null}}}),
            ),
        ] {
            assert_eq!(changed(&tags, &desired), Ok(Some(patch)));
        }
        let with_null = json!({"floor": 3, "list": [1, 2], "none": null});
        assert_eq!(changed(&same, &with_null), Ok(None));
    }

    #[test]
    fn the_diff_shows_lines_before_and_after() {
        let edited = draft().text().unwrap().replace("\"east\"", "\"west\"");
        let change = draft().change(edited.as_bytes()).unwrap().unwrap();
        let lines = "-    \"wing\": \"east\",\n+    \"wing\": \"west\",\n";
        assert!(change.diff.contains(lines), "{}", change.diff);
        assert_eq!(change.patch.desired, SectionPatch::Absent);
    }

    #[test]
    fn an_invalid_text_is_reported_with_its_position() {
        for (edited, message) in [
            (
                "{\"tags\": {},\n  desired}",
                "line 2, column 3: not JSON: key must be a string",
            ),
            ("", "line 1, column 0: not JSON: EOF while parsing a value"),
            ("[]", "not an object"),
            ("{\"tags\": {}}", "`desired` is missing"),
            ("{\"tags\": 1, \"desired\": {}}", "`tags` is not an object"),
            (
                "{\"tags\": {}, \"desired\": {}, \"reported\": {}}",
                "unknown member `reported`",
            ),
            (
                "{\"tags\": {\"a b\": 1}, \"desired\": {}}",
                "tags.a b: the name has ' '",
            ),
        ] {
            let mistake = draft().change(edited.as_bytes()).unwrap_err().to_string();
            assert!(mistake.starts_with(message), "{mistake}");
        }
        let latin = b"{\"tags\": {},\n \"desired\": {\"name\": \"caf\xe9\"}}";
        let mistake = draft().change(latin).unwrap_err().to_string();
        assert_eq!(mistake, "line 2: not UTF-8");
    }
}
