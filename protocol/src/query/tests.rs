use proptest::prelude::*;
use serde_json::Number;

use super::*;

fn mistake(text: &str) -> (usize, usize, String) {
    let error = if text.starts_with("SELECT") {
        parse(text).unwrap_err()
    } else {
        parse_condition(text).unwrap_err()
    };
    (
        error.position.line,
        error.position.column,
        error.to_string(),
    )
}

/// Texts as they stand in the documents on queries and jobs, and as the official clients send them.
#[test]
fn documented_queries_are_read() {
    for (text, printed) in [
        ("SELECT * FROM devices", ""),
        (
            "select * from devices where deviceid = 'x'",
            "SELECT * FROM devices WHERE deviceId = 'x'",
        ),
        (
            "SELECT * FROM devices\n  WHERE tags.location.region = 'US'\n    AND \
             properties.reported.telemetryConfig.sendFrequencyInSecs >= 300",
            "SELECT * FROM devices WHERE tags.location.region = 'US' AND \
             properties.reported.telemetryConfig.sendFrequencyInSecs >= 300",
        ),
        (
            "SELECT * FROM devices WHERE properties.reported.connectivity IN ['wired', 'wifi']",
            "",
        ),
        (
            "SELECT * FROM devices WHERE is_defined(properties.reported.connectivity)",
            "SELECT * FROM devices WHERE IS_DEFINED(properties.reported.connectivity)",
        ),
        (
            "SELECT properties.reported.telemetryConfig.status AS status, COUNT() AS \
             numberOfDevices FROM devices GROUP BY properties.reported.telemetryConfig.status",
            "",
        ),
        (
            "SELECT DeviceId, LastActivityTime FROM devices WHERE status = 'enabled'",
            "SELECT deviceId, lastActivityTime FROM devices WHERE status = 'enabled'",
        ),
        ("SELECT TOP 10 * FROM devices.modules", ""),
        (
            "SELECT * FROM devices.jobs WHERE devices.jobs.deviceId = 'myDeviceId' AND \
             devices.jobs.jobType = 'scheduleUpdateTwin' AND devices.jobs.status = 'completed' \
             AND devices.jobs.createdTimeUtc > '2016-09-01'",
            "SELECT * FROM devices.jobs WHERE deviceId = 'myDeviceId' AND jobType = \
             'scheduleUpdateTwin' AND status = 'completed' AND createdDateTimeUtc > '2016-09-01'",
        ),
        (
            "SELECT devices.jobs.jobId, Devices.Jobs.Outcome.deviceMethodResponse.status FROM \
             devices.jobs",
            "SELECT jobId, outcome.deviceMethodResponse.status FROM devices.jobs",
        ),
        ("SELECT tags.from AS x FROM devices.modules", ""),
        (
            "SELECT * FROM devices.modules WHERE devices.deviceId = 'a' AND \
             devices.modules.moduleId = 'b'",
            "SELECT * FROM devices.modules WHERE deviceId = 'a' AND moduleId = 'b'",
        ),
        (
            "SELECT AVG(tags.a), sum(tags.b), Min(tags.c), MAX(tags.d) AS d FROM devices",
            "SELECT AVG(tags.a), SUM(tags.b), MIN(tags.c), MAX(tags.d) AS d FROM devices",
        ),
    ] {
        // An empty column: it prints as it is.
        let printed = if printed.is_empty() { text } else { printed };
        assert_eq!(parse(text).unwrap().to_string(), printed);
    }
    for (text, printed) in [
        ("deviceId in ['d1','d2']", "deviceId IN ['d1', 'd2']"),
        ("tags.building = '43'", "tags.building = '43'"),
        ("IS_DEFINED(DeviceId)", "IS_DEFINED(deviceId)"),
        (
            "tags.a NIN [1, -2.5, 0x1F, true, null, undefined]",
            "tags.a NIN [1, -2.5, 31, true, null, undefined]",
        ),
        (
            "(tags.a = 1 or tags.b <> \"it's\") and not tags.c",
            r"(tags.a = 1 OR tags.b != 'it\'s') AND NOT tags.c",
        ),
        (
            r#"tags.a = '\u00e4\uD83D\uDE00\\\"'"#,
            r#"tags.a = 'ä😀\\"'"#,
        ),
        (
            "devices.Properties.Reported.$version=1",
            "properties.reported.$version = 1",
        ),
        ("tags['my-tag'].in[\"x\"]= 1", "tags['my-tag'].in.x = 1"),
        ("((tags.a))", "tags.a"),
        (
            "(tags.a + 1) * 2 - 1 > 1e3",
            "(tags.a + 1) * 2 - 1 > 1000.0",
        ),
    ] {
        assert_eq!(parse_condition(text).unwrap().to_string(), printed);
    }
}

