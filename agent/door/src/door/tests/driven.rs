//! Outputs that cannot be driven.

use super::rig::Step::{Fire, Jam, Nothing, OutputFault, Rex, StuckOutputs};
use super::rig::{LOCK, NO_BOND, Rig, UNLOCK, bolt, config, magnet, motor};
use crate::Want::{Locked, Released};
use crate::config::{DoorConfig, FailMode, StrikeConfig};
use crate::contract::{Alarm, Proof};
use crate::strike::Outputs;

const PROBLEM: &str = "line 4 (throw) cannot be driven: input/output error";

fn is_in_fault(rig: &Rig) {
    assert!(rig.has_alarm(Alarm::LockFault), "{:?}", rig.log);
    assert!(rig.status().starts_with("Unknown"), "{}", rig.status());
    assert_eq!(rig.door.report().status.proof, Proof::None);
}

#[test]
fn a_lock_that_cannot_be_driven_fails_with_the_output_and_is_driven_once_it_can_be() {
    let fail_safe = |fitted| {
        let strike = StrikeConfig::solenoid_bolt(FailMode::Safe);
        config(Released, strike, fitted)
    };
    let motor = |fitted| config(Released, StrikeConfig::motor_lock(), fitted);
    let all = crate::Fitted::ALL;
    for (door, drive) in [
        (motor(all), " Throw"),
        (motor(NO_BOND), " Throw"),
        (fail_safe(all), " Energised"),
        (fail_safe(NO_BOND), " Energised"),
    ] {
        let door: DoorConfig = door;
        let mut rig = door.run(&[(5000, OutputFault(true)), (5000, LOCK), (20_000, Nothing)]);
        is_in_fault(&rig);
        assert_eq!(rig.answer_lines, ["5000 #1 500 LockFault Unknown Unknown"]);
        let response = &rig.last_reply().body.response;
        assert!(response.ends_with(PROBLEM), "{response}");
        let raised = rig.events_with("AlarmRaised { alarm: LockFault");
        assert!(raised[0].contains(PROBLEM), "{raised:?}");
        rig.act(&OutputFault(false));
        rig.run_for(70_000);
        assert!(!rig.starts(drive).is_empty(), "{:?}", rig.drives);
        assert!(rig.status().starts_with("Locked"), "{}", rig.status());
        assert!(!rig.has_alarm(Alarm::LockFault));
        let claims = rig.events_with("Locked by");
        assert_eq!(claims.len(), 1, "{:?}", rig.log);
    }
}

#[test]
fn a_held_level_stays_wanted_and_its_lock_is_unknown_until_it_can_be_set() {
    let mut rig = magnet().run(&[(5000, Nothing)]);
    assert_eq!(rig.status(), "Locked Secured");
    rig.act(&OutputFault(true));
    is_in_fault(&rig);
    assert_eq!(rig.door.outputs(), Outputs::Energised);
    rig.act(&Rex(true));
    assert_eq!(rig.door.outputs(), Outputs::DeEnergised, "people get out");
    is_in_fault(&rig);
    rig.act(&OutputFault(false));
    rig.act(&Rex(false));
    rig.run_for(10_000);
    assert_eq!(rig.status(), "Locked Secured");
    assert!(!rig.has_alarm(Alarm::LockFault));
}

#[test]
fn a_motor_that_cannot_be_driven_to_release_is_driven_every_2_s_for_the_exit_button() {
    let mut rig = motor(Locked).run(&[(5000, OutputFault(true)), (5000, Rex(true))]);
    is_in_fault(&rig);
    rig.act(&OutputFault(false));
    rig.run_for(2000);
    assert_eq!(rig.starts(" Retract"), [7000]);
    assert!(!rig.has_alarm(Alarm::LockFault));
}

#[test]
fn a_throw_that_cannot_be_switched_off_ends_no_retract() {
    // At rest, and during the pause before the motor reverses.
    for (at, retract) in [(5000, 5000), (400, 450)] {
        for input in [Rex(true), Fire(true)] {
            let stuck = StuckOutputs(&[Outputs::Throw]);
            let steps = match at {
                400 => [(at, input), (at + 10, stuck)],
                _ => [(at, stuck), (at, input)],
            };
            let mut rig = motor(Locked).run(&steps);
            rig.run_for(10_000);
            let drives = rig.drives.join(", ");
            let pulse = format!("{retract} Retract, {} DeEnergised", retract + 2000);
            assert!(drives.ends_with(&pulse), "{drives}");
            is_in_fault(&rig);
        }
    }
}

#[test]
fn a_motor_throws_no_bolt_while_its_retract_cannot_be_set() {
    let stuck = StuckOutputs(&[Outputs::Retract]);
    // Before the throw, during it, and during the pause before it; then an input or nothing.
    for (fault_at, lock_at) in [(5000, 5000), (5200, 5000), (5700, 5650)] {
        for input in [Nothing, Rex(true), Fire(true)] {
            let mut steps = vec![(5000, UNLOCK), (fault_at, stuck), (lock_at, LOCK)];
            steps.sort_by_key(|(at, _)| *at);
            steps.extend([(6000, input), (9000, Nothing)]);
            let rig = motor(Released).run(&steps);
            assert_ne!(rig.door.outputs(), Outputs::Throw, "{input:?}");
            let drives = rig.drives.iter().zip(rig.drives.iter().skip(1));
            for (throw, next) in drives.filter(|(drive, _)| drive.ends_with(" Throw")) {
                let time = |drive: &str| drive.split(' ').next().map(str::parse::<u64>);
                let begun = time(throw).unwrap().unwrap().max(fault_at);
                assert_eq!(time(next), Some(Ok(begun)), "{:?}", rig.drives);
            }
            is_in_fault(&rig);
        }
    }
}

#[test]
fn a_lock_that_needs_no_movement_waits_for_its_output_before_it_is_answered() {
    let rig = bolt(FailMode::Safe).run(&[
        (1000, LOCK),
        (5000, Jam(true)),
        (5000, UNLOCK),
        // The bolt is still out: its position is proven as soon as it is driven.
        (5010, OutputFault(true)),
        (5010, LOCK),
    ]);
    let last = rig.answer_lines.last().unwrap();
    assert_eq!(last, "5010 #3 500 LockFault Unknown Unknown");
}
