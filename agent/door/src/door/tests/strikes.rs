//! Strikes and maglocks: what locks without moving anything into the frame.

use std::time::Duration;

use super::rig::{Do, Rig, bolt, config, magnet, strike};
use crate::config::{FailMode, Fitted, Relock, StrikeConfig};
use crate::contract::{Alarm, LockState, Secured};
use crate::strike::Outputs;

/// Released, opened, and locked while it stands open.
const LOCKED_OPEN: [(u64, Do); 3] = [
    (1000, Do::Call("unlockDoor", "{}")),
    (3000, Do::Open),
    (5000, Do::Call("lockDoor", "{}")),
];

fn then(more: &[(u64, Do)]) -> Vec<(u64, Do)> {
    let mut steps = LOCKED_OPEN.to_vec();
    steps.extend(more);
    steps
}

#[test]
fn it_locks_at_once_while_the_door_is_open_and_is_secured_once_it_is_closed() {
    for (config, locks) in [
        (magnet(), Outputs::Energised),
        (strike(FailMode::Safe), Outputs::Energised),
        (strike(FailMode::Secure), Outputs::DeEnergised),
    ] {
        let rig = Rig::tell(config, &then(&[]));
        assert_eq!(rig.outputs, locks);
        let rig = Rig::tell(config, &then(&[(20_000, Do::Nothing)]));
        let status = rig.door.report().status;
        assert_eq!(status.lock_state, LockState::Locked);
        assert_eq!(status.secured, Secured::Unsecured);
        assert!(
            rig.answer_lines.last().unwrap().contains(" 202 "),
            "{:?}",
            rig.answer_lines
        );
        assert!(!rig.has_alarm(Alarm::Jammed));

        let closed = then(&[(20_000, Do::Close), (20_100, Do::Nothing)]);
        let rig = Rig::tell(config, &closed);
        assert_eq!(rig.door.report().status.secured, Secured::Secured);
    }
}

/// The same story: a bolt stays back until the door is closed.
#[test]
fn a_bolt_waits_for_what_a_strike_does_not_wait_for() {
    let rig = Rig::tell(bolt(FailMode::Safe), &then(&[(20_000, Do::Nothing)]));
    assert_eq!(rig.outputs, Outputs::DeEnergised);
}

#[test]
fn without_its_bond_a_closed_door_is_jammed_until_the_bond_is_seen() {
    for config in [magnet(), strike(FailMode::Safe)] {
        let steps = [
            (4000, Do::Call("unlockDoor", "{}")),
            (8000, Do::Jam(true)),
            (9000, Do::Call("lockDoor", "{}")),
            (11_900, Do::Nothing),
        ];
        assert!(!Rig::tell(config, &steps).has_alarm(Alarm::Jammed));
        let mut steps = steps.to_vec();
        steps.push((12_100, Do::Nothing));
        let rig = Rig::tell(config, &steps);
        assert!(rig.has_alarm(Alarm::Jammed), "{:?}", rig.log);
        assert!(rig.answer_lines.last().unwrap().contains(" 500 Jammed"));
        // The level stays, and so it is locked as soon as the bond says so.
        assert_eq!(rig.outputs, Outputs::Energised);
        steps.push((13_000, Do::Jam(false)));
        steps.push((14_000, Do::Nothing));
        let rig = Rig::tell(config, &steps);
        assert!(!rig.has_alarm(Alarm::Jammed), "{:?}", rig.log);
        assert_eq!(rig.door.report().status.secured, Secured::Secured);
    }
}

#[test]
fn a_door_that_is_torn_from_its_magnet_is_forced_and_secured_again_when_it_closes() {
    let steps = [(5000, Do::Open), (5500, Do::Nothing)];
    let rig = Rig::tell(magnet(), &steps);
    assert!(rig.has_alarm(Alarm::ForcedOpen), "{:?}", rig.log);
    assert_eq!(rig.outputs, Outputs::Energised);
    let steps = [(5000, Do::Open), (8000, Do::Close), (8100, Do::Nothing)];
    let rig = Rig::tell(magnet(), &steps);
    assert_eq!(rig.door.report().status.secured, Secured::Secured);
    assert!(rig.door.report().alarms.is_empty(), "{:?}", rig.door);
}

