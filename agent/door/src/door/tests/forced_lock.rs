//! The alarm `lockForced`: the bolt leaves although nothing released it, and the door is not seen
//! to open.

use super::rig::Step::{
    Call, Close, DiskFails, Fire, Grant, Handle, Nothing, Open, Reboot, Restart, Rex, SlowDisk,
};
use super::rig::{
    LOCK, LOCKDOWN, NO_BOND, Step, UNLOCK, config, lock, magnet, mode, motor, relinquish, strike,
    then, unlock,
};
use crate::Want::Locked;
use crate::config::{FailMode, Fitted, StrikeConfig};
use crate::contract::{Alarm, Secured};

const HANDLE: (u64, Step) = (10_000, Handle);

#[test]
fn a_bolt_that_leaves_unasked_while_the_door_stays_closed_raises_the_alarm() {
    let rex = [(9_900, Rex(true)), (9_950, Rex(false)), (10_000, Nothing)];
    let grant = [
        (9_900, Grant(true)),
        (9_950, Grant(false)),
        (10_000, Nothing),
    ];
    let unlock = |at| (at, unlock(r#"{"unlockTime":"2s"}"#));
    let lock = |at| (at, LOCK);
    let twice = [HANDLE, (15_000, Handle)];
    // (steps, time of the alarm); the door may be seen to open for 3 s and 5 s.
    type Case<'a> = (&'a [(u64, Step)], Option<u64>);
    let cases: [Case<'_>; 16] = [
        (&[HANDLE], Some(18_000)),
        (&twice, Some(18_000)),
        (&[HANDLE, lock(12_000)], Some(18_000)),
        // The door opens: another alarm.
        (&[HANDLE, (10_000, Open)], None),
        (&[HANDLE, (17_900, Open), (17_950, Close)], None),
        (&[HANDLE, (18_100, Open)], Some(18_000)),
        (&[(9000, Open), HANDLE], None),
        // A request came first.
        (&rex, None),
        (&grant, None),
        (&[(9_900, Fire(true))], None),
        (&[unlock(5000), (20_000, Nothing)], None),
        (&[lock(5000), (20_000, Nothing)], None),
        // In the last moment of a release.
        (&[unlock(6000), (8_900, Nothing), (9_900, Handle)], None),
        (&[unlock(6000), (12_500, Handle)], Some(20_500)),
        // The exit switch in the handle is read after the bolt; another button much later.
        (&[HANDLE, (10_100, Rex(true)), (10_300, Rex(false))], None),
        (
            &[HANDLE, (13_000, Rex(true)), (13_300, Rex(false))],
            Some(18_000),
        ),
    ];
    for (steps, expected) in cases {
        let raised_by = |end: u64| {
            let mut steps = steps.to_vec();
            steps.push((end, Nothing));
            steps.retain(|(at, _)| *at <= end);
            motor(Locked).run(&steps).has_alarm(Alarm::LockForced)
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
    let no_door = Fitted {
        door: false,
        ..Fitted::ALL
    };
    let secure_bolt = StrikeConfig::solenoid_bolt(FailMode::Secure);
    for (door, raised) in [
        (motor(Locked), true),
        (magnet(), true),
        (strike(FailMode::Safe), true),
        (strike(FailMode::Secure), true),
        (config(Locked, secure_bolt, Fitted::ALL), true),
        (config(Locked, StrikeConfig::motor_lock(), NO_BOND), false),
        (config(Locked, StrikeConfig::maglock(), no_door), false),
    ] {
        let rig = door.run(&then(&[HANDLE], &[(30_000, Nothing)]));
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
    for (step, cleared) in [
        (LOCK, true),
        (UNLOCK, true),
        (unlock(r#"{"unlockTime":"2s"}"#), true),
        (unlock(r#"{"pulse":"strike"}"#), true),
        (relinquish("{}"), true),
        (relinquish(r#"{"slot":5}"#), true),
        (mode(r#"{"mode":"normal"}"#), false),
        (LOCKDOWN, false),
        (Call("getState", ""), false),
        (Call("selfTest", ""), false),
        (lock("[]"), false),
        // A duplicate is not accepted again, and one without a trusted clock is refused.
        (lock(r#"{"commandId":"a"}"#), false),
        (unlock(r#"{"notAfter":"2026-11-23T22:00:30Z"}"#), false),
        (Rex(true), false),
        (Grant(true), false),
        (Fire(true), false),
        (Handle, false),
        (Open, false),
        (Restart, false),
        (Reboot, false),
    ] {
        let before = (5000, lock(r#"{"commandId":"a"}"#));
        let mut rig = motor(Locked).run(&[before, HANDLE, (20_000, Nothing)]);
        assert!(rig.has_alarm(Alarm::LockForced), "{:?}", rig.log);
        rig.act(&step);
        rig.run_for(5000);
        assert_eq!(
            !rig.has_alarm(Alarm::LockForced),
            cleared,
            "{step:?}: {:?}",
            rig.log
        );
    }
    // An unlock that could not be saved was not accepted.
    let steps = [
        (20_000, SlowDisk(true)),
        (20_000, UNLOCK),
        (21_000, DiskFails),
        (22_000, Nothing),
    ];
    let rig = motor(Locked).run(&then(&[HANDLE], &steps));
    assert!(rig.has_alarm(Alarm::LockForced), "{:?}", rig.log);
}
