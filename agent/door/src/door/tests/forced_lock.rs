//! The alarm `lockForced`: the bolt leaves, nobody let it go, and the door is not seen to open.

use super::rig::{Do, Rig, config, magnet, motor, strike};
use crate::Want::Locked;
use crate::config::{FailMode, Fitted, StrikeConfig};
use crate::contract::{Alarm, Secured};

const HANDLE: (u64, Do) = (10_000, Do::Handle);

fn then(more: &[(u64, Do)]) -> Vec<(u64, Do)> {
    [&[HANDLE], more].concat()
}

#[test]
fn a_bolt_that_leaves_with_nobody_asking_and_a_door_that_does_not_follow() {
    let rex = [
        (9_900, Do::Rex(true)),
        (9_950, Do::Rex(false)),
        (10_000, Do::Nothing),
    ];
    let grant = [
        (9_900, Do::Grant(true)),
        (9_950, Do::Grant(false)),
        (10_000, Do::Nothing),
    ];
    let unlock = |at| (at, Do::Call("unlockDoor", r#"{"unlockTime":"2s"}"#));
    let lock = |at| (at, Do::Call("lockDoor", "{}"));
    let twice = [HANDLE, (15_000, Do::Handle)];
    // (what happens, when the alarm comes); the door may be seen to open for 3 s and 5 s.
    type Case<'a> = (&'a [(u64, Do)], Option<u64>);
    let cases: [Case<'_>; 16] = [
        (&[HANDLE], Some(18_000)),
        (&twice, Some(18_000)),
        (&[HANDLE, lock(12_000)], Some(18_000)),
        // The door opens: that is another alarm.
        (&[HANDLE, (10_000, Do::Open)], None),
        (&[HANDLE, (17_900, Do::Open), (17_950, Do::Close)], None),
        (&[HANDLE, (18_100, Do::Open)], Some(18_000)),
        (&[(9000, Do::Open), HANDLE], None),
        // Somebody asked.
        (&rex, None),
        (&grant, None),
        (&[(9_900, Do::Fire(true))], None),
        (&[unlock(5000), (20_000, Do::Nothing)], None),
        (&[lock(5000), (20_000, Do::Nothing)], None),
        // In the last moment of a release.
        (
            &[unlock(6000), (8_900, Do::Nothing), (9_900, Do::Handle)],
            None,
        ),
        (&[unlock(6000), (12_500, Do::Handle)], Some(20_500)),
        // The handle's exit switch is read after the bolt, and somebody else's button much later.
        (
            &[HANDLE, (10_100, Do::Rex(true)), (10_300, Do::Rex(false))],
            None,
        ),
        (
            &[HANDLE, (13_000, Do::Rex(true)), (13_300, Do::Rex(false))],
            Some(18_000),
        ),
    ];
    for (steps, expected) in cases {
        let raised_by = |end: u64| {
            let mut steps = steps.to_vec();
            steps.push((end, Do::Nothing));
            steps.retain(|(at, _)| *at <= end);
            Rig::tell(motor(Locked), &steps).has_alarm(Alarm::LockForced)
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
fn it_holds_for_every_strike_whose_bond_and_door_are_seen() {
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
        let rig = Rig::tell(door, &then(&[(30_000, Do::Nothing)]));
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
    let call = |method, payload| Do::Call(method, payload);
    let mode = |payload| Do::Call("setMode", payload);
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
        // A repetition is not accepted once more, and one without a trusted clock is refused.
        (call("lockDoor", r#"{"commandId":"a"}"#), false),
        (
            call("unlockDoor", r#"{"notAfter":"2026-11-23T22:00:30Z"}"#),
            false,
        ),
        (Do::Rex(true), false),
        (Do::Grant(true), false),
        (Do::Fire(true), false),
        (Do::Handle, false),
        (Do::Open, false),
        (Do::Restart, false),
        (Do::Reboot, false),
    ] {
        let before = (5000, call("lockDoor", r#"{"commandId":"a"}"#));
        let mut rig = Rig::tell(motor(Locked), &[before, HANDLE, (20_000, Do::Nothing)]);
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
        (20_000, Do::SlowDisk(true)),
        (20_000, call("unlockDoor", "{}")),
        (21_000, Do::DiskFails),
        (22_000, Do::Nothing),
    ];
    let rig = Rig::tell(motor(Locked), &then(&steps));
    assert!(rig.has_alarm(Alarm::LockForced), "{:?}", rig.log);
}
