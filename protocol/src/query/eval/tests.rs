use proptest::prelude::*;
use serde_json::json;

use super::super::parse_condition;
use super::*;

fn twin() -> Value {
    json!({
        "deviceId": "lobby-east",
        "version": 4,
        "tags": {"building": "43", "floor": 3, "open": true, "note": null, "ratio": 0.5, "my-tag": "x", "list": [1], "none": {}},
        "properties": {"reported": {"$version": 7, "building": {"value": 43}}},
        "capabilities": {"iotEdge": false},
    })
}

fn check(expected: Option<bool>, conditions: &[&str]) {
    for text in conditions {
        let condition = parse_condition(text).unwrap();
        assert_eq!(truth(&condition, &twin()), expected, "{text}");
        assert_eq!(
            matches(&condition, &twin()),
            expected == Some(true),
            "{text}"
        );
    }
}

#[test]
fn values_of_one_type_compare() {
    check(
        Some(true),
        &[
            "tags.floor = 3",
            "tags.floor = 3.0",
            "tags.floor != 4",
            "tags.floor <> 4",
            "3 <= tags.floor",
            "tags.floor > 2.5",
            "tags.ratio < 1",
            "tags.building = '43'",
            "tags.building < '5'",
            "'a' < 'ä'",
            "tags.open = true",
            "false < tags.open",
            "tags.note = null",
            "capabilities.iotEdge = false",
            "properties.reported.building.value = 0x2b",
            "properties.reported.$version >= 7",
            "tags['my-tag'] = 'x'",
            "DEVICEID = 'lobby-east'",
            "9007199254740993 > 9007199254740992.0",
        ],
    );
    check(
        Some(false),
        &[
            "tags.floor = 4",
            "tags.building != '43'",
            "tags.note != null",
            "tags.open = false",
            "deviceId = 'Lobby-East'",
        ],
    );
}

/// Undefined does not match, with any operator, and neither does its negation.
#[test]
fn other_comparisons_are_undefined() {
    check(
        None,
        &[
            "tags.floor = '3'",
            "tags.floor != '3'",
            "tags.building = 43",
            "tags.building != 43",
            "tags.open = 1",
            "tags.note = false",
            "tags.floor = null",
            "tags.floor != null",
            "tags.absent = 1",
            "tags.absent != 1",
            "tags.absent = null",
            "tags.absent = undefined",
            "NOT tags.absent = 1",
            "tags.list = tags.list",
            "tags.none != 1",
            "tags.floor.deeper = 1",
            "tags.Floor = 3",
            "undefined",
            "tags.floor",
            "'true'",
            "NOT tags.floor",
        ],
    );
}

#[test]
fn lists_are_chains_of_comparisons() {
    check(
        Some(true),
        &[
            "tags.floor IN [1, 3]",
            "tags.floor IN ['3', 3]",
            "tags.floor NIN [1, 2]",
            "tags.note IN [null]",
        ],
    );
    check(
        Some(false),
        &[
            "tags.floor IN [1, 2]",
            "tags.floor NIN [1, 3]",
            "NOT tags.floor IN ['x', 3]",
        ],
    );
    check(
        None,
        &[
            "tags.floor IN ['3']",
            "tags.floor NIN ['3']",
            "tags.floor IN [1, '3']",
            "tags.absent IN [1]",
            "tags.absent NIN [1]",
        ],
    );
}

#[test]
fn one_side_may_decide() {
    check(
        Some(true),
        &[
            "tags.open",
            "true OR tags.absent",
            "tags.absent OR tags.floor = 3",
            "NOT false",
            "NOT (tags.absent AND false)",
            "true OR 1",
        ],
    );
    check(
        Some(false),
        &[
            "tags.absent AND false",
            "false AND tags.absent",
            "false OR false",
            "tags.open AND tags.floor = 4",
            "1 AND false",
        ],
    );
    check(
        None,
        &[
            "tags.absent OR false",
            "true AND tags.absent",
            "true AND 1",
            "false OR tags.floor",
        ],
    );
    check(
        Some(true),
        &[
            "true OR true AND false",
            "NOT false AND true",
            "(tags.floor = 3) = true",
        ],
    );
    check(
        Some(false),
        &["(true OR true) AND false", "NOT (false OR true)"],
    );
}

#[test]
fn functions_test_members_and_texts() {
    check(
        Some(true),
        &[
            "IS_DEFINED(tags.note)",
            "is_defined(DeviceId)",
            "NOT IS_DEFINED(tags.absent)",
            "STARTSWITH(deviceId, 'lobby-')",
            "EndsWith(deviceId, '-east')",
            "STARTSWITH(deviceId, '')",
        ],
    );
    check(
        Some(false),
        &[
            "IS_DEFINED(tags.absent.deeper)",
            "STARTSWITH(deviceId, 'east')",
        ],
    );
    check(
        None,
        &[
            "STARTSWITH(tags.floor, '3')",
            "ENDSWITH(tags.absent, 'x')",
            "STARTSWITH(deviceId, 3)",
        ],
    );
}

#[test]
fn arithmetic_is_in_double_precision() {
    check(
        Some(true),
        &[
            "tags.floor + 1 = 4",
            "7 / 2 = 3.5",
            "-7 % 4 = -3",
            "5.5 % 2 = 1.5",
            "1 + 2 * 3 = 7",
            "(1 + 2) * 3 = 9",
            "10 - 3 - 2 = 5",
            "100 / 10 / 5 = 2",
            "tags.floor - 1 > tags.ratio",
        ],
    );
    check(
        None,
        &[
            "1 / 0 = 1",
            "1 % 0 = 0",
            "1e308 * 10 > 0",
            "tags.building + 1 = 44",
            "tags.absent + 1 > 0",
            "tags.open + 1 = 2",
            "1 + 1",
        ],
    );
}

proptest! {
    #[test]
    fn numbers_compare_as_numbers(left in any::<i64>(), right in any::<f64>()) {
        prop_assume!(right.is_finite());
        let (integer, float) = (Number::from(left), Number::from_f64(right).unwrap());
        let ordering = compare_numbers(&integer, &float).unwrap();
        prop_assert_eq!(compare_numbers(&float, &integer), Some(ordering.reverse()));
        // Rounding never turns an order round.
        #[expect(clippy::cast_precision_loss, reason = "the test is about this loss")]
        let rounded = (left as f64).partial_cmp(&right).unwrap();
        prop_assert!(rounded == ordering || rounded.is_eq());
    }

    #[test]
    fn not_in_is_the_opposite_of_in(value in -2..3_i32, list in prop::collection::vec(prop_oneof![(-2..3_i32).prop_map(|n| n.to_string()), Just("'x'".to_owned()), Just("null".to_owned())], 1..4)) {
        let list = list.join(", ");
        let truth = |text: String| truth(&parse_condition(&text).unwrap(), &twin());
        let is_in = truth(format!("{value} IN [{list}]"));
        prop_assert_eq!(truth(format!("{value} NIN [{list}]")), is_in.map(|is_in| !is_in));
        let chain = list.split(", ").map(|constant| format!("{value} = {constant}")).collect::<Vec<_>>().join(" OR ");
        prop_assert_eq!(truth(chain), is_in);
    }
}
