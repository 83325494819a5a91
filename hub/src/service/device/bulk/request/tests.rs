use proptest::prelude::*;

use super::*;

fn refused(body: &str) -> String {
    BulkRequest::read(body.as_bytes()).unwrap_err().message
}

/// The errors of a body's items.
fn item_errors(body: &str) -> Vec<String> {
    let request = BulkRequest::read(body.as_bytes()).unwrap();
    let errors = request.items.into_iter().filter_map(|item| item.task.err());
    errors.map(|error| error.message).collect()
}

#[test]
fn a_call_is_an_array_of_1_to_100_different_identities() {
    for (body, fragment) in [
        ("{}", "expected an array of 1 to 100 registry operations"),
        ("", "expected an array"),
        ("[] []", "expected an array"),
        ("[]", "expected 1 to 100"),
        (
            &format!("[{}0]", "0,".repeat(100)),
            "the array has too many items",
        ),
        (
            r#"[{"id":"a"},{"id":"b"},{"id":"a","importMode":"delete"}]"#,
            "items 0 and 2 both have the id `a`",
        ),
    ] {
        let message = refused(body);
        assert!(message.contains(fragment), "{body}: {message}");
    }
    assert_eq!(item_errors(&format!("[{}0]", "0,".repeat(99))).len(), 100);
    assert!(item_errors(r#"[{"id":"a"},{"id":"A"}]"#).is_empty());
}

#[test]
fn the_error_of_an_invalid_item_names_the_member_and_the_expected_value() {
    for (item, fragment) in [
        ("7", "item 0: the item is not a JSON object"),
        ("{}", "item 0: id is missing; expected a device id"),
        (r#"{"id":"a/b"}"#, "item 0: id is `a/b`: "),
        (
            r#"{"id":"a","importMode":"upsert"}"#,
            "item 0: importMode is `upsert`; expected one of `create`, `update`, ",
        ),
        (
            r#"{"id":"a","importMode":"updateIfMatchETag"}"#,
            "item 0: eTag is missing; expected an etag or `*`",
        ),
        (
            r#"{"id":"a","importMode":"updateTwinIfMatchETag","eTag":"x"}"#,
            "item 0: twinETag is missing",
        ),
        (
            r#"{"id":"a","eTag":"\"open","importMode":"deleteIfMatchETag"}"#,
            "item 0: eTag is `\"open`; expected an etag or `*`",
        ),
        (
            r#"{"id":"a","status":"on"}"#,
            "item 0: status is `on`; expected `enabled` or `disabled`",
        ),
        (
            r#"{"id":"a","authentication":{"type":5}}"#,
            "item 0: authentication.type: invalid type: integer `5`, expected a string",
        ),
        (
            r#"{"id":"a","authentication":{"symmetricKey":"MDEy"}}"#,
            "item 0: authentication.symmetricKey: expected an object with the texts",
        ),
        (
            r#"{"id":"a","authentication":{"symmetricKey":{"primaryKey":["MDEy"]}}}"#,
            "item 0: authentication.symmetricKey: expected an object with the texts",
        ),
        (r#"{"id":"a","tags":{"b.c":1}}"#, "item 0: tags"),
        (
            r#"{"id":"a","moduleId":"m"}"#,
            "item 0: moduleId is `m`; expected none, because this hub has no modules",
        ),
    ] {
        let messages = item_errors(&format!("[{item}]"));
        assert!(
            messages.len() == 1 && messages[0].contains(fragment),
            "{item}: {messages:?}"
        );
        assert!(!messages[0].contains("MDEy"), "a key in {messages:?}");
    }
}

#[test]
fn modes_ignore_case_and_the_audit_detail_counts_them() {
    let request = BulkRequest::read(
        br#"[
            {"id":"a","importMode":"Delete"},
            {"id":"b","importMode":"create"},
            {"id":"c","importMode":"DELETE"},
            {"id":"d"}
        ]"#,
    )
    .unwrap();
    assert_eq!(
        request.to_string(),
        "4 operations (create 1, delete 2, createOrUpdate 1): a b c d"
    );
}

proptest! {
    #[test]
    fn no_body_panics_and_no_body_yields_more_than_100_items(
        body in concat!(
            "(\\[|\\{|\\}|\\]|,|:|",
            "\"id\"|\"a\"|\"importMode\"|\"tags\"|\"delete\"|null|1e9| ){0,60}",
        ),
        count in 1..130_usize,
    ) {
        let _ = BulkRequest::read(body.as_bytes());
        let item = |number| format!(r#"{{"id":"{number}"}}"#);
        let items: Vec<String> = (0..count).map(item).collect();
        let read = BulkRequest::read(format!("[{}]", items.join(",")).as_bytes());
        let read = read.ok().map(|request| request.items.len());
        prop_assert_eq!(read, (count <= MAX_ITEMS).then_some(count));
    }
}
