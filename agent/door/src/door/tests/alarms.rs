//! Rules of the alarms: what raises each, and what clears it.

use std::time::Duration;

use super::rig::Step::{Close, Fire, Grant, Nothing, Open, Restart, Rex, Tamper};
use super::rig::{LOCK, Step, UNLOCK, magnet, mode, motor, strike, unlock};
use crate::Want::{Locked, Released};
use crate::config::FailMode;
use crate::contract::Alarm;
use crate::contract::Alarm::{ForcedOpen, HeldOpen, SensorFault};

const REX: [(u64, Step); 2] = [(5000, Rex(true)), (5200, Rex(false))];

/// Runs steps at a door; returns the events of alarms raised and cleared, and of pre-alarms.
fn alarm_events(default: crate::Want, steps: &[(u64, Step)]) -> Vec<String> {
    motor(default)
        .run(steps)
        .events
        .into_iter()
        .filter(|event| event.contains("larm") || event.contains("InputFault"))
        .collect()
}

fn raised(alarm: Alarm) -> String {
    format!("AlarmRaised {{ alarm: {alarm:?}, reason: None }}")
}

fn cleared(alarm: Alarm) -> String {
    format!("AlarmCleared {{ alarm: {alarm:?} }}")
}

fn warned() -> String {
    "PreAlarm { alarm: HeldOpen }".to_owned()
}

#[test]
fn a_door_that_opens_with_nothing_releasing_it_is_forced_until_it_closes() {
    let steps = [(5000, Open), (5900, Close), (20_000, Nothing)];
    let forced = [raised(ForcedOpen), cleared(ForcedOpen)];
    assert_eq!(alarm_events(Locked, &steps), forced);
}

