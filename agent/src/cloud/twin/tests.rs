//! Validation, storage and acknowledgement of the desired properties.

use door_core::contract::Lockdown;
use door_core::{DesiredLockdown, DoorSettings, Fitted, Overrides, Setting, StrikeConfig};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::time::Duration;

use super::*;

fn desired() -> Desired {
    let strike = StrikeConfig::motor_lock();
    let configured = DoorConfig::new(DoorSettings::default(), strike, Fitted::ALL).unwrap();
    Desired::new(SiteLocation::default(), DesiredDoor::default(), configured)
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("expected an object, found {other}"),
    }
}

fn read(document: Value) -> Desired {
    let mut desired = desired();
    assert_eq!(desired.handle_document(&map(document)), TwinAction::Apply);
    desired
}

fn acknowledged(desired: &Desired) -> Value {
    acknowledged_with(desired, &ApplyProblems::default())
}

fn acknowledged_with(desired: &Desired, problems: &ApplyProblems) -> Value {
    let each = desired.acknowledgements(problems).into_iter();
    each.filter_map(|(key, text)| Some((key, serde_json::from_str::<Value>(&text?).unwrap())))
        .collect()
}

fn applied(value: impl Into<Value>, version: u64) -> Value {
    json!({"value": value.into(), "ac": 200, "av": version, "ad": "applied"})
}

#[test]
fn values_are_kept_as_given_and_acknowledged_with_the_version() {
    let desired = read(json!({"building": 43, "floor": "3a", "other": true, "$version": 5}));
    assert_eq!(desired.location().building, Some(43.into()));
    let expected = json!({"building": applied(43, 5), "floor": applied("3a", 5)});
    assert_eq!(acknowledged(&desired), expected);
}

#[test]
fn invalid_values_are_refused_with_a_reason_and_keep_the_previous_value() {
    let mut desired = read(json!({"floor": 3, "$version": 5}));
    let next = desired.handle_patch(6, &map(json!({"floor": {"no": 4}, "$version": 6})));
    assert_eq!(next, TwinAction::Apply);
    assert_eq!(desired.location().floor, Some(3.into()));
    assert_eq!(
        acknowledged(&desired),
        json!({"floor": {
            "value": 3, "ac": 400, "av": 6,
            "ad": "expected a string or a number, found an object; the previous value stays"
        }})
    );
}

#[test]
fn an_invalid_first_value_is_acknowledged_without_a_value() {
    let desired = read(json!({"floor": [], "$version": 1}));
    assert_eq!(acknowledged(&desired)["floor"].get("value"), None);
    assert_eq!(acknowledged(&desired)["floor"]["ac"], 400);
}

#[test]
fn null_and_absence_remove_the_location() {
    let mut desired = read(json!({"building": 43, "floor": 3, "$version": 5}));
    desired.handle_patch(6, &map(json!({"building": null, "$version": 6})));
    assert_eq!(desired.location().building, None);
    assert_eq!(acknowledged(&desired).get("building"), None);
    desired.handle_document(&map(json!({"$version": 7})));
    assert_eq!(*desired.location(), SiteLocation::default());
}

#[test]
fn outdated_notifications_are_ignored_and_a_gap_re_reads_the_twin() {
    let mut desired = read(json!({"floor": 3, "$version": 5}));
    let patch = |floor: u64, version: u64| map(json!({"floor": floor, "$version": version}));
    assert_eq!(desired.handle_patch(5, &patch(9, 5)), TwinAction::Nothing);
    assert_eq!(desired.handle_patch(6, &patch(4, 6)), TwinAction::Apply);
    assert_eq!(desired.handle_patch(8, &patch(6, 8)), TwinAction::ReadAgain);
    assert_eq!(desired.location().floor, Some(4.into()));
    // Until the twin is read no patch counts, and a document older than the notification is not
    // enough.
    assert_eq!(desired.handle_patch(9, &patch(7, 9)), TwinAction::Nothing);
    assert_eq!(desired.handle_document(&patch(6, 8)), TwinAction::ReadAgain);
    assert_eq!(desired.handle_document(&patch(7, 9)), TwinAction::Apply);
    assert_eq!(desired.location().floor, Some(7.into()));
    assert_eq!(desired.handle_patch(10, &patch(8, 10)), TwinAction::Apply);
}

