//! `proof` and answers claim nothing that a sensor denies, and depend on the inputs that matter.

use std::time::Duration;

use super::rig::Step::{Clock, Close, Nothing, Open, Tamper, Unplug};
use super::rig::{
    LOCK, LOCKDOWN, NO_BOND, NO_EGRESS, Step, UNLOCK, config, limited, lock, magnet, motor, strike,
    unlock,
};
use crate::Want::{Locked, Released};
use crate::config::{FailMode, StrikeConfig};
use crate::contract::{Alarm, Proof};

#[test]
fn proof_never_claims_what_a_sensor_denies() {
    let contact = |strike| config(Locked, strike, NO_BOND);
    for (door, steps, lock_state, proof) in [
        (magnet(), vec![], "Locked", Proof::Bond),
        // The level stays energised, and the armature does not touch the magnet.
        (magnet(), vec![(10_000, Open)], "Locked", Proof::None),
        (
            strike(FailMode::Safe),
            vec![(10_000, Open)],
            "Locked",
            Proof::None,
        ),
        (
            strike(FailMode::Secure),
            vec![(10_000, Open)],
            "Locked",
            Proof::None,
        ),
        (
            magnet(),
            vec![(10_000, Open), (12_000, Close)],
            "Locked",
            Proof::Bond,
        ),
        (motor(Locked), vec![], "Locked", Proof::Bond),
        (
            motor(Released),
            vec![(10_000, Open)],
            "Unlocked",
            Proof::Bond,
        ),
        (
            contact(StrikeConfig::maglock()),
            vec![],
            "Locked",
            Proof::Contact,
        ),
        (
            contact(StrikeConfig::maglock()),
            vec![(10_000, Open)],
            "Locked",
            Proof::None,
        ),
        (
            contact(StrikeConfig::motor_lock()),
            vec![(10_000, UNLOCK)],
            "Unlocked",
            Proof::Contact,
        ),
    ] {
        let mut rig = door.run(&steps);
        rig.run_to(20_000);
        let status = rig.door.report().status;
        let found = (format!("{:?}", status.lock_state), status.proof);
        assert_eq!(
            found,
            (lock_state.to_owned(), proof),
            "{steps:?}: {:?}",
            rig.log
        );
    }
}

#[test]
fn only_a_fault_of_door_or_bond_fails_a_lock_and_the_answer_names_it() {
    let chatter: Vec<_> = (0..24)
        .map(|n| (5000 + n * 100, Tamper(n % 2 == 0)))
        .collect();
    for (steps, status, text) in [
        (chatter, 200, "lockDoor called successfully"),
        (
            vec![(5000, Unplug)],
            500,
            "lockDoor: input door cannot be read",
        ),
    ] {
        let mut rig = motor(Locked).run(&[&steps[..], &[(8000, LOCK)]].concat());
        rig.run_for(5000);
        assert!(rig.has_alarm(Alarm::SensorFault), "{:?}", rig.log);
        let reply = rig.last_reply();
        assert_eq!(
            (reply.status, &*reply.body.response),
            (status, text),
            "{:?}",
            rig.log
        );
        rig.act(&Step::Call("selfTest", ""));
        rig.run_for(5000);
        let checks = rig.last_reply().body.checks.as_ref().unwrap();
        let named = checks.inputs.detail.contains("tamper chatters")
            || checks.inputs.detail.contains("door not readable");
        assert!(named, "{checks:?}");
    }
}

#[test]
fn an_answer_states_when_a_coil_of_limited_duty_ends_the_state() {
    let bolt = limited(StrikeConfig::solenoid_bolt(FailMode::Safe), 20, 40);
    let bolt = config(Released, bolt, crate::config::Fitted::ALL);
    let pulse = limited(StrikeConfig::pulse_strike(Duration::from_secs(20)), 20, 40);
    let pulse = config(Locked, pulse, NO_EGRESS);
    // It has cooled: 20 s for the bolt, and 5 s less for the strike, which keeps them in reserve.
    for (door, step, status, held_until) in [
        (
            bolt,
            lock(r#"{"lockTime":"60s"}"#),
            202,
            Some("2026-11-23T22:01:20Z"),
        ),
        (bolt, LOCK, 202, Some("2026-11-23T22:01:20Z")),
        (bolt, LOCKDOWN, 202, Some("2026-11-23T22:01:20Z")),
        (bolt, lock(r#"{"lockTime":"10s"}"#), 200, None),
        (
            pulse,
            unlock(r#"{"unlockTime":"60s"}"#),
            202,
            Some("2026-11-23T22:01:15Z"),
        ),
        (pulse, UNLOCK, 202, Some("2026-11-23T22:01:15Z")),
        (pulse, unlock(r#"{"pulse":"strike"}"#), 200, None),
        (pulse, LOCK, 200, None),
        (magnet(), LOCK, 200, None),
        (motor(Released), lock(r#"{"lockTime":"60s"}"#), 200, None),
    ] {
        let start = Clock("2026-11-23T22:00:00Z");
        let rig = door.run(&[(40_000, start), (100_000, step), (104_000, Nothing)]);
        let reply = rig.last_reply();
        let until = reply.body.held_until.map(|until| until.to_string());
        assert_eq!(
            (reply.status, until.as_deref()),
            (status, held_until),
            "{step:?}: {reply:?}"
        );
        let says = reply
            .body
            .response
            .contains("the coil may run for 20s, then rests for 40s");
        assert_eq!(says, held_until.is_some(), "{reply:?}");
    }
}
