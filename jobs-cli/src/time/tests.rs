use super::since::Bound;
use super::*;

/// A Monday evening in winter.
fn now(zone: &str) -> ZonedDateTime {
    "2026-11-23T21:15:00+01:00[Europe/Berlin]"
        .parse::<ZonedDateTime>()
        .unwrap()
        .with_time_zone(TimeZone::get(zone).unwrap())
}

fn at(text: &str) -> Result<String, String> {
    at_from(text, &now("Europe/Berlin"))
}

fn at_from(text: &str, now: &ZonedDateTime) -> Result<String, String> {
    match TimeArg::parse(text, now) {
        Ok(at) => Ok(at.when.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn each_accepted_form_is_parsed() {
    for (text, expected) in [
        ("now", "2026-11-23T21:15:00+01:00"),
        ("+10s", "2026-11-23T21:15:10+01:00"),
        ("+1h30m", "2026-11-23T22:45:00+01:00"),
        ("22:00", "2026-11-23T22:00:00+01:00"),
        ("22:00:30", "2026-11-23T22:00:30+01:00"),
        ("06:30", "2026-11-24T06:30:00+01:00"),
        ("today 23:59", "2026-11-23T23:59:00+01:00"),
        ("tomorrow 06:30", "2026-11-24T06:30:00+01:00"),
        ("Friday 18:00", "2026-11-27T18:00:00+01:00"),
        ("monday 18:00", "2026-11-30T18:00:00+01:00"),
        ("2026-12-01 07:00", "2026-12-01T07:00:00+01:00"),
        ("2026-12-01T07:00", "2026-12-01T07:00:00+01:00"),
        ("2026-11-23T22:00:00Z", "2026-11-23T23:00:00+01:00"),
        ("2026-11-23T22:00:00-05:00", "2026-11-24T04:00:00+01:00"),
        (
            "2027-07-01T08:00[Europe/Berlin]",
            "2027-07-01T08:00:00+02:00",
        ),
    ] {
        assert_eq!(at(text), Ok(format!("{expected}[Europe/Berlin]")), "{text}");
    }
    let new_york = "2026-11-24T06:30:00-05:00[America/New_York]";
    for (text, expected) in [
        ("22:00 UTC", "2026-11-23T22:00:00+00:00[UTC]"),
        ("tomorrow 06:30 America/New_York", new_york),
    ] {
        assert_eq!(at(text), Ok(expected.to_owned()), "{text}");
    }
}

#[test]
fn an_invalid_time_is_an_error_that_names_the_expected_forms() {
    for (text, part) in [
        ("", "not a time; expected now, +10s, 22:00"),
        ("22", "not a time"),
        ("2200", "not a time"),
        ("25:00", "not a time"),
        ("someday 10:00", "not a time"),
        ("tomorrow", "not a time"),
        ("+", "empty"),
        ("+10", "10 has no unit: write 10s or 10m"),
        ("+-5m", "negative"),
        (
            "22:00 Europe/Berln",
            "`Europe/Berln` is not a time zone; expected an IANA name",
        ),
        ("2020-01-01 10:00", "is in the past"),
        ("today 21:00", "is in the past (15 min ago)"),
    ] {
        let error = at(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn a_time_that_passed_today_is_tomorrow_with_a_note() {
    let at = TimeArg::parse("06:30", &now("Europe/Berlin")).unwrap();
    assert_eq!(
        at.note.as_deref(),
        Some("06:30:00 has passed today: using tomorrow")
    );
}

#[test]
fn an_hour_that_the_clocks_skip_gets_a_note() {
    let before = "2027-03-27T12:00:00+01:00[Europe/Berlin]".parse().unwrap();
    let at = TimeArg::parse("tomorrow 02:30", &before).unwrap();
    assert_eq!(
        at.note.unwrap(),
        "02:30:00 does not exist on 2027-03-28 in Europe/Berlin: clocks go forward over it; taken \
         as 03:30:00 CEST"
    );
}

#[test]
fn an_hour_that_comes_twice_gets_a_note_and_either_can_be_chosen() {
    let before = "2026-10-24T12:00:00+02:00[Europe/Berlin]".parse().unwrap();
    let first = TimeArg::parse("tomorrow 02:30", &before).unwrap();
    assert_eq!(
        first.when.to_string(),
        "2026-10-25T02:30:00+02:00[Europe/Berlin]"
    );
    let note = first.note.unwrap();
    assert_eq!(
        note,
        "02:30:00 comes twice on 2026-10-25 in Europe/Berlin: clocks go back; taken as 02:30:00 \
         CEST (write 2026-10-25T02:30:00+02 or 2026-10-25T02:30:00+01 to choose)"
    );
    for (chosen, utc) in [("+02", "00:30:00"), ("+01", "01:30:00")] {
        let at = at_from(&format!("2026-10-25T02:30:00{chosen}"), &before).unwrap();
        assert_eq!(
            at.parse::<ZonedDateTime>().unwrap().timestamp().to_string(),
            format!("2026-10-25T{utc}Z")
        );
    }
    // Between the two, the later is used.
    let between = "2026-10-25T02:45:00+02:00[Europe/Berlin]".parse().unwrap();
    assert_eq!(
        at_from("02:30", &between).unwrap(),
        "2026-10-25T02:30:00+01:00[Europe/Berlin]"
    );
}

#[test]
fn the_echo_has_the_local_time_utc_and_how_long_until_then() {
    let now = now("Europe/Berlin");
    let echo = |text| TimeArg::parse(text, &now).unwrap().echo(now.timestamp());
    assert_eq!(
        echo("22:00"),
        "Mon 2026-11-23 22:00:00 CET (Europe/Berlin) = 21:00:00 UTC, in 45 min"
    );
    assert_eq!(
        echo("tomorrow 00:30"),
        "Tue 2026-11-24 00:30:00 CET (Europe/Berlin) = 2026-11-23 23:30:00 UTC, in 3 h 15 min"
    );
    insta::assert_snapshot!(echo("22:00 UTC"), @"Mon 2026-11-23 22:00:00 UTC, in 1 h 45 min");
    assert_eq!(
        echo("now"),
        "Mon 2026-11-23 21:15:00 CET (Europe/Berlin) = 20:15:00 UTC, now"
    );
}

#[test]
fn durations_are_shown_in_two_units() {
    for (seconds, expected) in [
        (1, "1 s"),
        (59, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3_600, "1 h"),
        (3_660, "1 h 1 min"),
        (86_400, "1 day"),
        (90_000, "1 day 1 h"),
        (180_000, "2 days 2 h"),
    ] {
        assert_eq!(roughly(SignedDuration::from_secs(seconds)), expected);
    }
}

#[test]
fn with_an_unknown_zone_only_times_that_need_none_are_accepted() {
    let berlin = now("Europe/Berlin");
    let posix = berlin.with_time_zone(zone("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
    let unknown = berlin.with_time_zone(TimeZone::unknown());
    let instant = |now: &ZonedDateTime, text: &str| {
        TimeArg::parse(text, now).map(|at| at.when.timestamp().to_string())
    };
    // The time in a known zone, IANA or POSIX, and whether it is valid with an unknown zone.
    for (text, expected, anywhere) in [
        ("22:00", "2026-11-23T21:00:00Z", false),
        ("today 22:00", "2026-11-23T21:00:00Z", false),
        ("friday 18:00", "2026-11-27T17:00:00Z", false),
        ("2026-11-23 22:00", "2026-11-23T21:00:00Z", false),
        ("2026-11-23T22:00", "2026-11-23T21:00:00Z", false),
        ("2027-07-01 12:00", "2027-07-01T10:00:00Z", false),
        ("now", "2026-11-23T20:15:00Z", true),
        ("+10s", "2026-11-23T20:15:10Z", true),
        ("2026-11-23T22:00:00+01:00", "2026-11-23T21:00:00Z", true),
        ("2026-11-23T21:00:00Z", "2026-11-23T21:00:00Z", true),
        ("22:00 Europe/Berlin", "2026-11-23T21:00:00Z", true),
        ("22:00 UTC", "2026-11-23T22:00:00Z", true),
        (
            "22:00 CET-1CEST,M3.5.0,M10.5.0/3",
            "2026-11-23T21:00:00Z",
            true,
        ),
        ("22:00 IST-5:30", "2026-11-24T16:30:00Z", true),
    ] {
        for known in [&berlin, &posix] {
            assert_eq!(instant(known, text).as_deref(), Ok(expected), "{text}");
        }
        match anywhere {
            true => assert_eq!(instant(&unknown, text).as_deref(), Ok(expected), "{text}"),
            false => assert_eq!(instant(&unknown, text), Err(TimeArgError::NoZone), "{text}"),
        }
    }
    for (text, accepted) in [
        ("22:00", false),
        ("yesterday 06:30", false),
        ("90m", true),
        ("2026-11-20T10:00:00Z", true),
    ] {
        let taken_there = since::past(text, Bound::Since, &unknown);
        assert_eq!(taken_there.is_ok(), accepted, "{text}: {taken_there:?}");
    }
    for name in [
        "Foo/Bar",
        "Mars",
        "Etc/Unknown",
        "",
        "../etc/passwd",
        "CET-1CEST",
        "Factory",
        // Two hours behind UTC to POSIX, two hours ahead of it to people.
        "UTC+2",
        "utc+2",
        "GMT-1",
        "GMT+5:30",
    ] {
        assert!(zone(name).is_none(), "{name}");
    }
    for name in [
        "UTC",
        "UTC0",
        "GMT",
        "GMT+0",
        "Etc/GMT-2",
        "<+02>-2",
        "EST5EDT",
        "GMT0BST,M3.5.0/1,M10.5.0",
    ] {
        assert!(zone(name).is_some(), "{name}");
    }
}

#[test]
fn an_offset_that_contradicts_the_zone_in_brackets_is_an_error() {
    let now = now("Europe/Berlin");
    for (text, accepted) in [
        ("2026-11-23T22:00:00+01:00[Europe/Berlin]", true),
        ("2026-11-23T22:00[Europe/Berlin]", true),
        ("2026-11-23T22:00:00+02:00[Europe/Berlin]", false),
        ("2026-11-23T22:00:00+01:00[Foo/Bar]", false),
        ("2026-11-23 22:00-05:00", true),
    ] {
        assert_eq!(TimeArg::parse(text, &now).is_ok(), accepted, "{text}");
        let before = text.replace("11-23", "11-20");
        assert_eq!(
            since::past(&before, Bound::Since, &now).is_ok(),
            accepted,
            "{before}"
        );
    }
}

#[test]
fn an_offset_after_a_clock_time_is_an_error() {
    let now = now("Europe/Berlin");
    for text in [
        "22:00+05:00",
        "22:00-05:00",
        "22:00Z",
        "today 22:00+05:00",
        "friday 18:00-05:00",
        "today 2026-12-24T22:00",
    ] {
        assert_eq!(
            TimeArg::parse(text, &now),
            Err(TimeArgError::Malformed),
            "{text}"
        );
        assert!(since::past(text, Bound::Since, &now).is_err(), "{text}");
    }
    assert!(TimeArg::parse("22:00:30.5", &now).is_ok());
}