#[test]
fn a_twin_of_a_recreated_device_counts_despite_its_lower_version() {
    let mut desired = read(json!({"floor": 3, "$version": 50}));
    desired.connected();
    let document = map(json!({"floor": 4, "$version": 2}));
    assert_eq!(desired.handle_document(&document), TwinAction::Apply);
    assert_eq!(desired.location().floor, Some(4.into()));
}

#[test]
fn an_invalid_mode_keeps_the_previous_one() {
    let mut desired = read(json!({"mode": "secure", "$version": 2}));
    assert_eq!(desired.door().mode, DesiredMode::Mode(Mode::Secure));
    assert_eq!(
        acknowledged(&desired),
        json!({"mode": applied("secure", 2)})
    );
    desired.handle_patch(3, &map(json!({"mode": "open"})));
    assert_eq!(desired.door().mode, DesiredMode::Unreadable);
    let notified = &acknowledged(&desired)["mode"];
    assert_eq!(notified["ac"], 400);
    assert_eq!(notified["value"], "secure");
    let reason = notified["ad"].as_str().unwrap();
    assert!(reason.contains("one of normal, passage"), "{reason}");
    desired.handle_patch(4, &map(json!({"mode": null})));
    assert_eq!(desired.door().mode, DesiredMode::Absent);
    assert_eq!(acknowledged(&desired), json!({}));
}

#[test]
fn settings_are_validated_and_removed_one_by_one() {
    let mut desired = read(json!({
        "settings": {"strikeTime": "7s", "settleTime": "soon", "strikeTme": 5}, "$version": 2
    }));
    let second = Duration::from_secs(1);
    let seven = Overrides::from([(Setting::StrikeTime, second * 7)]);
    assert_eq!(desired.door().settings, seven);
    let notified = &acknowledged(&desired)["settings"];
    assert_eq!(notified["strikeTime"], applied("7s", 2));
    for bad in ["settleTime", "strikeTme"] {
        assert_eq!(notified[bad]["ac"], 400);
        assert_eq!(notified[bad].get("value"), None);
    }
    // A patch names only what has changed.
    let patch = json!({"settings": {"settleTime": 1, "strikeTme": null}});
    desired.handle_patch(3, &map(patch));
    assert_eq!(desired.door().settings.len(), 2);
    let notified = &acknowledged(&desired)["settings"];
    let expected = json!({"strikeTime": applied("7s", 2), "settleTime": applied(1, 3)});
    assert_eq!(*notified, expected);
    desired.handle_patch(4, &map(json!({"settings": {"strikeTime": true}})));
    assert_eq!(desired.door().settings[&Setting::StrikeTime], second * 7);
    let notified = &acknowledged(&desired)["settings"]["strikeTime"];
    assert_eq!(notified["value"], "7s");
    // Not an object: the previous values stay.
    desired.handle_patch(5, &map(json!({"settings": 5})));
    assert_eq!(desired.door().settings.len(), 2);
    assert_eq!(acknowledged(&desired)["settings"]["ac"], 400);
    // A document is complete.
    desired.handle_document(&map(json!({"settings": {"settleTime": 1}, "$version": 6})));
    let settle = Overrides::from([(Setting::SettleTime, second)]);
    assert_eq!(desired.door().settings, settle);
    desired.handle_document(&map(json!({"$version": 7})));
    assert_eq!(desired.door(), DesiredDoor::default());
    assert_eq!(acknowledged(&desired), json!({}));
}

#[test]
fn a_setting_that_does_not_fit_the_door_is_refused_with_the_reason() {
    let second = Duration::from_secs(1);
    let strike = StrikeConfig {
        max_on: Some(second * 20),
        ..StrikeConfig::solenoid_bolt(door_core::config::FailMode::Secure)
    };
    let fitted = Fitted {
        rex: false,
        fire: false,
        ..Fitted::ALL
    };
    let configured = DoorConfig::new(DoorSettings::default(), strike, fitted).unwrap();
    let saved = DesiredDoor {
        settings: Overrides::from([(Setting::StrikeTime, second * 6)]),
        ..DesiredDoor::default()
    };
    let mut desired = Desired::new(SiteLocation::default(), saved.clone(), configured);
    let document = json!({"settings": {"strikeTime": "1m"}, "$version": 2});
    desired.handle_document(&map(document));
    assert_eq!(desired.door().settings, saved.settings);
    let notified = &acknowledged(&desired)["settings"]["strikeTime"];
    assert_eq!(notified["ac"], 400);
    assert_eq!(notified["value"], "6s");
    let reason = notified["ad"].as_str().unwrap();
    assert!(reason.contains("max_on"), "{reason}");
}

