//! What alarms are raised for, and what clears each.

use std::time::Duration;

use super::rig::{Do, Rig, motor};
use crate::Want::{Locked, Released};
use crate::contract::Alarm;
use crate::contract::Alarm::{ForcedOpen, HeldOpen, SensorFault, Tamper};

const REX: [(u64, Do); 2] = [(5000, Do::Rex(true)), (5200, Do::Rex(false))];

/// A locked door, told a story; the alarms that were raised and cleared, with the pre-alarms.
fn told(default: crate::Want, steps: &[(u64, Do)]) -> Vec<String> {
    Rig::tell(motor(default), steps)
        .events
        .into_iter()
        .filter(|event| event.contains("larm") || event.contains("InputFault"))
        .collect()
}

fn raised(alarm: Alarm) -> String {
    format!("AlarmRaised {{ alarm: {alarm:?} }}")
}

fn cleared(alarm: Alarm) -> String {
    format!("AlarmCleared {{ alarm: {alarm:?} }}")
}

fn warned() -> String {
    "PreAlarm { alarm: HeldOpen }".to_owned()
}

#[test]
fn a_door_that_opens_with_nothing_releasing_it_is_forced_until_it_closes() {
    let steps = [(5000, Do::Open), (5900, Do::Close), (20_000, Do::Nothing)];
    let forced = [raised(ForcedOpen), cleared(ForcedOpen)];
    assert_eq!(told(Locked, &steps), forced);
}

