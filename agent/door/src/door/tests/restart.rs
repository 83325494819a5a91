//! Rules of restarts: what they keep.

use super::rig::Step::{Clock, Close, Nothing, Open, Reboot, Restart, SlowDisk};
use super::rig::{LOCK, UNLOCK, bolt, lock, motor, unlock};
use crate::Want::{Locked, Released};
use crate::config::FailMode;

const START: &str = "2026-11-23T22:00:00Z";

#[test]
fn a_hold_continues_over_a_restart_of_the_program() {
    let rig = motor(Released).run(&[
        (5000, lock(r#"{"lockTime":"60s","commandId":"a"}"#)),
        (15_000, Restart),
        (16_000, lock(r#"{"lockTime":"60s","commandId":"a"}"#)),
        (70_000, Nothing),
    ]);
    assert_eq!(rig.answer_lines[1..], ["16000 #2 200 Locked Secured"]);
    assert_eq!(
        rig.drives_from(2),
        "5000 Throw, 5600 DeEnergised, 65000 Retract, 67000 DeEnergised"
    );
}

#[test]
fn after_a_reboot_without_a_clock_a_lock_keeps_its_remaining_time_and_a_grant_is_dropped() {
    let rig = motor(Released).run(&[
        (5000, lock(r#"{"lockTime":"10m"}"#)),
        // Saved every minute: at 125 s, eight minutes were left.
        (130_000, Reboot),
        (479_000, Nothing),
    ]);
    assert_eq!(rig.status(), "Locked Secured");
    let mut rig = rig;
    rig.run_until(std::time::Duration::from_secs(100 + 485));
    assert_eq!(rig.drives.last().unwrap(), "482000 DeEnergised");

    let rig = motor(Locked).run(&[
        (5000, unlock(r#"{"unlockTime":"10m"}"#)),
        (30_000, Reboot),
        (5000, Nothing),
    ]);
    assert_eq!(rig.status(), "Locked Secured");
    assert!(rig.has_event("Dropped { slot: OperatorGrant, why: TimeUnknown }"));
}

#[test]
fn a_long_hold_is_saved_rarely_and_resumes_within_a_thirtieth() {
    const HOUR: u64 = 3_600_000;
    let hold = (5000, lock(r#"{"lockTime":"10h"}"#));
    let rig = motor(Released).run(&[hold, (10 * HOUR, Nothing)]);
    assert_eq!(rig.status(), "Locked Secured");
    let saves = rig.door.generation.0;
    assert!((30..200).contains(&saves), "{saves}");

    let mut rig = motor(Released).run(&[hold, (5 * HOUR, Reboot), (5 * HOUR, Nothing)]);
    assert_eq!(rig.status(), "Locked Secured");
    rig.run_until(std::time::Duration::from_millis(5 * HOUR + HOUR / 5));
    assert_eq!(rig.status(), "Unlocked Unsecured");
}

#[test]
fn a_second_reboot_continues_from_the_remaining_time_of_the_first() {
    let rig = motor(Released).run(&[
        (5000, lock(r#"{"lockTime":"3m"}"#)),
        (70_000, Reboot),
        (65_000, Reboot),
        (59_000, Nothing),
    ]);
    assert_eq!(rig.status(), "Locked Secured");
    let mut rig = rig;
    rig.run_until(std::time::Duration::from_secs(100 + 63));
    assert_eq!(rig.status(), "Unlocked Unsecured");
}

#[test]
fn after_a_reboot_the_wall_clock_decides_as_soon_as_it_can_be_trusted() {
    let rig = motor(Released).run(&[
        (4000, Clock(START)),
        (5000, lock(r#"{"lockTime":"10m"}"#)),
        (30_000, Reboot),
        (20_000, Clock("2026-11-23T22:10:00Z")),
        (20_900, Nothing),
        (24_000, Nothing),
    ]);
    assert_eq!(rig.drives.last().unwrap(), "23000 DeEnergised");
    assert_eq!(rig.status(), "Unlocked Unsecured");
}

#[test]
fn a_hold_without_a_time_and_the_command_ids_survive_a_reboot() {
    let rig = motor(Locked).run(&[
        (5000, unlock(r#"{"commandId":"u"}"#)),
        (30_000, Reboot),
        (3000, unlock(r#"{"commandId":"u"}"#)),
        (5000, Nothing),
    ]);
    assert_eq!(rig.answer_lines[1..], ["3000 #2 200 Unlocked Unsecured"]);
    assert_eq!(rig.status(), "Unlocked Unsecured");
}

#[test]
fn an_unlock_that_was_never_saved_is_lost_with_its_id() {
    let unlock = || unlock(r#"{"commandId":"u"}"#);
    let rig = motor(Locked).run(&[
        (5000, SlowDisk(true)),
        (5000, unlock()),
        (5100, Restart),
        (5200, SlowDisk(false)),
        (6000, Nothing),
        (7000, unlock()),
        (10_000, Nothing),
    ]);
    assert_eq!(rig.answer_lines, ["9000 #2 200 Unlocked Unsecured"]);
}

#[test]
fn an_unlock_that_timed_out_does_not_act_after_a_restart_even_if_saved_late() {
    let rig = motor(Locked).run(&[
        (5000, SlowDisk(true)),
        (5000, UNLOCK),
        (11_000, SlowDisk(false)),
        (12_000, Restart),
        (15_000, Nothing),
    ]);
    assert_eq!(rig.answer_lines, ["10000 #1 500 NotStored Locked Secured"]);
    assert_eq!(rig.status(), "Locked Secured");
}

#[test]
fn a_coil_does_not_hold_a_bolt_that_a_start_finds_out_in_an_open_door() {
    let rig = bolt(FailMode::Safe).run(&[
        (1000, LOCK),
        (3000, Open),
        (4000, Restart),
        (7000, Close),
        (9000, Nothing),
    ]);
    // The kill de-energised it, and it waits for the door like any other bolt.
    assert_eq!(rig.drives_from(0), "1000 Energised, 7250 Energised");
    assert_eq!(rig.status(), "Locked Secured");
}

#[test]
fn a_command_interrupted_by_a_restart_is_recorded_when_repeated() {
    let lock = || lock(r#"{"commandId":"a"}"#);
    let rig = motor(Released).run(&[
        (5000, lock()),
        // Saved, and the bolt is still moving.
        (5100, Restart),
        (9000, lock()),
    ]);
    assert_eq!(rig.answer_lines.len(), 1);
    assert_eq!(rig.events_with("Command").len(), 1, "{:?}", rig.events);
}