#[test]
fn a_failed_value_is_acknowledged_with_500_and_a_refused_one_with_400() {
    let desired = read(json!({"mode": "passage", "floor": 3, "building": [], "$version": 2}));
    let problems = ApplyProblems {
        location: None,
        door: Some("not saved".to_owned()),
    };
    let notified = acknowledged_with(&desired, &problems);
    let failed = json!({"value": "passage", "ac": 500, "av": 2, "ad": "not saved"});
    assert_eq!(notified["mode"], failed);
    assert_eq!(notified["floor"]["ac"], 200);
    assert_eq!(notified["building"]["ac"], 400);
}

fn lockdown(id: &str, version: u64) -> DesiredLockdown {
    DesiredLockdown::Lockdown {
        lockdown: Lockdown {
            id: id.parse().ok(),
            ..Lockdown::default()
        },
        version,
    }
}

#[test]
fn a_lockdown_is_acknowledged_as_given_and_an_invalid_one_changes_nothing() {
    let mut desired = read(json!({"lockdown": {"id": "L1", "level": 3}, "$version": 5}));
    assert_eq!(desired.door().lockdown, lockdown("L1", 5));
    let value = json!({"id": "L1", "level": 3});
    assert_eq!(
        acknowledged(&desired)["lockdown"],
        applied(value.clone(), 5)
    );
    for (version, bad, reason) in [
        (6, json!({"id": null}), "expected an object with \"id\""),
        (7, json!({"id": 5}), "invalid type: integer `5`"),
        (8, json!("L3"), "expected an object, found another string"),
        (9, json!(true), "expected an object, found true or false"),
    ] {
        desired.handle_patch(version, &map(json!({"lockdown": bad})));
        assert_eq!(desired.door().lockdown, DesiredLockdown::Unreadable);
        let acknowledged = &acknowledged(&desired)["lockdown"];
        assert_eq!(
            (&acknowledged["ac"], &acknowledged["av"]),
            (&json!(400), &json!(version))
        );
        assert_eq!(acknowledged["value"], value);
        let text = acknowledged["ad"].as_str().unwrap();
        assert!(text.contains(reason), "{text}");
    }
    // A patch names the changed members only.
    desired.handle_patch(10, &map(json!({"lockdown": {"id": "L2", "level": null}})));
    assert_eq!(desired.door().lockdown, lockdown("L2", 10));
    desired.handle_patch(11, &map(json!({"lockdown": null})));
    assert_eq!(desired.door().lockdown, DesiredLockdown::Absent);
    assert_eq!(acknowledged(&desired), json!({}));
}

#[test]
fn a_lockdown_counts_without_its_unreadable_members_and_names_them() {
    let value = json!({"id": "L1", "by": 7, "at": "soon", "reason": null});
    let desired = read(json!({"lockdown": value, "$version": 5}));
    assert_eq!(desired.door().lockdown, lockdown("L1", 5));
    let mut expected = applied(value, 5);
    expected["value"].as_object_mut().unwrap().remove("reason");
    expected["ad"] = "applied; not readable: by, at".into();
    assert_eq!(acknowledged(&desired)["lockdown"], expected);
}

