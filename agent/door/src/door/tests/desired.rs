//! Rules of the desired properties: a mode acts once, settings at once, and both survive.

use super::rig::{Do, Rig, motor};
use crate::Want::{Locked, Released};
use crate::contract::Mode;
use crate::desired::DesiredMode;

fn desire(mode: Mode) -> Do {
    Do::Desire(DesiredMode::Mode(mode), None)
}

const NONE: Do = Do::Desire(DesiredMode::Absent, None);

fn set(text: &'static str) -> Do {
    Do::Call("setMode", text)
}

fn mode_after(steps: &[Do]) -> Mode {
    let steps: Vec<_> = steps
        .iter()
        .zip(1..)
        .map(|(step, second)| (5000 + second * 1000, *step))
        .collect();
    let rig = Rig::tell(motor(Locked), &steps);
    let failed = rig.answers.iter().find(|(_, reply)| !reply.is_success());
    assert_eq!(failed, None);
    rig.door.report().mode
}

#[test]
fn a_desired_mode_acts_when_it_is_another_than_the_one_last_applied() {
    let normal = || set(r#"{"mode":"normal"}"#);
    for (steps, mode) in [
        (vec![desire(Mode::Passage)], Mode::Passage),
        // Read again by a reconnect: what was set since stays.
        (
            vec![desire(Mode::Passage), normal(), desire(Mode::Passage)],
            Mode::Normal,
        ),
        // After a restart too.
        (
            vec![
                desire(Mode::Passage),
                normal(),
                Do::Restart,
                desire(Mode::Passage),
            ],
            Mode::Normal,
        ),
        (
            vec![desire(Mode::Passage), normal(), desire(Mode::Secure)],
            Mode::Secure,
        ),
        // What cannot be read changes nothing, and the same one after it is still the one last
        // applied.
        (
            vec![
                desire(Mode::Passage),
                normal(),
                Do::Desire(DesiredMode::Unreadable, None),
                desire(Mode::Passage),
            ],
            Mode::Normal,
        ),
        // Taken back, any other mode stays as it is, and may be desired anew.
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
fn a_desired_lockdown_that_is_taken_back_ends_and_brings_back_what_it_displaced() {
    let secure = || set(r#"{"mode":"secure"}"#);
    for (steps, mode) in [
        (vec![secure(), desire(Mode::Lockdown)], Mode::Lockdown),
        (vec![secure(), desire(Mode::Lockdown), NONE], Mode::Secure),
        (
            vec![secure(), desire(Mode::Lockdown), Do::Reboot, NONE],
            Mode::Secure,
        ),
        // It was over already.
        (
            vec![
                secure(),
                desire(Mode::Lockdown),
                set(r#"{"mode":"passage"}"#),
                NONE,
            ],
            Mode::Passage,
        ),
        // One that nobody desired stays.
        (vec![set(r#"{"mode":"lockdown"}"#), NONE], Mode::Lockdown),
    ] {
        let times: Vec<u64> = if steps.iter().any(|step| matches!(step, Do::Reboot)) {
            vec![6000, 7000, 8000, 1000]
        } else {
            (6..)
                .map(|second| second * 1000)
                .take(steps.len())
                .collect()
        };
        let story: Vec<_> = times.into_iter().zip(steps.iter().copied()).collect();
        let rig = Rig::tell(motor(Locked), &story);
        assert_eq!(rig.door.report().mode, mode, "{steps:?}");
    }
}

#[test]
fn an_all_clear_brings_back_what_was_set_over_the_mode_desired_before() {
    let secure = || set(r#"{"mode":"secure"}"#);
    let (passage, lockdown) = (|| desire(Mode::Passage), || desire(Mode::Lockdown));
    for (steps, mode) in [
        (vec![passage(), lockdown(), passage()], Mode::Passage),
        (
            vec![passage(), secure(), lockdown(), passage()],
            Mode::Secure,
        ),
        (
            vec![passage(), secure(), lockdown(), Do::Restart, passage()],
            Mode::Secure,
        ),
        // Over already: what was set since stays.
        (
            vec![passage(), lockdown(), secure(), passage()],
            Mode::Secure,
        ),
        // Another than before is a wish of its own, and so is the same one later.
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
fn a_desired_mode_covered_by_a_lockdown_on_its_way_to_the_disk_counts_as_applied() {
    let rig = Rig::tell(
        motor(Locked),
        &[
            (5000, Do::SlowDisk(true)),
            (5000, desire(Mode::Passage)),
            (5100, set(r#"{"mode":"lockdown"}"#)),
            (5200, Do::SlowDisk(false)),
            (6000, desire(Mode::Passage)),
            (7000, Do::Nothing),
        ],
    );
    let array = rig.door.authority();
    assert_eq!(array.mode(), Mode::Lockdown);
    assert_eq!(array.displaced_mode(), Some(Mode::Passage));
}

#[test]
fn a_desired_release_is_on_disk_before_it_acts_and_one_that_cannot_be_saved_acts_later() {
    let rig = Rig::tell(
        motor(Locked),
        &[
            (5000, Do::SlowDisk(true)),
            (5000, desire(Mode::Passage)),
            (6000, Do::DiskFails),
            (7000, Do::SlowDisk(true)),
            (7000, desire(Mode::Passage)),
            (8000, Do::SlowDisk(false)),
            (11_000, Do::Nothing),
        ],
    );
    assert_eq!(
        rig.answer_lines,
        [
            "6000 #1 500 NotStored Locked Secured",
            "8000 #2 200 Unlocking Unsecured"
        ]
    );
    assert_eq!(rig.drives[2..], ["8000 Retract", "10000 DeEnergised"]);
    let told = rig.events.iter().any(|event| event.contains("desired"));
    assert!(!told, "it is told as the change of mode: {:?}", rig.events);
}

#[test]
fn settings_act_at_once_survive_a_reboot_and_go_back_to_what_is_configured() {
    let strike_time = |seconds| Do::Desire(DesiredMode::Absent, seconds);
    let throws = |steps: &[(u64, Do)]| {
        let mut rig = Rig::tell(motor(Locked), steps);
        rig.run_until(rig.now.boottime + std::time::Duration::from_secs(30));
        rig.drives
            .iter()
            .rfind(|line| line.ends_with("Throw"))
            .cloned()
            .unwrap()
    };
    let press = [(10_000, Do::Rex(true)), (11_000, Do::Rex(false))];
    let then = |first: &[(u64, Do)]| throws(&[first, &press].concat());
    assert_eq!(then(&[]), "16000 Throw");
    assert_eq!(then(&[(5000, strike_time(Some(9)))]), "20000 Throw");
    assert_eq!(
        then(&[(5000, strike_time(Some(9))), (6000, strike_time(None))]),
        "16000 Throw"
    );
    assert_eq!(
        then(&[(5000, strike_time(Some(9))), (6000, Do::Reboot)]),
        "20000 Throw"
    );
}

#[test]
fn desired_settings_are_answered_when_they_are_on_disk() {
    let strike_time = || Do::Desire(DesiredMode::Absent, Some(9));
    let rig = Rig::tell(
        motor(Released),
        &[
            (5000, Do::SlowDisk(true)),
            (5000, strike_time()),
            (6000, Do::SlowDisk(false)),
            // Nothing has changed: nothing is written.
            (7000, Do::SlowDisk(true)),
            (7000, strike_time()),
        ],
    );
    assert_eq!(
        rig.answer_lines,
        [
            "6000 #1 200 Unlocked Unsecured",
            "7000 #2 200 Unlocked Unsecured"
        ]
    );
}
