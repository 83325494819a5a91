//! Queries and conditions: bounded, mistakes are located, and the printed text parses to the same.

use std::sync::OnceLock;

use iothub_protocol::query::{
    Condition, MAX_CHARACTERS, Query, QueryError, answer, bare_keyword, column_names, matches,
    parse, parse_condition,
};
use serde_json::{Value, json};

use crate::{Seeds, texts};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    assert!(bare_keyword(text).is_none_or(|word| text.contains(word)));
    match parse(text) {
        Ok(query) => {
            assert!(text.chars().count() <= MAX_CHARACTERS);
            let printed = query.to_string();
            // A character may take two when printed.
            if printed.chars().count() <= MAX_CHARACTERS {
                assert_eq!(parse(&printed).as_ref(), Ok(&query), "{printed:?}");
            }
            check_answer(&query);
        }
        Err(error) => check_position(&error, text),
    }
    match parse_condition(text) {
        Ok(condition) => {
            let printed = condition.to_string();
            if printed.chars().count() <= MAX_CHARACTERS {
                assert_eq!(
                    parse_condition(&printed).as_ref(),
                    Ok(&condition),
                    "{printed:?}"
                );
            }
            check_condition(&condition);
        }
        Err(error) => check_position(&error, text),
    }
}

/// A condition evaluates on any document, with the same result every time.
fn check_condition(condition: &Condition) {
    for document in documents() {
        assert_eq!(matches(condition, document), matches(condition, document));
    }
}

/// Rows contain exactly the selected columns, and are no more than requested.
fn check_answer(query: &Query) {
    let rows = answer(query, documents());
    assert!(rows.len() <= documents().len().max(1));
    assert!(query.top.is_none_or(|top| rows.len() as u64 <= top));
    if query.items().is_empty() {
        return;
    }
    let names = column_names(query.items());
    for row in rows {
        let members = row.as_object().into_iter().flatten();
        assert!(members.into_iter().all(|(name, _)| names.contains(name)));
    }
}

fn documents() -> &'static [Value] {
    static DOCUMENTS: OnceLock<Vec<Value>> = OnceLock::new();
    DOCUMENTS.get_or_init(|| {
        vec![
            json!({
                "deviceId": "lobby-east", "status": "enabled", "version": 4,
                "tags": { "building": "43", "floor": 3, "list": [1, "2", null] },
                "properties": {
                    "desired": { "a": { "b": true } },
                    "reported": { "n": -1.5, "t": "x" },
                },
            }),
            json!({}),
        ]
    })
}

fn check_position(error: &QueryError, text: &str) {
    let position = error.position;
    assert!(position.byte <= text.len() && text.is_char_boundary(position.byte));
    assert!(position.line >= 1 && position.column >= 1);
    let caret = error.caret(text);
    let mut lines = caret.lines();
    let (shown, below) = (
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
    );
    assert!(below.ends_with('^'), "no caret: {caret:?}");
    assert!(
        shown.chars().count() <= 200,
        "the excerpt is too long: {shown:?}"
    );
    assert!(
        below.chars().count() <= shown.chars().count() + 2,
        "the caret is outside the line: {caret:?}"
    );
    assert!(
        error.to_string().chars().count() <= 1000,
        "the error is too long: {error}"
    );
}

pub(crate) fn seeds() -> Seeds {
    texts([
        "SELECT * FROM devices",
        "SELECT TOP 10 deviceId, properties.reported.lockState AS state FROM devices WHERE \
         tags.building = '43' AND (tags.floor >= 3 OR NOT is_defined(tags.floor))",
        "SELECT COUNT() AS n, AVG(tags.floor) FROM devices GROUP BY tags.building, status",
        "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'lock-1' AND devices.jobs.status IN \
         ['failed', 'pending']",
        "tags.floor NIN [1, -2.5e3, null, true] AND startswith(deviceId, 'lobby-') AND \
         properties.desired['odd name'] != 'it\\'s'",
        "tags.a + 2 * 3 % 4 - 1 / 2 <> undefined OR NOT (endswith(deviceId, \"-east\"))",
    ])
}