#[test]
fn a_document_older_than_the_order_of_a_lockdown_does_not_end_it() {
    let strike = StrikeConfig::motor_lock();
    let configured = DoorConfig::new(DoorSettings::default(), strike, Fitted::ALL).unwrap();
    let saved = DesiredDoor {
        lockdown: lockdown("L1", 5),
        ..DesiredDoor::default()
    };
    for (document, expected) in [
        (json!({"$version": 5}), DesiredLockdown::Absent),
        (
            json!({"lockdown": null, "$version": 6}),
            DesiredLockdown::Absent,
        ),
        (json!({"$version": 4}), DesiredLockdown::Lost),
        (
            json!({"lockdown": {"id": "L0"}, "$version": 4}),
            lockdown("L0", 4),
        ),
        (
            json!({"lockdown": 7, "$version": 4}),
            DesiredLockdown::Unreadable,
        ),
    ] {
        let mut desired = Desired::new(SiteLocation::default(), saved.clone(), configured);
        desired.handle_document(&map(document.clone()));
        assert_eq!(desired.door().lockdown, expected, "{document}");
    }
    // Within a run too.
    let mut desired = read(json!({"lockdown": {"id": "L1"}, "$version": 5}));
    desired.connected();
    desired.handle_document(&map(json!({"$version": 3})));
    assert_eq!(desired.door().lockdown, DesiredLockdown::Lost);
    // A lockdown ordered since, and its end, count.
    desired.handle_patch(4, &map(json!({"lockdown": {"id": "L2"}})));
    assert_eq!(desired.door().lockdown, lockdown("L2", 4));
    desired.handle_patch(5, &map(json!({"lockdown": null})));
    assert_eq!(desired.door().lockdown, DesiredLockdown::Absent);
}

fn lock(from: &str) -> Value {
    json!({"want": "locked", "from": format!("2026-12-01T{from}:00Z")})
}

#[test]
fn timed_entries_are_validated_and_removed_one_by_one() {
    let mut desired = read(json!({
        "timed": {"a": lock("21:00"), "b": {"want": "open"}, "B": lock("21:00")}, "$version": 2
    }));
    let ids = |desired: &Desired| {
        let door = desired.door();
        let ids: Vec<_> = door.timed.keys().map(ToString::to_string).collect();
        (ids.join(" "), door.timed_version)
    };
    assert_eq!(ids(&desired), ("a".to_owned(), 2));
    let notified = &acknowledged(&desired)["timed"];
    assert_eq!(notified["a"], applied(lock("21:00"), 2));
    for (id, reason) in [("b", "want is \"open\""), ("B", "expected an id")] {
        assert_eq!(notified[id]["ac"], 400);
        let found = notified[id]["ad"].as_str().unwrap();
        assert!(found.starts_with(reason), "{found}");
    }
    desired.handle_patch(
        3,
        &map(json!({"timed": {"a": {"want": 7}, "b": lock("22:00"), "B": null}})),
    );
    assert_eq!(ids(&desired), ("a b".to_owned(), 3));
    let notified = &acknowledged(&desired)["timed"];
    assert_eq!(
        (&notified["a"]["ac"], &notified["a"]["value"]),
        (&400.into(), &lock("21:00"))
    );
    // A patch names the changed members only.
    let until = json!({"want": "locked", "until": "2026-12-01T23:00:00Z"});
    desired.handle_patch(
        4,
        &map(json!({"timed": {"a": until, "b": {"want": "locked"}}})),
    );
    let notified = &acknowledged(&desired)["timed"];
    assert_eq!(notified["a"]["value"]["until"], "2026-12-01T23:00:00Z");
    assert_eq!(
        (&notified["a"]["ac"], &notified["b"]["av"]),
        (&200.into(), &3.into())
    );
    desired.handle_patch(5, &map(json!({"timed": 7})));
    assert_eq!(acknowledged(&desired)["timed"]["ac"], 400);
    assert_eq!(ids(&desired).0, "a b");
    desired.handle_patch(6, &map(json!({"timed": {"a": null}})));
    assert_eq!(ids(&desired), ("b".to_owned(), 6));
    desired.handle_patch(7, &map(json!({"timed": null})));
    assert_eq!(ids(&desired), (String::new(), 7));
    assert_eq!(acknowledged(&desired), json!({}));
}

#[test]
fn more_than_20_timed_entries_or_8_kib_are_refused_with_the_number() {
    let many: Map<_, _> = (0..21)
        .map(|n| (format!("e{n:02}"), lock("21:00")))
        .collect();
    let desired = read(json!({"timed": many, "$version": 2}));
    assert_eq!(desired.door().timed.len(), 20);
    let refused = acknowledged(&desired)["timed"]["e20"]["ad"].clone();
    assert_eq!(refused, "the door has 20 timed entries already");

    let mut long = lock("21:00");
    long["reason"] = "x".repeat(256).into();
    long["by"] = "x".repeat(128).into();
    let many: Map<_, _> = (0..18)
        .map(|n| (format!("e{n:02}"), long.clone()))
        .collect();
    let desired = read(json!({"timed": many, "$version": 2}));
    let notified = &acknowledged(&desired)["timed"]["e17"];
    assert_eq!(notified["ac"], 400);
    let refused = notified["ad"].as_str().unwrap();
    assert!(refused.ends_with("expected at most 8192"), "{refused}");
}