/// In the file each line with a mistake is followed by a caret and the message.
#[test]
fn mistakes_have_a_position_and_name_what_was_expected() {
    for case in include_str!("mistakes.txt").split("\n\n") {
        let mut lines: Vec<&str> = case.lines().collect();
        let is_message = |line: &&str| line.trim_start().starts_with("^ ");
        let line = lines.iter().position(is_message).unwrap();
        let (indent, message) = lines.remove(line).split_once("^ ").unwrap();
        let expected = (line.max(1), indent.len() + 1, message.to_owned());
        assert_eq!(mistake(&lines.join("\n")), expected, "{case}");
    }
    let control = (1, 8, "unexpected `\\u{1b}`".to_owned());
    assert_eq!(mistake("tags.a \u{1b} 1"), control);
    let (.., message) = mistake("SELECT * FROM devices.jobs WHERE tags.a = 1");
    assert!(
        message.starts_with("unknown property `tags`; expected deviceId, moduleId, jobId,"),
        "{message}"
    );
}

/// Each row: a text with `[[ ]]`, and the text without them that means the same.
#[test]
fn a_name_in_double_brackets_is_never_a_keyword() {
    for (bracketed, plain) in [
        ("tags.[[group]] = 'US'", "tags.group = 'US'"),
        ("tags.[[group]].[[by]] = 1", "tags['group']['by'] = 1"),
        ("[[tags]].a = 1", "tags.a = 1"),
        ("[[TAGS]].a = 1", "tags.a = 1"),
        ("[[devices]].[[tags]].a = 1", "devices.tags.a = 1"),
        ("[[deviceId]] IN ['a']", "deviceId IN ['a']"),
        (
            "[[properties]].[[Desired]].x = 1",
            "properties.desired.x = 1",
        ),
        ("tags.[[my-tag]] = 1", "tags['my-tag'] = 1"),
        ("tags.[[ a b ]] = 1", "tags['a b'] = 1"),
        ("tags.[[it's]] = 1", r"tags['it\'s'] = 1"),
        ("tags.[[[a]] = 1", "tags['[a'] = 1"),
        ("tags.[[a]b]] = 1", "tags['a]b'] = 1"),
        ("tags.[[true]] = true", "tags['true'] = true"),
        ("NOT [[tags]].[[not]]", "NOT tags['not']"),
        ("IS_DEFINED(tags.[[in]])", "IS_DEFINED(tags['in'])"),
        (
            "STARTSWITH(tags.[[as]], 'x')",
            "STARTSWITH(tags['as'], 'x')",
        ),
        (
            "1 + tags.[[or]] > tags.[[and]]",
            "1 + tags['or'] > tags['and']",
        ),
        ("tags.[[x]] IN [tags_free]", ""),
    ] {
        let read = parse_condition(bracketed);
        if plain.is_empty() {
            assert!(read.is_err(), "{bracketed}");
            continue;
        }
        let read = read.unwrap();
        assert_eq!(Ok(&read), parse_condition(plain).as_ref(), "{bracketed}");
        assert_eq!(Ok(&read), parse_condition(&read.to_string()).as_ref());
    }
    for (bracketed, plain) in [
        (
            "SELECT tags.[[group]].[[name]], COUNT() AS n FROM devices GROUP BY \
             tags.[[group]].[[name]]",
            "SELECT tags.group.name, COUNT() AS n FROM devices GROUP BY tags.group.name",
        ),
        (
            "SELECT MAX(tags.[[top]]) AS n FROM devices WHERE [[status]] = 'enabled'",
            "SELECT MAX(tags.top) AS n FROM devices WHERE status = 'enabled'",
        ),
        (
            "SELECT [[deviceId]] AS [[id]] FROM devices",
            "SELECT deviceId AS id FROM devices",
        ),
        ("SELECT tags.[[from]] FROM devices.jobs", ""),
        (
            "SELECT tags.[[from]] FROM devices",
            "SELECT tags.from FROM devices",
        ),
    ] {
        let read = parse(bracketed);
        if plain.is_empty() {
            assert!(read.is_err(), "{bracketed}");
            continue;
        }
        let read = read.unwrap();
        assert_eq!(Ok(&read), parse(plain).as_ref(), "{bracketed}");
        assert_eq!(Ok(&read), parse(&read.to_string()).as_ref());
    }
    // Only in brackets can an alias be a keyword, or hold what words do not.
    for alias in ["group", "my-tag", "a b", "7"] {
        let read = parse(&format!("SELECT deviceId AS [[{alias}]] FROM devices")).unwrap();
        assert_eq!(column_names(read.items()), [alias]);
        assert_eq!(Ok(&read), parse(&read.to_string()).as_ref(), "{read}");
    }
}

