//! Rules of retries: a failed attempt is retried for as long as the same is wanted, and waiting for
//! coil or motor is reported.

use std::time::Duration;

use super::rig::Step::{Call, Close, Desire, Fire, Grant, Handle, Jam, Nothing, Open, Rex};
use super::rig::{
    LOCK, LOCKDOWN, NO_BOND, NO_EGRESS, Step, UNLOCK, bolt, config, limited, lock, mode, motor,
    then, unlock,
};
use crate::Want::{Locked, Released};
use crate::config::{DoorConfig, FailMode, Fitted, StrikeConfig};
use crate::contract::{Alarm, CheckResult, LockState, Mode};
use crate::desired::DesiredMode;

fn limited_strike() -> DoorConfig {
    let strike = StrikeConfig::pulse_strike(Duration::from_secs(20));
    config(Locked, limited(strike, 20, 40), NO_EGRESS)
}

/// A reader's contact may release for an hour.
fn patient(mut door: DoorConfig) -> DoorConfig {
    door.settings.grant_max = Duration::from_secs(3600);
    door
}

/// It may run three times in a row.
fn limited_motor(fitted: Fitted) -> DoorConfig {
    config(Locked, limited(StrikeConfig::motor_lock(), 6, 600), fitted)
}

#[test]
fn a_jammed_motor_is_retried_for_as_long_as_the_same_is_wanted() {
    // (default, what asks, which drive, when it starts): a bond time of 3 s, then 2 s at the door,
    // or 5 s, 15 s, 30 s and a minute.
    let at_the_door = [5000, 10_000, 15_000, 20_000];
    let others = [5000, 13_000, 31_000, 64_000, 127_000, 190_000];
    for (default, asks, drive, expected) in [
        (Locked, Fire(true), "Retract", &at_the_door[..]),
        (Locked, Rex(true), "Retract", &at_the_door),
        (Locked, Grant(true), "Retract", &at_the_door),
        (Locked, UNLOCK, "Retract", &others),
        (
            Locked,
            unlock(r#"{"unlockTime":"10m"}"#),
            "Retract",
            &others,
        ),
        (Locked, mode(r#"{"mode":"passage"}"#), "Retract", &others),
        (Released, LOCK, "Throw", &others),
        (Released, LOCKDOWN, "Throw", &others),
    ] {
        let jam = [(4000, Jam(true)), (5000, asks)];
        let rig = patient(motor(default)).run(&then(&jam, &[(200_000, Nothing)]));
        let all = rig.starts(drive);
        let tried = &all[all
            .len()
            .min(usize::from(drive == "Throw" && default == Locked))..];
        assert!(tried.starts_with(expected), "{asks:?}: {:?}", rig.drives);
        assert!(rig.has_alarm(Alarm::Jammed), "{asks:?}");
        assert_eq!(rig.door.report().status.lock_state, LockState::Jammed);
        assert_eq!(
            rig.events_with("Jammed").len(),
            2,
            "one state, one alarm: {:?}",
            rig.events
        );

        // Free again: no request is needed.
        let freed = then(&jam, &[(200_000, Jam(false)), (262_000, Nothing)]);
        let rig = patient(motor(default)).run(&freed);
        assert!(!rig.has_alarm(Alarm::Jammed), "{asks:?}: {:?}", rig.drives);
        assert_eq!(rig.bolt.is_zero(), drive == "Retract", "{asks:?}");
    }
}

#[test]
fn a_request_does_not_wait_for_the_next_attempt() {
    let jam = [(4000, Jam(true)), (5000, UNLOCK)];
    for (at, asks, tried) in [
        // Within the shortest pause, of 2 s after the failure at 8 s.
        (9000, Fire(true), 9000),
        (9000, Rex(true), 9000),
        (9000, Grant(true), 9000),
        (100_000, Fire(true), 100_000),
        (100_000, Rex(true), 100_000),
        (100_000, Grant(true), 100_000),
        (100_000, UNLOCK, 100_000),
        (100_000, Call("getState", ""), 127_000),
    ] {
        let steps = then(&jam, &[(at, asks), (128_000, Nothing)]);
        let rig = motor(Locked).run(&steps);
        assert!(rig.starts("Retract").contains(&tried), "{asks:?}");
    }
    // Wanting the opposite starts a new series.
    let steps = then(
        &jam,
        &[(100_000, LOCK), (101_000, UNLOCK), (110_000, Nothing)],
    );
    let rig = motor(Locked).run(&steps);
    let tried = rig.starts("Retract");
    assert!(tried.ends_with(&[101_000, 109_000]), "{:?}", rig.drives);
}

#[test]
fn a_mode_that_only_changes_permissions_retries_nothing() {
    let desire = |mode| Desire(DesiredMode::Mode(mode), None);
    for (change, throws) in [
        (mode(r#"{"mode":"normal"}"#), 1),
        (mode(r#"{"mode":"maintenance"}"#), 1),
        (desire(Mode::Normal), 1),
        (LOCKDOWN, 2),
        (desire(Mode::Lockdown), 2),
    ] {
        let steps = [
            (4000, Jam(true)),
            (5000, LOCK),
            (9000, change),
            (12_000, Nothing),
        ];
        let rig = motor(Released).run(&steps);
        assert_eq!(rig.starts("Throw").len(), throws, "{:?}", rig.log);
    }
}

#[test]
fn a_jammed_motor_keeps_one_run_in_reserve_for_inputs_at_the_door() {
    let steps = [
        (600_000, Jam(true)),
        (600_000, UNLOCK),
        (900_000, Rex(true)),
        (900_100, Nothing),
    ];
    let rig = limited_motor(Fitted::ALL).run(&steps);
    assert!(rig.starts("Retract").len() > 1, "{:?}", rig.drives);
    assert!(rig.starts("Retract").contains(&900_000), "{:?}", rig.drives);
}

#[test]
fn a_coil_at_its_limit_is_retried_for_as_long_as_the_same_is_wanted() {
    let lock = lock(r#"{"lockTime":"1h"}"#);
    let passage = mode(r#"{"mode":"passage"}"#);
    let safe_bolt = limited(StrikeConfig::solenoid_bolt(FailMode::Safe), 20, 40);
    for (door, asks, pauses) in [
        (
            config(Released, safe_bolt, Fitted::ALL),
            lock,
            [6, 15, 30, 60],
        ),
        (limited_strike(), passage, [6, 15, 30, 60]),
        (limited_strike(), Grant(true), [6, 6, 6, 6]),
    ] {
        let rig = patient(door).run(&[(100_000, asks), (390_000, Nothing)]);
        let off = rig.starts("DeEnergised");
        let on = rig.starts("Energised");
        let seen: Vec<_> = on[1..].iter().zip(&off).map(|(on, off)| on - off).collect();
        for (seen, pause) in seen.iter().zip(pauses) {
            assert_eq!((seen + 500) / 1000, pause, "{asks:?}: {:?}", rig.drives);
        }
        assert!(seen.len() >= 4, "{:?}", rig.drives);
        // It holds only for a moment, so the alarm stays until something else is wanted.
        assert!(rig.has_alarm(Alarm::LockFault), "{asks:?}");
        let raised = |event: &&String| event.contains("LockFault");
        assert_eq!(
            rig.events.iter().filter(raised).count(),
            1,
            "{:?}",
            rig.events
        );
    }
}

#[test]
fn a_request_while_the_coil_rests_does_not_delay_the_next_attempt() {
    let attempts = |asks_again: &[(u64, Step)]| {
        let steps = then(&[(100_000, UNLOCK)], asks_again);
        let end = [(200_000, Nothing)];
        let rig = limited_strike().run(&then(&steps, &end));
        rig.starts("Energised")
    };
    let expected = attempts(&[]);
    assert!(expected.len() > 2, "{expected:?}");
    // The coil reaches its limit at 115 s and is energised again at 121 s.
    assert_eq!(attempts(&[(117_000, UNLOCK)]), expected);
}

#[test]
fn a_door_that_was_opened_ends_the_pause_of_a_bolt_at_its_limit() {
    let bolt = limited(StrikeConfig::solenoid_bolt(FailMode::Safe), 20, 40);
    let door = config(Released, bolt, Fitted::ALL);
    let lock = (100_000, lock(r#"{"lockTime":"1h"}"#));
    let rig = door.run(&[lock, (390_000, Nothing)]);
    // The fourth pause is one of 60 s.
    let pause = rig.starts("DeEnergised")[3];
    let close = pause + 25_000;
    let steps = [
        lock,
        (pause + 20_000, Open),
        (close, Close),
        (close + 1000, Nothing),
    ];
    let rig = door.run(&steps);
    let thrown = rig.starts("Energised");
    assert_eq!(thrown.last(), Some(&(close + 250)), "{:?}", rig.drives);
}

#[test]
fn a_strike_that_locks_without_power_locks_while_its_coil_rests() {
    let steps = [(60_000, UNLOCK), (75_200, Nothing)];
    let rig = limited_strike().run(&steps);
    assert!(rig.has_alarm(Alarm::LockFault), "{:?}", rig.log);
    let lock = [(75_200, LOCK), (75_300, Nothing)];
    let rig = limited_strike().run(&then(&steps, &lock));
    assert!(!rig.has_alarm(Alarm::LockFault), "{:?}", rig.log);
    assert_eq!(rig.status(), "Locking Unsecured");
}

#[test]
fn a_jam_alone_is_no_fault_of_coil_or_motor() {
    for door in [motor(Locked), limited_strike()] {
        let steps = [(59_000, Jam(true)), (60_000, UNLOCK), (64_000, Nothing)];
        let rig = door.run(&steps);
        assert!(rig.has_alarm(Alarm::Jammed), "{:?}", rig.log);
        assert!(!rig.has_alarm(Alarm::LockFault), "{:?}", rig.log);
    }
}

#[test]
fn a_jam_lasts_until_a_movement_is_proven() {
    type Case<'a> = (crate::Want, &'a [(u64, Step)], &'a str, bool);
    let stuck_out = [(4000, Jam(true)), (5000, UNLOCK), (9000, LOCK)];
    let stuck_back = [(4000, Jam(true)), (5000, LOCK), (9000, UNLOCK)];
    let cases: [Case<'_>; 8] = [
        // The bolt is found where it is wanted, without a movement.
        (Locked, &[], "Jammed Unsecured", true),
        (Locked, &[(20_000, Jam(false))], "Jammed Unsecured", true),
        (
            Locked,
            &[(20_000, LOCK), (21_000, Nothing)],
            "Jammed Unsecured",
            true,
        ),
        (Released, &[], "Unlocked Unsecured", true),
        (
            Released,
            &[(20_000, Jam(false)), (21_000, UNLOCK)],
            "Unlocked Unsecured",
            true,
        ),
        // A movement in either direction.
        (
            Locked,
            &[(20_000, Jam(false)), (20_000, UNLOCK), (23_000, Nothing)],
            "Unlocked Unsecured",
            false,
        ),
        (
            Locked,
            &[(20_000, Jam(false)), (20_000, Handle), (23_000, Nothing)],
            "Locked Secured",
            false,
        ),
        (
            Released,
            &[(20_000, Jam(false)), (20_000, LOCK), (23_000, Nothing)],
            "Locked Secured",
            false,
        ),
    ];
    for (default, more, status, stands) in cases {
        let stuck = if default == Locked {
            stuck_out
        } else {
            stuck_back
        };
        let rig = motor(default).run(&then(&stuck, &then(more, &[(24_000, Nothing)])));
        assert_eq!(rig.status(), status, "{default} {more:?}: {:?}", rig.log);
        assert_eq!(rig.has_alarm(Alarm::Jammed), stands, "{default} {more:?}");
    }
    // A lock of a bolt that could not be retracted is not a success; an unlock of one that could
    // not be thrown is.
    let rig = motor(Locked).run(&stuck_out);
    assert_eq!(
        rig.answer_lines[1..],
        ["9000 #2 500 Jammed Jammed Unsecured"]
    );
    let rig = motor(Released).run(&then(&stuck_back, &[(13_000, Nothing)]));
    assert_eq!(rig.answer_lines[1..], ["11000 #2 200 Unlocked Unsecured"]);
}

/// Three uses leave less of its six seconds than a throw needs.
fn tired() -> Vec<(u64, Step)> {
    (0..3_u64)
        .flat_map(|n| {
            let at = 600_000 + n * 8000;
            [(at, Rex(true)), (at + 100, Rex(false))]
        })
        .collect()
}

#[test]
fn waiting_for_rest_is_a_fault_with_limit_and_time_left_and_waiting_for_the_door_is_not() {
    let tired = tired();
    let rests = "the motor may run for 6s, then rests for 10m; it must rest for another ";
    // (inputs, steps, whether it must rest)
    type Case = (Fitted, Vec<(u64, Step)>, bool);
    let cases: [Case; 6] = [
        (Fitted::ALL, tired.clone(), true),
        (NO_BOND, tired.clone(), true),
        // The door is open, and then settles: no fault yet.
        (Fitted::ALL, then(&tired, &[(640_000, Open)]), false),
        (
            Fitted::ALL,
            then(&tired, &[(640_000, Open), (649_900, Close)]),
            false,
        ),
        (
            Fitted::ALL,
            then(&tired, &[(640_000, Open), (649_000, Close)]),
            true,
        ),
        // An operator has released it meanwhile.
        (Fitted::ALL, then(&tired, &[(640_000, UNLOCK)]), false),
    ];
    for (fitted, steps, must_rest) in cases {
        let door = limited_motor(fitted);
        let rig = door.run(&then(&steps, &[(650_000, Nothing)]));
        assert_eq!(
            rig.has_alarm(Alarm::LockFault),
            must_rest,
            "{steps:?}: {:?}",
            rig.log
        );
        assert_ne!(format!("{:?}", rig.door.report().status.secured), "Secured");
        let rig = door.run(&then(
            &steps,
            &[(650_000, Call("selfTest", "")), (650_001, Nothing)],
        ));
        let reply = rig.last_reply();
        let strike = &reply.body.checks.as_ref().unwrap().strike;
        assert_eq!(
            strike.result == CheckResult::Failed,
            must_rest,
            "{strike:?}"
        );
        assert_eq!(strike.detail.contains(rests), must_rest, "{strike:?}");
        if must_rest {
            let rig = door.run(&then(&steps, &[(650_000, LOCK), (655_000, Nothing)]));
            let reply = rig.last_reply();
            assert_eq!(reply.status, 202, "{:?}", rig.log);
            let response = &reply.body.response;
            assert!(response.contains(rests), "{response}");
            // It ends by itself at the time given.
            let left = response
                .strip_prefix("lockDoor called successfully; ")
                .unwrap();
            let left = left.strip_prefix(rests).unwrap();
            let left = crate::contract::duration::parse(left).unwrap();
            let mut rig = rig;
            rig.run_until(rig.now.boottime + left + Duration::from_secs(4));
            assert!(!rig.has_alarm(Alarm::LockFault), "{:?}", rig.log);
            assert_eq!(rig.status(), "Locked Secured", "{:?}", rig.log);
        }
    }
}

#[test]
fn locking_a_bolt_that_is_already_out_needs_no_rest() {
    let door = limited_motor(Fitted::ALL);
    let stuck = [(600_000, Jam(true)), (600_000, Rex(true))];
    let rig = door.run(&then(&stuck, &[(620_000, Nothing)]));
    assert!(rig.has_alarm(Alarm::LockFault), "{:?}", rig.log);
    let over = [(620_000, Rex(false)), (626_000, Nothing)];
    let rig = door.run(&then(&stuck, &over));
    assert!(!rig.has_alarm(Alarm::LockFault), "{:?}", rig.log);
    assert_eq!(rig.status(), "Jammed Unsecured");
}

#[test]
fn a_stuck_spring_bolt_needs_no_further_attempt() {
    for (door, asks) in [
        (bolt(FailMode::Secure), Fire(true)),
        (bolt(FailMode::Safe), Fire(true)),
    ] {
        let steps = [
            (3000, LOCK),
            (6000, Jam(true)),
            (7000, asks),
            (60_000, Nothing),
        ];
        let rig = door.run(&steps);
        assert!(rig.has_alarm(Alarm::Jammed), "{:?}", rig.log);
        let drives = rig.drives.len();
        let rig = door.run(&then(&steps, &[(60_000, Jam(false)), (61_000, Nothing)]));
        assert!(!rig.has_alarm(Alarm::Jammed), "{:?}", rig.log);
        assert_eq!(rig.drives.len(), drives);
    }
}

#[test]
fn a_release_that_must_rest_is_no_fault_once_locked_is_wanted() {
    let door = limited_motor(Fitted::ALL);
    // Three runs against a bolt that is stuck out use up the motor's six seconds.
    let stuck = [(600_000, Jam(true)), (600_000, Rex(true))];
    let idle = (620_000, Rex(false));
    let end = (630_000, Nothing);
    // The second press finds the motor at its limit.
    let pressed_again = [
        (616_000, Rex(false)),
        (616_100, Rex(true)),
        (619_000, Handle),
        (619_500, Open),
    ];
    for (more, must_rest) in [
        // Released is still wanted.
        (vec![end], true),
        (vec![(619_000, Open), end], true),
        // Locked is wanted: only a throw into a closed door has to wait for the motor.
        (vec![idle, end], false),
        (vec![(619_000, Open), idle, end], false),
        (vec![(619_000, Handle), idle, end], true),
        (pressed_again.to_vec(), true),
        ([&pressed_again[..], &[idle, end]].concat(), false),
    ] {
        let rig = door.run(&then(&stuck, &more));
        assert_eq!(
            rig.has_alarm(Alarm::LockFault),
            must_rest,
            "{more:?}: {:?}",
            rig.log
        );
    }
}