#[test]
fn acknowledgements_of_bad_values_stay_small() {
    let long = "é".repeat(5_000);
    let many: Map<_, _> = (0..200).map(|n| (format!("e{n:03}"), json!(7))).collect();
    for (document, bad) in [
        (json!({"timed": {"a": {"want": long}}}), "/timed/a"),
        (json!({"timed": {"a": long}}), "/timed/a"),
        (
            json!({"schedule": {"digest": long, "text": "x"}}),
            "/schedule",
        ),
        (
            json!({"settings": {"strikeTime": long}}),
            "/settings/strikeTime",
        ),
        (json!({"lockdown": {"id": long}}), "/lockdown"),
        (json!({"timed": many}), "/timed/e000"),
        (json!({"settings": many}), "/settings/e000"),
    ] {
        let found = acknowledged(&read(document));
        assert_eq!(found.pointer(bad).unwrap()["ac"], 400, "{found}");
        assert!(
            found.pointer(bad).unwrap()["ad"].as_str().unwrap().len() <= 300,
            "{found}"
        );
        let members = found.as_object().unwrap().values().next().unwrap();
        assert!(members.as_object().unwrap().len() <= 20, "{found}");
    }
    let found = acknowledged(&read(json!({"timed": {"a": {"want": long}}})));
    let reason = found["timed"]["a"]["ad"].as_str().unwrap();
    assert!(
        reason.starts_with("want is \"é")
            && reason.ends_with("expected \"locked\" or \"released\"")
    );
}

#[test]
fn an_older_document_takes_away_no_timed_lock() {
    let release = json!({
        "want": "released", "from": "2026-12-01T21:00:00Z", "until": "2026-12-01T22:00:00Z"
    });
    let held = read(json!({"timed": {"l": lock("21:00"), "r": release}, "$version": 9})).door();
    let strike = StrikeConfig::motor_lock();
    let configured = DoorConfig::new(DoorSettings::default(), strike, Fitted::ALL).unwrap();
    for (document, left) in [
        (json!({"$version": 8}), vec!["l"]),
        (
            json!({"timed": {"l": lock("23:00")}, "$version": 8}),
            vec!["l"],
        ),
        (json!({"$version": 9}), vec![]),
    ] {
        let mut desired = Desired::new(SiteLocation::default(), held.clone(), configured);
        desired.handle_document(&map(document));
        let door = desired.door();
        let ids: Vec<_> = door.timed.keys().map(|id| id.as_str()).collect();
        assert_eq!(ids, left);
        assert!(left.is_empty() || door.timed.values().eq(held.timed.values().take(1)));
        let kept = left.iter().map(|id| (*id, applied(lock("21:00"), 9)));
        let kept: Value = kept.collect();
        assert_eq!(
            acknowledged(&desired).get("timed").unwrap_or(&json!({})),
            &kept
        );
        // Removed on purpose, it goes.
        let version = door.timed_version;
        desired.handle_patch(9 + 1, &map(json!({"timed": {"l": null}})));
        let again = desired.door();
        assert!(again.timed.is_empty() || version == 9);
    }
}

