use std::time::Duration;

use jiff::civil::Weekday;
use serde_json::{Value, json};

use super::{locked, released, week};
use crate::config::{DoorConfig, DoorSettings, FailMode, Fitted, StrikeConfig};
use crate::contract::Want;
use crate::schedule::*;

#[test]
fn days_are_names_ranges_and_commas() {
    for (text, canonical) in [
        ("mon", "mon"),
        ("mon-fri", "mon-fri"),
        ("sat,sun", "sat-sun"),
        ("sun, mon", "mon,sun"),
        ("fri-mon", "mon,fri-sun"),
        ("mon-sun", "mon-sun"),
        ("tue,mon-wed,fri", "mon-wed,fri"),
        ("sun-sat", "mon-sun"),
    ] {
        let days: Days = text.parse().unwrap();
        assert_eq!(days.to_string(), canonical);
        assert_eq!(canonical.parse(), Ok(days));
    }
    let days: Days = "sat-mon".parse().unwrap();
    assert!(days.contains(Weekday::Sunday) && !days.contains(Weekday::Tuesday));
    for text in [
        "", "mon-", "Monday", "mo", "mon fri", "mon--fri", "mon,", "MON",
    ] {
        assert_eq!(text.parse::<Days>(), Err(()), "{text}");
    }
}

#[test]
fn times_and_dates_have_one_form() {
    for text in ["00:00", "06:05", "23:59", "24:00"] {
        assert_eq!(text.parse::<Clock>().unwrap().to_string(), text);
    }
    for text in [
        "", "6:00", "24:01", "25:00", "12:60", "06:00:00", "06.00", "+6:00", "0600",
    ] {
        assert_eq!(text.parse::<Clock>(), Err(()), "{text}");
    }
    for text in [
        "2026-12-24",
        "2026-12-28/2026-12-31",
        "2024-01-01/2024-12-31",
    ] {
        assert_eq!(text.parse::<Dates>().unwrap().to_string(), text);
    }
    for text in [
        "2026-02-29",
        "2026-12-31/2026-12-28",
        "2026-01-01/2027-01-02",
        "24.12.2026",
        "2026-12-24/",
    ] {
        assert_eq!(text.parse::<Dates>(), Err(()), "{text}");
    }
    for text in ["12-24", "02-29"] {
        assert_eq!(text.parse::<MonthDay>().unwrap().to_string(), text);
    }
    for text in ["", "24.12", "02-30", "1-1", "12-24/2000-12-25"] {
        assert_eq!(text.parse::<MonthDay>(), Err(()), "{text}");
    }
}

