//! Rules of the strike alone: what a start takes a bolt for, and which failures a movement ends.

use std::time::Duration;

use super::{Failure, Move, Outputs, Phase, Strike, StrikeInputs};
use crate::Want::{self, Locked, Released};
use crate::config::{DoorConfig, DoorSettings, FailMode, Fitted, StrikeConfig};
use crate::strike::failures::Failures;
use crate::time::{BootTime, at};

const SECOND: Duration = Duration::from_secs(1);

/// A closed door whose bond switch reads `bonded`.
fn inputs(want: Want, bonded: bool) -> StrikeInputs {
    StrikeInputs {
        want,
        at_the_door: false,
        retry_now: false,
        closed: Some(true),
        reads_open: false,
        closed_since: Some(BootTime::default()),
        bonded: Some(bonded),
    }
}

#[test]
fn a_proven_movement_ends_the_failures_except_a_coil_at_its_limit() {
    let coil = StrikeConfig::solenoid_bolt(FailMode::Safe);
    let motor = StrikeConfig::motor_lock();
    for (strike, why, moves, stays) in [
        (coil, Failure::Exhausted, true, true),
        (coil, Failure::Jammed, true, false),
        (motor, Failure::Exhausted, true, false),
        (motor, Failure::Jammed, true, false),
        // Found where it is wanted: nothing has moved.
        (coil, Failure::Exhausted, false, true),
        (coil, Failure::Jammed, false, true),
        (motor, Failure::Exhausted, false, true),
        (motor, Failure::Jammed, false, true),
    ] {
        for want in [Locked, Released] {
            let config = DoorConfig::new(DoorSettings::default(), strike, Fitted::ALL).unwrap();
            let mut strike = Strike::new(&config, at(1));
            strike.failures = Some(Failures::after(None, want, why, at(1)));
            let is_out = want == Locked;
            let motion = Move {
                starts: None,
                drive: None,
                proof_by: at(5),
                from: Some(is_out != moves),
            };
            strike.phase = if is_out {
                Phase::Locking(motion)
            } else {
                Phase::Releasing(motion)
            };
            strike.advance(at(2), &inputs(want, is_out));
            let since = at(2);
            let arrived = match want {
                Locked => Phase::Locked { since },
                Released => Phase::Released { since },
            };
            assert_eq!(strike.phase, arrived);
            let row = format!(
                "{:?} {why:?} toward {want}, moves: {moves}",
                strike.actuator
            );
            assert_eq!(strike.failures.is_some(), stays, "{row}");
        }
    }
}

#[test]
fn at_start_a_bolt_seen_out_is_locked_unless_locking_would_drive_it_into_an_open_door() {
    let open = StrikeInputs {
        closed: Some(false),
        reads_open: true,
        closed_since: None,
        ..inputs(Locked, true)
    };
    let motor = StrikeConfig::motor_lock();
    let safe = StrikeConfig::solenoid_bolt(FailMode::Safe);
    let secure = StrikeConfig::solenoid_bolt(FailMode::Secure);
    for (strike, inputs, is_locked) in [
        (motor, open, true),
        (secure, open, true),
        (safe, open, false),
        (motor, inputs(Locked, true), true),
        (secure, inputs(Locked, true), true),
        (safe, inputs(Locked, true), true),
    ] {
        let config = DoorConfig::new(DoorSettings::default(), strike, Fitted::ALL).unwrap();
        let mut strike = Strike::new(&config, at(1));
        strike.advance(at(1), &inputs);
        assert_eq!(strike.is_thrown(), is_locked, "{config:?} {inputs:?}");
    }
}

#[test]
fn only_a_movement_from_the_other_position_ends_a_jam() {
    let motor = StrikeConfig::motor_lock();
    let config = DoorConfig::new(DoorSettings::default(), motor, Fitted::ALL).unwrap();
    // The bond reading at the start of a throw that is now seen out.
    for (from, is_jammed) in [(Some(false), false), (Some(true), true), (None, true)] {
        let mut strike = Strike::new(&config, at(1));
        strike.jammed = true;
        strike.phase = Phase::Locking(Move {
            starts: None,
            drive: None,
            proof_by: at(5),
            from,
        });
        strike.advance(at(2), &inputs(Locked, true));
        assert!(strike.is_thrown());
        assert_eq!(strike.is_jammed(), is_jammed, "{from:?}");
    }
}

#[test]
fn after_a_failed_release_a_bolt_without_a_bond_switch_is_thrown_again() {
    let fitted = Fitted {
        bond: false,
        ..Fitted::ALL
    };
    let motor = StrikeConfig::motor_lock();
    let config = DoorConfig::new(DoorSettings::default(), motor, fitted).unwrap();
    let mut strike = Strike::new(&config, at(1));
    strike.phase = Phase::Failed {
        toward: Released,
        why: Failure::Exhausted,
    };
    let unknown = StrikeInputs {
        bonded: None,
        ..inputs(Locked, false)
    };
    strike.advance(at(2), &unknown);
    assert!(matches!(strike.phase, Phase::Locking(_)), "{strike:?}");
}

#[test]
fn a_coil_with_no_time_left_is_not_energised_for_an_input_at_the_door() {
    let strike = StrikeConfig::pulse_strike(SECOND * 20);
    let fitted = Fitted {
        rex: false,
        fire: false,
        ..Fitted::ALL
    };
    let config = DoorConfig::new(DoorSettings::default(), strike, fitted).unwrap();
    let asked = StrikeInputs {
        at_the_door: true,
        retry_now: true,
        ..inputs(Released, true)
    };
    for (rest, outputs) in [
        (Duration::ZERO, Outputs::DeEnergised),
        (SECOND, Outputs::Energised),
    ] {
        let mut strike = Strike::new(&config, at(1));
        strike.coil.set(true);
        strike.coil.account(at(100));
        strike.coil.set(false);
        strike.phase = Phase::Failed {
            toward: Released,
            why: Failure::Exhausted,
        };
        strike.advance(at(100) + rest, &asked);
        assert_eq!(strike.outputs(), outputs, "{rest:?}");
    }
}