#[test]
fn an_older_document_brings_back_no_release_and_no_week() {
    let release = |until: &str| {
        let (from, until) = ("2026-12-01T21:00:00Z", format!("2026-12-01T{until}:00Z"));
        json!({"want": "released", "from": from, "until": until})
    };
    let office = week(OFFICE);
    let looser = week(&OFFICE.replace("22:00", "23:00"));
    let other = read(json!({"timed": {"l": lock("21:00")}, "$version": 9})).door();
    let same =
        read(json!({"timed": {"r": release("22:00")}, "schedule": office, "$version": 9})).door();
    for (held, before) in [(other, false), (same, true)] {
        let strike = StrikeConfig::motor_lock();
        let configured = DoorConfig::new(DoorSettings::default(), strike, Fitted::ALL).unwrap();
        let mut desired = Desired::new(SiteLocation::default(), held.clone(), configured);
        let older = json!({
            "timed": {"r": release("23:00"), "new": lock("20:00")}, "schedule": looser,
            "$version": 7
        });
        desired.handle_document(&map(older.clone()));
        let door = desired.door();
        let r = "r".parse().unwrap();
        assert_eq!(door.schedule, held.schedule);
        assert_eq!(door.timed.get(&r), held.timed.get(&r));
        assert!(
            door.timed.contains_key(&"new".parse().unwrap()),
            "a lock counts"
        );
        for refused in ["/timed/r", "/schedule"] {
            let found = acknowledged(&desired).pointer(refused).unwrap().clone();
            let reason = found["ad"].as_str().unwrap();
            assert_eq!(found["ac"], 400, "{found}");
            assert!(
                reason.starts_with("older than version 9: order it again"),
                "{reason}"
            );
            assert_eq!(found.get("value").is_some(), before, "{found}");
        }
        // What the door holds is accepted, an order given now counts, and so does a document that
        // is no longer older.
        let equal = json!({"timed": {"r": release("22:00")}, "schedule": office, "$version": 8});
        let mut again = Desired::new(SiteLocation::default(), held, configured);
        again.handle_document(&map(equal));
        assert_eq!(again.door().schedule.is_some(), before);
        assert_eq!(acknowledged(&again)["timed"]["r"]["ac"] == 200, before);
        let ordered = json!({"timed": {"r": release("23:00")}, "schedule": looser});
        desired.handle_patch(8, &map(ordered));
        let released = desired.door();
        assert_eq!(released.schedule.unwrap().digest, looser["digest"]);
        let mut later = older;
        later["$version"] = 9.into();
        again.handle_document(&map(later));
        assert_eq!(again.door().timed[&r], released.timed[&r]);
    }
}

/// The desired property with its digest.
fn week(text: &str) -> Value {
    let digest = Sha256::digest(text);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"digest": digest, "text": text})
}

const OFFICE: &str = r#"{"name": "office", "zone": "UTC", "window": [
    {"days": "mon-fri", "from": "06:00", "to": "22:00", "want": "released"}]}"#;