#[test]
fn canonical_json_leaves_out_what_is_usual() {
    let text = r#"{"name":"office","zone":"Europe/Berlin","window":[{"days":"mon-fri","from":"06:00","to":"22:00","want":"released","first_person_in":"30m"},{"days":"mon-sun","from":"22:00","to":"06:00","want":"locked","takes_over":true}],"exception":[{"dates":["2026-12-24","2026-12-28/2026-12-31"],"yearly":["12-25"],"windows":[{"from":"06:00","to":"12:00","want":"released"}]}]}"#;
    assert_eq!(Week::from_json(text).unwrap().to_json(), text);
    let spelled = text
        .replace(r#""window":"#, r#""otherwise":"locked","window":"#)
        .replace("mon-fri", "mon,tue,wed,thu,fri")
        .replace("30m", "PT30M");
    assert_eq!(Week::from_json(&spelled).unwrap().to_json(), text);
    let default = text.replace(r#""window":"#, r#""otherwise":"default","window":"#);
    assert_eq!(Week::from_json(&default).unwrap().to_json(), default);
}

#[test]
fn what_is_wrong_is_named_with_key_value_and_what_was_expected() {
    let window = |changes: Value| {
        let mut window = released("mon-fri", "06:00", "22:00");
        window
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        json!({"window": [window]})
    };
    let exception = |exception: Value| json!({"exception": [exception]});
    let of_day = |window: Value| exception(json!({"dates": ["2026-12-24"], "windows": [window]}));
    for (members, key, problem) in [
        (
            json!({"otherwise": "released"}),
            "otherwise",
            "expected `locked` or `default`",
        ),
        (
            json!({"name": ""}),
            "name",
            "\"\" is not a name: expected 1 to 64 printable",
        ),
        (json!({"name": "a\nb"}), "name", "\"a\\nb\" is not a name"),
        (
            json!({"windows": []}),
            "windows",
            "unknown field `windows`, expected one of",
        ),
        (json!({"zone": 1}), "zone", "expected a string"),
        (
            window(json!({"days": "mon-fro"})),
            "window[0].days",
            "\"mon-fro\" is not a set of days",
        ),
        (
            window(json!({"days": null})),
            "window[0].days",
            "expected days such as \"mon-fri\"",
        ),
        (
            window(json!({"from": "6:00"})),
            "window[0].from",
            "expected HH:MM",
        ),
        (
            window(json!({"from": "24:00"})),
            "window[0].from",
            "expected 00:00 to 23:59",
        ),
        (
            window(json!({"to": "06:00"})),
            "window[0].to",
            "\"06:00\" equals from",
        ),
        (
            window(json!({"want": "open"})),
            "window[0].want",
            "expected `locked` or `released`",
        ),
        (
            window(json!({"until": "06:00"})),
            "window[0].until",
            "unknown field `until`",
        ),
        (
            window(json!({"takes_over": true})),
            "window[0].takes_over",
            "expected want = \"locked\"",
        ),
        (
            window(json!({"first_person_in": "30"})),
            "window[0].first_person_in",
            "such as 30m",
        ),
        (
            window(json!({"first_person_in": "25h"})),
            "window[0].first_person_in",
            "at most 24h",
        ),
        (
            window(json!({"want": "locked", "first_person_in": "30m"})),
            "window[0].first_person_in",
            "expected want = \"released\"",
        ),
        (
            exception(json!({"windows": []})),
            "exception[0]",
            "it has no day",
        ),
        (
            exception(
                json!({"dates": ["2026-01-01/2026-12-31", "2027-01-01/2027-12-31",
                "2028-01-01/2028-12-31", "2029-01-01/2029-12-31", "2030-01-01/2030-12-31",
                "2031-01-01/2031-12-31"]}),
            ),
            "exception",
            "2191 days: expected at most 2000",
        ),
        (
            exception(json!({"dates": ["24.12."]})),
            "exception[0].dates[0]",
            "YYYY-MM-DD",
        ),
        (
            exception(json!({"yearly": ["13-01"]})),
            "exception[0].yearly[0]",
            "MM-DD",
        ),
        (
            exception(json!({"yearly": "12-24"})),
            "exception[0].yearly",
            "expected a sequence",
        ),
        (
            of_day(released("mon", "06:00", "22:00")),
            "exception[0].windows[0].days",
            "a window of an exception has its days",
        ),
    ] {
        let error = week(&members).unwrap_err();
        assert_eq!(error.key.as_deref(), Some(key), "{members}: {error}");
        assert!(error.to_string().contains(problem), "{members}: {error}");
    }
    for (text, problem) in [
        ("{", "EOF while parsing"),
        ("{\"name\":\"a\"}", "missing field `zone`"),
        (
            &format!("{:4001}", ""),
            "4001 bytes as JSON: expected at most 4000",
        ),
    ] {
        let error = Week::from_json(text).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    for name in [
        "Europe/Berlim",
        "",
        "CET-1CEST",
        "Factory",
        "Etc/Unknown",
        "+01:00",
    ] {
        let error = zone(name).unwrap_err();
        assert!(error.problem.contains("expected an IANA name"), "{error}");
    }
}

#[test]
fn windows_that_want_the_opposite_at_once_are_refused_with_both_names() {
    let day = |date: &str, windows: Value| json!({"dates": [date], "windows": windows});
    let of_day = |from: &str, to: &str, want: &str| json!({"from": from, "to": to, "want": want});
    for (members, keys) in [
        // The same want: joined.
        (
            json!({"window": [released("mon", "06:00", "12:00"), released("mon", "11:00", "13:00")]}),
            None,
        ),
        // They touch.
        (
            json!({"window": [released("mon-fri", "06:00", "22:00"), locked("mon-sun", "22:00", "06:00")]}),
            None,
        ),
        (
            json!({"window": [released("mon-fri", "06:00", "22:01"), locked("mon-sun", "22:00", "06:00")]}),
            Some(("window[1]", "window[0]", "Monday")),
        ),
        // The week is a circle.
        (
            json!({"window": [locked("sun", "22:00", "06:00"), released("mon", "05:59", "07:00")]}),
            Some(("window[0]", "window[1]", "Monday")),
        ),
        (
            json!({"window": [released("sun", "22:00", "06:00"), locked("mon", "00:00", "01:00")]}),
            Some(("window[1]", "window[0]", "Monday")),
        ),
        // An exception beside its neighbours: 2026-12-24 is a Thursday.
        (
            json!({
                "window": [locked("wed", "22:00", "06:00")],
                "exception": [day("2026-12-24", json!([of_day("05:00", "12:00", "released")]))],
            }),
            Some(("window[0]", "exception[0].windows[0]", "2026-12-24")),
        ),
        (
            json!({
                "window": [released("mon", "06:00", "22:00")],
                "exception": [day("2026-12-24", json!([
                    of_day("05:00", "12:00", "released"), of_day("11:00", "12:00", "locked")
                ]))],
            }),
            Some((
                "exception[0].windows[1]",
                "exception[0].windows[0]",
                "2026-12-24",
            )),
        ),
        // The exception takes away what it would contradict.
        (
            json!({
                "window": [locked("thu", "22:00", "06:00")],
                "exception": [day("2026-12-24", json!([of_day("20:00", "23:00", "released")]))],
            }),
            None,
        ),
        // The later exception wins, and so contradicts nothing.
        (
            json!({
                "window": [locked("wed", "22:00", "06:00")],
                "exception": [
                    day("2026-12-24", json!([of_day("05:00", "12:00", "released")])),
                    day("2026-12-24", json!([])),
                ],
            }),
            None,
        ),
        // A day of every year is on each day of the week.
        (
            json!({
                "window": [locked("sun", "22:00", "06:00")],
                "exception": [{"yearly": ["02-29"], "windows": [of_day("05:00", "12:00", "released")]}],
            }),
            Some((
                "window[0]",
                "exception[0].windows[0]",
                "02-29 when it is a Monday",
            )),
        ),
    ] {
        let found = week(&members).err().map(|error| {
            let text = error.to_string();
            (error.key.unwrap(), error.other.unwrap(), text)
        });
        match (&found, keys) {
            (None, None) => {}
            (Some((key, other, text)), Some((first, second, when))) => {
                assert_eq!((key.as_str(), other.as_str()), (first, second), "{members}");
                assert!(text.contains(&format!("overlap on {when}")), "{text}");
            }
            _ => panic!("{members}: {found:?}"),
        }
    }
}

#[test]
fn a_door_refuses_what_its_strike_cannot_hold() {
    let door = |strike: StrikeConfig, relinquish_default: Want, fitted: Fitted| {
        let settings = DoorSettings {
            relinquish_default,
            ..DoorSettings::default()
        };
        DoorConfig::new(settings, strike, fitted).unwrap()
    };
    let inputs = Fitted {
        rex: false,
        fire: false,
        ..Fitted::ALL
    };
    let limited = |fail, max_on| StrikeConfig {
        max_on: Some(Duration::from_secs(max_on)),
        ..StrikeConfig::hold_strike(fail)
    };
    let hour = limited(FailMode::Secure, 3600);
    let safe = door(limited(FailMode::Safe, 3600), Want::Released, inputs);
    let secure = door(hour, Want::Locked, inputs);
    let continuous = door(
        StrikeConfig::hold_strike(FailMode::Secure),
        Want::Locked,
        inputs,
    );
    let motor = door(StrikeConfig::motor_lock(), Want::Locked, inputs);
    let pulse = door(
        StrikeConfig::pulse_strike(Duration::from_secs(20)),
        Want::Locked,
        inputs,
    );
    let no_reader = door(
        hour,
        Want::Locked,
        Fitted {
            grant: false,
            ..inputs
        },
    );
    let mut first_person = released("mon", "06:00", "06:30");
    first_person["first_person_in"] = "30m".into();
    let joined = json!([
        released("mon", "06:00", "07:00"),
        released("mon", "07:00", "08:00")
    ]);
    let over_midnight = json!([
        released("sun", "23:30", "24:00"),
        released("mon", "00:00", "00:31")
    ]);
    let default = json!({"otherwise": "default", "window": [locked("mon", "06:00", "07:01")]});
    for (door, members, refused) in [
        (
            &continuous,
            json!({"window": [released("mon-sun", "00:00", "24:00")]}),
            None,
        ),
        (
            &motor,
            json!({"window": [released("mon-sun", "00:00", "24:00")]}),
            None,
        ),
        (
            &secure,
            json!({"window": [released("mon", "06:00", "07:00")]}),
            None,
        ),
        (
            &secure,
            json!({"window": [released("mon", "06:00", "07:01")]}),
            Some(("window[0]", "1h1m released: expected at most 3600s")),
        ),
        (
            &secure,
            json!({"window": joined}),
            Some(("window[0]", "2h released")),
        ),
        (
            &secure,
            json!({"window": over_midnight}),
            Some(("window[0]", "1h1m released")),
        ),
        (
            &secure,
            json!({"exception": [{"yearly": ["12-24"], "windows": [{"from": "06:00", "to": "08:00", "want": "released"}]}]}),
            Some(("exception[0].windows[0]", "2h released")),
        ),
        (&secure, json!({"window": [first_person]}), None),
        (
            &no_reader,
            json!({"window": [first_person]}),
            Some(("window[0].first_person_in", "no reader")),
        ),
        (
            &pulse,
            json!({"window": [locked("mon", "06:00", "07:00")]}),
            None,
        ),
        (
            &pulse,
            json!({"window": [released("mon", "06:00", "06:01")]}),
            Some(("window[0]", "releases for a moment only")),
        ),
        (
            &safe,
            json!({}),
            Some(("otherwise", "expected \"default\"")),
        ),
        (&safe, json!({"otherwise": "default"}), None),
        (&safe, default, Some(("window[0]", "1h1m locked"))),
    ] {
        let judged = week(&members).unwrap().judge(door);
        match (&judged, refused) {
            (Ok(()), None) => {}
            (Err(error), Some((key, problem))) => {
                assert_eq!(error.key.as_deref(), Some(key), "{error}");
                assert!(error.problem.contains(problem), "{error}");
            }
            _ => panic!("{members}: {judged:?}"),
        }
    }
}

#[test]
fn the_rules_in_use_are_named_with_their_version() {
    let text = zoneinfo();
    assert!(text.ends_with(" built in"), "{text}");
    assert!(
        text.starts_with("20") || text.starts_with("unknown version"),
        "{text}"
    );
}