#[test]
fn a_bare_keyword_in_a_path_is_found() {
    for (text, expected) in [
        ("tags.group = 'US'", Some("group")),
        ("tags.a = 1 AND tags.Select.x = 2", Some("Select")),
        ("SELECT tags.from FROM devices", Some("from")),
        ("tags.[[group]] = 'US'", None),
        ("tags['group'] = 'US'", None),
        ("tags.a = '.group' OR NOT tags.b", None),
        ("tags.a = 'no end", None),
    ] {
        assert_eq!(bare_keyword(text), expected, "{text}");
    }
}

#[test]
fn a_caret_points_at_the_mistake() {
    let caret = |text: &str| parse_condition(text).unwrap_err().caret(text);
    assert_eq!(
        caret("tags.building 43"),
        "tags.building 43\n              ^"
    );
    assert_eq!(
        caret("tags.a = 1 AND\n\ttags.ü = OR"),
        " tags.ü = OR\n          ^"
    );
    assert_eq!(caret("tags.a ="), "tags.a =\n        ^");
    assert_eq!(caret(""), "\n^");
    let long = format!(
        "{} AND AND {}",
        vec!["tags.a = 1"; 20].join(" AND "),
        vec!["tags.a = 1"; 20].join(" AND ")
    );
    let shown = caret(&long);
    let (line, below) = shown.split_once('\n').unwrap();
    assert!(
        line.starts_with('…') && line.ends_with('…') && line.chars().count() == 122,
        "{shown}"
    );
    assert!(
        line.chars()
            .skip(below.chars().count() - 1)
            .collect::<String>()
            .starts_with("AND tags"),
        "{shown}"
    );
}

#[test]
fn texts_are_bounded_in_length_and_depth() {
    let exact = format!("tags.a = '{}'", "ö".repeat(MAX_CHARACTERS - 11));
    assert!(parse_condition(&exact).is_ok());
    let (line, column, message) = mistake(&format!("{exact} "));
    assert_eq!(
        (line, column, message.as_str()),
        (
            1,
            8193,
            "the text has 8193 characters; expected at most 8192"
        )
    );

    for (open, close) in [("(", ")"), ("NOT ", ""), ("STARTSWITH(", ", 'x')")] {
        let nested = |depth: usize| format!("{}tags.a{}", open.repeat(depth), close.repeat(depth));
        assert!(parse_condition(&nested(MAX_DEPTH)).is_ok(), "{open}");
        let (.., message) = mistake(&nested(MAX_DEPTH + 1));
        assert_eq!(
            message,
            "the condition is too deep; expected at most 32 levels of parentheses, functions and \
             `NOT`"
        );
    }
    // The longest chains and the deepest texts there can be, on the stack of an ordinary thread.
    for text in [
        "(".repeat(MAX_CHARACTERS),
        "NOT ".repeat(2048),
        "tags[".repeat(1638),
    ] {
        assert!(parse_condition(&text).is_err());
    }
    for (part, times) in [("1+", 4095), ("1=1 OR ", 1170), ("1=1 AND ", 1023)] {
        let condition = parse_condition(&(part.repeat(times) + "1")).unwrap();
        assert_eq!(
            matches(&condition, &serde_json::Value::Null),
            part.contains("OR")
        );
        assert!(condition.to_string().ends_with(" 1"));
    }
}