#[test]
fn a_pulse_strike_lets_go_when_its_coil_must_rest_and_says_so() {
    let fitted = Fitted {
        rex: false,
        fire: false,
        ..Fitted::ALL
    };
    let coil = StrikeConfig::pulse_strike(Duration::from_secs(20));
    let config = config(crate::Want::Locked, coil, fitted);
    // Rested, and with the strike time kept back for the reader.
    let steps = [
        (60_000, Do::Call("unlockDoor", "{}")),
        (74_900, Do::Nothing),
    ];
    let rig = Rig::tell(config, &steps);
    assert_eq!(rig.outputs, Outputs::Energised, "{:?}", rig.log);
    let mut steps = steps.to_vec();
    steps.push((75_100, Do::Nothing));
    let rig = Rig::tell(config, &steps);
    assert_eq!(rig.outputs, Outputs::DeEnergised, "{:?}", rig.log);
    assert!(rig.has_alarm(Alarm::LockFault));
    steps.push((75_200, Do::Grant(true)));
    let rig = Rig::tell(config, &steps);
    assert_eq!(rig.outputs, Outputs::Energised, "{:?}", rig.log);
}

#[test]
fn without_a_door_switch_a_magnet_locks_and_nothing_tells_whether_it_secures() {
    let fitted = Fitted {
        door: false,
        bond: false,
        ..Fitted::ALL
    };
    let config = config(crate::Want::Locked, StrikeConfig::maglock(), fitted);
    let rig = Rig::tell(
        config,
        &[(5000, Do::Call("lockDoor", "{}")), (9000, Do::Nothing)],
    );
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
        let steps = |at| [(5000, Do::Call("unlockDoor", payload)), (at, Do::Nothing)];
        let before = Rig::tell(magnet(), &steps(locks_at - 10));
        assert_eq!(before.outputs, Outputs::DeEnergised, "{payload}");
        let after = Rig::tell(magnet(), &steps(locks_at + 10));
        assert_eq!(after.outputs, Outputs::Energised, "{payload}");
    }
    for payload in [
        r#"{"pulse":"long"}"#,
        r#"{"pulse":5}"#,
        r#"{"pulse":"strike","unlockTime":"5s"}"#,
        r#"{"pulse":"strike","until":"2026-11-23T22:00:00Z"}"#,
    ] {
        let rig = Rig::tell(magnet(), &[(5000, Do::Call("unlockDoor", payload))]);
        assert!(
            rig.answer_lines[0].contains(" 400 "),
            "{payload}: {:?}",
            rig.answer_lines
        );
        assert_eq!(rig.outputs, Outputs::Energised);
    }
}

#[test]
fn who_has_gone_through_needs_it_released_no_longer() {
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
                (5000, Do::Rex(true)),
                (5200, Do::Rex(false)),
                (6000, Do::Open),
                (7000, Do::Close),
                (at, Do::Nothing),
            ]
            .into_iter()
            .filter(|(time, _)| *time <= at)
            .collect::<Vec<_>>()
        };
        let before = Rig::tell(config, &steps(locks_at - 10));
        assert_eq!(before.outputs, Outputs::DeEnergised, "{relock:?}");
        let after = Rig::tell(config, &steps(locks_at + 10));
        assert_eq!(after.outputs, Outputs::Energised, "{relock:?}");
        assert!(!after.has_alarm(Alarm::ForcedOpen));
    }
}

#[test]
fn a_button_that_is_still_pressed_and_an_operator_are_not_cut_short() {
    let mut config = magnet();
    config.settings.relock = Relock::OnOpen;
    for release in [
        Do::Rex(true),
        Do::Grant(true),
        Do::Call("unlockDoor", r#"{"unlockTime":"10s"}"#),
    ] {
        let steps = [(5000, release), (6000, Do::Open), (9000, Do::Nothing)];
        let rig = Rig::tell(config, &steps);
        assert_eq!(rig.outputs, Outputs::DeEnergised, "{release:?}");
    }
}

#[test]
fn an_exit_button_releases_it_for_the_strike_time() {
    for (config, locks) in [
        (magnet(), Outputs::Energised),
        (strike(FailMode::Secure), Outputs::DeEnergised),
    ] {
        let rig = Rig::tell(config, &[(5000, Do::Rex(true))]);
        assert_ne!(rig.outputs, locks);
        let steps = [
            (5000, Do::Rex(true)),
            (5200, Do::Rex(false)),
            (10_300, Do::Nothing),
        ];
        assert_eq!(Rig::tell(config, &steps).outputs, locks);
    }
}
