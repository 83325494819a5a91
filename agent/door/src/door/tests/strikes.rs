//! Strikes and maglocks, which lock without a bolt that moves into the frame.

use std::time::Duration;

use super::rig::{Rig, Step, bolt, config, magnet, strike};
use crate::config::{FailMode, Fitted, Relock, StrikeConfig};
use crate::contract::{Alarm, LockState, Secured};
use crate::strike::Outputs;

/// Released, opened, and locked while it stands open.
const LOCKED_OPEN: [(u64, Step); 3] = [
    (1000, Step::Call("unlockDoor", "{}")),
    (3000, Step::Open),
    (5000, Step::Call("lockDoor", "{}")),
];

fn then(more: &[(u64, Step)]) -> Vec<(u64, Step)> {
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
        let rig = Rig::run(config, &then(&[]));
        assert_eq!(rig.outputs, locks);
        let rig = Rig::run(config, &then(&[(20_000, Step::Nothing)]));
        let status = rig.door.report().status;
        assert_eq!(status.lock_state, LockState::Locked);
        assert_eq!(status.secured, Secured::Unsecured);
        assert!(
            rig.answer_lines.last().unwrap().contains(" 202 "),
            "{:?}",
            rig.answer_lines
        );
        assert!(!rig.has_alarm(Alarm::Jammed));

        let closed = then(&[(20_000, Step::Close), (20_100, Step::Nothing)]);
        let rig = Rig::run(config, &closed);
        assert_eq!(rig.door.report().status.secured, Secured::Secured);
    }
}

/// The same scenario: a bolt stays retracted until the door is closed.
#[test]
fn a_bolt_waits_for_the_door_where_a_strike_does_not() {
    let rig = Rig::run(bolt(FailMode::Safe), &then(&[(20_000, Step::Nothing)]));
    assert_eq!(rig.outputs, Outputs::DeEnergised);
}

#[test]
fn without_its_bond_a_closed_door_is_jammed_until_the_bond_is_seen() {
    for config in [magnet(), strike(FailMode::Safe)] {
        let steps = [
            (4000, Step::Call("unlockDoor", "{}")),
            (8000, Step::Jam(true)),
            (9000, Step::Call("lockDoor", "{}")),
            (11_900, Step::Nothing),
        ];
        assert!(!Rig::run(config, &steps).has_alarm(Alarm::Jammed));
        let mut steps = steps.to_vec();
        steps.push((12_100, Step::Nothing));
        let rig = Rig::run(config, &steps);
        assert!(rig.has_alarm(Alarm::Jammed), "{:?}", rig.log);
        assert!(rig.answer_lines.last().unwrap().contains(" 500 Jammed"));
        // The level stays, so it is locked as soon as the bond reads locked.
        assert_eq!(rig.outputs, Outputs::Energised);
        steps.push((13_000, Step::Jam(false)));
        steps.push((14_000, Step::Nothing));
        let rig = Rig::run(config, &steps);
        assert!(!rig.has_alarm(Alarm::Jammed), "{:?}", rig.log);
        assert_eq!(rig.door.report().status.secured, Secured::Secured);
    }
}

#[test]
fn a_door_that_is_torn_from_its_magnet_is_forced_and_secured_again_when_it_closes() {
    let steps = [(5000, Step::Open), (5500, Step::Nothing)];
    let rig = Rig::run(magnet(), &steps);
    assert!(rig.has_alarm(Alarm::ForcedOpen), "{:?}", rig.log);
    assert_eq!(rig.outputs, Outputs::Energised);
    let steps = [
        (5000, Step::Open),
        (8000, Step::Close),
        (8100, Step::Nothing),
    ];
    let rig = Rig::run(magnet(), &steps);
    assert_eq!(rig.door.report().status.secured, Secured::Secured);
    assert!(rig.door.report().alarms.is_empty(), "{:?}", rig.door);
}