#[test]
fn a_door_that_opens_while_it_is_released_is_not_forced() {
    for release in [
        Do::Rex(true),
        Do::Grant(true),
        Do::Fire(true),
        Do::Call("unlockDoor", r#"{"unlockTime":"10s"}"#),
        Do::Call("unlockDoor", "{}"),
        Do::Call("setMode", r#"{"mode":"passage"}"#),
    ] {
        let steps = [
            (5000, release),
            (6000, Do::Open),
            (7000, Do::Close),
            (8000, Do::Nothing),
        ];
        assert_eq!(told(Locked, &steps), [""; 0], "{release:?}");
    }
    let steps = [(5000, Do::Open), (6000, Do::Close)];
    assert_eq!(told(Released, &steps), [""; 0]);
}

#[test]
fn who_opens_in_the_last_moment_of_a_release_is_late_and_no_burglar() {
    // The strike time of 5 s counts from 5.2 s, the grace of 2 s from its end.
    for (opened, expected) in [(11_500, vec![]), (12_500, vec![raised(ForcedOpen)])] {
        let mut steps = REX.to_vec();
        steps.extend([(opened, Do::Open), (opened + 1, Do::Nothing)]);
        assert_eq!(told(Locked, &steps), expected, "opened at {opened}");
    }
}

#[test]
fn a_door_that_is_found_open_is_not_forced() {
    let steps = [
        (0, Do::Open),
        (1000, Do::Close),
        (5000, Do::Open),
        (6000, Do::Restart),
        (7000, Do::Nothing),
    ];
    let rig = Rig::tell(motor(Locked), &steps);
    let forced = raised(ForcedOpen);
    let count = rig.events.iter().filter(|event| **event == forced).count();
    assert_eq!(count, 1, "{:?}", rig.events);
    assert!(!rig.has_alarm(ForcedOpen), "{:?}", rig.door);
}

#[test]
fn a_door_that_stands_open_is_warned_of_and_then_held_until_it_closes() {
    let mut steps = REX.to_vec();
    steps.extend([(6000, Do::Open), (49_000, Do::Nothing)]);
    assert_eq!(told(Locked, &steps), [""; 0]);
    steps.push((52_000, Do::Nothing));
    assert_eq!(told(Locked, &steps), [warned()]);
    steps.push((67_000, Do::Nothing));
    assert_eq!(told(Locked, &steps), [warned(), raised(HeldOpen)]);
    // An unlock does not undo it: it did stand open.
    steps.push((70_000, Do::Call("unlockDoor", "{}")));
    steps.push((75_000, Do::Close));
    let held = [warned(), raised(HeldOpen), cleared(HeldOpen)];
    assert_eq!(told(Locked, &steps), held);
}

#[test]
fn a_door_that_may_stand_open_is_not_held_and_counts_from_when_it_may_no_longer() {
    let steps = [
        (5000, Do::Call("unlockDoor", "{}")),
        (6000, Do::Open),
        (200_000, Do::Call("lockDoor", "{}")),
        (240_000, Do::Nothing),
    ];
    assert_eq!(told(Locked, &steps), [""; 0]);
    let mut steps = steps.to_vec();
    steps.push((261_000, Do::Nothing));
    assert_eq!(told(Locked, &steps), [warned(), raised(HeldOpen)]);
}

#[test]
fn the_times_of_an_open_door_follow_its_settings() {
    let mut config = motor(Locked);
    config.settings.held_open_time = Duration::from_secs(10);
    config.settings.pre_alarm_time = Duration::from_secs(3);
    let mut steps = REX.to_vec();
    steps.extend([(6000, Do::Open), (13_500, Do::Nothing)]);
    assert!(Rig::tell(config, &steps).events.contains(&warned()));
    assert!(!Rig::tell(config, &steps).has_alarm(HeldOpen));
    steps.push((16_500, Do::Nothing));
    assert!(Rig::tell(config, &steps).has_alarm(HeldOpen));
}

#[test]
fn an_open_enclosure_is_an_alarm_for_as_long_as_it_is_open() {
    let steps = [
        (5000, Do::Tamper(true)),
        (6000, Do::Tamper(false)),
        (7000, Do::Nothing),
    ];
    assert_eq!(told(Locked, &steps), [raised(Tamper), cleared(Tamper)]);
}

#[test]
fn a_button_that_nobody_lets_go_of_releases_and_is_a_fault() {
    let steps = [(5000, Do::Rex(true)), (304_000, Do::Nothing)];
    assert_eq!(told(Locked, &steps), [""; 0]);
    let steps = [(5000, Do::Rex(true)), (306_000, Do::Nothing)];
    let stuck = r#"InputFault { input: "rex", fault: Stuck, changes: 0, ended: false }"#.to_owned();
    assert_eq!(told(Locked, &steps), [raised(SensorFault), stuck.clone()]);
    let rig = Rig::tell(motor(Locked), &steps);
    assert_eq!(rig.door.authority().want(), Released);
    let steps = [
        (5000, Do::Rex(true)),
        (306_000, Do::Rex(false)),
        (307_000, Do::Nothing),
    ];
    let ended = r#"InputFault { input: "rex", fault: Stuck, changes: 1, ended: true }"#.to_owned();
    let over = [raised(SensorFault), stuck, cleared(SensorFault), ended];
    assert_eq!(told(Locked, &steps), over);
}

#[test]
fn a_contact_that_never_rests_is_a_fault_until_it_has_rested() {
    let mut steps: Vec<_> = (0..24)
        .map(|n| (5000 + n * 100, Do::Grant(n % 2 == 0)))
        .collect();
    let chatter = |changes, ended| {
        format!(
            r#"InputFault {{ input: "grant", fault: Chatter, changes: {changes}, ended: {ended} }}"#
        )
    };
    let mut faults = vec![raised(SensorFault), chatter(0, false)];
    assert_eq!(told(Locked, &steps), faults);
    steps.push((16_000, Do::Nothing));
    assert_eq!(told(Locked, &steps), faults);
    steps.push((18_000, Do::Nothing));
    faults.extend([cleared(SensorFault), chatter(4, true)]);
    assert_eq!(told(Locked, &steps), faults);
}

#[test]
fn a_person_in_a_hurry_is_no_chatter() {
    let steps: Vec<_> = (0..16)
        .map(|n| (5000 + n * 300, Do::Rex(n % 2 == 0)))
        .collect();
    assert_eq!(told(Locked, &steps), [""; 0]);
}

#[test]
fn maintenance_suppresses_what_an_open_door_means_too() {
    let steps = [
        (3000, Do::Call("setMode", r#"{"mode":"maintenance"}"#)),
        (6000, Do::Open),
        (7000, Do::Nothing),
    ];
    let rig = Rig::tell(motor(Locked), &steps);
    let suppressed = "AlarmSuppressed { alarm: ForcedOpen }".to_owned();
    assert!(rig.events.contains(&suppressed), "{:?}", rig.events);
    assert!(rig.door.report().alarms.is_empty());
}
