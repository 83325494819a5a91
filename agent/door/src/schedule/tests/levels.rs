use jiff::Timestamp;
use serde_json::{Value, json};

use super::{locked, released, week};
use crate::contract::Want;
use crate::schedule::*;

fn calendar(members: &Value) -> Calendar {
    let week = week(members).unwrap();
    let zone = zone(&week.zone).unwrap();
    Calendar::new(week, zone)
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The moments at which the want changes, after one moment and until another.
fn changes(calendar: &Calendar, from: &str, to: &str) -> Vec<(String, Option<Want>)> {
    let (mut now, end) = (at(from), at(to));
    let mut want = calendar.level(now).want;
    let mut changes = Vec::new();
    while let Some((next, level)) = calendar.next_change(now).filter(|(next, _)| *next <= end) {
        if level.want != want {
            changes.push((next.to_string(), level.want));
        }
        (now, want) = (next, level.want);
    }
    changes
}

fn assert_changes(calendar: &Calendar, from: &str, to: &str, expected: &[(&str, Want)]) {
    let found = changes(calendar, from, to);
    let found: Vec<(&str, Want)> = (found.iter())
        .map(|(when, want)| (when.as_str(), want.unwrap()))
        .collect();
    assert_eq!(found, expected, "{:?}", calendar.week());
}

#[test]
fn a_week_without_windows_and_what_holds_outside_of_them() {
    for (members, want) in [
        (json!({}), Some(Want::Locked)),
        (json!({"otherwise": "default"}), None),
    ] {
        let calendar = calendar(&members);
        let level = calendar.level(at("2026-12-01T12:00:00Z"));
        let nothing = Level {
            want,
            window: None,
            takes_over: false,
            first_person_in: None,
        };
        assert_eq!(level, nothing);
        assert_eq!(calendar.next_change(at("2026-12-01T12:00:00Z")), None);
    }
}

#[test]
fn a_window_belongs_to_the_local_day_on_which_it_begins() {
    // 2026-12-04 is a Friday; Berlin is an hour ahead of UTC.
    let calendar = calendar(&json!({
        "otherwise": "locked",
        "window": [released("fri", "22:00", "02:00"), released("sun", "08:00", "24:00")],
        "exception": [
            {"dates": ["2026-12-11/2026-12-12"]},
            {"dates": ["2026-12-12"], "windows": [{"from": "10:00", "to": "11:00", "want": "released"}]},
            {"yearly": ["12-20"], "windows": [{"from": "23:00", "to": "00:30", "want": "released"}]},
        ],
    }));
    use Want::{Locked, Released};
    assert_changes(
        &calendar,
        "2026-12-01T00:00:00Z",
        "2026-12-21T00:00:00Z",
        &[
            ("2026-12-04T21:00:00Z", Released),
            ("2026-12-05T01:00:00Z", Locked),
            ("2026-12-06T07:00:00Z", Released),
            ("2026-12-06T23:00:00Z", Locked),
            // Friday the 11th is an exception, and so is the 12th, in which the later wins.
            ("2026-12-12T09:00:00Z", Released),
            ("2026-12-12T10:00:00Z", Locked),
            ("2026-12-13T07:00:00Z", Released),
            ("2026-12-13T23:00:00Z", Locked),
            ("2026-12-18T21:00:00Z", Released),
            ("2026-12-19T01:00:00Z", Locked),
            ("2026-12-20T22:00:00Z", Released),
            ("2026-12-20T23:30:00Z", Locked),
        ],
    );
    let level = calendar.level(at("2026-12-12T09:30:00Z"));
    let window = level.window.unwrap();
    assert_eq!(
        window.window,
        WindowId {
            exception: Some(1),
            window: 0
        }
    );
    assert_eq!(
        (window.from, window.until),
        (at("2026-12-12T09:00:00Z"), at("2026-12-12T10:00:00Z"))
    );
}

#[test]
fn clock_changes_lengthen_what_locks_and_shorten_what_releases() {
    use Want::{Locked, Released};
    // 2026-03-29: 02:00 CET becomes 03:00 CEST at 01:00 UTC.
    let spring = ("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z");
    // 2026-10-25: 03:00 CEST becomes 02:00 CET at 01:00 UTC.
    let autumn = ("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z");
    type Row = (
        Value,
        (&'static str, &'static str),
        &'static [(&'static str, Want)],
    );
    let table: [Row; 11] = [
        // A start or an end that does not exist is the first instant after the gap.
        (
            json!([released("sun", "02:30", "04:00")]),
            spring,
            &[
                ("2026-03-29T01:00:00Z", Released),
                ("2026-03-29T02:00:00Z", Locked),
            ],
        ),
        (
            json!([released("sun", "01:00", "02:30")]),
            spring,
            &[
                ("2026-03-29T00:00:00Z", Released),
                ("2026-03-29T01:00:00Z", Locked),
            ],
        ),
        // Nothing is left of it.
        (json!([released("sun", "02:10", "02:50")]), spring, &[]),
        (json!([released("sun", "02:00", "03:00")]), spring, &[]),
        // Both ends come twice.
        (json!([released("sun", "02:10", "02:50")]), autumn, &[]),
        (
            json!([released("sat", "22:00", "02:30")]),
            autumn,
            &[
                ("2026-10-24T20:00:00Z", Released),
                ("2026-10-25T00:30:00Z", Locked),
            ],
        ),
        (
            json!([released("sun", "02:30", "04:00")]),
            autumn,
            &[
                ("2026-10-25T01:30:00Z", Released),
                ("2026-10-25T03:00:00Z", Locked),
            ],
        ),
        (
            json!([
                released("sun", "00:00", "02:10"),
                locked("sun", "02:10", "02:50"),
                released("sun", "02:50", "06:00")
            ]),
            autumn,
            &[
                ("2026-10-24T22:00:00Z", Released),
                ("2026-10-25T00:10:00Z", Locked),
                ("2026-10-25T01:50:00Z", Released),
                ("2026-10-25T05:00:00Z", Locked),
            ],
        ),
        // Joined windows have no boundary between them that could be shortened.
        (
            json!([
                released("sun", "00:00", "02:30"),
                released("sun", "02:30", "06:00")
            ]),
            autumn,
            &[
                ("2026-10-24T22:00:00Z", Released),
                ("2026-10-25T05:00:00Z", Locked),
            ],
        ),
        (
            json!([
                released("sun", "01:00", "02:30"),
                released("sun", "02:30", "02:45")
            ]),
            autumn,
            &[
                ("2026-10-24T23:00:00Z", Released),
                ("2026-10-25T00:45:00Z", Locked),
            ],
        ),
        (
            json!([
                released("sun", "02:15", "02:30"),
                released("sun", "02:30", "06:00")
            ]),
            autumn,
            &[
                ("2026-10-25T01:15:00Z", Released),
                ("2026-10-25T05:00:00Z", Locked),
            ],
        ),
    ];
    for (windows, (from, to), expected) in table {
        let calendar = calendar(&json!({"window": windows}));
        assert_changes(&calendar, from, to, expected);
        let left_out = calendar.left_out(at(from), at(to)).len();
        assert_eq!(left_out, usize::from(expected.is_empty()));
    }
}

