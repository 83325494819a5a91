//! Strikes and maglocks, which lock without a bolt that moves into the frame.

use std::time::Duration;

use super::rig::Step::{Close, Grant, Jam, Nothing, Open, Rex};
use super::rig::{LOCK, NO_EGRESS, Step, UNLOCK, bolt, config, magnet, strike, then, unlock};
use crate::config::{FailMode, Fitted, Relock, StrikeConfig};
use crate::contract::{Alarm, LockState, Secured};
use crate::strike::Outputs;

/// Released, opened, and locked while it stands open.
const LOCKED_OPEN: [(u64, Step); 3] = [(1000, UNLOCK), (3000, Open), (5000, LOCK)];

#[test]
fn it_locks_at_once_while_the_door_is_open_and_is_secured_once_it_is_closed() {
    for (config, locks) in [
        (magnet(), Outputs::Energised),
        (strike(FailMode::Safe), Outputs::Energised),
        (strike(FailMode::Secure), Outputs::DeEnergised),
    ] {
        let rig = config.run(&then(&LOCKED_OPEN, &[]));
        assert_eq!(rig.outputs, locks);
        let rig = config.run(&then(&LOCKED_OPEN, &[(20_000, Nothing)]));
        let status = rig.door.report().status;
        assert_eq!(status.lock_state, LockState::Locked);
        assert_eq!(status.secured, Secured::Unsecured);
        assert!(
            rig.answer_lines.last().unwrap().contains(" 202 "),
            "{:?}",
            rig.answer_lines
        );
        assert!(!rig.has_alarm(Alarm::Jammed));

        let closed = [(20_000, Close), (20_100, Nothing)];
        let rig = config.run(&then(&LOCKED_OPEN, &closed));
        assert_eq!(rig.door.report().status.secured, Secured::Secured);
    }
}

/// The same scenario: a bolt stays retracted until the door is closed.
#[test]
fn a_bolt_waits_for_the_door_where_a_strike_does_not() {
    let rig = bolt(FailMode::Safe).run(&then(&LOCKED_OPEN, &[(20_000, Nothing)]));
    assert_eq!(rig.outputs, Outputs::DeEnergised);
}

#[test]
fn without_its_bond_a_closed_door_is_jammed_until_the_bond_is_seen() {
    for config in [magnet(), strike(FailMode::Safe)] {
        let steps = [
            (4000, UNLOCK),
            (8000, Jam(true)),
            (9000, LOCK),
            (11_900, Nothing),
        ];
        assert!(!config.run(&steps).has_alarm(Alarm::Jammed));
        let mut steps = steps.to_vec();
        steps.push((12_100, Nothing));
        let rig = config.run(&steps);
        assert!(rig.has_alarm(Alarm::Jammed), "{:?}", rig.log);
        assert!(rig.answer_lines.last().unwrap().contains(" 500 Jammed"));
        // The level stays, so it is locked as soon as the bond reads locked.
        assert_eq!(rig.outputs, Outputs::Energised);
        steps.push((13_000, Jam(false)));
        steps.push((14_000, Nothing));
        let rig = config.run(&steps);
        assert!(!rig.has_alarm(Alarm::Jammed), "{:?}", rig.log);
        assert_eq!(rig.door.report().status.secured, Secured::Secured);
    }
}

#[test]
fn a_door_that_is_torn_from_its_magnet_is_forced_and_secured_again_when_it_closes() {
    let steps = [(5000, Open), (5500, Nothing)];
    let rig = magnet().run(&steps);
    assert!(rig.has_alarm(Alarm::ForcedOpen), "{:?}", rig.log);
    assert_eq!(rig.outputs, Outputs::Energised);
    let steps = [(5000, Open), (8000, Close), (8100, Nothing)];
    let rig = magnet().run(&steps);
    assert_eq!(rig.door.report().status.secured, Secured::Secured);
    assert!(rig.door.report().alarms.is_empty(), "{:?}", rig.door);
}

#[test]
fn a_pulse_strike_is_de_energised_at_its_limit_and_raises_lock_fault() {
    let coil = StrikeConfig::pulse_strike(Duration::from_secs(20));
    let config = config(crate::Want::Locked, coil, NO_EGRESS);
    // Rested, and with the strike time kept back for the reader.
    let steps = [(60_000, UNLOCK), (74_900, Nothing)];
    let rig = config.run(&steps);
    assert_eq!(rig.outputs, Outputs::Energised, "{:?}", rig.log);
    let mut steps = steps.to_vec();
    steps.push((75_100, Nothing));
    let rig = config.run(&steps);
    assert_eq!(rig.outputs, Outputs::DeEnergised, "{:?}", rig.log);
    assert!(rig.has_alarm(Alarm::LockFault));
    let locked = [&steps[..], &[(77_000, Nothing)]].concat();
    let rig = config.run(&locked);
    assert!(rig.has_event("Locked by Protection"), "{:?}", rig.events);
    steps.push((75_200, Grant(true)));
    let rig = config.run(&steps);
    assert_eq!(rig.outputs, Outputs::Energised, "{:?}", rig.log);
}