#[test]
fn a_week_is_acknowledged_by_its_digest_and_a_bad_one_leaves_the_one_before() {
    let good = week(OFFICE);
    let mut desired = read(json!({"schedule": good, "$version": 2}));
    let accepted = desired.door().schedule.unwrap();
    assert_eq!((accepted.text.as_str(), accepted.now), (OFFICE, false));
    assert_eq!(
        acknowledged(&desired)["schedule"],
        applied(json!({"digest": good["digest"]}), 2)
    );
    let elsewhere = OFFICE.replace("UTC", "Mars/Olympus");
    let person = OFFICE.replace(r#""released""#, r#""locked", "first_person_in": "30m""#);
    for (version, bad, reason) in [
        (
            3,
            json!(7),
            "expected an object, found a number; the week before stays",
        ),
        (
            4,
            json!({"digest": "00"}),
            "digest is \"00\", expected that of text",
        ),
        (5, week("{}"), "missing field `name`"),
        (
            6,
            week(&elsewhere),
            "zone: \"Mars/Olympus\" is not a time zone",
        ),
        (
            7,
            week(&person),
            "window[0].first_person_in: a locked window has none",
        ),
    ] {
        desired.handle_patch(version, &map(json!({"schedule": bad})));
        let refused = &acknowledged(&desired)["schedule"];
        assert_eq!(
            (&refused["ac"], &refused["av"]),
            (&400.into(), &version.into())
        );
        let found = refused["ad"].as_str().unwrap();
        assert!(
            found.contains(reason) && found.ends_with("stays"),
            "{found}"
        );
        assert_eq!(desired.door().schedule.as_ref(), Some(&accepted));
    }
    // A patch names the changed members only.
    let mut at_once = good.clone();
    at_once["now"] = true.into();
    desired.handle_patch(8, &map(json!({"schedule": good})));
    desired.handle_patch(9, &map(json!({"schedule": {"now": true}})));
    assert!(desired.door().schedule.unwrap().now);
    desired.handle_patch(10, &map(json!({"schedule": null})));
    assert_eq!(
        (desired.door().schedule, desired.door().timed_version),
        (None, 10)
    );
}

#[test]
fn a_week_is_judged_by_the_strike() {
    let strike = StrikeConfig::pulse_strike(Duration::from_secs(10));
    let fitted = Fitted {
        rex: false,
        fire: false,
        ..Fitted::ALL
    };
    let configured = DoorConfig::new(DoorSettings::default(), strike, fitted).unwrap();
    let before = DesiredDoor::default();
    let mut desired = Desired::new(SiteLocation::default(), before, configured);
    desired.handle_document(&map(json!({"schedule": week(OFFICE), "$version": 1})));
    let refused = acknowledged(&desired)["schedule"]["ad"].clone();
    let refused = refused.as_str().unwrap();
    assert!(
        refused.contains("a pulse-strike releases for a moment only"),
        "{refused}"
    );
    assert_eq!(desired.door().schedule, None);
}

#[test]
fn an_older_document_takes_away_no_week() {
    let held = read(json!({"schedule": week(OFFICE), "$version": 9})).door();
    let strike = StrikeConfig::motor_lock();
    let configured = DoorConfig::new(DoorSettings::default(), strike, Fitted::ALL).unwrap();
    for (version, stays) in [(8, true), (9, false)] {
        let mut desired = Desired::new(SiteLocation::default(), held.clone(), configured);
        desired.handle_document(&map(json!({"$version": version})));
        assert_eq!(desired.door().schedule.is_some(), stays);
        let digest = json!({"digest": week(OFFICE)["digest"]});
        let kept = stays.then(|| applied(digest, 9));
        assert_eq!(acknowledged(&desired).get("schedule"), kept.as_ref());
    }
}

#[test]
fn a_timed_entry_is_acknowledged_to_the_byte_also_after_a_patch_of_one_member_and_a_restart() {
    let mut desired = read(json!({"timed": {"b": 7, "a": {
        "reason": "say \"é\"", "slot": 16, "until": "2026-12-09T21:00:00Z", "by": null,
        "from": "2026-12-01T21:00:00Z", "want": "locked"
    }}, "$version": 2}));
    let text = |desired: &Desired| {
        let each = desired.acknowledgements(&ApplyProblems::default());
        each[5].1.clone().unwrap_or_default()
    };
    let entry = |by: &str| {
        format!(
            "{{\"want\":\"locked\",\"from\":\"2026-12-01T21:00:00Z\",\
             \"until\":\"2026-12-09T21:00:00Z\",{by}\"reason\":\"say \\\"é\\\"\",\"slot\":16}}"
        )
    };
    let refused = r#""b":{"ac":400,"av":2,"ad":"expected an object with want and from, found 7"}"#;
    let a = |av: u64, by: &str| {
        format!(
            r#""a":{{"ac":200,"av":{av},"ad":"applied","value":{}}}"#,
            entry(by)
        )
    };
    assert_eq!(text(&desired), format!("{{{},{refused}}}", a(2, "")));
    desired.handle_patch(3, &map(json!({"timed": {"a": {"by": "alice"}}})));
    let by_alice = r#""by":"alice","#;
    assert_eq!(text(&desired), format!("{{{},{refused}}}", a(3, by_alice)));

    let strike = StrikeConfig::motor_lock();
    let configured = DoorConfig::new(DoorSettings::default(), strike, Fitted::ALL).unwrap();
    let mut again = Desired::new(SiteLocation::default(), desired.door(), configured);
    assert_eq!(text(&again), format!("{{{}}}", a(3, by_alice)));
    // A member of a refused patch counts for the next one, a document replaces all members.
    again.handle_document(&map(json!({"$version": 3, "timed": desired_of(&again)})));
    again.handle_patch(
        4,
        &map(json!({"timed": {"a": {"want": "open", "by": null}}})),
    );
    again.handle_patch(5, &map(json!({"timed": {"a": {"want": "locked"}}})));
    assert_eq!(text(&again), format!("{{{}}}", a(5, "")));
    let document = json!({"timed": {"a": {"by": "bob"}}, "$version": 6});
    again.handle_document(&map(document));
    assert!(text(&again).contains("want is missing"), "{}", text(&again));
}

fn desired_of(desired: &Desired) -> Value {
    let timed = desired.door().timed;
    timed
        .iter()
        .map(|(id, entry)| (id.to_string(), json!(entry)))
        .collect()
}
