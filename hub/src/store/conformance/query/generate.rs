//! Random documents, conditions and statements.

use proptest::prelude::*;
use serde_json::Value;

pub(crate) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i64..4).prop_map(Value::from),
        prop::sample::select(vec![1.0, 1.5, -0.0, 3.0, 1e300, -1e300]).prop_map(Value::from),
        prop::sample::select(vec![(1i64 << 52) - 1, -(1i64 << 52)]).prop_map(Value::from),
        prop::sample::select(vec![
            "", "a", "ab", "43", "1", "true", "é", "it's", "a\u{0}b", "\"q\"\\"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            object_of(inner),
        ]
    })
}

pub(crate) fn object_of(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let key =
        prop::sample::select(vec!["a", "b", "value", "we'ird\"\\k\u{e9}y"]).prop_map(str::to_owned);
    prop::collection::btree_map(key, value, 0..4)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn path() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "tags.a",
        "tags.b",
        "tags.a.b",
        "tags.a.value",
        "tags['we\\'ird\"\\\\k\u{e9}y']",
        "properties.desired.a",
        "properties.desired.b.a",
        "properties.reported.a.value",
        "properties.desired",
        "properties.Desired.a",
        "tags",
        "deviceId",
        "DEVICEID",
        "statusReason",
        "status",
        "etag",
        "version",
        "connectionState",
        "capabilities.iotEdge",
        "x509Thumbprint.primaryThumbprint",
        "moduleId",
        "status.a",
    ])
    .prop_map(str::to_owned)
}

fn constant() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "undefined",
        "null",
        "true",
        "false",
        "0",
        "1",
        "-1",
        "2",
        "3",
        "1.0",
        "1.5",
        "1e300",
        "4503599627370495",
        "''",
        "'a'",
        "'ab'",
        "'43'",
        "'1'",
        "'true'",
        "'d1'",
        "'\u{e9}'",
        "'it\\'s'",
        "'enabled'",
        "'Disconnected'",
        "'AAAAAAAAAAE='",
        "'\\u0000'",
    ])
    .prop_map(str::to_owned)
}

fn operand() -> impl Strategy<Value = String> {
    let simple = prop_oneof![3 => path(), 2 => constant()];
    let pair = (
        simple.clone(),
        prop::sample::select(vec!["+", "-", "*", "/", "%"]),
        simple.clone(),
    );
    let arithmetic =
        pair.prop_map(|(left, operator, right)| format!("({left} {operator} {right})"));
    prop_oneof![6 => simple, 1 => arithmetic]
}

pub(crate) fn condition() -> impl Strategy<Value = String> {
    let operator = prop::sample::select(vec!["=", "!=", "<>", "<", "<=", ">", ">="]);
    let list = (
        path(),
        any::<bool>(),
        prop::collection::vec(constant(), 1..4),
    );
    let comparison = (operand(), operator, operand());
    let comparison =
        comparison.prop_map(|(left, operator, right)| format!("{left} {operator} {right}"));
    let list = list.prop_map(|(path, is_in, list)| {
        let operator = if is_in { "IN" } else { "NIN" };
        format!("{path} {operator} [{}]", list.join(", "))
    });
    let leaf = prop_oneof![
        6 => comparison,
        3 => list,
        1 => path().prop_map(|path| format!("IS_DEFINED({path})")),
        1 => (path(), constant()).prop_map(|(path, part)| format!("STARTSWITH({path}, {part})")),
        1 => (path(), constant()).prop_map(|(path, part)| format!("ENDSWITH({path}, {part})")),
        1 => operand(),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone())
                .prop_map(|(left, right)| format!("({left} AND {right})")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left} OR {right})")),
            inner.clone().prop_map(|inner| format!("NOT ({inner})")),
            (inner, constant()).prop_map(|(inner, constant)| format!("({inner}) = {constant}")),
        ]
    })
}

pub(crate) fn statement() -> impl Strategy<Value = String> {
    let aggregate = prop_oneof![
        1 => Just("COUNT()".to_owned()),
        4 => (prop::sample::select(vec!["SUM", "AVG", "MIN", "MAX"]), path())
            .prop_map(|(function, path)| format!("{function}({path})")),
    ];
    let paths = || prop::collection::vec(path(), 0..3);
    (
        paths(),
        paths(),
        prop::collection::vec(aggregate, 0..4),
        prop::option::of(1..5u8),
        prop::option::of(condition()),
    )
        .prop_map(|(groups, plain, aggregates, top, condition)| {
            let is_plain = groups.is_empty() && aggregates.is_empty();
            let shown = if is_plain { plain } else { groups.clone() };
            let items: Vec<String> = shown
                .into_iter()
                .chain(aggregates)
                .enumerate()
                .map(|(n, item)| format!("{item} AS c{n}"))
                .collect();
            let clause = |name: &str, text: String| {
                if text.is_empty() {
                    text
                } else {
                    format!(" {name} {text}")
                }
            };
            format!(
                "SELECT{} {} FROM devices{}{}",
                clause("TOP", top.map_or_else(String::new, |top| top.to_string())),
                if items.is_empty() {
                    "*".to_owned()
                } else {
                    items.join(", ")
                },
                clause("WHERE", condition.unwrap_or_default()),
                clause("GROUP BY", groups.join(", ")),
            )
        })
}
