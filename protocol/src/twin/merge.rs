//! Merging objects by RFC 7396 (JSON Merge Patch).

use serde_json::Value;

use super::Object;

/// Merges `patch` into `target`: null removes a member, if there is one; an object is merged with
/// the present one; anything else, arrays included, replaces the member.
pub fn merge(target: &mut Object, patch: &Object) {
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.shift_remove(name);
            }
            Value::Object(patch) => merge(object_at(target, name), patch),
            other => {
                target.insert(name.clone(), other.clone());
            }
        }
    }
}

/// The patch that turns `old` into `new`: everything in `new`, and null for each removed member, at
/// any depth.
#[must_use]
pub fn replacement_patch(old: &Object, new: &Object) -> Object {
    let mut patch = Object::new();
    for (name, old) in old {
        let change = match (old, new.get(name)) {
            (_, None) => Value::Null,
            (Value::Object(old), Some(Value::Object(new))) => {
                Value::Object(replacement_patch(old, new))
            }
            (_, Some(new)) => new.clone(),
        };
        patch.insert(name.clone(), change);
    }
    for (name, value) in new {
        patch.entry(name.clone()).or_insert_with(|| value.clone());
    }
    patch
}

/// The object in the member `name`; any other value is replaced by an empty object.
pub(super) fn object_at<'a>(target: &'a mut Object, name: &str) -> &'a mut Object {
    let member = target.entry(name.to_owned()).or_insert(Value::Null);
    if !member.is_object() {
        *member = Value::Object(Object::new());
    }
    member
        .as_object_mut()
        .expect("it was made an object just now")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::tests::{object, objects};
    use super::*;

    fn merged(mut target: Value, patch: &Value) -> Value {
        merge(target.as_object_mut().unwrap(), patch.as_object().unwrap());
        target
    }

    /// The examples of RFC 7396, appendix A, whose patch is an object without null below an absent
    /// member.
    #[test]
    fn patches_merge_by_the_rfc() {
        for (target, patch, expected) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (
                json!({"a":"b","b":"c"}),
                json!({"a":null}),
                json!({"b":"c"}),
            ),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (
                json!({"a":{"b":"c"}}),
                json!({"a":{"b":"d","c":null}}),
                json!({"a":{"b":"d"}}),
            ),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (
                json!({}),
                json!({"a":{"bb":{"ccc":null}}}),
                json!({"a":{"bb":{}}}),
            ),
        ] {
            assert_eq!(merged(target, &patch), expected);
        }
    }

    /// From an issue in which siblings disappeared when a null was sent for a nested member that
    /// did not exist (azure-iot-sdk-node issue 683).
    #[test]
    fn a_null_for_nothing_leaves_its_siblings() {
        let target = json!({"a":{"b":1,"c":2}});
        assert_eq!(merged(target.clone(), &json!({"a":{"x":null}})), target);
    }

    /// The case described by the IoT Hub team in azure-iot-sdk-csharp issue 954.
    #[test]
    fn a_replacement_names_what_is_gone() {
        let patch = replacement_patch(
            &object(json!({"a":1,"b":2})),
            &object(json!({"a":1,"c":100})),
        );
        assert_eq!(Value::Object(patch), json!({"a":1,"b":null,"c":100}));
    }

    proptest! {
        #[test]
        fn a_replacement_patch_has_the_effect_of_the_replacement(old in objects(), new in objects()) {
            let mut target = old.clone();
            merge(&mut target, &replacement_patch(&old, &new));
            prop_assert_eq!(target, new);
        }

        #[test]
        fn merging_twice_is_merging_once(target in objects(), patch in objects()) {
            let mut once = target;
            merge(&mut once, &patch);
            let mut twice = once.clone();
            merge(&mut twice, &patch);
            prop_assert_eq!(once, twice);
        }
    }
}