#[test]
fn the_smallest_integer_round_trips() {
    let condition = parse_condition("tags.a = -9223372036854775808").unwrap();
    assert_eq!(condition.to_string(), "tags.a = -9223372036854775808");
    let beyond = parse_condition("tags.a = 9223372036854775808").unwrap();
    assert_eq!(beyond.to_string(), "tags.a = 9.223372036854776e+18");
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z_$][a-zA-Z0-9_$]{0,6}",
        "\\PC{0,6}",
        Just("select".to_owned()),
        Just("\u{1}\n'\\\"".to_owned())
    ]
}

fn path() -> impl Strategy<Value = Path> {
    let under_tags = prop::collection::vec(name(), 0..4)
        .prop_map(|names| ["tags".to_owned()].into_iter().chain(names).collect());
    let other = prop::sample::select(vec![
        vec!["deviceId"],
        vec!["properties", "desired"],
        vec!["properties", "reported", "$version"],
    ])
    .prop_map(|names| names.into_iter().map(str::to_owned).collect());
    prop_oneof![under_tags, other].prop_map(|segments| Path { segments })
}

fn constant() -> impl Strategy<Value = Constant> {
    prop_oneof![
        Just(Constant::Undefined),
        Just(Constant::Null),
        any::<bool>().prop_map(Constant::Boolean),
        any::<i64>().prop_map(|number| Constant::Number(number.into())),
        any::<f64>()
            .prop_filter_map("finite", Number::from_f64)
            .prop_map(Constant::Number),
        name().prop_map(Constant::String),
    ]
}

fn expression() -> impl Strategy<Value = Expression> {
    let leaf = prop_oneof![
        constant().prop_map(Expression::Constant),
        path().prop_map(Expression::Path)
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operator = prop::sample::select(vec![
            ComparisonOperator::Equal,
            ComparisonOperator::NotEqual,
            ComparisonOperator::Less,
            ComparisonOperator::LessOrEqual,
            ComparisonOperator::Greater,
            ComparisonOperator::GreaterOrEqual,
        ]);
        let chain = |operators: Vec<ArithmeticOperator>| {
            let rest =
                prop::collection::vec((prop::sample::select(operators), inner.clone()), 1..3);
            (inner.clone(), rest).prop_map(|(first, rest)| Expression::Arithmetic {
                first: Box::new(first),
                rest,
            })
        };
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::Or),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::And),
            inner
                .clone()
                .prop_map(|inner| Expression::Not(Box::new(inner))),
            (operator, inner.clone(), inner.clone()).prop_map(|(operator, left, right)| {
                Expression::Comparison {
                    operator,
                    left: Box::new(left),
                    right: Box::new(right),
                }
            }),
            (
                inner.clone(),
                prop::collection::vec(constant(), 1..4),
                any::<bool>()
            )
                .prop_map(|(value, list, negated)| Expression::In {
                    value: Box::new(value),
                    list,
                    negated
                }),
            chain(vec![ArithmeticOperator::Add, ArithmeticOperator::Subtract]),
            chain(vec![
                ArithmeticOperator::Multiply,
                ArithmeticOperator::Divide,
                ArithmeticOperator::Remainder
            ]),
            path().prop_map(|path| Expression::Call {
                function: Function::IsDefined,
                arguments: vec![Expression::Path(path)]
            }),
            (
                prop::sample::select(vec![Function::StartsWith, Function::EndsWith]),
                inner.clone(),
                inner.clone()
            )
                .prop_map(|(function, text, part)| Expression::Call {
                    function,
                    arguments: vec![text, part]
                }),
        ]
    })
}

