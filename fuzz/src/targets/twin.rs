//! Changes of twins: an accepted one keeps the section valid and within its limits, and is
//! idempotent.

use iothub_protocol::twin::limits::{MAX_DEPTH, check_replacement, size};
use iothub_protocol::twin::{Object, Section, SectionKind, TwinPatch};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{Seeds, texts};

const KINDS: [SectionKind; 3] = [
    SectionKind::Tags,
    SectionKind::Desired,
    SectionKind::Reported,
];

/// A JSON array of changes, applied in turn: an object is merged, an object within an array
/// replaces the section.
pub(crate) fn run(data: &[u8]) {
    if let Ok(patch) = serde_json::from_slice::<TwinPatch>(data) {
        let written = serde_json::to_vec(&patch).expect("a patch can be written");
        let again: TwinPatch = serde_json::from_slice(&written).expect("what was written reads");
        assert_eq!(again, patch);
    }
    let changes = match serde_json::from_slice(data) {
        Ok(Value::Array(changes)) => changes,
        Ok(change) => vec![change],
        Err(_) => return,
    };
    for kind in KINDS {
        let mut section = Section::default();
        for change in &changes {
            match change {
                Value::Object(patch) => merge(&mut section, kind, patch),
                Value::Array(values) => {
                    if let Some(Value::Object(values)) = values.first() {
                        replace(&mut section, kind, values);
                    }
                }
                _ => {}
            }
            check(&section, kind);
        }
    }
}

fn merge(section: &mut Section, kind: SectionKind, patch: &Object) {
    let before = section.clone();
    if let Err(error) = section.patch(kind, patch, Timestamp::UNIX_EPOCH) {
        assert_eq!(*section, before, "refused ({error}) but changed");
        return;
    }
    assert_eq!(section.version, before.version + 1);
    grew_within_limits(section, &before, kind);
    let once = section.clone();
    if section.patch(kind, patch, Timestamp::UNIX_EPOCH).is_ok() {
        assert_eq!(section.values, once.values, "the patch is not idempotent");
    }
    *section = once;
}

fn replace(section: &mut Section, kind: SectionKind, values: &Object) {
    let before = section.clone();
    let Ok(patch) = section.replace(kind, values.clone(), Timestamp::UNIX_EPOCH) else {
        assert_eq!(*section, before, "refused but changed");
        return;
    };
    assert_eq!(section.values, *values);
    grew_within_limits(section, &before, kind);
    // The patch sent to the device has the same effect as the replacement.
    let mut on_device = before;
    if on_device.patch(kind, &patch, Timestamp::UNIX_EPOCH).is_ok() {
        assert_eq!(
            on_device.values, section.values,
            "the device gets another result from {patch:?}"
        );
    }
}

fn grew_within_limits(section: &Section, before: &Section, kind: SectionKind) {
    let (now, before) = (size(&section.values), size(&before.values));
    assert!(
        now <= kind.max_bytes().max(before),
        "{now} bytes, from {before}"
    );
}

fn check(section: &Section, kind: SectionKind) {
    check_replacement(kind, &section.values).expect("a section's values are valid");
    let depth = depth(&Value::Object(section.values.clone()));
    assert!(depth <= MAX_DEPTH + 1, "{depth} levels");
    assert_mirrors(&section.metadata, &section.values);
    let written = serde_json::to_vec(section).expect("a section can be written");
    let again: Section = serde_json::from_slice(&written).expect("what was written reads");
    assert_eq!(again, *section);
}

fn depth(value: &Value) -> usize {
    let below = match value {
        Value::Array(values) => values.iter().map(depth).max(),
        Value::Object(values) => values.values().map(depth).max(),
        _ => return 0,
    };
    1 + below.unwrap_or(0)
}

/// Asserts that the metadata has a timestamp for exactly the existing properties.
fn assert_mirrors(metadata: &Object, values: &Object) {
    let names = metadata
        .keys()
        .filter(|name| !name.starts_with('$'))
        .count();
    assert_eq!(
        names,
        values.len(),
        "{metadata:?} does not match {values:?}"
    );
    assert!(metadata.contains_key("$lastUpdated"));
    for (name, value) in values {
        let stamp = metadata.get(name).and_then(Value::as_object);
        let stamp = stamp.unwrap_or_else(|| panic!("no metadata of {name:?}"));
        match value {
            Value::Object(values) => assert_mirrors(stamp, values),
            _ => assert_mirrors(stamp, &Object::new()),
        }
    }
}

pub(crate) fn seeds() -> Seeds {
    let patch = TwinPatch {
        etag: Some("*".to_owned()),
        ..TwinPatch::desired(Object::from_iter([(
            "lock".to_owned(),
            json!({ "mode": "passage" }),
        )]))
    };
    let seeds = [
        json!([{ "a": { "b": 1, "c": "two" } }, { "a": { "b": null } }, { "a": 5 }]),
        json!([{ "a": 1, "b": 2 }, [{ "a": 1, "c": 100 }], { "c": [1, [2], { "d": true }] }]),
        json!({ "deep": { "b": { "c": { "d": { "e": {
            "f": { "g": { "h": { "i": { "j": 1 } } } }
        } } } } } }),
        json!({ "n": [-4_503_599_627_370_496_i64, 1.5, 0, true], "t": "\u{1}é" }),
        serde_json::to_value(&patch).expect("a patch can be written"),
    ];
    texts(seeds.map(|seed| seed.to_string()))
}
