use proptest::prelude::*;
use serde_json::json;

use super::super::tests::{object, objects};
use super::*;

fn say(patch: Value) -> String {
    check_patch(SectionKind::Desired, &object(patch))
        .unwrap_err()
        .to_string()
}

#[test]
fn an_error_names_the_member_and_the_limit() {
    assert_eq!(
        say(json!({"a":{"b.c":1}})),
        "properties.desired.a.b.c: the name has '.'; expected no `.`, no `$`, no `#`, no \
         space and no control character"
    );
    assert_eq!(
        say(json!({"floor":4_503_599_627_370_496_i64})),
        "properties.desired.floor: the integer 4503599627370496 is out of range; expected \
         -4503599627370496 to 4503599627370495"
    );
    assert_eq!(
        say(json!({"a":{"b":"x".repeat(4097)}})),
        "properties.desired.a.b: the string has 4097 bytes; expected at most 4096"
    );
    assert!(say(json!({"":1})).contains("a name is empty"));
    assert!(say(json!({"x".repeat(1025):1})).contains("has 1025 bytes; expected at most 1024"));
    for name in ["$x", "a#b", "a b", "a\tb", "a\u{85}b", "$version"] {
        assert!(say(json!({name:1})).contains("the name has"), "{name}");
    }
    // An earlier version took `#`: such a name can be removed, and nothing else.
    let patch = |value: Value| check_patch(SectionKind::Desired, value.as_object().unwrap());
    assert_eq!(patch(json!({"a#b": null, "c": {"d#e": null}})), Ok(()));
    assert!(patch(json!({"a#b": {}})).is_err());
    assert!(patch(json!({"a$b": null})).is_err());
}

#[test]
fn values_at_their_limits_are_taken() {
    let patch = json!({
        "x".repeat(1024): MIN_INTEGER, "b": MAX_INTEGER, "c": "x".repeat(4096), "d": 1e300, "e": null, "f": [1, [true], {"g": "h"}], "ö": {},
    });
    assert_eq!(check_patch(SectionKind::Tags, &object(patch)), Ok(()));
}

#[test]
fn numbers_beyond_the_integers_are_refused_however_large() {
    for number in [json!(MIN_INTEGER - 1), json!(i64::MIN), json!(u64::MAX)] {
        assert!(say(json!({"a": number})).contains("out of range"));
    }
}

/// `{"one":{"two":..{"ten":{"property":"value"}}}}` is the document's example of the deepest
/// nesting allowed.
#[test]
fn ten_nested_objects_are_accepted() {
    let nested = |depth: usize| (0..depth).fold(json!("value"), |inner, _| json!({"level": inner}));
    // The outermost is the section itself.
    assert_eq!(
        check_patch(SectionKind::Reported, &object(nested(11))),
        Ok(())
    );
    assert!(say(nested(12)).contains("the object is too deep; expected at most 10"));
    let in_arrays = (0..10).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(
        check_patch(SectionKind::Reported, &object(json!({"a": in_arrays}))),
        Ok(())
    );
    assert!(say(json!({"a": [in_arrays]})).contains("the array is too deep"));
}

#[test]
fn null_only_removes_members() {
    assert!(say(json!({"a":[1,null]})).starts_with("properties.desired.a: the value is null"));
    assert!(
        say(json!({"a":[{"b":null}]})).starts_with("properties.desired.a.b: the value is null")
    );
    assert_eq!(
        check_patch(SectionKind::Tags, &object(json!({"a":[1],"b":null}))),
        Ok(())
    );
    let replaced =
        check_replacement(SectionKind::Tags, &object(json!({"a":{"b":null}}))).unwrap_err();
    assert_eq!(
        (replaced.path.as_str(), replaced.problem),
        ("tags.a.b", TwinProblem::Null)
    );
}

/// Sizes by the rule of the section "Device twin size".
#[test]
fn size_counts_names_and_values() {
    for (value, expected) in [
        (json!({}), 0),
        (json!({"a":1}), 9),
        (json!({"ab":true}), 6),
        (json!({"a":"xyz"}), 4),
        (json!({"a":"x\ny"}), 3),
        (json!({"a":"ö"}), 3),
        (json!({"a":{"b":[1,true,"x"]}}), 15),
    ] {
        assert_eq!(size(&object(value.clone())), expected, "{value}");
    }
}

#[test]
fn a_section_that_is_too_large_may_only_shrink() {
    let filled = |bytes: usize| {
        object(json!({"a": "x".repeat(4000), "b": "y".repeat(4000), "c": "z".repeat(bytes - 8003)}))
    };
    let small = Object::new();
    assert_eq!(
        check_growth(SectionKind::Tags, &small, &filled(8192)),
        Ok(())
    );
    assert_eq!(
        check_growth(SectionKind::Tags, &small, &filled(8193))
            .unwrap_err()
            .to_string(),
        "tags: the section would have 8193 bytes; expected at most 8192"
    );
    assert_eq!(
        check_growth(SectionKind::Tags, &filled(9000), &filled(8900)),
        Ok(())
    );
    assert!(check_growth(SectionKind::Tags, &filled(8900), &filled(9000)).is_err());
    assert_eq!(
        check_growth(SectionKind::Desired, &small, &filled(9000)),
        Ok(())
    );
}

proptest! {
    #[test]
    fn what_may_replace_a_section_may_also_patch_it(values in objects()) {
        prop_assume!(check_replacement(SectionKind::Desired, &values).is_ok());
        prop_assert_eq!(check_patch(SectionKind::Desired, &values), Ok(()));
    }
}