#[test]
fn a_pulse_strike_is_de_energised_at_its_limit_and_raises_lock_fault() {
    let fitted = Fitted {
        rex: false,
        fire: false,
        ..Fitted::ALL
    };
    let coil = StrikeConfig::pulse_strike(Duration::from_secs(20));
    let config = config(crate::Want::Locked, coil, fitted);
    // Rested, and with the strike time kept back for the reader.
    let steps = [
        (60_000, Step::Call("unlockDoor", "{}")),
        (74_900, Step::Nothing),
    ];
    let rig = Rig::run(config, &steps);
    assert_eq!(rig.outputs, Outputs::Energised, "{:?}", rig.log);
    let mut steps = steps.to_vec();
    steps.push((75_100, Step::Nothing));
    let rig = Rig::run(config, &steps);
    assert_eq!(rig.outputs, Outputs::DeEnergised, "{:?}", rig.log);
    assert!(rig.has_alarm(Alarm::LockFault));
    let locked = [&steps[..], &[(77_000, Step::Nothing)]].concat();
    let rig = Rig::run(config, &locked);
    let by = "Locked by Protection".to_owned();
    assert!(rig.events.contains(&by), "{:?}", rig.events);
    steps.push((75_200, Step::Grant(true)));
    let rig = Rig::run(config, &steps);
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
    let rig = Rig::run(
        config,
        &[(5000, Step::Call("lockDoor", "{}")), (9000, Step::Nothing)],
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
        let steps = |at| {
            [
                (5000, Step::Call("unlockDoor", payload)),
                (at, Step::Nothing),
            ]
        };
        let before = Rig::run(magnet(), &steps(locks_at - 10));
        assert_eq!(before.outputs, Outputs::DeEnergised, "{payload}");
        let after = Rig::run(magnet(), &steps(locks_at + 10));
        assert_eq!(after.outputs, Outputs::Energised, "{payload}");
    }
    for payload in [
        r#"{"pulse":"long"}"#,
        r#"{"pulse":5}"#,
        r#"{"pulse":"strike","unlockTime":"5s"}"#,
        r#"{"pulse":"strike","until":"2026-11-23T22:00:00Z"}"#,
    ] {
        let rig = Rig::run(magnet(), &[(5000, Step::Call("unlockDoor", payload))]);
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
                (5000, Step::Rex(true)),
                (5200, Step::Rex(false)),
                (6000, Step::Open),
                (7000, Step::Close),
                (at, Step::Nothing),
            ]
            .into_iter()
            .filter(|(time, _)| *time <= at)
            .collect::<Vec<_>>()
        };
        let before = Rig::run(config, &steps(locks_at - 10));
        assert_eq!(before.outputs, Outputs::DeEnergised, "{relock:?}");
        let after = Rig::run(config, &steps(locks_at + 10));
        assert_eq!(after.outputs, Outputs::Energised, "{relock:?}");
        assert!(!after.has_alarm(Alarm::ForcedOpen));
    }
}

#[test]
fn a_button_that_is_still_pressed_and_an_operator_are_not_cut_short() {
    let mut config = magnet();
    config.settings.relock = Relock::OnOpen;
    for release in [
        Step::Rex(true),
        Step::Grant(true),
        Step::Call("unlockDoor", r#"{"unlockTime":"10s"}"#),
    ] {
        let steps = [(5000, release), (6000, Step::Open), (9000, Step::Nothing)];
        let rig = Rig::run(config, &steps);
        assert_eq!(rig.outputs, Outputs::DeEnergised, "{release:?}");
    }
}

#[test]
fn an_exit_button_releases_it_for_the_strike_time() {
    for (config, locks) in [
        (magnet(), Outputs::Energised),
        (strike(FailMode::Secure), Outputs::DeEnergised),
    ] {
        let rig = Rig::run(config, &[(5000, Step::Rex(true))]);
        assert_ne!(rig.outputs, locks);
        let steps = [
            (5000, Step::Rex(true)),
            (5200, Step::Rex(false)),
            (10_300, Step::Nothing),
        ];
        assert_eq!(Rig::run(config, &steps).outputs, locks);
    }
}
