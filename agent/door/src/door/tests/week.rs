//! Rules of the week in slot 16.

use std::time::Duration;

use super::rig::Step::{
    Clock, Close, Grant, Nothing, Open, Reboot, RebootInDoubt, Restart, Timed, Week,
};
use super::rig::unlock;
use super::rig::{LOCK, LOCKDOWN, NO_BOND, Rig, Step, UNLOCK, config, mode, motor, relinquish};
use super::timed::{look, shown};
use crate::Want::{Locked, Released};
use crate::config::{Fitted, StrikeConfig};
use crate::contract::Mode;

const OFFICE: Step = Week(OFFICE_HOURS, false);
const OFFICE_HOURS: &str = r#"{"name": "office", "zone": "UTC", "window": [
    {"days": "mon-fri", "from": "06:00", "to": "22:00", "want": "released"}]}"#;
const NIGHT: Step = Week(
    r#"{"name": "night", "zone": "UTC", "otherwise": "default", "window": [
        {"days": "mon-sun", "from": "22:00", "to": "06:00", "want": "locked",
         "takes_over": true}]}"#,
    false,
);
const TWICE: &str = r#"{"name": "twice", "zone": "UTC", "window": [
    {"days": "mon-fri", "from": "08:50", "to": "09:10", "want": "released"},
    {"days": "mon-fri", "from": "09:20", "to": "22:00", "want": "released"}]}"#;
const FIRST: Step = Week(
    r#"{"name": "first", "zone": "UTC", "window": [
        {"days": "mon-fri", "from": "06:00", "to": "06:45", "want": "released",
         "first_person_in": "30m"},
        {"days": "mon-fri", "from": "07:00", "to": "08:00", "want": "released",
         "first_person_in": "10m"}]}"#,
    false,
);
/// A minute before a window of a Tuesday.
const MORNING: Step = Clock("2026-12-01T05:59:00Z");
const EVENING: Step = Clock("2026-12-01T21:59:00Z");
const MINUTE: u64 = 60_000;