#[test]
fn a_door_that_opens_while_it_is_released_is_not_forced() {
    for release in [
        Rex(true),
        Grant(true),
        Fire(true),
        unlock(r#"{"unlockTime":"10s"}"#),
        UNLOCK,
        mode(r#"{"mode":"passage"}"#),
    ] {
        let steps = [
            (5000, release),
            (6000, Open),
            (7000, Close),
            (8000, Nothing),
        ];
        assert_eq!(alarm_events(Locked, &steps), [""; 0], "{release:?}");
    }
    let steps = [(5000, Open), (6000, Close)];
    assert_eq!(alarm_events(Released, &steps), [""; 0]);
}

#[test]
fn opening_in_the_last_moment_of_a_release_is_not_forced() {
    // The strike time of 5 s counts from 5.2 s, the grace of 2 s from its end.
    for (opened, expected) in [(11_500, vec![]), (12_500, vec![raised(ForcedOpen)])] {
        let mut steps = REX.to_vec();
        steps.extend([(opened, Open), (opened + 1, Nothing)]);
        assert_eq!(alarm_events(Locked, &steps), expected, "opened at {opened}");
    }
}

#[test]
fn a_door_that_is_found_open_is_not_forced() {
    let steps = [
        (0, Open),
        (1000, Close),
        (5000, Open),
        (6000, Restart),
        (7000, Nothing),
    ];
    let rig = motor(Locked).run(&steps);
    let forced = raised(ForcedOpen);
    assert_eq!(rig.events_with(&forced).len(), 1, "{:?}", rig.events);
    assert!(!rig.has_alarm(ForcedOpen), "{:?}", rig.door);
}

#[test]
fn just_after_a_start_only_a_lock_that_was_found_released_explains_an_opening() {
    let restarted = |opened| vec![(10_000, Restart), (opened, Open)];
    let opened = |at| vec![(at, Open)];
    for (door, steps, forced) in [
        // Locked without power: nobody released it.
        (strike(FailMode::Secure), opened(500), true),
        (strike(FailMode::Secure), restarted(10_500), true),
        // Released without power, until it is driven; and 2 s of grace.
        (magnet(), opened(500), false),
        (magnet(), opened(3500), true),
        (magnet(), restarted(10_500), false),
        (strike(FailMode::Safe), opened(500), false),
        // A motor lock stays as it was left.
        (motor(Locked), opened(100), false),
        (motor(Locked), restarted(10_500), true),
    ] {
        let mut rig = door.run(&steps);
        rig.run_for(100);
        assert_eq!(
            rig.has_alarm(ForcedOpen),
            forced,
            "{steps:?}: {:?}",
            rig.log
        );
    }
}

#[test]
fn an_open_door_gives_a_pre_alarm_and_is_then_held_until_it_closes() {
    let mut steps = REX.to_vec();
    steps.extend([(6000, Open), (49_000, Nothing)]);
    assert_eq!(alarm_events(Locked, &steps), [""; 0]);
    steps.push((52_000, Nothing));
    assert_eq!(alarm_events(Locked, &steps), [warned()]);
    steps.push((67_000, Nothing));
    assert_eq!(alarm_events(Locked, &steps), [warned(), raised(HeldOpen)]);
    // An unlock does not clear it: the door did stand open.
    steps.push((70_000, UNLOCK));
    steps.push((75_000, Close));
    let held = [warned(), raised(HeldOpen), cleared(HeldOpen)];
    assert_eq!(alarm_events(Locked, &steps), held);
}

#[test]
fn open_time_counts_from_the_end_of_a_release_that_allows_it() {
    let steps = [
        (5000, UNLOCK),
        (6000, Open),
        (200_000, LOCK),
        (240_000, Nothing),
    ];
    assert_eq!(alarm_events(Locked, &steps), [""; 0]);
    let mut steps = steps.to_vec();
    steps.push((261_000, Nothing));
    assert_eq!(alarm_events(Locked, &steps), [warned(), raised(HeldOpen)]);
}

#[test]
fn the_times_of_an_open_door_follow_its_settings() {
    let mut config = motor(Locked);
    config.settings.held_open_time = Duration::from_secs(10);
    config.settings.pre_alarm_time = Duration::from_secs(3);
    let mut steps = REX.to_vec();
    steps.extend([(6000, Open), (13_500, Nothing)]);
    assert!(config.run(&steps).events.contains(&warned()));
    assert!(!config.run(&steps).has_alarm(HeldOpen));
    steps.push((16_500, Nothing));
    assert!(config.run(&steps).has_alarm(HeldOpen));
}

#[test]
fn an_open_enclosure_is_an_alarm_for_as_long_as_it_is_open() {
    let steps = [(5000, Tamper(true)), (6000, Tamper(false)), (7000, Nothing)];
    assert_eq!(
        alarm_events(Locked, &steps),
        [raised(Alarm::Tamper), cleared(Alarm::Tamper)]
    );
}

#[test]
fn a_stuck_button_releases_and_is_a_fault() {
    let steps = [(5000, Rex(true)), (304_000, Nothing)];
    assert_eq!(alarm_events(Locked, &steps), [""; 0]);
    let steps = [(5000, Rex(true)), (306_000, Nothing)];
    let stuck = r#"InputFault { input: "rex", fault: Stuck, changes: 0, ended: false }"#.to_owned();
    assert_eq!(
        alarm_events(Locked, &steps),
        [raised(SensorFault), stuck.clone()]
    );
    let rig = motor(Locked).run(&steps);
    assert_eq!(rig.door.authority().want(), Released);
    let steps = [(5000, Rex(true)), (306_000, Rex(false)), (307_000, Nothing)];
    let ended = r#"InputFault { input: "rex", fault: Stuck, changes: 1, ended: true }"#.to_owned();
    let over = [raised(SensorFault), stuck, cleared(SensorFault), ended];
    assert_eq!(alarm_events(Locked, &steps), over);
}

#[test]
fn a_chattering_contact_is_a_fault_until_it_is_stable() {
    let mut steps: Vec<_> = (0..24)
        .map(|n| (5000 + n * 100, Grant(n % 2 == 0)))
        .collect();
    let chatter = |changes, ended| {
        format!(
            r#"InputFault {{ input: "grant", fault: Chatter, changes: {changes}, ended: {ended} }}"#
        )
    };
    let mut faults = vec![raised(SensorFault), chatter(0, false)];
    assert_eq!(alarm_events(Locked, &steps), faults);
    steps.push((16_000, Nothing));
    assert_eq!(alarm_events(Locked, &steps), faults);
    steps.push((18_000, Nothing));
    faults.extend([cleared(SensorFault), chatter(4, true)]);
    assert_eq!(alarm_events(Locked, &steps), faults);
}

#[test]
fn fast_presses_by_a_person_are_not_chatter() {
    let steps: Vec<_> = (0..16).map(|n| (5000 + n * 300, Rex(n % 2 == 0))).collect();
    assert_eq!(alarm_events(Locked, &steps), [""; 0]);
}

#[test]
fn maintenance_suppresses_alarms_of_an_open_door_too() {
    let steps = [
        (3000, mode(r#"{"mode":"maintenance"}"#)),
        (6000, Open),
        (7000, Nothing),
    ];
    let rig = motor(Locked).run(&steps);
    let suppressed = "AlarmSuppressed { alarm: ForcedOpen }".to_owned();
    assert!(rig.events.contains(&suppressed), "{:?}", rig.events);
    assert!(rig.door.report().alarms.is_empty());
}
