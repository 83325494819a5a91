//! Rules of the strike: when a bolt moves, is proven, is jammed; and the coil guard.

use std::time::Duration;

use super::rig::Step::{Close, Fire, Handle, Jam, Nothing, Open, Restart, Rex, Unplug};
use super::rig::{LOCK, NO_BOND, Rig, UNLOCK, bolt, config, limited, lock, motor};
use crate::Want::{Locked, Released};
use crate::config::{FailMode, Fitted, StrikeConfig};
use crate::contract::Alarm;

#[test]
fn a_motor_lock_is_driven_to_its_default_at_start_and_the_bond_switch_ends_the_throw() {
    let rig = motor(Locked).run(&[(5000, Nothing)]);
    assert_eq!(rig.drives_from(0), "250 Throw, 850 DeEnergised");
    assert_eq!(rig.status(), "Locked Secured");
    let rig = motor(Released).run(&[(5000, Nothing)]);
    assert_eq!(rig.drives_from(0), "0 Retract, 2000 DeEnergised");
    assert_eq!(rig.status(), "Unlocked Unsecured");
}

#[test]
fn nothing_is_known_before_the_inputs_are_read() {
    let now = Rig::new(motor(Locked)).now;
    let (door, _) = crate::Door::new(motor(Locked), None, &now);
    let report = door.report();
    assert_eq!(
        format!("{:?}", report.status),
        "LockStatus { lock_state: Unknown, door_state: Unknown, secured: Unknown, proof: None, \
         locked_until: None, held_by: None }"
    );
}

#[test]
fn a_bolt_waits_for_the_door_to_be_closed_and_settled() {
    let rig = motor(Released).run(&[
        (3000, Open),
        (4000, LOCK),
        (9000, Close),
        (9100, Open),
        (9200, Close),
        (12_000, Nothing),
    ]);
    assert_eq!(
        rig.drives_from(0),
        "0 Retract, 2000 DeEnergised, 9450 Throw, 10050 DeEnergised"
    );
    assert_eq!(rig.answer_lines, ["4000 #1 202 Unlocked Unsecured"]);
    assert_eq!(rig.status(), "Locked Secured");
}

#[test]
fn a_bolt_on_its_way_is_withdrawn_when_the_door_opens_and_thrown_again_when_it_closes() {
    let rig = motor(Locked).run(&[(500, Open), (4000, Close), (6000, Nothing)]);
    assert_eq!(
        rig.drives_from(0),
        "250 Throw, 500 DeEnergised, 550 Retract, 2550 DeEnergised, 4250 Throw, 4850 DeEnergised"
    );
}

#[test]
fn a_door_switch_alone_never_retracts_a_thrown_bolt() {
    let rig = motor(Locked).run(&[(3000, Open), (3900, Nothing), (4000, Nothing)]);
    assert_eq!(rig.drives_from(0), "250 Throw, 850 DeEnergised");
    assert_eq!(rig.status(), "Locked Unsecured");
    assert!(rig.has_alarm(Alarm::SensorFault), "a bolt in an open door");
}

#[test]
fn a_bolt_retracted_by_the_handle_is_thrown_again_after_the_door_has_closed() {
    let rig = motor(Locked).run(&[(3000, Handle), (3100, Open), (6000, Close), (8000, Nothing)]);
    assert_eq!(rig.drives_from(2), "6250 Throw, 6850 DeEnergised");
    assert!(rig.has_event("Unlocked by Local"), "{:?}", rig.events);
    assert_eq!(rig.status(), "Locked Secured");
}

