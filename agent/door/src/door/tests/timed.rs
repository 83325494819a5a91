//! Rules of timed entries: what they want at which time, by which clock, and what remains of them.

use std::fmt::Write as _;

use jiff::SignedDuration;

use super::rig::Step::{Clock, Close, Nothing, Open, Reboot, RebootInDoubt, Restart, Timed};
use super::rig::{
    LOCK, LOCKDOWN, Rig, Step, UNLOCK, config, limited, lock, mode, motor, relinquish, unlock,
};
use crate::Want::{Locked, Released};
use crate::config::{DoorConfig, FailMode, Fitted, StrikeConfig};

/// A minute before ten, when the entries below begin.
const START: Step = Clock("2026-12-01T21:59:00Z");
const LOCKS: Step = Timed(
    r#"{"l": {"want": "locked", "from": "2026-12-01T22:00:00Z",
              "until": "2026-12-01T22:10:00Z"}}"#,
);
const RELEASES: Step = Timed(
    r#"{"r": {"want": "released", "from": "2026-12-01T22:00:00Z",
              "until": "2026-12-01T22:10:00Z"}}"#,
);
const BOTH: Step = Timed(
    r#"{"l": {"want": "locked", "from": "2026-12-01T22:00:00Z",
              "until": "2026-12-01T22:10:00Z"},
        "r": {"want": "released", "from": "2026-12-01T22:00:00Z",
              "until": "2026-12-01T22:20:00Z"}}"#,
);
const THE_RELEASE_OF_BOTH: Step = Timed(
    r#"{"r": {"want": "released", "from": "2026-12-01T22:00:00Z",
              "until": "2026-12-01T22:20:00Z"}}"#,
);
/// The release began before the lock.
const RELEASE_THEN_LOCK: Step = Timed(
    r#"{"l": {"want": "locked", "from": "2026-12-01T22:00:00Z",
              "until": "2026-12-01T22:10:00Z"},
        "r": {"want": "released", "from": "2026-12-01T21:59:30Z",
              "until": "2026-12-01T22:20:00Z"}}"#,
);
const LOCK_THEN_RELEASE: Step = Timed(
    r#"{"l": {"want": "locked", "from": "2026-12-01T22:00:00Z",
              "until": "2026-12-01T22:10:00Z"},
        "r": {"want": "released", "from": "2026-12-01T22:01:00Z",
              "until": "2026-12-01T22:02:00Z"}}"#,
);
const MINUTE: u64 = 60_000;
/// When the entries begin, after [`START`] at 0.
const FROM: u64 = MINUTE;
const UNTIL: u64 = 11 * MINUTE;

/// The deciding slot and what it wants, then the entries: `8 Locked; l holding`.
pub(super) fn shown(rig: &Rig) -> String {
    let array = rig.door.authority();
    let slot = array.winner().map_or(0, |(slot, _)| slot.number());
    let mut text = format!("{slot} {:?}", array.want());
    for (id, timed) in rig.door.timed() {
        write!(text, "; {id} {}", timed.progress.state).unwrap();
    }
    text
}

/// Runs a scenario and looks at times in between; a look at the time of a step comes after it.
pub(super) fn look(config: DoorConfig, steps: &[(u64, Step)], looks: &[(u64, &str)]) -> Rig {
    let mut rig = Rig::new(config);
    let mut steps = steps.iter().peekable();
    for (at, expected) in looks {
        while let Some((ms, step)) = steps.next_if(|(ms, _)| ms <= at) {
            rig.run_to(*ms);
            rig.act(step);
        }
        rig.run_to(*at);
        assert_eq!(shown(&rig), *expected, "at {at}: {:?}", rig.log);
    }
    assert!(steps.next().is_none(), "every step comes before a look");
    rig
}

