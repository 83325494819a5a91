//! An exit contact in a free handle reports only: it explains an opening and drives nothing.

use super::rig::Step::{Close, Handle, Nothing, Open, Rex};
use super::rig::{LOCKDOWN, Step, config, limited, magnet, motor};
use crate::Want::Locked;
use crate::config::{DoorConfig, Fitted, StrikeConfig};
use crate::contract::Alarm;

const REPORTS: Fitted = Fitted {
    rex_reports_only: true,
    ..Fitted::ALL
};

fn reporting_motor() -> DoorConfig {
    config(Locked, StrikeConfig::motor_lock(), REPORTS)
}

#[test]
fn it_drives_nothing_and_no_exit_through_it_is_an_alarm() {
    // The strike time of 5 s counts from 10.2 s, the grace of 2 s from its end.
    for (steps, alarm) in [
        (vec![(10_500, Open), (14_000, Close)], None),
        (vec![(16_000, Open)], None),
        (vec![(18_500, Open)], Some(Alarm::ForcedOpen)),
        // The handle withdraws the bolt, and the door is not seen to open.
        (vec![(10_300, Handle), (40_000, Nothing)], None),
        (vec![(10_000, LOCKDOWN), (10_500, Open)], None),
    ] {
        let press = [(10_000, Rex(true)), (10_200, Rex(false))];
        let mut all = [&press[..], &steps].concat();
        all.sort_by_key(|(at, _)| *at);
        let mut rig = reporting_motor().run(&all);
        rig.run_for(100);
        let alarms: Vec<_> = rig.door.report().alarms.into_keys().collect();
        assert_eq!(alarms, Vec::from_iter(alarm), "{steps:?}: {:?}", rig.log);
        assert!(rig.has_event("RequestToExit"), "{:?}", rig.events);
        assert!(!rig.drives_from(0).contains("Retract"), "{:?}", rig.drives);
    }
}

#[test]
fn the_bolt_may_be_read_a_moment_before_the_contact_in_the_handle() {
    let steps: [(u64, Step); 3] = [(10_000, Handle), (10_100, Rex(true)), (10_300, Rex(false))];
    for (config, released) in [(reporting_motor(), vec![]), (motor(Locked), vec![2])] {
        let mut rig = config.run(&steps);
        assert_eq!(rig.occupied(), released);
        rig.run_to(40_000);
        assert!(!rig.has_alarm(Alarm::LockForced), "{:?}", rig.log);
    }
}

#[test]
fn only_an_exit_button_that_releases_needs_a_coil_for_continuous_duty() {
    let pulse = limited(
        StrikeConfig::pulse_strike(std::time::Duration::from_secs(20)),
        20,
        40,
    );
    let fitted = |rex_reports_only| Fitted {
        rex_reports_only,
        fire: false,
        ..Fitted::ALL
    };
    let settings = magnet().settings;
    assert!(DoorConfig::new(settings, pulse, fitted(false)).is_err());
    assert!(DoorConfig::new(settings, pulse, fitted(true)).is_ok());
}