#[test]
fn a_bolt_not_bonded_within_the_bond_time_is_jammed_until_the_next_proven_move() {
    let mut rig = motor(Released).run(&[
        (5000, Jam(true)),
        (5000, lock(r#"{"commandId":"a"}"#)),
        (12_000, Nothing),
    ]);
    assert_eq!(rig.drives_from(2), "5000 Throw, 7000 DeEnergised");
    assert_eq!(rig.answer_lines, ["8000 #1 500 Jammed Jammed Unsecured"]);
    assert!(rig.has_alarm(Alarm::Jammed));
    rig.act(&Jam(false));
    rig.act(&lock(r#"{"commandId":"a"}"#));
    rig.run_to(30_000);
    assert_eq!(rig.drives_from(4), "12000 Throw, 12600 DeEnergised");
    assert_eq!(rig.answer_lines[1..], ["12600 #2 200 Locked Secured"]);
    assert!(!rig.has_alarm(Alarm::Jammed));
}

#[test]
fn a_bolt_that_stays_out_is_jammed_and_tried_again_at_the_next_request_to_exit() {
    let rig = motor(Locked).run(&[
        (2000, Jam(true)),
        (2000, Rex(true)),
        (2100, Rex(false)),
        (6000, Jam(false)),
        (6000, Rex(true)),
        (6100, Rex(false)),
        (9000, Nothing),
    ]);
    assert_eq!(
        rig.drives_from(2),
        "2000 Retract, 4000 DeEnergised, 6000 Retract, 8000 DeEnergised"
    );
    assert!(rig.has_event("AlarmRaised { alarm: Jammed, reason: None }"));
    assert!(!rig.has_alarm(Alarm::Jammed));
}

#[test]
fn a_fail_safe_bolt_is_energised_while_locked_and_let_go_at_once() {
    let rig = bolt(FailMode::Safe).run(&[
        (1000, LOCK),
        (3000, Rex(true)),
        (3100, Rex(false)),
        (9000, Nothing),
    ]);
    assert_eq!(
        rig.drives_from(0),
        "1000 Energised, 3000 DeEnergised, 8100 Energised"
    );
    assert_eq!(rig.answer_lines, ["1600 #1 200 Locked Secured"]);
}

#[test]
fn a_fail_secure_bolt_is_energised_while_released_and_waits_for_the_door_too() {
    let rig =
        bolt(FailMode::Secure).run(&[(2000, Open), (3000, LOCK), (7000, Close), (9000, Nothing)]);
    assert_eq!(rig.drives_from(0), "0 Energised, 7250 DeEnergised");
    assert_eq!(rig.status(), "Locked Secured");
}

#[test]
fn a_coil_of_limited_duty_is_let_go_at_its_limit_and_rests() {
    let strike = limited(StrikeConfig::solenoid_bolt(FailMode::Safe), 20, 40);
    let rig = config(Released, strike, Fitted::ALL).run(&[
        (1000, lock(r#"{"lockTime":"10m"}"#)),
        (30_000, lock(r#"{"lockTime":"10m"}"#)),
        (90_000, Nothing),
    ]);
    // At start half of the limit is assumed as heat; later the coil has cooled.
    assert_eq!(rig.drives[..2], ["1000 Energised", "11500 DeEnergised"]);
    assert_eq!(rig.drives[2..4], ["17500 Energised", "20500 DeEnergised"]);
    assert_eq!(rig.drives[4..6], ["30000 Energised", "34749 DeEnergised"]);
    assert!(rig.has_alarm(Alarm::LockFault));
    assert_eq!(rig.status(), "Unlocked Unsecured");
}

#[test]
fn a_motor_that_has_run_too_much_rests_before_a_throw_but_never_before_a_release() {
    let strike = StrikeConfig {
        max_on: Some(Duration::from_secs(6)),
        ..StrikeConfig::motor_lock()
    };
    let steps: Vec<_> = (0..8_u64)
        .flat_map(|n| {
            let at = 2000 + n * 8000;
            [(at, Rex(true)), (at + 100, Rex(false))]
        })
        .collect();
    let rig = config(Locked, strike, Fitted::ALL).run(&steps);
    let retracts: Vec<_> = rig
        .drives
        .iter()
        .filter(|line| line.ends_with("Retract"))
        .collect();
    let throws = rig
        .drives
        .iter()
        .filter(|line| line.ends_with("Throw"))
        .count();
    // Each request finds the bolt back or retracts it in the same step; most throws are left out
    // for the motor's sake.
    assert!(throws < 5 && retracts.len() == throws, "{:?}", rig.drives);
    assert!(retracts.iter().all(|line| {
        let at: u64 = line.split(' ').next().unwrap().parse().unwrap();
        at % 8000 == 2000
    }));
}

#[test]
fn without_a_bond_switch_the_commanded_state_counts_after_the_bond_time() {
    let rig = config(Locked, StrikeConfig::motor_lock(), NO_BOND).run(&[
        (3000, Nothing),
        (4000, Open),
        (5000, Close),
        (9000, Nothing),
    ]);
    // A door that was opened shows that the bolt was not thrown.
    assert_eq!(
        rig.drives_from(0),
        "250 Throw, 2250 DeEnergised, 5250 Throw, 7250 DeEnergised"
    );
    assert_eq!(
        rig.events[..3],
        ["door Closed", "Locking by Schedule", "Locked by Schedule"]
    );
    assert_eq!(format!("{:?}", rig.door.report().status.proof), "Contact");
    assert_eq!(rig.status(), "Locked Secured");
}

#[test]
fn an_unreadable_door_switch_is_a_fault_and_no_bolt_is_thrown() {
    let rig = motor(Released).run(&[(3000, Unplug), (4000, LOCK), (9000, Nothing)]);
    assert_eq!(rig.drives.len(), 2, "{:?}", rig.drives);
    assert_eq!(
        rig.answer_lines,
        ["4000 #1 500 SensorFault Unlocked Unsecured"]
    );
    assert!(rig.has_alarm(Alarm::SensorFault));
}

#[test]
fn a_bolt_found_out_in_an_open_door_at_start_is_a_sensor_fault_and_is_not_driven() {
    // (door, drives before the restart at 4 s, drives after it); the door closes at 6 s.
    for (door, before, after) in [
        (
            motor(Locked),
            &["250 Throw", "850 DeEnergised"][..],
            &[][..],
        ),
        (
            bolt(FailMode::Safe),
            &["1000 Energised"],
            &["6000 Energised"],
        ),
        (
            bolt(FailMode::Secure),
            &["0 Energised", "1000 DeEnergised"],
            &[],
        ),
    ] {
        // The bolt is stuck out and the door is opened nevertheless.
        let mut rig = door.run(&[
            (1000, LOCK),
            (3000, Jam(true)),
            (3500, Open),
            (4000, Restart),
        ]);
        for (ms, is_fault, status) in [
            (4999, false, "Locked Unsecured"),
            (5000, true, "Locked Unsecured"),
            (5999, true, "Locked Unsecured"),
        ] {
            rig.run_until(Duration::from_millis(100_000 + ms));
            assert_eq!(rig.has_alarm(Alarm::SensorFault), is_fault, "{:?}", rig.log);
            assert_eq!(rig.status(), status, "{:?}", rig.log);
            assert_eq!(rig.drives, before);
        }
        rig.run_to(6000);
        rig.act(&Close);
        rig.run_to(10_000);
        assert!(!rig.has_alarm(Alarm::SensorFault), "{:?}", rig.log);
        assert_eq!(rig.status(), "Locked Secured");
        assert_eq!(rig.drives[before.len()..], *after);
    }
}

#[test]
fn a_release_during_a_throw_does_not_wait_for_its_end() {
    for (door, drive) in [
        (motor(Released), "5200 DeEnergised"),
        (bolt(FailMode::Safe), "5200 DeEnergised"),
        (bolt(FailMode::Secure), "5200 Energised"),
    ] {
        let steps = [(5000, LOCK), (5200, Rex(true))];
        let rig = door.run(&steps);
        assert_eq!(rig.drives.last().unwrap(), drive, "{:?}", rig.log);
    }
}

#[test]
fn without_a_bond_switch_a_release_counts_after_the_bond_time() {
    let door = config(Locked, StrikeConfig::maglock(), NO_BOND);
    for (ms, status) in [
        (9900, "Unlocking Unsecured"),
        (10_000, "Unlocked Unsecured"),
    ] {
        let steps = [(7000, UNLOCK), (ms, Nothing)];
        let rig = door.run(&steps);
        assert_eq!(rig.status(), status, "{ms}");
    }
}

#[test]
fn a_magnet_without_a_bond_switch_stays_locked_while_its_door_opens_and_closes() {
    let door = config(Locked, StrikeConfig::maglock(), NO_BOND);
    let steps = [(10_000, Open), (12_000, Close), (20_000, Nothing)];
    let rig = door.run(&steps);
    let changes = rig.events.iter().filter(|event| event.contains(" by "));
    let expected = ["Locking by Schedule", "Locked by Schedule"];
    assert!(changes.eq(&expected), "{:?}", rig.events);
}

#[test]
fn a_motor_pauses_for_its_dead_time_before_it_reverses() {
    let slow = StrikeConfig {
        dead_time: Some(Duration::from_millis(200)),
        ..StrikeConfig::motor_lock()
    };
    let throw = (5000, LOCK);
    // (dead time, steps, drives)
    for (door, steps, expected) in [
        (
            motor(Released),
            vec![throw, (5200, Rex(true))],
            "5000 Throw, 5200 DeEnergised, 5250 Retract, 7250 DeEnergised",
        ),
        (
            config(Released, slow, Fitted::ALL),
            vec![throw, (5200, Rex(true))],
            "5000 Throw, 5200 DeEnergised, 5400 Retract, 7400 DeEnergised",
        ),
        // And the other way, also when the first direction has just ended.
        (
            motor(Released),
            vec![throw, (6000, UNLOCK), (6400, Nothing), (6500, LOCK)],
            "5000 Throw, 5600 DeEnergised, 6000 Retract, 6500 DeEnergised, 6550 Throw",
        ),
        (
            motor(Released),
            vec![throw, (5610, Fire(true))],
            "5000 Throw, 5600 DeEnergised, 5650 Retract, 7650 DeEnergised",
        ),
        // Changed back within the pause.
        (
            motor(Released),
            vec![throw, (5200, UNLOCK), (5220, LOCK)],
            "5000 Throw, 5200 DeEnergised, 5220 Throw, 5620 DeEnergised",
        ),
    ] {
        let mut rig = door.run(&steps);
        rig.run_to(20_000);
        assert!(
            rig.drives_from(2).starts_with(expected),
            "{steps:?}: {:?}",
            rig.drives
        );
    }
}
