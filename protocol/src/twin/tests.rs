use proptest::prelude::*;
use serde_json::json;

use super::*;

pub(super) fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is not an object"),
    }
}

/// Objects as a section may hold them: no null.
pub(super) fn objects() -> impl Strategy<Value = Object> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c]{0,3}".prop_map(Value::from),
        prop::collection::vec(0..3_i32, 0..3).prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 12, 4, |inner| {
        prop::collection::btree_map("[a-d]", inner, 0..4)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    });
    prop::collection::btree_map("[a-d]", value, 0..4)
        .prop_map(|members| members.into_iter().collect())
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// IoT Hub's own counters, seen in twins: 1, 2 and 7 in the documents, 332 in a dump.
#[test]
fn etags_are_counters_in_base64() {
    for (counter, text) in [
        (1, "AAAAAAAAAAE="),
        (2, "AAAAAAAAAAI="),
        (7, "AAAAAAAAAAc="),
        (332, "AAAAAAAAAUw="),
    ] {
        assert_eq!(etag(counter), text);
        assert_eq!(parse_etag(text), Some(counter));
    }
    for text in ["", "*", "AAAA", "MTA2NTU1MDM2Mw=="] {
        assert_eq!(parse_etag(text), None, "{text}");
    }
}

/// Read, written and read again: the second reading of this one was off by one in the last place
/// (found by the fuzz target `twin`).
#[test]
fn a_long_float_keeps_its_last_digit() {
    for text in [
        "-444444444444444440000000000000000001369188889006504527.0",
        "0.1",
        "21.400000000000002",
        "5e-324",
    ] {
        let number: f64 = text.parse().unwrap();
        let read: Value = serde_json::from_str(text).unwrap();
        assert_eq!(read.as_f64(), Some(number), "{text}");
        let written = read.to_string();
        assert_eq!(
            serde_json::from_str::<Value>(&written).unwrap(),
            read,
            "{text}"
        );
    }
}

/// The sample of "Get started with device twins (Azure CLI)" (device-twins-cli.md), after one write
/// of tags and one of reported properties.
#[test]
fn a_twin_is_read_and_written_as_the_service_spells_it() {
    let text = concat!(
        r#"{"deviceId":"SampleDevice","etag":"AAAAAAAAAAI=","deviceEtag":"MTA2NTU1MDM2Mw==","status":"enabled","statusReason":null,"#,
        r#""statusUpdateTime":"0001-01-01T00:00:00Z","connectionState":"Connected","lastActivityTime":"0001-01-01T00:00:00Z","#,
        r#""cloudToDeviceMessageCount":0,"authenticationType":"sas","x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},"#,
        r#""modelId":"","version":4,"tags":{"location":{"plant":"Redmond43","region":"US"}},"#,
        r#""properties":{"desired":{"$metadata":{"$lastUpdated":"2023-02-21T10:40:10.5062402Z"},"$version":1},"#,
        r#""reported":{"connectivity":{"type":"cellular"},"$metadata":{"$lastUpdated":"2023-02-21T10:40:43.8539917Z","#,
        r#""connectivity":{"$lastUpdated":"2023-02-21T10:40:43.8539917Z","type":{"$lastUpdated":"2023-02-21T10:40:43.8539917Z"}}},"$version":2}},"#,
        r#""capabilities":{"iotEdge":false}}"#
    );
    let twin: Twin = serde_json::from_str(text).unwrap();
    assert_eq!(
        twin.properties.reported.values,
        object(json!({"connectivity":{"type":"cellular"}}))
    );
    assert_eq!(twin.last_activity_time, never());
    assert_eq!(serde_json::to_string(&twin).unwrap(), text);

    // The same reported section, created by its write.
    let mut reported = Section::default();
    let patch = object(json!({"connectivity":{"type":"cellular"}}));
    reported
        .patch(
            SectionKind::Reported,
            &patch,
            at("2023-02-21T10:40:43.8539917Z"),
        )
        .unwrap();
    assert_eq!(reported, twin.properties.reported);
}

