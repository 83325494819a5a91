//! Steps of the wall clock, by years, do not change running times.

use super::rig::Step::{Call, Clock, Nothing, Reboot, SlowDisk};
use super::rig::{Rig, Step, lock, motor, unlock};
use crate::Want::{Locked, Released};

const START: &str = "2026-11-23T22:00:00Z";
/// Times to which the clock is stepped; the last is correct again.
const STEPS: [&str; 4] = [
    "2036-01-01T00:00:00Z",
    "1970-01-01T00:00:00Z",
    "2001-09-09T01:46:40Z",
    "2026-11-23T22:02:00Z",
];

/// A scenario: the clock is set, `begin` happens at 5 s, and the clock is stepped every 20 s.
fn scenario(default: crate::Want, begin: Step) -> Rig {
    let mut scenario = vec![(4000, Clock(START)), (5000, begin)];
    for (step, at) in STEPS.into_iter().zip([25_000, 45_000, 65_000, 85_000]) {
        scenario.push((at, Clock(step)));
    }
    motor(default).run(&scenario)
}

fn run_to(rig: &mut Rig, ms: u64) -> String {
    rig.run_to(ms);
    rig.status()
}

#[test]
fn steps_of_the_clock_do_not_change_the_length_of_a_hold_or_grant() {
    // Two minutes, spelled both ways; a minute and a half of it is spent in other years.
    for payload in [
        r#"{"lockTime":"2m"}"#,
        r#"{"until":"2026-11-23T22:02:01Z"}"#,
        r#"{"lockTime":"2m","until":"2026-11-23T22:02:01Z"}"#,
    ] {
        let mut rig = scenario(Released, lock(payload));
        assert_eq!(run_to(&mut rig, 124_900), "Locked Secured", "{payload}");
        assert_eq!(run_to(&mut rig, 129_000), "Unlocked Unsecured", "{payload}");
    }
    for payload in [
        r#"{"unlockTime":"2m"}"#,
        r#"{"until":"2026-11-23T22:02:01Z"}"#,
    ] {
        let mut rig = scenario(Locked, unlock(payload));
        assert_eq!(run_to(&mut rig, 124_900), "Unlocked Unsecured", "{payload}");
        assert_eq!(run_to(&mut rig, 129_000), "Locked Secured", "{payload}");
    }
}

#[test]
fn the_reported_end_follows_the_clock() {
    let until = |rig: &Rig| {
        let until = rig.door.report().status.locked_until;
        until.map(|until| until.to_string())
    };
    let hold = || lock(r#"{"lockTime":"2m"}"#);
    let mut rig = motor(Released).run(&[(4000, Clock(START)), (5000, hold())]);
    assert_eq!(until(&rig).as_deref(), Some("2026-11-23T22:02:01Z"));
    rig.act(&Clock("2036-01-01T00:00:00Z"));
    assert_eq!(until(&rig).as_deref(), Some("2036-01-01T00:02:00Z"));
    // Less than a step: the reported end stays.
    rig.act(&Clock("2036-01-01T00:00:01Z"));
    assert_eq!(until(&rig).as_deref(), Some("2036-01-01T00:02:00Z"));
}

#[test]
fn a_hold_accepted_under_a_wrong_clock_keeps_its_length_over_a_reboot() {
    for payload in [
        r#"{"lockTime":"3m"}"#,
        r#"{"until":"2036-01-01T00:03:00Z"}"#,
    ] {
        let mut rig = motor(Released).run(&[
            (4000, Clock("2036-01-01T00:00:00Z")),
            (5000, lock(payload)),
            (70_000, Reboot),
            // The time is correct again, nine years earlier.
            (10_000, Clock(START)),
            (100_000, Nothing),
        ]);
        assert_eq!(rig.status(), "Locked Secured", "{payload}");
        assert_eq!(run_to(&mut rig, 125_000), "Unlocked Unsecured", "{payload}");
    }
}

#[test]
fn an_unlock_waiting_for_the_disk_is_valid_by_the_clock_at_acceptance() {
    let payload = r#"{"notAfter":"2026-11-23T22:00:03Z","unlockTime":"1m"}"#;
    let scenario = |step, stored| {
        motor(Locked).run(&[
            (4000, Clock(START)),
            (4500, SlowDisk(true)),
            (5000, unlock(payload)),
            (5500, Clock(step)),
            (stored, SlowDisk(false)),
            (stored + 4000, Nothing),
        ])
    };
    for step in STEPS {
        let rig = scenario(step, 6500);
        assert_eq!(rig.answers[0].1.status, 200, "{step}: {:?}", rig.log);
        let rig = scenario(step, 8000);
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
        let rig = motor(Locked).run(&[(5000, Call(method, payload)), (9000, Nothing)]);
        assert_eq!(rig.answers[0].1.status, status, "{method} {payload}");
    }
}
