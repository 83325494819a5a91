//! What a reply contains: its text and the mode.

use std::time::Duration;

use super::rig::Step::{Call, Close, DiskFails, Jam, Nothing, Open, SlowDisk, Unplug};
use super::rig::{LOCK, NO_EGRESS, UNLOCK, config, limited, motor};
use crate::Want::{Locked, Released};
use crate::config::{FailMode, StrikeConfig};
use crate::contract::ReplyError;

/// A coil that may be energised for 20 s, without the inputs that must not depend on it.
fn limited_door(strike: StrikeConfig) -> crate::DoorConfig {
    config(Locked, limited(strike, 20, 40), NO_EGRESS)
}

#[test]
fn a_failed_reply_names_its_cause_and_the_state_of_the_door() {
    let pulse = limited_door(StrikeConfig::pulse_strike(Duration::from_secs(20)));
    for (door, steps, error, text) in [
        (
            motor(Released),
            [(4000, Jam(true)), (5000, LOCK)],
            ReplyError::Jammed,
            "lockDoor: the strike is jammed",
        ),
        (
            pulse,
            [(100_000, UNLOCK), (117_000, UNLOCK)],
            ReplyError::LockFault,
            "unlockDoor: the strike must rest",
        ),
        (
            motor(Released),
            [(4000, Unplug), (5000, LOCK)],
            ReplyError::SensorFault,
            "lockDoor: input door cannot be read",
        ),
    ] {
        let mut rig = door.run(&steps);
        rig.run_for(5000);
        let body = &rig.last_reply().body;
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
        let rig = motor(Locked).run(&[
            (5000, SlowDisk(true)),
            (5000, Call(method, payload)),
            (6000, DiskFails),
        ]);
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
        let steps = [(5000, Call(method, payload)), (9000, Nothing)];
        let rig = motor(Locked).run(&steps);
        let reply = &rig.answers[0].1;
        assert!(reply.is_success());
        assert_eq!(reply.body.mode.is_some(), contains, "{method} {payload}");
    }
}

#[test]
fn a_failure_to_stay_released_is_no_failure_to_lock() {
    let rig = limited_door(StrikeConfig::solenoid_bolt(FailMode::Secure)).run(&[
        (60_000, UNLOCK),
        (62_000, Open),
        // The coil reaches its limit at 75 s; the door has not settled when it is locked.
        (75_150, Close),
        (75_200, LOCK),
        (79_000, Nothing),
    ]);
    let reply = rig.last_reply();
    assert_eq!(
        (reply.status, reply.body.error),
        (200, None),
        "{:?}",
        rig.log
    );
    assert!(!rig.events_with("LockFault").is_empty());
}