/// The sample of "Communicate with IoT Hub using the MQTT protocol", section on retrieving a twin.
#[test]
fn a_device_sees_values_and_versions() {
    let text = r#"{"desired":{"telemetrySendFrequency":"5m","$version":12},"reported":{"telemetrySendFrequency":"5m","batteryLevel":55,"$version":123}}"#;
    let properties: Properties = serde_json::from_str(text).unwrap();
    assert_eq!(properties.desired.version, 12);
    assert_eq!(serde_json::to_string(&properties).unwrap(), text);
    assert_eq!(properties.clone().without_metadata(), properties);
    assert!(
        serde_json::from_str::<Properties>(r#"{"desired":{},"reported":{"$version":1}}"#).is_err()
    );
}

/// The stamps of desired properties have the version too, as in the sample of "IoT Hub
/// non-telemetry event schemas".
#[test]
fn desired_properties_are_stamped_with_time_and_version() {
    let (first, second) = (
        at("2022-06-01T22:27:50.2612586Z"),
        at("2022-06-02T00:00:00Z"),
    );
    let mut section = Section::default();
    section
        .patch(
            SectionKind::Desired,
            &object(json!({"building":43,"strike":{"mode":"a","list":[1,2]}})),
            first,
        )
        .unwrap();
    section
        .patch(
            SectionKind::Desired,
            &object(json!({"strike":{"mode":null}})),
            second,
        )
        .unwrap();
    let stamp =
        |time: &str, version: u64| json!({"$lastUpdated":time,"$lastUpdatedVersion":version});
    let mut strike = stamp("2022-06-02T00:00:00Z", 3);
    strike["list"] = stamp("2022-06-01T22:27:50.2612586Z", 2);
    let mut expected = stamp("2022-06-02T00:00:00Z", 3);
    expected["building"] = stamp("2022-06-01T22:27:50.2612586Z", 2);
    expected["strike"] = strike;
    assert_eq!(Value::Object(section.metadata), expected);
    assert_eq!(section.version, 3);
}

#[test]
fn a_value_that_replaces_an_object_has_one_stamp() {
    let now = at("2022-06-02T00:00:00Z");
    let mut section = Section::default();
    section
        .patch(SectionKind::Reported, &object(json!({"a":{"b":1}})), now)
        .unwrap();
    section
        .patch(SectionKind::Reported, &object(json!({"a":1})), now)
        .unwrap();
    assert_eq!(
        section.metadata["a"],
        json!({"$lastUpdated":"2022-06-02T00:00:00Z"})
    );
    section
        .patch(SectionKind::Reported, &object(json!({"a":{"c":1}})), now)
        .unwrap();
    assert!(section.metadata["a"].get("b").is_none());
    assert!(section.metadata["a"].get("c").is_some());
}

/// The notification described by the IoT Hub team (azure-iot-sdk-csharp issue 954), and the sample
/// of the MQTT document.
#[test]
fn a_device_is_notified_of_written_and_removed_members() {
    let now = at("2022-06-02T00:00:00Z");
    let mut section = Section::default();
    section
        .patch(SectionKind::Desired, &object(json!({"a":1,"b":2})), now)
        .unwrap();
    let patch = section
        .replace(SectionKind::Desired, object(json!({"a":1,"c":100})), now)
        .unwrap();
    let notification = Value::Object(section.notification(patch));
    assert_eq!(notification, json!({"a":1,"b":null,"c":100,"$version":3}));
    let patch = section.clear(SectionKind::Desired, now);
    assert_eq!(
        Value::Object(section.notification(patch)),
        json!({"a":null,"c":null,"$version":4})
    );
    assert!(section.values.is_empty());
    assert_eq!(
        section.metadata.len(),
        2,
        "no property is left: {:?}",
        section.metadata
    );
    let sample = Section {
        version: 8,
        ..Section::default()
    };
    let notification =
        sample.notification(object(json!({"telemetrySendFrequency":"5m","route":null})));
    assert_eq!(
        serde_json::to_string(&notification).unwrap(),
        r#"{"telemetrySendFrequency":"5m","route":null,"$version":8}"#
    );
}

#[test]
fn a_refused_change_changes_nothing() {
    let now = at("2022-06-02T00:00:00Z");
    let mut section = Section::default();
    section
        .patch(SectionKind::Desired, &object(json!({"a":1})), now)
        .unwrap();
    let before = section.clone();
    assert!(
        section
            .patch(SectionKind::Desired, &object(json!({"b":2,"$c":1})), now)
            .is_err()
    );
    assert!(
        section
            .replace(SectionKind::Desired, object(json!({"b":null})), now)
            .is_err()
    );
    let large: Object = (0..9)
        .map(|n| (format!("p{n}"), "x".repeat(4096).into()))
        .collect();
    assert!(section.patch(SectionKind::Desired, &large, now).is_err());
    assert_eq!(section, before);
}

#[test]
fn patches_tolerate_whole_twins() {
    let patch: TwinPatch = serde_json::from_value(json!({
        "deviceId": null, "etag": "*", "version": 3, "tags": {"x": null},
        "properties": {"desired": {"a": 1, "$version": 7, "$metadata": {}}, "reported": {}},
    }))
    .unwrap();
    assert_eq!(patch.etag.as_deref(), Some("*"));
    assert_eq!(patch.tags.values(), Some(&object(json!({"x":null}))));
    assert_eq!(patch.desired.values(), Some(&object(json!({"a":1}))));
    let cleared: TwinPatch =
        serde_json::from_value(json!({"properties":{"desired":null}})).unwrap();
    assert_eq!(
        (cleared.tags, cleared.desired),
        (SectionPatch::Absent, SectionPatch::Null)
    );
    assert!(serde_json::from_value::<TwinPatch>(json!({"tags":[]})).is_err());
    assert_eq!(
        serde_json::from_value::<TwinPatch>(json!({})).unwrap(),
        TwinPatch::default()
    );
}

proptest! {
    #[test]
    fn patches_are_read_back(tags in prop::option::of(objects()), desired in prop::option::of(objects()), null in any::<bool>()) {
        let section = |values: Option<Object>| match values {
            Some(values) => SectionPatch::Values(values),
            None if null => SectionPatch::Null,
            None => SectionPatch::Absent,
        };
        let patch = TwinPatch { etag: null.then(|| "*".to_owned()), tags: section(tags), desired: section(desired) };
        let text = serde_json::to_string(&patch).unwrap();
        prop_assert_eq!(serde_json::from_str::<TwinPatch>(&text).unwrap(), patch);
    }

    /// Every property has its stamps, and every stamp its property, whatever the order of writes.
    #[test]
    fn metadata_mirrors_the_values(writes in prop::collection::vec((objects(), any::<bool>()), 0..6)) {
        let mut section = Section::default();
        for (values, replaces) in writes {
            if replaces {
                section.replace(SectionKind::Desired, values, never()).unwrap();
            } else {
                section.patch(SectionKind::Desired, &values, never()).unwrap();
            }
        }
        prop_assert!(mirrors(&section.metadata, &section.values), "{:?}", section);
    }
}

fn mirrors(metadata: &Object, values: &Object) -> bool {
    let stamps = metadata.keys().filter(|name| name.starts_with('$')).count();
    metadata.contains_key("$lastUpdated")
        && metadata.len() - stamps == values.len()
        && values
            .iter()
            .all(|(name, value)| match (metadata.get(name), value) {
                (Some(Value::Object(metadata)), Value::Object(values)) => mirrors(metadata, values),
                (Some(Value::Object(metadata)), _) => mirrors(metadata, &Object::new()),
                _ => false,
            })
}

/// Registries other than Azure's write null for what a device does not have.
#[test]
fn a_null_in_an_answer_of_the_registry_counts_as_absent() {
    let twin = json!({"deviceId": "east", "etag": "AAAAAAAAAAE=", "version": 4,
        "properties": {"desired": {"$version": 1}, "reported": {"$version": 1}}});
    for member in [
        "status",
        "statusReason",
        "statusUpdateTime",
        "connectionState",
        "lastActivityTime",
        "cloudToDeviceMessageCount",
        "authenticationType",
        "x509Thumbprint",
        "modelId",
        "tags",
        "capabilities",
    ] {
        let mut with_null = twin.clone();
        with_null[member] = Value::Null;
        let read = |document: &Value| serde_json::from_str::<Twin>(&document.to_string());
        assert_eq!(read(&with_null).unwrap(), read(&twin).unwrap(), "{member}");
    }
    let identity = json!({"deviceId": "east", "connectionState": "Disconnected",
        "status": "enabled"});
    for member in [
        "generationId",
        "etag",
        "statusReason",
        "connectionStateUpdatedTime",
        "statusUpdatedTime",
        "lastActivityTime",
        "cloudToDeviceMessageCount",
        "authentication",
        "capabilities",
        "deviceScope",
        "parentScopes",
    ] {
        let mut with_null = identity.clone();
        with_null[member] = Value::Null;
        let read = |document: &Value| {
            serde_json::from_str::<crate::identity::DeviceIdentity>(&document.to_string())
        };
        let expected = read(&identity).unwrap();
        assert_eq!(read(&with_null).unwrap(), expected, "{member}");
    }
}

#[test]
fn a_section_joined_from_text_is_the_serialised_section() {
    let values = json!({"floor": 43, "text": "a\u{0}\"}", "nested": {"list": [1, 1.5, null]}});
    let metadata = json!({"$lastUpdated": "2026-12-01T12:00:00Z", "floor": {}});
    for values in [json!({}), values] {
        for metadata in [json!({}), metadata.clone()] {
            let section = Section {
                values: values.as_object().unwrap().clone(),
                metadata: metadata.as_object().unwrap().clone(),
                version: 7,
            };
            let joined = Section::join(&values.to_string(), &metadata.to_string(), 7).unwrap();
            assert_eq!(joined.get(), serde_json::to_string(&section).unwrap());
        }
    }
    for (values, metadata) in [
        ("[]", "{}"),
        ("", "{}"),
        ("{\"a\":}", "{}"),
        ("{}", "{\"a\""),
        ("{}", "[]"),
        ("{}", "1,\"a\":2"),
        ("{\"a\":1e999}", "{}"),
        ("{\"a\":\"\\ud800\"}", "{}"),
    ] {
        assert!(
            Section::join(values, metadata, 1).is_err(),
            "{values} {metadata}"
        );
    }
}

#[test]
fn text_is_passed_on_exactly_if_it_can_be_read_as_an_object() {
    let deep = |depth| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
    for (text, is_object) in [
        (
            r#"{"a":[1,-2,1.5e3,true,null,"x\ud83d\ude00",{}]}"#.to_owned(),
            true,
        ),
        (deep(120), true),
        (deep(128), false),
        ("[1]".to_owned(), false),
        ("1".to_owned(), false),
        ("{}{}".to_owned(), false),
    ] {
        let passed = object_text(text.clone());
        assert_eq!(passed.is_ok(), is_object, "{text}");
        assert_eq!(
            serde_json::from_str::<Object>(&text).is_ok(),
            is_object,
            "{text}"
        );
        if let Ok(passed) = passed {
            assert_eq!(passed.get(), text);
        }
    }
}

proptest! {
    #[test]
    fn damaged_text_is_passed_on_only_if_it_can_be_read(
        values in objects(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = serde_json::to_vec(&values).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(text) = String::from_utf8(bytes) {
            let is_readable = serde_json::from_str::<Object>(&text).is_ok();
            prop_assert_eq!(object_text(text).is_ok(), is_readable);
        }
    }
}
