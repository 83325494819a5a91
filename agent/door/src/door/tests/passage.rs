//! A release for one passage (exit button, reader, pulse) ends early once somebody has passed.

use super::rig::Step::{Close, Grant, Nothing, Open, Restart, Rex};
use super::rig::{Step, UNLOCK, magnet, unlock};
use crate::Slot;
use crate::config::Relock;
use crate::contract::Alarm;
use crate::strike::Outputs;

const PULSE: Step = unlock(r#"{"pulse":"strike"}"#);

/// When a maglock is energised again, in milliseconds.
fn locks_at(relock: Relock, steps: &[(u64, Step)]) -> u64 {
    let mut config = magnet();
    config.settings.relock = relock;
    let mut steps = steps.to_vec();
    steps.push((60_000, Nothing));
    let rig = config.run(&steps);
    assert_eq!(rig.outputs, Outputs::Energised, "{:?}", rig.log);
    assert!(!rig.has_alarm(Alarm::ForcedOpen));
    let locked = rig.drives.iter().rev();
    let mut locked = locked.filter_map(|line| line.strip_suffix(" Energised"));
    locked.next().unwrap().parse().unwrap()
}

#[test]
fn a_passage_ends_the_release_after_the_relock_delay() {
    // (opened, closed, the contact ends): when it locks, by relock on open, on close and after the
    // time; the contact begins at 5 s.
    for (opened, closed, ends, on_open, on_close) in [
        // Passed while the contact was active: the relock delay follows the contact.
        (5500, 6500, 7000, 7500, 7500),
        (5500, 9000, 7000, 7500, 9500),
        // Passed after it.
        (6000, 7000, 5200, 6500, 7500),
        (6000, 9000, 5200, 6500, 9500),
        // At the same moment.
        (7000, 7000, 7000, 7500, 7500),
        (6000, 7000, 7000, 7500, 7500),
        // Nobody has passed.
        (50_000, 51_000, 7000, 12_000, 12_000),
    ] {
        for button in [Rex, Grant] {
            let mut steps = vec![
                (5000, button(true)),
                (opened, Open),
                (closed, Close),
                (ends, button(false)),
            ];
            if opened > 40_000 {
                steps.truncate(1);
                steps.push((ends, button(false)));
            }
            steps.sort_by_key(|(at, _)| *at);
            let row = format!("opened {opened}, closed {closed}, ends {ends}: {steps:?}");
            assert_eq!(locks_at(Relock::OnOpen, &steps), on_open, "{row}");
            assert_eq!(locks_at(Relock::OnClose, &steps), on_close, "{row}");
            assert_eq!(locks_at(Relock::AfterTime, &steps), ends + 5000, "{row}");
        }
    }
}

#[test]
fn a_new_contact_is_a_new_passage() {
    for button in [Rex, Grant] {
        let steps = [
            (5000, button(true)),
            (5500, Open),
            (6000, Close),
            (7000, button(false)),
            (7200, button(true)),
            (7300, button(false)),
        ];
        assert_eq!(locks_at(Relock::OnOpen, &steps), 12_300);
        assert_eq!(locks_at(Relock::OnClose, &steps), 12_300);
    }
}

#[test]
fn only_a_pulse_is_a_grant_for_one_passage() {
    let extended = unlock(r#"{"pulse":"extended"}"#);
    let time = unlock(r#"{"unlockTime":"10s"}"#);
    // (what releases, on open, on close, after its time); opened at 6 s, closed at 7 s.
    for (release, on_open, on_close, after_time) in [
        (PULSE, 6500, 7500, 10_000),
        (extended, 6500, 7500, 20_000),
        (time, 15_000, 15_000, 15_000),
    ] {
        let steps = [(5000, release), (6000, Open), (7000, Close)];
        assert_eq!(locks_at(Relock::OnOpen, &steps), on_open, "{release:?}");
        assert_eq!(locks_at(Relock::OnClose, &steps), on_close, "{release:?}");
        assert_eq!(
            locks_at(Relock::AfterTime, &steps),
            after_time,
            "{release:?}"
        );
        // A restart before or after the passage makes no difference.
        for restart in [5500, 6100] {
            let mut steps = steps.to_vec();
            steps.push((restart, Restart));
            steps.sort_by_key(|(at, _)| *at);
            let end = locks_at(Relock::OnOpen, &steps);
            assert_eq!(end, on_open, "{release:?}, restarted at {restart}");
        }
    }
}

#[test]
fn a_passage_ends_only_releases_for_one_passage() {
    // A pulse over a hold: the lower slot decides again.
    let mut config = magnet();
    config.settings.relock = Relock::OnOpen;
    let steps = [(5000, UNLOCK), (5500, PULSE), (6000, Open), (7000, Nothing)];
    let rig = config.run(&steps);
    assert_eq!(rig.outputs, Outputs::DeEnergised, "{:?}", rig.log);
    assert!(rig.door.authority().get(Slot::OperatorGrant).is_none());
    // The button is still pressed while another person passes by pulse.
    let steps = [
        (5000, Rex(true)),
        (5500, PULSE),
        (6000, Open),
        (9000, Nothing),
    ];
    let rig = config.run(&steps);
    assert_eq!(rig.outputs, Outputs::DeEnergised, "{:?}", rig.log);
}

#[test]
fn the_open_time_counts_during_a_pulse() {
    let mut config = magnet();
    config.settings.extended_strike_time = std::time::Duration::from_secs(100);
    for (release, held) in [
        (unlock(r#"{"pulse":"extended"}"#), true),
        (unlock(r#"{"unlockTime":"100s"}"#), false),
    ] {
        let steps = [(5000, release), (6000, Open), (70_000, Nothing)];
        let rig = config.run(&steps);
        assert_eq!(rig.has_alarm(Alarm::HeldOpen), held, "{release:?}");
    }
}
