//! The reader's contact releases for a while, and never because it is stuck.

use super::rig::Step::{Fire, Grant, Nothing, Reboot, Restart, Rex};
use super::rig::{LOCKDOWN, Rig, Step, magnet, relinquish};
use crate::Slot;
use crate::Want::{Locked, Released};
use crate::config::DoorConfig;
use crate::strike::Outputs;

/// When a maglock releases and locks, from 5 s on.
fn drives(config: DoorConfig, steps: &[(u64, Step)]) -> String {
    let mut rig = config.run(steps);
    rig.run_to(200_000);
    let drives = rig.drives_from(1);
    drives
        .replace("DeEnergised", "releases")
        .replace("Energised", "locks")
}

#[test]
fn a_contact_releases_while_active_and_for_the_strike_time_but_not_for_longer_than_its_maximum() {
    const ON: Step = Grant(true);
    const OFF: Step = Grant(false);
    let cases: [(&[(u64, Step)], &str); 8] = [
        (&[(5000, ON), (5100, OFF)], "5000 releases, 10100 locks"),
        (&[(5000, ON), (15_000, OFF)], "5000 releases, 20000 locks"),
        // The maximum of 30 s ends the strike time too.
        (&[(5000, ON), (32_000, OFF)], "5000 releases, 35000 locks"),
        // Welded: it counts again only once it was read idle.
        (&[(5000, ON)], "5000 releases, 35000 locks"),
        (
            &[(5000, ON), (100_000, OFF), (101_000, ON), (102_000, OFF)],
            "5000 releases, 35000 locks, 101000 releases, 107000 locks",
        ),
        // Each activation has its own maximum.
        (
            &[(5000, ON), (30_000, OFF), (31_000, ON)],
            "5000 releases, 61000 locks",
        ),
        // Active at the first reading after a start is no activation.
        (&[(5000, ON), (6000, Restart)], "5000 releases, 6000 locks"),
        (
            &[(5000, ON), (6000, Restart), (9000, OFF)],
            "5000 releases, 6000 locks",
        ),
    ];
    for (steps, expected) in cases {
        assert_eq!(drives(magnet(), steps), expected, "{steps:?}");
    }
    let mut long = magnet();
    long.settings.strike_time = std::time::Duration::from_secs(60);
    assert_eq!(
        drives(long, &[(5000, ON), (5100, OFF)]),
        "5000 releases, 65000 locks",
        "a strike time longer than the maximum holds"
    );
    let mut rig = magnet().run(&[(5000, ON), (6000, Reboot)]);
    rig.run_to(9000);
    assert_eq!(rig.outputs, Outputs::Energised, "{:?}", rig.log);
}

#[test]
fn in_a_lockdown_a_reader_releases_only_if_the_configuration_allows_it() {
    let during = [(5000, LOCKDOWN), (6000, Grant(true))];
    let before = [(5000, Grant(true)), (6000, LOCKDOWN)];
    let after = [
        (5000, LOCKDOWN),
        (6000, Grant(true)),
        (7000, relinquish(r#"{"slot":5}"#)),
    ];
    let fresh = [&after[..], &[(8000, Grant(false)), (8500, Grant(true))]].concat();
    for (steps, allowed, want) in [
        (&during[..], false, Locked),
        (&before, false, Locked),
        // Begun under the lockdown: it counts once it was read idle.
        (&after, false, Locked),
        (&fresh, false, Released),
        (&during, true, Released),
        (&before, true, Released),
    ] {
        let mut config = magnet();
        config.settings.grant_in_lockdown = allowed;
        let mut rig = config.run(steps);
        rig.run_for(500);
        assert_eq!(
            rig.door.authority().want(),
            want,
            "{steps:?} {allowed}: {:?}",
            rig.log
        );
    }
}

#[test]
fn a_welded_reader_does_not_keep_exit_button_or_fire_release_from_releasing() {
    for (input, slot) in [
        (Rex(true), Slot::RequestToExit),
        (Fire(true), Slot::FireRelease),
    ] {
        for lockdown in [Nothing, LOCKDOWN] {
            let rig = magnet().run(&[(5000, Grant(true)), (60_000, lockdown), (61_000, input)]);
            let winner = |rig: &Rig| rig.door.authority().winner().map(|(slot, _)| slot);
            assert_eq!(winner(&rig), Some(slot), "{:?}", rig.log);
            assert_eq!(rig.outputs, Outputs::DeEnergised);
        }
    }
}
