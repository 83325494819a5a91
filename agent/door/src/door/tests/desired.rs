//! Rules of the desired properties: a mode acts once, settings at once, and both survive.

use super::rig::Step::{Desire, DiskFails, Nothing, Reboot, Restart, Rex, SlowDisk};
use super::rig::{Step, mode, motor, relinquish};
use crate::Want::{Locked, Released};
use crate::contract::Mode;
use crate::desired::DesiredMode;

fn desire(mode: Mode) -> Step {
    Desire(DesiredMode::Mode(mode), None)
}

const NONE: Step = Desire(DesiredMode::Absent, None);

fn mode_after(steps: &[Step]) -> Mode {
    let steps: Vec<_> = steps
        .iter()
        .zip(1..)
        .map(|(step, second)| (5000 + second * 1000, *step))
        .collect();
    let rig = motor(Locked).run(&steps);
    let failed = rig.answers.iter().find(|(_, reply)| !reply.is_success());
    assert_eq!(failed, None);
    rig.door.report().mode
}

#[test]
fn a_desired_mode_acts_only_if_it_differs_from_the_one_last_applied() {
    let normal = || mode(r#"{"mode":"normal"}"#);
    for (steps, mode) in [
        (vec![desire(Mode::Passage)], Mode::Passage),
        // Read again after a reconnect: a mode set since stays.
        (
            vec![desire(Mode::Passage), normal(), desire(Mode::Passage)],
            Mode::Normal,
        ),
        // After a restart too.
        (
            vec![
                desire(Mode::Passage),
                normal(),
                Restart,
                desire(Mode::Passage),
            ],
            Mode::Normal,
        ),
        (
            vec![desire(Mode::Passage), normal(), desire(Mode::Secure)],
            Mode::Secure,
        ),
        // An unreadable mode changes nothing, and the same mode after it is still the one last
        // applied.
        (
            vec![
                desire(Mode::Passage),
                normal(),
                Desire(DesiredMode::Unreadable, None),
                desire(Mode::Passage),
            ],
            Mode::Normal,
        ),
        // When withdrawn, any other mode stays, and may be desired again.
        (vec![desire(Mode::Passage), NONE], Mode::Passage),
        (
            vec![desire(Mode::Passage), NONE, normal(), desire(Mode::Passage)],
            Mode::Passage,
        ),
    ] {
        assert_eq!(mode_after(&steps), mode, "{steps:?}");
    }
}

#[test]
fn the_last_desired_mode_wins_while_an_earlier_one_still_waits_for_the_disk() {
    let (slow, fast) = (SlowDisk(true), SlowDisk(false));
    let lockdown = || desire(Mode::Lockdown);
    for (steps, mode) in [
        (vec![lockdown(), slow, NONE, fast], Mode::Normal),
        (
            vec![lockdown(), slow, NONE, lockdown(), fast],
            Mode::Lockdown,
        ),
        (
            vec![
                desire(Mode::Secure),
                slow,
                desire(Mode::Passage),
                desire(Mode::Secure),
                fast,
            ],
            Mode::Secure,
        ),
        (
            vec![slow, desire(Mode::Passage), desire(Mode::Passage), fast],
            Mode::Passage,
        ),
    ] {
        assert_eq!(mode_after(&steps), mode, "{steps:?}");
    }
}

#[test]
fn withdrawing_a_desired_lockdown_restores_the_displaced_mode() {
    let secure = || mode(r#"{"mode":"secure"}"#);
    for (steps, mode) in [
        (vec![secure(), desire(Mode::Lockdown)], Mode::Lockdown),
        (vec![secure(), desire(Mode::Lockdown), NONE], Mode::Secure),
        (
            vec![secure(), desire(Mode::Lockdown), Reboot, NONE],
            Mode::Secure,
        ),
        // The lockdown had already ended.
        (
            vec![
                secure(),
                desire(Mode::Lockdown),
                mode(r#"{"mode":"passage"}"#),
                NONE,
            ],
            Mode::Passage,
        ),
        // A lockdown that was not desired stays.
        (vec![mode(r#"{"mode":"lockdown"}"#), NONE], Mode::Lockdown),
    ] {
        let times: Vec<u64> = if steps.iter().any(|step| matches!(step, Reboot)) {
            vec![6000, 7000, 8000, 1000]
        } else {
            (6..)
                .map(|second| second * 1000)
                .take(steps.len())
                .collect()
        };
        let scenario: Vec<_> = times.into_iter().zip(steps.iter().copied()).collect();
        let rig = motor(Locked).run(&scenario);
        assert_eq!(rig.door.report().mode, mode, "{steps:?}");
    }
}

#[test]
fn withdrawing_a_lockdown_restores_a_mode_set_over_the_desired_one() {
    let secure = || mode(r#"{"mode":"secure"}"#);
    let (passage, lockdown) = (|| desire(Mode::Passage), || desire(Mode::Lockdown));
    for (steps, mode) in [
        (vec![passage(), lockdown(), passage()], Mode::Passage),
        (
            vec![passage(), secure(), lockdown(), passage()],
            Mode::Secure,
        ),
        (
            vec![passage(), secure(), lockdown(), Restart, passage()],
            Mode::Secure,
        ),
        // The lockdown had already ended: a mode set since stays.
        (
            vec![passage(), lockdown(), secure(), passage()],
            Mode::Secure,
        ),
        // A mode other than before is applied, and so is the same one later.
        (
            vec![passage(), secure(), lockdown(), desire(Mode::Maintenance)],
            Mode::Maintenance,
        ),
        (
            vec![passage(), lockdown(), NONE, secure(), passage()],
            Mode::Passage,
        ),
    ] {
        assert_eq!(mode_after(&steps), mode, "{steps:?}");
    }
}

#[test]
fn a_desired_mode_waiting_for_the_disk_under_a_lockdown_counts_as_applied() {
    let rig = motor(Locked).run(&[
        (5000, SlowDisk(true)),
        (5000, desire(Mode::Passage)),
        (5100, mode(r#"{"mode":"lockdown"}"#)),
        (5200, SlowDisk(false)),
        (6000, desire(Mode::Passage)),
        (7000, Nothing),
    ]);
    let array = rig.door.authority();
    assert_eq!(array.mode(), Mode::Lockdown);
    assert_eq!(array.displaced_mode(), Some(Mode::Passage));
}

#[test]
fn a_desired_release_is_on_disk_before_it_acts_and_one_that_cannot_be_saved_acts_later() {
    let rig = motor(Locked).run(&[
        (5000, SlowDisk(true)),
        (5000, desire(Mode::Passage)),
        (6000, DiskFails),
        (7000, SlowDisk(true)),
        (7000, desire(Mode::Passage)),
        (8000, SlowDisk(false)),
        (11_000, Nothing),
    ]);
    assert_eq!(
        rig.answer_lines,
        [
            "6000 #1 500 NotStored Locked Secured",
            "8000 #2 200 Unlocking Unsecured"
        ]
    );
    assert_eq!(rig.drives_from(2), "8000 Retract, 10000 DeEnergised");
    let is_recorded = !rig.events_with("desired").is_empty();
    assert!(
        !is_recorded,
        "recorded as the change of mode: {:?}",
        rig.events
    );
}

#[test]
fn settings_act_at_once_survive_a_reboot_and_return_to_the_configured_value() {
    let strike_time = |seconds| Desire(DesiredMode::Absent, seconds);
    let throws = |steps: &[(u64, Step)]| {
        let mut rig = motor(Locked).run(steps);
        rig.run_for(30_000);
        rig.drives
            .iter()
            .rfind(|line| line.ends_with("Throw"))
            .cloned()
            .unwrap()
    };
    let press = [(10_000, Rex(true)), (11_000, Rex(false))];
    let after = |first: &[(u64, Step)]| throws(&[first, &press].concat());
    assert_eq!(after(&[]), "16000 Throw");
    assert_eq!(after(&[(5000, strike_time(Some(9)))]), "20000 Throw");
    assert_eq!(
        after(&[(5000, strike_time(Some(9))), (6000, strike_time(None))]),
        "16000 Throw"
    );
    assert_eq!(
        after(&[(5000, strike_time(Some(9))), (6000, Reboot)]),
        "20000 Throw"
    );
}

#[test]
fn desired_settings_are_answered_when_they_are_on_disk() {
    let strike_time = || Desire(DesiredMode::Absent, Some(9));
    let rig = motor(Released).run(&[
        (5000, SlowDisk(true)),
        (5000, strike_time()),
        (6000, SlowDisk(false)),
        // Nothing has changed: nothing is written.
        (7000, SlowDisk(true)),
        (7000, strike_time()),
    ]);
    assert_eq!(
        rig.answer_lines,
        [
            "6000 #1 200 Unlocked Unsecured",
            "7000 #2 200 Unlocked Unsecured"
        ]
    );
}

#[test]
fn a_mode_set_after_one_that_was_not_saved_is_not_undone_by_its_retry() {
    const PASSAGE: Step = Desire(DesiredMode::Mode(Mode::Passage), None);
    const OTHER: Step = Desire(DesiredMode::Mode(Mode::Normal), None);
    let slow = |change: Step, again: Step| {
        let steps = [
            (5000, SlowDisk(true)),
            (5100, PASSAGE),
            (10_200, SlowDisk(false)),
            (11_000, change),
            (60_000, again),
            (62_000, Nothing),
        ];
        motor(Locked).run(&steps).door.report().mode
    };
    for (change, again, expected) in [
        (Nothing, PASSAGE, Mode::Passage),
        (mode(r#"{"mode":"secure"}"#), PASSAGE, Mode::Secure),
        (mode(r#"{"mode":"normal"}"#), PASSAGE, Mode::Normal),
        (mode(r#"{"mode":"secure"}"#), Restart, Mode::Secure),
        (relinquish(r#"{"slot":9}"#), PASSAGE, Mode::Normal),
        // A newer value of the twin is a new order.
        (mode(r#"{"mode":"secure"}"#), OTHER, Mode::Normal),
    ] {
        assert_eq!(slow(change, again), expected, "{change:?}, {again:?}");
    }
}
