//! Steps of the wall clock, by years: what runs keeps its length.

use std::time::Duration;

use super::rig::{Do, Rig, motor};
use crate::Want::{Locked, Released};

const START: &str = "2026-11-23T22:00:00Z";
/// Where the clock is stepped to; the last is back where it should be.
const STEPS: [&str; 4] = [
    "2036-01-01T00:00:00Z",
    "1970-01-01T00:00:00Z",
    "2001-09-09T01:46:40Z",
    "2026-11-23T22:02:00Z",
];

/// A story in which the clock is set, something begins at 5 s, and the clock is stepped every 20 s.
fn tell(default: crate::Want, begin: Do) -> Rig {
    let mut story = vec![(4000, Do::Clock(START)), (5000, begin)];
    for (step, at) in STEPS.into_iter().zip([25_000, 45_000, 65_000, 85_000]) {
        story.push((at, Do::Clock(step)));
    }
    Rig::tell(motor(default), &story)
}

fn run_to(rig: &mut Rig, ms: u64) -> String {
    rig.run_until(Duration::from_secs(100) + Duration::from_millis(ms));
    rig.status()
}

#[test]
fn a_hold_and_a_grant_last_as_long_as_they_were_to_whatever_the_clock_does() {
    // Both ways of saying "for two minutes", of which a minute and a half is spent in other years.
    for payload in [
        r#"{"lockTime":"2m"}"#,
        r#"{"until":"2026-11-23T22:02:01Z"}"#,
        r#"{"lockTime":"2m","until":"2026-11-23T22:02:01Z"}"#,
    ] {
        let mut rig = tell(Released, Do::Call("lockDoor", payload));
        assert_eq!(run_to(&mut rig, 124_900), "Locked Secured", "{payload}");
        assert_eq!(run_to(&mut rig, 129_000), "Unlocked Unsecured", "{payload}");
    }
    for payload in [
        r#"{"unlockTime":"2m"}"#,
        r#"{"until":"2026-11-23T22:02:01Z"}"#,
    ] {
        let mut rig = tell(Locked, Do::Call("unlockDoor", payload));
        assert_eq!(run_to(&mut rig, 124_900), "Unlocked Unsecured", "{payload}");
        assert_eq!(run_to(&mut rig, 129_000), "Locked Secured", "{payload}");
    }
}

#[test]
fn what_is_reported_as_the_end_follows_the_clock() {
    let until = |rig: &Rig| {
        let until = rig.door.report().status.locked_until;
        until.map(|until| until.to_string())
    };
    let hold = || Do::Call("lockDoor", r#"{"lockTime":"2m"}"#);
    let mut rig = Rig::tell(motor(Released), &[(4000, Do::Clock(START)), (5000, hold())]);
    assert_eq!(until(&rig).as_deref(), Some("2026-11-23T22:02:01Z"));
    rig.act(&Do::Clock("2036-01-01T00:00:00Z"));
    assert_eq!(until(&rig).as_deref(), Some("2036-01-01T00:02:00Z"));
    // Less than a step: what is reported stays.
    rig.act(&Do::Clock("2036-01-01T00:00:01Z"));
    assert_eq!(until(&rig).as_deref(), Some("2036-01-01T00:02:00Z"));
}

#[test]
fn a_hold_given_in_the_wrong_year_does_not_outlast_its_length_over_a_reboot() {
    for payload in [
        r#"{"lockTime":"3m"}"#,
        r#"{"until":"2036-01-01T00:03:00Z"}"#,
    ] {
        let mut rig = Rig::tell(
            motor(Released),
            &[
                (4000, Do::Clock("2036-01-01T00:00:00Z")),
                (5000, Do::Call("lockDoor", payload)),
                (70_000, Do::Reboot),
                // The time is right again, and nine years earlier.
                (10_000, Do::Clock(START)),
                (100_000, Do::Nothing),
            ],
        );
        assert_eq!(rig.status(), "Locked Secured", "{payload}");
        assert_eq!(run_to(&mut rig, 125_000), "Unlocked Unsecured", "{payload}");
    }
}

#[test]
fn an_unlock_on_its_way_to_the_disk_is_valid_by_the_clock_of_its_acceptance() {
    let unlock = r#"{"notAfter":"2026-11-23T22:00:03Z","unlockTime":"1m"}"#;
    let story = |step, stored| {
        Rig::tell(
            motor(Locked),
            &[
                (4000, Do::Clock(START)),
                (4500, Do::SlowDisk(true)),
                (5000, Do::Call("unlockDoor", unlock)),
                (5500, Do::Clock(step)),
                (stored, Do::SlowDisk(false)),
                (stored + 4000, Do::Nothing),
            ],
        )
    };
    for step in STEPS {
        let rig = story(step, 6500);
        assert_eq!(rig.answers[0].1.status, 200, "{step}: {:?}", rig.log);
        let rig = story(step, 8000);
        assert_eq!(rig.answers[0].1.status, 410, "{step}: {:?}", rig.log);
        assert_eq!(rig.status(), "Locked Secured");
    }
}

#[test]
fn without_a_trusted_clock_locks_act_and_unlocks_with_an_end_on_the_clock_do_not() {
    let window = r#"{"notAfter":"2026-11-23T22:00:00Z"}"#;
    for (method, payload, status) in [
        ("lockDoor", window, 200),
        ("lockDoor", r#"{"until":"2026-11-23T22:00:00Z"}"#, 200),
        ("unlockDoor", window, 410),
        ("unlockDoor", r#"{"until":"2026-11-23T22:00:00Z"}"#, 410),
        ("unlockDoor", r#"{"unlockTime":"1m"}"#, 200),
    ] {
        let rig = Rig::tell(
            motor(Locked),
            &[(5000, Do::Call(method, payload)), (9000, Do::Nothing)],
        );
        assert_eq!(rig.answers[0].1.status, status, "{method} {payload}");
    }
}
