//! The alarm `lockForced`: the bolt leaves although nothing released it, and the door is not seen
//! to open.

use super::rig::{Rig, Step, config, magnet, motor, strike};
use crate::Want::Locked;
use crate::config::{FailMode, Fitted, StrikeConfig};
use crate::contract::{Alarm, Secured};

const HANDLE: (u64, Step) = (10_000, Step::Handle);

fn then(more: &[(u64, Step)]) -> Vec<(u64, Step)> {
    [&[HANDLE], more].concat()
}

#[test]
fn a_bolt_that_leaves_unasked_while_the_door_stays_closed_raises_the_alarm() {
    let rex = [
        (9_900, Step::Rex(true)),
        (9_950, Step::Rex(false)),
        (10_000, Step::Nothing),
    ];
    let grant = [
        (9_900, Step::Grant(true)),
        (9_950, Step::Grant(false)),
        (10_000, Step::Nothing),
    ];
    let unlock = |at| (at, Step::Call("unlockDoor", r#"{"unlockTime":"2s"}"#));
    let lock = |at| (at, Step::Call("lockDoor", "{}"));
    let twice = [HANDLE, (15_000, Step::Handle)];
    // (steps, time of the alarm); the door may be seen to open for 3 s and 5 s.
    type Case<'a> = (&'a [(u64, Step)], Option<u64>);
    let cases: [Case<'_>; 16] = [
        (&[HANDLE], Some(18_000)),
        (&twice, Some(18_000)),
        (&[HANDLE, lock(12_000)], Some(18_000)),
        // The door opens: another alarm.
        (&[HANDLE, (10_000, Step::Open)], None),
        (&[HANDLE, (17_900, Step::Open), (17_950, Step::Close)], None),
        (&[HANDLE, (18_100, Step::Open)], Some(18_000)),
        (&[(9000, Step::Open), HANDLE], None),
        // A request came first.
        (&rex, None),
        (&grant, None),
        (&[(9_900, Step::Fire(true))], None),
        (&[unlock(5000), (20_000, Step::Nothing)], None),
        (&[lock(5000), (20_000, Step::Nothing)], None),
        // In the last moment of a release.
        (
            &[unlock(6000), (8_900, Step::Nothing), (9_900, Step::Handle)],
            None,
        ),
        (&[unlock(6000), (12_500, Step::Handle)], Some(20_500)),
        // The exit switch in the handle is read after the bolt; another button much later.
        (
            &[
                HANDLE,
                (10_100, Step::Rex(true)),
                (10_300, Step::Rex(false)),
            ],
            None,
        ),
        (
            &[
                HANDLE,
                (13_000, Step::Rex(true)),
                (13_300, Step::Rex(false)),
            ],
            Some(18_000),
        ),
    ];
    for (steps, expected) in cases {
        let raised_by = |end: u64| {
            let mut steps = steps.to_vec();
            steps.push((end, Step::Nothing));
            steps.retain(|(at, _)| *at <= end);
            Rig::run(motor(Locked), &steps).has_alarm(Alarm::LockForced)
        };
        match expected {
            Some(at) => {
                assert!(!raised_by(at - 10), "{steps:?}");
                assert!(raised_by(at + 10), "{steps:?}");
            }
            None => assert!(!raised_by(40_000), "{steps:?}"),
        }
    }
}

#[test]
fn every_strike_with_bond_and_door_contact_raises_it() {
    let no_bond = Fitted {
        bond: false,
        ..Fitted::ALL
    };
    let no_door = Fitted {
        door: false,
        ..Fitted::ALL
    };
    for (door, raised) in [
        (motor(Locked), true),
        (magnet(), true),
        (strike(FailMode::Safe), true),
        (strike(FailMode::Secure), true),
        (
            config(
                Locked,
                StrikeConfig::solenoid_bolt(FailMode::Secure),
                Fitted::ALL,
            ),
            true,
        ),
        (config(Locked, StrikeConfig::motor_lock(), no_bond), false),
        (config(Locked, StrikeConfig::maglock(), no_door), false),
    ] {
        let rig = Rig::run(door, &then(&[(30_000, Step::Nothing)]));
        assert_eq!(
            rig.has_alarm(Alarm::LockForced),
            raised,
            "{door:?}: {:?}",
            rig.log
        );
        if raised {
            assert_eq!(rig.door.report().status.secured, Secured::Unsecured);
        }
    }
}

#[test]
fn only_an_accepted_command_about_the_lock_clears_it() {
    let call = |method, payload| Step::Call(method, payload);
    let mode = |payload| Step::Call("setMode", payload);
    for (step, cleared) in [
        (call("lockDoor", "{}"), true),
        (call("unlockDoor", "{}"), true),
        (call("unlockDoor", r#"{"unlockTime":"2s"}"#), true),
        (call("unlockDoor", r#"{"pulse":"strike"}"#), true),
        (call("relinquish", "{}"), true),
        (call("relinquish", r#"{"slot":5}"#), true),
        (mode(r#"{"mode":"normal"}"#), false),
        (mode(r#"{"mode":"lockdown"}"#), false),
        (call("getState", ""), false),
        (call("selfTest", ""), false),
        (call("lockDoor", "[]"), false),
        // A duplicate is not accepted again, and one without a trusted clock is refused.
        (call("lockDoor", r#"{"commandId":"a"}"#), false),
        (
            call("unlockDoor", r#"{"notAfter":"2026-11-23T22:00:30Z"}"#),
            false,
        ),
        (Step::Rex(true), false),
        (Step::Grant(true), false),
        (Step::Fire(true), false),
        (Step::Handle, false),
        (Step::Open, false),
        (Step::Restart, false),
        (Step::Reboot, false),
    ] {
        let before = (5000, call("lockDoor", r#"{"commandId":"a"}"#));
        let mut rig = Rig::run(motor(Locked), &[before, HANDLE, (20_000, Step::Nothing)]);
        assert!(rig.has_alarm(Alarm::LockForced), "{:?}", rig.log);
        rig.act(&step);
        rig.run_until(rig.now.boottime + std::time::Duration::from_secs(5));
        assert_eq!(
            !rig.has_alarm(Alarm::LockForced),
            cleared,
            "{step:?}: {:?}",
            rig.log
        );
    }
    // An unlock that could not be saved was not accepted.
    let steps = [
        (20_000, Step::SlowDisk(true)),
        (20_000, call("unlockDoor", "{}")),
        (21_000, Step::DiskFails),
        (22_000, Step::Nothing),
    ];
    let rig = Rig::run(motor(Locked), &then(&steps));
    assert!(rig.has_alarm(Alarm::LockForced), "{:?}", rig.log);
}