#[test]
fn a_window_that_takes_over_is_named_with_its_start() {
    let mut night = locked("mon-sun", "22:00", "06:00");
    night["takes_over"] = true.into();
    let calendar = calendar(&json!({"window": [locked("mon-sun", "20:00", "23:00"), night]}));
    for (now, from, takes_over) in [
        ("2026-12-01T18:59:59Z", None, false),
        ("2026-12-01T19:00:00Z", Some("2026-12-01T19:00:00Z"), false),
        // It decides while another one is present, and stays when that has ended.
        ("2026-12-01T21:00:00Z", Some("2026-12-01T21:00:00Z"), true),
        ("2026-12-02T04:59:59Z", Some("2026-12-01T21:00:00Z"), true),
        ("2026-12-02T05:00:00Z", None, false),
    ] {
        let level = calendar.level(at(now));
        let found = (level.window.map(|window| window.from), level.takes_over);
        assert_eq!(found, (from.map(at), takes_over), "{now}");
        assert_eq!(level.want, Some(Want::Locked));
    }
    let change = calendar.next_change(at("2026-12-01T20:00:00Z")).unwrap();
    assert!(change.0 == at("2026-12-01T21:00:00Z") && change.1.takes_over);
}

#[test]
fn a_first_person_counts_from_the_lead_to_the_end_and_for_that_window_alone() {
    let mut day = released("mon-fri", "06:00", "22:00");
    day["first_person_in"] = "30m".into();
    let calendar = calendar(&json!({"window": [day, released("mon", "10:00", "11:00")]}));
    let (first, second) = (at("2026-11-30T05:00:00Z"), at("2026-12-01T05:00:00Z"));
    for (now, opens, before, after) in [
        ("2026-11-30T04:29:59Z", None, Want::Locked, Want::Locked),
        // Near enough for a grant, but not released before its start.
        (
            "2026-11-30T04:30:00Z",
            Some(first),
            Want::Locked,
            Want::Locked,
        ),
        (
            "2026-11-30T05:00:00Z",
            Some(first),
            Want::Locked,
            Want::Released,
        ),
        // Another window releases without anybody.
        (
            "2026-11-30T09:00:00Z",
            Some(first),
            Want::Released,
            Want::Released,
        ),
        (
            "2026-11-30T20:59:59Z",
            Some(first),
            Want::Locked,
            Want::Released,
        ),
        ("2026-11-30T21:00:00Z", None, Want::Locked, Want::Locked),
        // The next day needs another one.
        (
            "2026-12-01T05:00:00Z",
            Some(second),
            Want::Locked,
            Want::Locked,
        ),
    ] {
        let level = calendar.level(at(now));
        assert_eq!(
            level.first_person_in.map(|window| window.from),
            opens,
            "{now}"
        );
        assert_eq!(level.after_first_person(None), Some(before), "{now}");
        assert_eq!(level.after_first_person(Some(first)), Some(after), "{now}");
    }
    for (now, next) in [
        ("2026-11-30T03:00:00Z", "2026-11-30T04:30:00Z"),
        ("2026-11-30T04:30:00Z", "2026-11-30T05:00:00Z"),
    ] {
        assert_eq!(calendar.next_change(at(now)).unwrap().0, at(next));
    }
}
