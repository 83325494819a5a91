//! What a reply contains: its text and the mode.

use std::time::Duration;

use super::rig::{Rig, Step, config, motor};
use crate::Want::{Locked, Released};
use crate::config::{FailMode, Fitted, StrikeConfig};
use crate::contract::ReplyError;

const LOCK: Step = Step::Call("lockDoor", "{}");

/// A coil that may be energised for 20 s, without the inputs that must not depend on it.
fn limited(strike: StrikeConfig) -> crate::DoorConfig {
    let strike = StrikeConfig {
        max_on: Some(Duration::from_secs(20)),
        cool_down: Some(Duration::from_secs(40)),
        ..strike
    };
    let fitted = Fitted {
        rex: false,
        fire: false,
        ..Fitted::ALL
    };
    config(Locked, strike, fitted)
}

#[test]
fn a_failed_reply_names_its_cause_and_the_state_of_the_door() {
    let unlock = Step::Call("unlockDoor", "{}");
    let pulse = limited(StrikeConfig::pulse_strike(Duration::from_secs(20)));
    for (door, steps, error, text) in [
        (
            motor(Released),
            [(4000, Step::Jam(true)), (5000, LOCK)],
            ReplyError::Jammed,
            "lockDoor: the strike is jammed",
        ),
        (
            pulse,
            [(100_000, unlock), (117_000, unlock)],
            ReplyError::LockFault,
            "unlockDoor: the strike must rest",
        ),
        (
            motor(Released),
            [(4000, Step::Unplug), (5000, LOCK)],
            ReplyError::SensorFault,
            "lockDoor: an input cannot be read",
        ),
    ] {
        let mut rig = Rig::run(door, &steps);
        rig.run_until(rig.now.boottime + Duration::from_secs(5));
        let body = &rig.answers.last().unwrap().1.body;
        assert_eq!(body.error, Some(error));
        assert!(body.response.starts_with(text), "{}", body.response);
        assert!(body.status.is_some(), "{text}");
    }
}

#[test]
fn the_reply_after_a_failed_save_states_whether_the_change_acts() {
    for (method, payload, acts) in [
        ("lockDoor", "{}", true),
        ("setMode", r#"{"mode":"lockdown"}"#, true),
        ("unlockDoor", "{}", false),
        ("setMode", r#"{"mode":"passage"}"#, false),
    ] {
        let rig = Rig::run(
            motor(Locked),
            &[
                (5000, Step::SlowDisk(true)),
                (5000, Step::Call(method, payload)),
                (6000, Step::DiskFails),
            ],
        );
        let text = if acts {
            "acts, but could not be saved and would not survive a restart"
        } else {
            "could not be saved and does not act"
        };
        let body = &rig.answers[0].1.body;
        assert_eq!(body.response, format!("{method} {text}"), "{payload}");
    }
}

#[test]
fn a_reply_contains_the_mode_only_if_the_command_concerns_it() {
    for (method, payload, contains) in [
        ("setMode", r#"{"mode":"normal"}"#, true),
        ("relinquish", r#"{"slot":5}"#, true),
        ("relinquish", r#"{"slot":9}"#, true),
        ("relinquish", r#"{"slot":8}"#, false),
        ("relinquish", "{}", false),
        ("lockDoor", "{}", false),
        ("unlockDoor", "{}", false),
    ] {
        let steps = [(5000, Step::Call(method, payload)), (9000, Step::Nothing)];
        let rig = Rig::run(motor(Locked), &steps);
        let reply = &rig.answers[0].1;
        assert!(reply.is_success());
        assert_eq!(reply.body.mode.is_some(), contains, "{method} {payload}");
    }
}

#[test]
fn a_failure_to_stay_released_is_no_failure_to_lock() {
    let rig = Rig::run(
        limited(StrikeConfig::solenoid_bolt(FailMode::Secure)),
        &[
            (60_000, Step::Call("unlockDoor", "{}")),
            (62_000, Step::Open),
            // The coil reaches its limit at 75 s; the door has not settled when it is locked.
            (75_150, Step::Close),
            (75_200, LOCK),
            (79_000, Step::Nothing),
        ],
    );
    let (_, reply) = rig.answers.last().unwrap();
    assert_eq!(
        (reply.status, reply.body.error),
        (200, None),
        "{:?}",
        rig.log
    );
    assert!(rig.events.iter().any(|event| event.contains("LockFault")));
}