#[test]
fn without_a_door_switch_a_magnet_locks_and_secured_is_unknown() {
    let fitted = Fitted {
        door: false,
        bond: false,
        ..Fitted::ALL
    };
    let config = config(crate::Want::Locked, StrikeConfig::maglock(), fitted);
    let rig = config.run(&[(5000, LOCK), (9000, Nothing)]);
    assert_eq!(rig.outputs, Outputs::Energised);
    let status = rig.door.report().status;
    assert_eq!(
        (status.lock_state, status.secured),
        (LockState::Locked, Secured::Unknown)
    );
    assert!(
        rig.answer_lines.last().unwrap().contains(" 202 "),
        "{:?}",
        rig.answer_lines
    );
    assert!(rig.door.report().alarms.is_empty(), "{:?}", rig.door);
}

#[test]
fn a_pulse_releases_for_the_doors_own_times() {
    for (payload, locks_at) in [
        (r#"{"pulse":"strike"}"#, 10_000),
        (r#"{"pulse":"extended"}"#, 20_000),
    ] {
        let steps = |at| [(5000, unlock(payload)), (at, Nothing)];
        let before = magnet().run(&steps(locks_at - 10));
        assert_eq!(before.outputs, Outputs::DeEnergised, "{payload}");
        let after = magnet().run(&steps(locks_at + 10));
        assert_eq!(after.outputs, Outputs::Energised, "{payload}");
    }
    for payload in [
        r#"{"pulse":"long"}"#,
        r#"{"pulse":5}"#,
        r#"{"pulse":"strike","unlockTime":"5s"}"#,
        r#"{"pulse":"strike","until":"2026-11-23T22:00:00Z"}"#,
    ] {
        let rig = magnet().run(&[(5000, unlock(payload))]);
        assert!(
            rig.answer_lines[0].contains(" 400 "),
            "{payload}: {:?}",
            rig.answer_lines
        );
        assert_eq!(rig.outputs, Outputs::Energised);
    }
}

#[test]
fn a_passage_relocks_by_the_relock_setting() {
    // Pressed at 5 s for 200 ms, opened at 6 s, closed at 7 s; the strike time is 5 s, the delay
    // half a second.
    for (relock, locks_at) in [
        (Relock::AfterTime, 10_200),
        (Relock::OnOpen, 6500),
        (Relock::OnClose, 7500),
    ] {
        let mut config = magnet();
        config.settings.relock = relock;
        let steps = |at| {
            [
                (5000, Rex(true)),
                (5200, Rex(false)),
                (6000, Open),
                (7000, Close),
                (at, Nothing),
            ]
            .into_iter()
            .filter(|(time, _)| *time <= at)
            .collect::<Vec<_>>()
        };
        let before = config.run(&steps(locks_at - 10));
        assert_eq!(before.outputs, Outputs::DeEnergised, "{relock:?}");
        let after = config.run(&steps(locks_at + 10));
        assert_eq!(after.outputs, Outputs::Energised, "{relock:?}");
        assert!(!after.has_alarm(Alarm::ForcedOpen));
    }
}

#[test]
fn a_button_that_is_still_pressed_and_an_operator_are_not_cut_short() {
    let mut config = magnet();
    config.settings.relock = Relock::OnOpen;
    for release in [Rex(true), Grant(true), unlock(r#"{"unlockTime":"10s"}"#)] {
        let steps = [(5000, release), (6000, Open), (9000, Nothing)];
        let rig = config.run(&steps);
        assert_eq!(rig.outputs, Outputs::DeEnergised, "{release:?}");
    }
}

#[test]
fn an_exit_button_releases_it_for_the_strike_time() {
    for (config, locks) in [
        (magnet(), Outputs::Energised),
        (strike(FailMode::Secure), Outputs::DeEnergised),
    ] {
        let rig = config.run(&[(5000, Rex(true))]);
        assert_ne!(rig.outputs, locks);
        let steps = [(5000, Rex(true)), (5200, Rex(false)), (10_300, Nothing)];
        assert_eq!(config.run(&steps).outputs, locks);
    }
}