fn query() -> impl Strategy<Value = Query> {
    let aggregate = prop_oneof![
        Just(Aggregate::Count),
        path().prop_map(Aggregate::Average),
        path().prop_map(Aggregate::Sum),
        path().prop_map(Aggregate::Minimum),
        path().prop_map(Aggregate::Maximum),
    ];
    let source = prop::sample::select(vec![Source::Devices, Source::Modules, Source::Jobs]);
    let top = prop::option::of(1..u64::MAX);
    let rest = (top, source, prop::option::of(expression()));
    let alias = prop::option::of("[a-z]{4}_");
    (
        rest,
        prop::collection::vec((path(), alias.clone()), 0..3),
        prop::collection::vec((aggregate, alias), 0..3),
        any::<bool>(),
    )
        .prop_map(
            |((top, source, condition), paths, aggregates, is_grouped)| {
                // Records of jobs have other names, and no groups.
                let is_job = source == Source::Jobs;
                let is_plain = !is_grouped || is_job;
                let condition = condition.filter(|_| !is_job);
                let paths = paths.into_iter().filter(|_| !is_job);
                let (paths, mut items): (Vec<Path>, Vec<ProjectionItem>) = paths
                    .map(|(path, alias)| {
                        let value = ProjectionValue::Path(path.clone());
                        (path, ProjectionItem { value, alias })
                    })
                    .unzip();
                let aggregates = aggregates.into_iter().filter(|_| !is_plain);
                items.extend(aggregates.map(|(aggregate, alias)| ProjectionItem {
                    value: ProjectionValue::Aggregate(aggregate),
                    alias,
                }));
                for index in 0..items.len() {
                    let names = column_names(&items);
                    if names[..index].contains(&names[index]) {
                        items[index].alias = Some(format!("other_{index}"));
                    }
                }
                let group_by = if is_plain || items.is_empty() {
                    Vec::new()
                } else {
                    paths
                };
                let projection = match items.is_empty() {
                    true => Projection::All,
                    false => Projection::Items(items),
                };
                Query {
                    top,
                    projection,
                    source,
                    condition,
                    group_by,
                }
            },
        )
}

const WORDS: &str = "SELECT * FROM devices . jobs WHERE tags deviceId AND OR NOT IN [ ] ( ) = <> < \
    'x' \" ' \\ 1 0x 1e - null IS_DEFINED STARTSWITH , GROUP BY TOP COUNT \\u12 \n";

/// Words, symbols and rubbish, so that many texts are nearly right.
fn nearly() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(WORDS.split(' ').collect::<Vec<_>>()).prop_map(str::to_owned),
        "\\PC{0,3}",
    ];
    prop::collection::vec(piece, 0..20).prop_flat_map(|pieces| {
        prop::sample::select(vec!["", " "]).prop_map(move |separator| pieces.join(separator))
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(query in query()) {
        let text = query.to_string();
        prop_assume!(text.chars().count() <= MAX_CHARACTERS);
        prop_assert_eq!(parse(&text).map_err(|error| format!("{error}\n{}", error.caret(&text))), Ok(query));
    }

    #[test]
    fn what_is_read_prints_to_the_same(text in nearly()) {
        if let Ok(condition) = parse_condition(&text) {
            prop_assert_eq!(parse_condition(&condition.to_string()), Ok(condition));
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic_and_every_mistake_is_in_the_text(text in nearly()) {
        let _ = bare_keyword(&text);
        for error in [parse(&text).err(), parse_condition(&text).err()].into_iter().flatten() {
            prop_assert!(text.is_char_boundary(error.position.byte));
            let shown = error.caret(&text);
            prop_assert_eq!(shown.lines().count(), 2);
        }
    }
}