#[test]
fn a_week_speaks_in_slot_16_below_everything_else() {
    let allow = relinquish(r#"{"slot":5}"#);
    let (secure, normal) = (mode(r#"{"mode":"secure"}"#), mode(r#"{"mode":"normal"}"#));
    let maintenance = mode(r#"{"mode":"maintenance"}"#);
    let begin = [(0, MORNING), (1, OFFICE)];
    let rig = look(
        motor(Locked),
        &begin,
        &[
            (2, "16 Locked"),
            (MINUTE - 1, "16 Locked"),
            (MINUTE, "16 Released"),
        ],
    );
    let steps = [(0, EVENING), (1, Week(OFFICE_HOURS, true))];
    look(
        motor(Locked),
        &steps,
        &[(MINUTE - 1, "16 Released"), (MINUTE, "16 Locked")],
    );
    assert!(rig.has_event("Unlocking by Schedule"), "{:?}", rig.log);
    let after = MINUTE + 10_000;
    for (steps, expected) in [
        (vec![(after, LOCK)], "8 Locked"),
        (
            vec![(after, LOCK), (after + 1, relinquish("{}"))],
            "16 Released",
        ),
        (vec![(after, LOCKDOWN)], "5 Locked"),
        (vec![(2, LOCKDOWN), (after, allow)], "16 Released"),
        (vec![(after, secure)], "16 Locked"),
        (vec![(2, secure), (after, normal)], "16 Released"),
        // It moves no bolt under maintenance.
        (vec![(2, maintenance)], "16 Locked"),
        (vec![(2, maintenance), (after, normal)], "16 Released"),
        (vec![(after, maintenance)], "16 Released"),
        (vec![(after, Restart)], "16 Released"),
    ] {
        let steps: Vec<_> = begin.into_iter().chain(steps).collect();
        look(motor(Locked), &steps, &[(after + 1000, expected)]);
    }
    let steps = [(0, MORNING), (1, NIGHT), (2, Nothing)];
    look(
        motor(Released),
        &steps,
        &[(2, "16 Locked"), (MINUTE, "0 Released")],
    );
}

#[test]
fn a_door_says_since_when_a_command_keeps_its_week_from_deciding() {
    let at = 2 * MINUTE;
    let since = Some("2026-12-01T06:01:00Z".parse().unwrap());
    let timed = Timed(r#"{"hold": {"want": "locked", "from": "2026-12-01T06:00:30Z"}}"#);
    for (steps, expected) in [
        (vec![(0, MORNING), (1, OFFICE), (at, LOCK)], since),
        // By the boot clock, from what the disk has.
        (
            vec![(0, MORNING), (1, OFFICE), (at, LOCK), (at + 1, Restart)],
            since,
        ),
        // Not known, ahead of the present, no week, and not a person's.
        (vec![(1, OFFICE), (at, LOCK)], None),
        (
            vec![
                (0, Clock("2026-12-02T05:59:00Z")),
                (1, OFFICE),
                (1000, LOCK),
                (1500, Reboot),
                (2000, MORNING),
            ],
            None,
        ),
        (vec![(0, MORNING), (at, LOCK)], None),
        (
            vec![(0, MORNING), (1, OFFICE), (2, timed), (at, Nothing)],
            None,
        ),
    ] {
        let mut rig = motor(Released).run(&steps);
        rig.run_to(at + 1000);
        let held = rig.door.report().status.held_by.unwrap();
        assert_eq!((held.slot.number(), held.since), (8, expected), "{steps:?}");
    }
}

#[test]
fn without_a_trusted_clock_and_in_doubt_it_is_locked() {
    let steps = [(0, MORNING), (1, OFFICE), (2 * MINUTE, Reboot)];
    let mut rig = motor(Released).run(&steps);
    rig.run_to(5000);
    assert_eq!(shown(&rig), "16 Locked");
    rig.act(&Clock("2026-12-01T06:05:00Z"));
    assert_eq!(shown(&rig), "16 Released");
    // Never trusted.
    look(motor(Released), &[(1, OFFICE)], &[(2, "16 Locked")]);

    let steps = [(0, MORNING), (1, OFFICE), (2 * MINUTE, RebootInDoubt)];
    let mut rig = motor(Locked).run(&steps);
    rig.act(&Clock("2026-12-01T06:05:00Z"));
    rig.run_to(1000);
    assert_eq!(shown(&rig), "16 Locked");
    // A person ends the doubt, and the twin may have another week.
    rig.act(&mode(r#"{"mode":"normal"}"#));
    assert_eq!(shown(&rig), "16 Locked");
    rig.act(&OFFICE);
    assert_eq!(shown(&rig), "16 Released");
    // A change that is farther away than the door looks.
    let leap_day = r#"{"name": "leap day", "zone": "UTC", "exception": [{"yearly": ["02-29"],
        "windows": [{"from": "00:00", "to": "24:00", "want": "released"}]}]}"#;
    let mut rig = motor(Locked).run(&[(0, MORNING), (1, Week(leap_day, true)), (2, Nothing)]);
    assert_eq!(shown(&rig), "16 Locked");
    rig.act(&Clock("2028-02-29T06:05:00Z"));
    rig.run_to(2 * MINUTE);
    assert_eq!(shown(&rig), "16 Released");
    // A week that cannot be read locks.
    let mut rig = motor(Released).run(&[(0, MORNING), (1, OFFICE), (2 * MINUTE, Nothing)]);
    rig.act(&Week("{}", true));
    assert_eq!(shown(&rig), "16 Locked");
}

#[test]
fn after_a_step_it_is_locked_if_either_clock_says_so() {
    for (from, step, within, after) in [
        (MORNING, "2026-12-01T06:09:30Z", "16 Locked", "16 Released"),
        (MORNING, "2026-12-01T05:49:30Z", "16 Locked", "16 Locked"),
        (
            Clock("2026-12-01T06:01:00Z"),
            "2026-12-01T05:51:30Z",
            "16 Locked",
            "16 Locked",
        ),
        (
            Clock("2026-12-01T06:01:00Z"),
            "2026-12-01T23:51:30Z",
            "16 Locked",
            "16 Locked",
        ),
        (
            Clock("2026-12-01T06:01:00Z"),
            "2026-12-01T06:11:30Z",
            "16 Released",
            "16 Released",
        ),
    ] {
        let week = (1, Week(OFFICE_HOURS, true));
        let steps = [(0, from), week, (30_000, Clock(step))];
        look(motor(Locked), &steps, &[(30_001, within), (91_000, after)]);
    }
}

#[test]
fn a_window_that_takes_over_ends_what_somebody_left_open() {
    let passage = mode(r#"{"mode":"passage"}"#);
    let after = MINUTE + 10_000;
    for (steps, expected, ended) in [
        (vec![(2, UNLOCK)], "16 Locked", 1),
        (vec![(2, passage)], "16 Locked", 1),
        (vec![(2, UNLOCK), (3, passage)], "16 Locked", 2),
        // An end that a person gave, and what came after the start.
        (vec![(2, unlock(r#"{"unlockTime":"1h"}"#))], "7 Released", 0),
        (vec![(after, UNLOCK)], "8 Released", 0),
        (vec![(after, passage)], "9 Released", 0),
        // Never a lock.
        (vec![(2, LOCK)], "8 Locked", 0),
    ] {
        let steps: Vec<_> = [(0, EVENING), (1, NIGHT)]
            .into_iter()
            .chain(steps)
            .collect();
        let rig = look(motor(Released), &steps, &[(after + 5000, expected)]);
        assert_eq!(rig.events_with("TakenOver").len(), ended, "{steps:?}");
        let is_passage = expected.starts_with('9');
        assert_eq!(rig.door.report().mode == Mode::Passage, is_passage);
    }
    let open = unlock(r#"{"commandId":"left-open"}"#);
    let steps = [(0, EVENING), (1, NIGHT), (2, open)];
    let rig = look(motor(Released), &steps, &[(MINUTE, "16 Locked")]);
    assert!(
        rig.events_with("TakenOver")[0].contains("left-open"),
        "{:?}",
        rig.events
    );
}

/// Steps of a person who is let in by the reader and opens the door.
fn comes_in(at: u64) -> [(u64, Step); 4] {
    [
        (at, Grant(true)),
        (at + 1000, Open),
        (at + 2000, Grant(false)),
        (at + 3000, Close),
    ]
}

#[test]
fn a_window_may_wait_for_a_first_person() {
    let begin = [(0, Clock("2026-12-01T05:29:00Z")), (1, FIRST)];
    let (early, lead, at_six, present) = (10_000, MINUTE + 10_000, 31 * MINUTE, 40 * MINUTE);
    let secure = mode(r#"{"mode":"secure"}"#);
    let normal = mode(r#"{"mode":"normal"}"#);
    let in_lead = || comes_in(lead).to_vec();
    let with = |more: &[(u64, Step)]| [in_lead(), more.to_vec()].concat();
    for (steps, expected) in [
        (vec![], "16 Locked"),
        (in_lead(), "16 Released"),
        (comes_in(early).to_vec(), "16 Locked"),
        (comes_in(present - 30_000).to_vec(), "16 Released"),
        // Without opening the door; with a contact that did not rest.
        (
            vec![(lead, Grant(true)), (lead + 1000, Grant(false))],
            "16 Locked",
        ),
        (
            vec![
                (lead, Grant(true)),
                (lead + 1000, Grant(false)),
                (lead + 9000, Open),
            ],
            "16 Locked",
        ),
        (
            vec![
                (lead, Grant(true)),
                (lead + 6000, Grant(false)),
                (lead + 7000, Grant(true)),
                (lead + 8000, Open),
            ],
            "16 Locked",
        ),
        // Forgotten at a lockdown, in mode secure, at an operator's lock and without a clock.
        (
            with(&[
                (lead + 9000, LOCKDOWN),
                (lead + 9001, relinquish(r#"{"slot":5}"#)),
            ]),
            "16 Locked",
        ),
        (
            with(&[(lead + 9000, secure), (lead + 9001, normal)]),
            "16 Locked",
        ),
        (
            with(&[(lead + 9000, LOCK), (lead + 9001, relinquish("{}"))]),
            "16 Locked",
        ),
        (with(&[(lead + 9000, Restart)]), "16 Released"),
    ] {
        let steps: Vec<_> = begin.into_iter().chain(steps).collect();
        look(motor(Locked), &steps, &[(present, expected)]);
    }
    let steps: Vec<_> = begin.into_iter().chain(in_lead()).collect();
    look(
        motor(Locked),
        &steps,
        &[
            (at_six - 1, "16 Locked"),
            (at_six, "16 Released"),
            // A person counts for one window.
            (at_six + 45 * MINUTE, "16 Locked"),
            (at_six + 60 * MINUTE, "16 Locked"),
        ],
    );
    let mut rig = motor(Locked).run(&steps);
    rig.run_to(present);
    rig.act(&Reboot);
    rig.act(&Clock("2026-12-01T06:20:00Z"));
    assert_eq!(shown(&rig), "16 Locked");
    // Without a contact the grant alone counts.
    let fitted = Fitted {
        door: false,
        ..NO_BOND
    };
    let door = config(Locked, StrikeConfig::maglock(), fitted);
    let steps: Vec<_> = begin.into_iter().chain([(lead, Grant(true))]).collect();
    let steps = [steps, vec![(lead + 1000, Grant(false))]].concat();
    look(door, &steps, &[(present, "16 Released")]);
}

#[test]
fn a_week_assigned_inside_of_its_window_begins_with_the_next_one() {
    let nine = Clock("2026-12-01T09:00:00Z");
    let (twice, at_once) = (Week(TWICE, false), Week(TWICE, true));
    let next = 20 * MINUTE;
    look(
        motor(Locked),
        &[(0, nine), (1, twice)],
        &[
            (2, "16 Locked"),
            (next - 1, "16 Locked"),
            (next, "16 Released"),
        ],
    );
    for steps in [
        vec![(1, at_once)],
        vec![(1, twice), (2, at_once)],
        // A door that the week before releases is not locked by the change.
        vec![(1, at_once), (2, twice)],
    ] {
        let steps: Vec<_> = [(0, nine)].into_iter().chain(steps).collect();
        look(motor(Locked), &steps, &[(2, "16 Released")]);
    }
    // Assigned at an unknown time: windows count that begin after the first known one.
    let steps = [(1, twice), (2, nine)];
    look(
        motor(Locked),
        &steps,
        &[(3, "16 Locked"), (next + 2, "16 Released")],
    );
}

#[test]
fn an_override_stands_in_place_of_the_week() {
    let open = Timed(
        r#"{"o": {"want": "released", "from": "2026-12-01T22:30:00Z",
                  "until": "2026-12-01T23:00:00Z", "slot": 16}}"#,
    );
    let closed = Timed(
        r#"{"o": {"want": "locked", "from": "2026-12-01T21:59:30Z",
                  "until": "2026-12-01T23:00:00Z", "slot": 16}}"#,
    );
    look(
        motor(Locked),
        &[(0, EVENING), (1, Week(OFFICE_HOURS, true)), (2, open)],
        &[
            (2, "16 Released; o armed"),
            (MINUTE, "16 Locked; o armed"),
            (31 * MINUTE, "16 Released; o holding"),
            (61 * MINUTE, "16 Locked; o over"),
        ],
    );
    look(
        motor(Released),
        &[(0, EVENING), (1, Week(OFFICE_HOURS, true)), (2, closed)],
        &[
            (29_999, "16 Released; o armed"),
            (30_000, "16 Locked; o holding"),
        ],
    );
}

#[test]
fn one_timer_waits_for_the_next_change_of_the_week() {
    let mut rig: Rig = motor(Locked).run(&[(0, MORNING), (1, OFFICE), (5000, Nothing)]);
    let six = rig.now.boottime + Duration::from_secs(55);
    assert_eq!(rig.door.agenda.poll_timeout(rig.now.boottime), Some(six));
    rig.run_to(MINUTE);
    let ten = rig.now.boottime + Duration::from_secs(16 * 3600);
    assert_eq!(rig.door.agenda.poll_timeout(rig.now.boottime), Some(ten));
    let week = rig.door.week().unwrap();
    assert_eq!(
        (week.name.as_deref(), week.want),
        (Some("office"), Some(Released))
    );
    let next = week.next.unwrap();
    assert_eq!(
        (next.at.to_string(), next.want),
        ("2026-12-01T22:00:00Z".to_owned(), Some(Locked))
    );
}