#[test]
fn an_entry_fills_the_slot_of_its_call_from_its_begin_to_its_end() {
    let rig = look(
        motor(Released),
        &[(0, START), (1, LOCKS)],
        &[
            (FROM - 1, "0 Released; l armed"),
            (FROM, "8 Locked; l holding"),
            (UNTIL - 1, "8 Locked; l holding"),
            (UNTIL, "0 Released; l over"),
        ],
    );
    assert_eq!(rig.starts("Throw"), [FROM]);
    assert_eq!(rig.starts("Retract").last(), Some(&UNTIL));
    assert!(rig.has_event("TimedEnded { id: EntryId(\"l\"), want: Locked, missed: false }"));
    look(
        motor(Locked),
        &[(0, START), (1, RELEASES)],
        &[
            (FROM - 1, "0 Locked; r armed"),
            (FROM, "7 Released; r holding"),
            (UNTIL, "0 Locked; r over"),
        ],
    );
}

#[test]
fn an_entry_speaks_only_if_it_begins_after_the_last_change_of_its_slot_by_a_person() {
    let before = FROM - 10_000;
    let after = FROM + 10_000;
    for (steps, at_from, at_end) in [
        // What somebody had released before is over, as after `lockDoor`.
        (
            vec![(1, LOCKS), (before, UNLOCK)],
            "8 Locked; l holding",
            "0 Locked; l over",
        ),
        (
            vec![(1, LOCKS), (before, unlock(r#"{"unlockTime":"1h"}"#))],
            "8 Locked; l holding",
            "0 Locked; l over",
        ),
        // Accepted before, saved after it.
        (
            vec![
                (1, LOCKS),
                (before, Step::SlowDisk(true)),
                (before, UNLOCK),
                (FROM + 1000, Step::SlowDisk(false)),
                (after, Restart),
            ],
            "8 Locked; l holding",
            "0 Locked; l over",
        ),
        // What somebody had locked stays below.
        (
            vec![(1, LOCKS), (before, LOCK)],
            "8 Locked; l holding",
            "8 Locked; l over",
        ),
        // Later changes win.
        (
            vec![(1, LOCKS), (after, UNLOCK)],
            "8 Released; l overruled",
            "8 Released; l over",
        ),
        (
            vec![(1, LOCKS), (after, relinquish("{}"))],
            "0 Locked; l overruled",
            "0 Locked; l over",
        ),
        (
            vec![(1, LOCKS), (after, unlock(r#"{"unlockTime":"1h"}"#))],
            "7 Released; l holding",
            "7 Released; l over",
        ),
        (
            vec![(1, RELEASES), (after, LOCK)],
            "8 Locked; r overruled",
            "8 Locked; r over",
        ),
        (
            vec![(1, RELEASES), (after, relinquish(r#"{"slot":7}"#))],
            "0 Locked; r overruled",
            "0 Locked; r over",
        ),
        // A call of another slot.
        (
            vec![(1, RELEASES), (after, relinquish(r#"{"slot":8}"#))],
            "7 Released; r holding",
            "0 Locked; r over",
        ),
        // A call with the id of the entry that wants the opposite is a person's change.
        (
            vec![(1, LOCKS), (after, unlock(r#"{"commandId":"l"}"#))],
            "8 Released; l overruled",
            "8 Released; l over",
        ),
        // An entry that arrives after a change that it began before.
        (
            vec![(after, UNLOCK), (after + 1, LOCKS)],
            "8 Released; l overruled",
            "8 Released; l over",
        ),
        // A retry of the job calls the door with the same id and end.
        (
            vec![
                (1, LOCKS),
                (after, relinquish("{}")),
                (
                    after + 1,
                    lock(r#"{"commandId":"l","until":"2026-12-01T22:10:00Z"}"#),
                ),
            ],
            "8 Locked; l holding",
            "0 Locked; l over",
        ),
        (
            vec![
                (1, RELEASES),
                (after, LOCK),
                (
                    after + 1,
                    unlock(r#"{"commandId":"r","until":"2026-12-01T22:10:00Z"}"#),
                ),
            ],
            "7 Released; r holding",
            "8 Locked; r over",
        ),
    ] {
        let mut scenario = vec![(0, START)];
        scenario.extend(&steps);
        let looks = [(after + 100, at_from), (UNTIL + 1, at_end)];
        look(motor(Locked), &scenario, &looks);
    }
}

#[test]
fn of_two_entries_the_later_speaks_and_at_the_same_begin_the_lock() {
    for (entries, looks) in [
        (
            BOTH,
            vec![
                (FROM, "8 Locked; l holding; r overruled"),
                (UNTIL, "0 Locked; l over; r overruled"),
            ],
        ),
        (
            RELEASE_THEN_LOCK,
            vec![
                (FROM - 1, "7 Released; l armed; r holding"),
                (FROM, "8 Locked; l holding; r overruled"),
                (UNTIL, "0 Locked; l over; r overruled"),
            ],
        ),
        (
            LOCK_THEN_RELEASE,
            vec![
                (FROM, "8 Locked; l holding; r armed"),
                (FROM + MINUTE, "7 Released; l holding; r holding"),
                (FROM + 2 * MINUTE, "8 Locked; l holding; r over"),
            ],
        ),
    ] {
        look(motor(Locked), &[(0, START), (1, entries)], &looks);
    }
    // The silence of the release outlasts the lock.
    let removed = (UNTIL + 1, THE_RELEASE_OF_BOTH);
    let looks = [(UNTIL + 1, "0 Locked; r overruled")];
    look(motor(Locked), &[(0, START), (1, BOTH), removed], &looks);
}

#[test]
fn a_door_that_was_off_acts_if_it_is_back_within_the_interval() {
    // Times of steps after a reboot count from it.
    for (back, decides) in [
        ("2026-12-01T22:05:00Z", "8 Locked; l holding"),
        ("2026-12-01T22:10:00Z", "0 Released; l over"),
    ] {
        let steps = [(0, START), (1, LOCKS), (2, Reboot), (2, Clock(back))];
        let rig = look(motor(Released), &steps, &[(3, decides)]);
        let missed = "TimedEnded { id: EntryId(\"l\"), want: Locked, missed: true }";
        assert_eq!(rig.has_event(missed), decides.starts_with('0'));
    }
    let steps = [
        (0, START),
        (1, RELEASES),
        (2, Restart),
        (FROM + MINUTE, Restart),
    ];
    let looks = [
        (FROM, "7 Released; r holding"),
        (FROM + MINUTE, "7 Released; r holding"),
    ];
    let rig = look(motor(Locked), &steps, &looks);
    assert_eq!(rig.events_with("TimedStarted").len(), 1);
}

#[test]
fn without_a_trusted_clock_only_locks_speak_by_the_lower_bound() {
    for (entries, before, within, after) in [
        (
            LOCKS,
            "0 Released; l armed",
            "8 Locked; l holding",
            "0 Released; l over",
        ),
        (
            RELEASES,
            "0 Released; r armed",
            "0 Released; r overruled",
            "0 Released; r over",
        ),
    ] {
        // Booted before, in and after the interval: the bound is the time of the last save.
        let saved = |at| {
            [
                (0, START),
                (1, entries),
                (at, LOCK),
                (at + 1, relinquish("{}")),
            ]
        };
        let boot = |at| {
            let mut steps = saved(at).to_vec();
            steps.extend([(at + 2000, Reboot)]);
            steps
        };
        let expected = [before, within, after];
        for (at, looks) in [
            (10_000, vec![(0, 0), (50_500, 1), (11 * MINUTE, 2)]),
            (UNTIL, vec![(0, 2)]),
        ] {
            let mut rig = motor(Released).run(&boot(at));
            for (ms, state) in looks {
                rig.run_to(ms);
                assert_eq!(shown(&rig), expected[state], "{at} {ms}");
            }
        }
    }
    // Booted in the interval: the lock holds on, and the release waits for the time.
    for (entries, booted, timed) in [
        (LOCKS, "8 Locked; l holding", "8 Locked; l holding"),
        (RELEASES, "0 Locked; r overruled", "7 Released; r holding"),
    ] {
        let mut rig = motor(Locked).run(&[(0, START), (1, entries), (FROM + 1, Reboot)]);
        rig.run_to(10);
        assert_eq!(shown(&rig), booted);
        rig.act(&Clock("2026-12-01T22:05:00Z"));
        assert_eq!(shown(&rig), timed);
    }
    // A clock that was never trusted has no bound.
    look(
        motor(Released),
        &[(1, LOCKS)],
        &[(UNTIL, "0 Released; l armed")],
    );
}

#[test]
fn a_person_s_change_at_an_unknown_time_silences_releases_that_may_be_older_and_no_lock() {
    for (entries, change, timed) in [
        (LOCKS, UNLOCK, "8 Released; l overruled"),
        (LOCKS, relinquish("{}"), "0 Released; l overruled"),
    ] {
        // The change comes after the bound has passed the begin.
        let mut rig = motor(Released).run(&[(0, START), (1, entries), (FROM + 1, Reboot)]);
        rig.run_to(10);
        rig.act(&change);
        rig.act(&Clock("2026-12-01T22:05:00Z"));
        assert_eq!(shown(&rig), timed);
    }
    // Before the bound has passed the begin, either may have been first.
    for (entries, change, timed) in [
        (LOCKS, UNLOCK, "8 Locked; l holding"),
        (RELEASES, relinquish("{}"), "0 Locked; r overruled"),
    ] {
        let mut rig = motor(Locked).run(&[(0, START), (1, entries), (2, Reboot)]);
        rig.run_to(10);
        rig.act(&change);
        rig.run_to(5000);
        rig.act(&Clock("2026-12-01T22:05:00Z"));
        assert_eq!(shown(&rig), timed, "{change:?}");
    }
}

#[test]
fn after_a_step_locks_follow_either_clock_and_releases_both() {
    // At 30 s before the begin, or 30 s after it, the clock is stepped; at once and after 61 s.
    let (early, late) = (FROM - 30_000, FROM + 30_000);
    for (at, step, [lock, lock_later], [release, release_later]) in [
        (
            early,
            "2026-11-30T21:59:30Z",
            ["0 armed", "0 armed"],
            ["0 armed", "0 armed"],
        ),
        (
            early,
            "2026-12-01T21:49:30Z",
            ["0 armed", "0 armed"],
            ["0 armed", "0 armed"],
        ),
        (
            early,
            "2026-12-01T21:59:27Z",
            ["0 armed", "8 holding"],
            ["0 armed", "7 holding"],
        ),
        (
            early,
            "2026-12-01T21:59:33Z",
            ["0 armed", "8 holding"],
            ["0 armed", "7 holding"],
        ),
        (
            early,
            "2026-12-01T22:09:20Z",
            ["8 holding", "0 over"],
            ["0 armed", "0 over"],
        ),
        (
            early,
            "2026-12-02T21:59:30Z",
            ["0 armed", "0 over"],
            ["0 armed", "0 over"],
        ),
        (
            late,
            "2026-11-30T22:00:30Z",
            ["8 holding", "0 armed"],
            ["0 armed", "0 armed"],
        ),
        (
            late,
            "2026-12-01T21:50:30Z",
            ["8 holding", "0 armed"],
            ["0 armed", "0 armed"],
        ),
        (
            late,
            "2026-12-01T22:00:27Z",
            ["8 holding", "8 holding"],
            ["7 holding", "7 holding"],
        ),
        (
            late,
            "2026-12-01T22:00:33Z",
            ["8 holding", "8 holding"],
            ["7 holding", "7 holding"],
        ),
        (
            late,
            "2026-12-01T22:10:30Z",
            ["8 holding", "0 over"],
            ["0 overruled", "0 over"],
        ),
        (
            late,
            "2026-12-02T22:00:30Z",
            ["8 holding", "0 over"],
            ["0 overruled", "0 over"],
        ),
    ] {
        for (entries, id, expected) in [
            (LOCKS, "l", [lock, lock_later]),
            (RELEASES, "r", [release, release_later]),
        ] {
            let mut rig = motor(Locked).run(&[(0, START), (1, entries), (at, Clock(step))]);
            for (ms, expected) in [at, at + 61_000].into_iter().zip(expected) {
                rig.run_to(ms);
                let (slot, state) = expected.split_once(' ').unwrap();
                let want = if slot == "7" { "Released" } else { "Locked" };
                let expected = format!("{slot} {want}; {id} {state}");
                assert_eq!(shown(&rig), expected, "{step} at {ms}");
            }
        }
    }
}

#[test]
fn a_window_releases_after_a_boot_whose_time_comes_late() {
    let mut rig = motor(Locked).run(&[
        (0, Clock("2026-12-01T01:59:59Z")),
        (
            1,
            Timed(
                r#"{"r": {"want": "released", "from": "2026-12-01T06:00:00Z",
                          "until": "2026-12-01T07:00:00Z"}}"#,
            ),
        ),
        (1000, Reboot),
    ]);
    rig.run_to(MINUTE);
    rig.act(&Clock("2026-12-01T05:01:00Z"));
    rig.run_to(60 * MINUTE - 1);
    assert_eq!(shown(&rig), "0 Locked; r armed");
    rig.run_to(60 * MINUTE);
    assert_eq!(shown(&rig), "7 Released; r holding");
}

#[test]
fn in_doubt_only_locks_speak_until_the_twin_has_been_read() {
    let normal = mode(r#"{"mode":"normal"}"#);
    for (entries, unread, read) in [
        (LOCKS, "8 Locked; l holding", "8 Locked; l holding"),
        (RELEASES, "0 Locked; r overruled", "7 Released; r holding"),
    ] {
        let mut rig = motor(Locked).run(&[(0, START), (1, entries), (2000, RebootInDoubt)]);
        // The doubt has set mode secure; a person ends both before the entries begin.
        rig.act(&START);
        rig.run_to(1000);
        rig.act(&normal);
        rig.run_to(FROM + 1);
        assert_eq!(shown(&rig), unread);
        rig.act(&entries);
        assert_eq!(shown(&rig), read);
    }
    // A release that began before the doubt may have been ended by a person since.
    let mut rig = motor(Locked).run(&[(0, START), (1, RELEASES), (2000, RebootInDoubt)]);
    rig.act(&Clock("2026-12-01T22:00:00Z"));
    rig.run_to(1000);
    rig.act(&normal);
    rig.act(&RELEASES);
    assert_eq!(shown(&rig), "0 Locked; r overruled");
}

#[test]
fn a_lock_that_is_removed_before_its_end_is_an_event() {
    for (at, entries, recorded) in [
        (FROM - 1, LOCKS, true),
        (FROM + 1, LOCKS, true),
        (FROM + 1, RELEASES, true),
        (UNTIL + 1, LOCKS, false),
    ] {
        let mut rig = motor(Locked).run(&[(0, START), (1, entries), (at, Timed("{}"))]);
        rig.run_to(at + 1);
        assert_eq!(shown(&rig), "0 Locked");
        assert_eq!(!rig.events_with("Disarmed").is_empty(), recorded, "{at}");
    }
    // Replaced by another want, a later begin, an earlier end; by one that locks longer.
    for (want, from, until, recorded) in [
        ("released", "22:00", "22:10", true),
        ("locked", "22:01", "22:10", true),
        ("locked", "22:00", "22:09", true),
        ("locked", "21:59", "22:11", false),
    ] {
        let mut rig = motor(Locked).run(&[(0, START), (1, LOCKS), (2, Nothing)]);
        let day = "2026-12-01T";
        let entry = serde_json::json!({
            "l": {"want": want, "from": format!("{day}{from}:00Z"),
                  "until": format!("{day}{until}:00Z")}
        });
        rig.act(&Timed(entry.to_string().leak()));
        let is_recorded = !rig.events_with("Disarmed").is_empty();
        assert_eq!(is_recorded, recorded, "{entry}");
    }
}

#[test]
fn a_corrected_clock_leaves_open_whether_a_person_s_change_came_before() {
    let hours = |want: &str| {
        let entry = r#"{"e": {"want": "WANT", "from": "2026-12-01T22:00:00Z",
                              "until": "2026-12-02T00:30:00Z"}}"#;
        Timed(entry.replace("WANT", want).leak())
    };
    let (locks, releases) = (hours("locked"), hours("released"));
    let (ahead, behind) = ("2026-12-01T23:59:00Z", "2026-12-01T21:00:00Z");
    for (wrong, entries, change, right, expected) in [
        // Two hours ahead: the change came before the begin.
        (
            ahead,
            locks,
            UNLOCK,
            "2026-12-01T21:59:10Z",
            "8 Locked; e holding",
        ),
        (
            ahead,
            releases,
            LOCK,
            "2026-12-01T21:58:10Z",
            "7 Released; e holding",
        ),
        // Two hours behind: it came after it. A lock may have been later.
        (
            behind,
            locks,
            UNLOCK,
            "2026-12-01T23:00:10Z",
            "8 Locked; e holding",
        ),
        (
            behind,
            releases,
            LOCK,
            "2026-12-01T23:00:10Z",
            "8 Locked; e overruled",
        ),
    ] {
        let steps = [
            (0, Clock(wrong)),
            (1, change),
            (10_000, Clock(right)),
            (10_001, entries),
        ];
        look(motor(Locked), &steps, &[(3 * MINUTE, expected)]);
    }
}

#[test]
fn a_change_at_a_time_that_lies_ahead_overrules_no_lock() {
    const AHEAD: Step = Clock("2026-12-02T21:00:00Z");
    for change in [
        relinquish(r#"{"slot":8}"#),
        UNLOCK,
        unlock(r#"{"unlockTime":7200}"#),
    ] {
        let steps = [(0, AHEAD), (1000, change), (2000, Reboot)];
        let mut rig = motor(Released).run(&steps);
        // The saved time, a day ahead, is a bound for 24 h: the right time is before it.
        rig.act(&START);
        rig.act(&LOCKS);
        rig.run_for(90_000);
        assert_eq!(shown(&rig), "8 Locked; l holding", "{change:?}");
    }
}

#[test]
fn one_wrong_reading_of_a_trusted_clock_ends_no_later_unlock() {
    let steps = [
        (0, Clock("2026-12-01T22:05:00Z")),
        (1000, LOCKS),
        (2000, UNLOCK),
        (10_000, Clock("2026-12-01T21:05:10Z")),
        (20_000, Clock("2026-12-01T22:05:20Z")),
    ];
    let expected = "8 Released; l overruled";
    look(
        motor(Locked),
        &steps,
        &[(9000, expected), (15_000, expected), (30_000, expected)],
    );
}

#[test]
fn two_locks_after_a_change_that_lies_ahead_are_not_saved_at_every_look() {
    const TWO: Step = Timed(
        r#"{"a": {"want": "locked", "from": "2026-12-02T20:00:00Z"},
            "b": {"want": "locked", "from": "2026-12-02T20:30:00Z"}}"#,
    );
    let steps = [
        (0, Clock("2026-12-02T21:00:00Z")),
        (1000, unlock(r#"{"unlockTime":7200}"#)),
        (2000, Reboot),
    ];
    let mut rig = motor(Released).run(&steps);
    rig.act(&START);
    rig.act(&TWO);
    rig.run_for(5000);
    assert_eq!(shown(&rig), "8 Locked; a holding; b holding");
    let saves = |rig: &Rig| {
        rig.log
            .iter()
            .filter(|line| line.ends_with(" persist"))
            .count()
    };
    let before = saves(&rig);
    assert!(before > 0, "{:?}", rig.log);
    rig.run_for(30_000);
    assert_eq!(saves(&rig), before, "{:?}", rig.log);
}

#[test]
fn a_clock_that_steps_all_the_time_fills_no_log() {
    let mut rig = motor(Locked).run(&[(0, Clock("2026-12-01T22:05:00Z")), (1, RELEASES)]);
    let recorded = |rig: &Rig| {
        let of_entry = |event: &&String| ["TimedSt", "Overr"].iter().any(|it| event.contains(it));
        rig.events.iter().filter(of_entry).count()
    };
    for second in 1..=50 {
        rig.run_to(second * 1000);
        let step = SignedDuration::from_hours(if second % 2 == 0 { -1 } else { 1 });
        rig.now.wall = rig.now.wall.map(|wall| wall + step);
        rig.act(&Nothing);
    }
    assert_eq!(recorded(&rig), 10, "{:?}", rig.events);
    rig.run_to(61_000);
    assert!(rig.has_event("TimedRepeated { id: EntryId(\"r\"), omitted: 41 }"));
    assert_eq!(recorded(&rig), 11);
    assert!(rig.events.last().unwrap().contains("TimedStarted"));
    assert_eq!(shown(&rig), "7 Released; r holding");
}

#[test]
fn what_the_disk_refused_is_answered_with_500_again() {
    for desired in [LOCKS, Step::Week("{}", true)] {
        let refused = [
            (2, Step::SlowDisk(true)),
            (3, desired),
            (4, Step::DiskFails),
        ];
        let again = [
            (5, Step::SlowDisk(true)),
            (6, desired),
            (7, Step::DiskFails),
        ];
        let steps = [&[(0, START)], &refused[..], &again, &[(8, desired)]].concat();
        let rig = motor(Locked).run(&steps);
        assert_eq!(rig.statuses(), [500, 500, 200], "{desired:?} {:?}", rig.log);
    }
}

#[test]
fn mode_and_lockdown_decide_at_the_time_as_for_a_call() {
    let secure = mode(r#"{"mode":"secure"}"#);
    let normal = mode(r#"{"mode":"normal"}"#);
    let maintenance = mode(r#"{"mode":"maintenance"}"#);
    let (before, after) = (FROM - 10_000, FROM + 10_000);
    for (steps, expected) in [
        (vec![(before, LOCKDOWN)], "5 Locked; r overruled"),
        (vec![(after, LOCKDOWN)], "5 Locked; r overruled"),
        // After the lockdown the level of now holds.
        (
            vec![(before, LOCKDOWN), (after, relinquish(r#"{"slot":5}"#))],
            "7 Released; r holding",
        ),
        (vec![(before, secure)], "0 Locked; r overruled"),
        (
            vec![(before, secure), (after, normal)],
            "7 Released; r holding",
        ),
        // Mode secure ends what was released before it.
        (
            vec![(after, secure), (after + 1, normal)],
            "0 Locked; r overruled",
        ),
        (vec![(before, maintenance)], "7 Released; r holding"),
    ] {
        let mut scenario = vec![(0, START), (1, RELEASES)];
        scenario.extend(&steps);
        look(motor(Locked), &scenario, &[(after + 100, expected)]);
        // No mode refuses a lock.
        scenario[1] = (1, LOCKS);
        scenario.push((after + 100, Nothing));
        let rig = motor(Released).run(&scenario);
        assert!(
            shown(&rig).ends_with("Locked; l holding"),
            "{}",
            shown(&rig)
        );
    }
    let scenario = [(0, START), (1, RELEASES), (before, LOCKDOWN)];
    let rig = look(motor(Locked), &scenario, &[(FROM, "5 Locked; r overruled")]);
    let why = rig.events_with("Overruled");
    assert!(
        why[0].contains("the door is in lockdown (slot 5)"),
        "{why:?}"
    );
}

#[test]
fn the_result_is_what_the_sensors_show_as_for_a_call() {
    let result = |rig: &Rig| {
        let progress = &rig.door.timed().values().next().unwrap().progress;
        let result = progress.result.as_ref();
        result.map(|it| {
            format!(
                "{:?} {:?} {} {:?}",
                it.secured, it.proof, it.reached, it.error
            )
        })
    };
    let mut rig = motor(Released).run(&[(0, START), (1, LOCKS), (FROM + 500, Nothing)]);
    assert_eq!(result(&rig), None);
    rig.run_to(FROM + 700);
    assert_eq!(result(&rig).as_deref(), Some("Secured Bond true None"));
    let progress = &rig.door.timed().values().next().unwrap().progress;
    assert_eq!(progress.at, Some("2026-12-01T22:00:00Z".parse().unwrap()));
    // What follows does not change it.
    rig.act(&Step::Rex(true));
    rig.run_to(FROM + 2000);
    assert_eq!(result(&rig).as_deref(), Some("Secured Bond true None"));

    // A coil that cannot hold it to its end has not reached it.
    let bolt = limited(StrikeConfig::solenoid_bolt(FailMode::Safe), 20, 40);
    let bolt = config(Released, bolt, Fitted::ALL);
    let rig = bolt.run(&[(0, START), (1, LOCKS), (FROM + 700, Nothing)]);
    assert_eq!(result(&rig).as_deref(), Some("Secured Bond false None"));

    // Armed again after a correction of the clock.
    let steps = [
        (0, START),
        (1, LOCKS),
        (FROM + 5000, Clock("2026-12-01T20:00:00Z")),
    ];
    let mut stepped = motor(Released).run(&steps);
    stepped.run_to(FROM + 70_000);
    assert_eq!(result(&stepped), None);
    assert_eq!(
        stepped.door.timed().values().next().unwrap().progress.at,
        None
    );

    let steps = [(0, START), (1, LOCKS), (2, Open), (FROM + 100, Nothing)];
    let mut rig = motor(Released).run(&steps);
    assert_eq!(result(&rig).as_deref(), Some("Unsecured Bond false None"));
    rig.act(&Close);
    rig.run_to(FROM + 5000);
    assert_eq!(result(&rig).as_deref(), Some("Secured Bond true None"));

    let steps = [
        (0, START),
        (1, LOCKS),
        (2, Step::Jam(true)),
        (FROM + 9000, Nothing),
    ];
    let rig = motor(Released).run(&steps);
    assert_eq!(
        result(&rig).as_deref(),
        Some("Unsecured Bond false Some(Jammed)")
    );
}

#[test]
fn the_trusted_time_is_saved_every_15_minutes_while_an_entry_is_not_over() {
    let saves = |until| {
        let mut rig = motor(Locked).run(&[(0, START), (1, LOCKS), (until, Nothing)]);
        let before = rig.door.generation.0;
        rig.run_to(until + 32 * MINUTE);
        rig.door.generation.0 - before
    };
    assert_eq!(saves(UNTIL + MINUTE), 0);
    let far = Timed(r#"{"l": {"want": "locked", "from": "2026-12-02T22:00:00Z"}}"#);
    // A restart within the boot does not put the saves off.
    for restart in [Nothing, Restart] {
        let steps = [
            (0, START),
            (1, far),
            (2 * MINUTE, restart),
            (31 * MINUTE, Reboot),
        ];
        let mut rig = motor(Locked).run(&steps);
        rig.run_to(1);
        let span = rig.door.agenda.clock().span(rig.now.boottime).unwrap();
        assert_eq!(span.earliest.to_string(), "2026-12-01T22:29:00.002Z");
    }
}

#[test]
fn a_state_without_the_agenda_is_read_as_one_without_entries() {
    // 0.1 leaves the agenda out of what it saves; the twin brings the entries back.
    let mut rig = motor(Released).run(&[(0, START), (1, LOCKS), (2, Nothing)]);
    rig.disk.as_mut().unwrap().agenda = None;
    rig.act(&Restart);
    assert_eq!(shown(&rig), "0 Released");
    rig.act(&LOCKS);
    rig.run_to(FROM);
    assert_eq!(shown(&rig), "8 Locked; l holding");
    // When a person changed a slot meanwhile is unknown: a release that may be older is silent.
    for (restarted, expected) in [
        (FROM - 10_000, "7 Released; r holding"),
        (FROM + 10_000, "8 Locked; r overruled"),
    ] {
        let mut rig = motor(Locked).run(&[(0, START), (restarted, LOCK)]);
        rig.disk.as_mut().unwrap().agenda = None;
        rig.act(&Restart);
        rig.act(&RELEASES);
        rig.run_to(FROM + 20_000);
        assert_eq!(shown(&rig), expected);
    }
}
