//! A release for one passage ends early once somebody has gone through: exit button, reader and
//! pulse.

use super::rig::{Do, Rig, magnet};
use crate::Slot;
use crate::config::Relock;
use crate::contract::Alarm;
use crate::strike::Outputs;

const PULSE: Do = Do::Call("unlockDoor", r#"{"pulse":"strike"}"#);

/// When a magnet takes hold again, in milliseconds.
fn locks_at(relock: Relock, steps: &[(u64, Do)]) -> u64 {
    let mut config = magnet();
    config.settings.relock = relock;
    let mut steps = steps.to_vec();
    steps.push((60_000, Do::Nothing));
    let rig = Rig::tell(config, &steps);
    assert_eq!(rig.outputs, Outputs::Energised, "{:?}", rig.log);
    assert!(!rig.has_alarm(Alarm::ForcedOpen));
    let locked = rig.drives.iter().rev();
    let mut locked = locked.filter_map(|line| line.strip_suffix(" Energised"));
    locked.next().unwrap().parse().unwrap()
}

#[test]
fn who_has_gone_through_needs_no_strike_time_after_the_contact() {
    // (opened, closed, the contact ends): when it locks, by relock on open, on close and after the
    // time; the contact begins at 5 s.
    for (opened, closed, ends, on_open, on_close) in [
        // Gone through while the contact was active: what follows it is the delay.
        (5500, 6500, 7000, 7500, 7500),
        (5500, 9000, 7000, 7500, 9500),
        // Gone through after it.
        (6000, 7000, 5200, 6500, 7500),
        (6000, 9000, 5200, 6500, 9500),
        // At the same moment.
        (7000, 7000, 7000, 7500, 7500),
        (6000, 7000, 7000, 7500, 7500),
        // Nobody has gone through.
        (50_000, 51_000, 7000, 12_000, 12_000),
    ] {
        for button in [Do::Rex, Do::Grant] {
            let mut steps = vec![
                (5000, button(true)),
                (opened, Do::Open),
                (closed, Do::Close),
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
    for button in [Do::Rex, Do::Grant] {
        let steps = [
            (5000, button(true)),
            (5500, Do::Open),
            (6000, Do::Close),
            (7000, button(false)),
            (7200, button(true)),
            (7300, button(false)),
        ];
        assert_eq!(locks_at(Relock::OnOpen, &steps), 12_300);
        assert_eq!(locks_at(Relock::OnClose, &steps), 12_300);
    }
}

#[test]
fn a_pulse_is_a_grant_for_one_passage_and_a_time_is_none() {
    let extended = Do::Call("unlockDoor", r#"{"pulse":"extended"}"#);
    let time = Do::Call("unlockDoor", r#"{"unlockTime":"10s"}"#);
    // (what releases, on open, on close, after its time); opened at 6 s, closed at 7 s.
    for (release, on_open, on_close, after_time) in [
        (PULSE, 6500, 7500, 10_000),
        (extended, 6500, 7500, 20_000),
        (time, 15_000, 15_000, 15_000),
    ] {
        let steps = [(5000, release), (6000, Do::Open), (7000, Do::Close)];
        assert_eq!(locks_at(Relock::OnOpen, &steps), on_open, "{release:?}");
        assert_eq!(locks_at(Relock::OnClose, &steps), on_close, "{release:?}");
        assert_eq!(
            locks_at(Relock::AfterTime, &steps),
            after_time,
            "{release:?}"
        );
        // A restart changes nothing of it, before the passage or after.
        for restart in [5500, 6100] {
            let mut steps = steps.to_vec();
            steps.push((restart, Do::Restart));
            steps.sort_by_key(|(at, _)| *at);
            let end = locks_at(Relock::OnOpen, &steps);
            assert_eq!(end, on_open, "{release:?}, restarted at {restart}");
        }
    }
}

#[test]
fn a_passage_ends_what_was_for_one_and_nothing_else() {
    // A pulse over a hold: what lies below speaks again.
    let mut config = magnet();
    config.settings.relock = Relock::OnOpen;
    let steps = [
        (5000, Do::Call("unlockDoor", "{}")),
        (5500, PULSE),
        (6000, Do::Open),
        (7000, Do::Nothing),
    ];
    let rig = Rig::tell(config, &steps);
    assert_eq!(rig.outputs, Outputs::DeEnergised, "{:?}", rig.log);
    assert!(rig.door.authority().get(Slot::OperatorGrant).is_none());
    // Somebody still presses the button while another goes through by pulse.
    let steps = [
        (5000, Do::Rex(true)),
        (5500, PULSE),
        (6000, Do::Open),
        (9000, Do::Nothing),
    ];
    let rig = Rig::tell(config, &steps);
    assert_eq!(rig.outputs, Outputs::DeEnergised, "{:?}", rig.log);
}

#[test]
fn a_pulse_lets_somebody_through_and_so_the_time_of_an_open_door_counts() {
    let mut config = magnet();
    config.settings.extended_strike_time = std::time::Duration::from_secs(100);
    for (release, held) in [
        (Do::Call("unlockDoor", r#"{"pulse":"extended"}"#), true),
        (Do::Call("unlockDoor", r#"{"unlockTime":"100s"}"#), false),
    ] {
        let steps = [(5000, release), (6000, Do::Open), (70_000, Do::Nothing)];
        let rig = Rig::tell(config, &steps);
        assert_eq!(rig.has_alarm(Alarm::HeldOpen), held, "{release:?}");
    }
}
