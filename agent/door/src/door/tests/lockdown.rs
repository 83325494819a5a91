//! Rules of a lockdown by property and method: it acts once per id in any order, and nothing ends
//! it but its own end.

use serde_json::json;

use super::rig::Step::{
    Call, Clock, Desire, DesireLockdown, DiskFails, Grant, Jam, Nothing, Reboot, Restart, Rex,
    SlowDisk,
};
use super::rig::{Rig, Step, lock, mode, motor, relinquish, unlock};
use crate::Want::{Locked, Released};
use crate::contract::Mode;
use crate::desired::DesiredMode;
use crate::door::Door;
use crate::saved::SavedDoor;

const CALL_L1: Step = Call("lockdown", r#"{"commandId":"L1","by":"bob"}"#);
const CALL_L2: Step = Call("lockdown", r#"{"commandId":"L2"}"#);
const ALL_CLEAR: Step = Call("allClear", r#"{"commandId":"C1"}"#);
const L1: Step = DesireLockdown("L1");
const L2: Step = DesireLockdown("L2");
const NONE: Step = DesireLockdown("none");
const LOST: Step = DesireLockdown("lost");
const BAD: Step = DesireLockdown("bad");

fn desire(mode: Mode) -> Step {
    Desire(DesiredMode::Mode(mode), None)
}

/// One step every 2 s. A start counts from its own boot.
fn run(steps: &[Step]) -> Rig {
    let mut rig = Rig::new(motor(Released));
    rig.run_for(5000);
    for step in steps {
        rig.act(step);
        rig.run_for(2000);
    }
    rig
}

#[test]
fn a_lockdown_acts_once_per_id_in_every_order_of_property_method_and_end() {
    for (steps, in_force) in [
        (vec![L1], Some("L1")),
        (vec![CALL_L1], Some("L1")),
        (vec![L1, CALL_L1], Some("L1")),
        (vec![CALL_L1, L1], Some("L1")),
        // Either end, whichever is first.
        (vec![L1, NONE], None),
        (vec![L1, ALL_CLEAR], None),
        (vec![CALL_L1, ALL_CLEAR], None),
        (vec![CALL_L1, L1, NONE, ALL_CLEAR], None),
        (vec![CALL_L1, L1, ALL_CLEAR, NONE], None),
        // The all-clear is called before the property is null, which is read again meanwhile.
        (vec![L1, CALL_L1, ALL_CLEAR, L1], None),
        (vec![L1, ALL_CLEAR, Restart, L1], None),
        (vec![L1, ALL_CLEAR, Reboot, L1, NONE], None),
        // A late delivery of what has ended.
        (vec![L1, NONE, CALL_L1], None),
        (vec![CALL_L1, ALL_CLEAR, CALL_L1], None),
        (vec![CALL_L1, ALL_CLEAR, L1], None),
        (vec![CALL_L1, ALL_CLEAR, Restart, L1], None),
        (vec![CALL_L1, relinquish(r#"{"slot":5}"#), L1], None),
        (vec![CALL_L1, mode(r#"{"mode":"normal"}"#), L1], Some("L1")),
        (vec![L1, mode(r#"{"mode":"normal"}"#), NONE], None),
        // Another command had its id.
        (vec![lock(r#"{"commandId":"L1"}"#), L1], Some("L1")),
        (vec![unlock(r#"{"commandId":"L1"}"#), L1], Some("L1")),
        (
            vec![unlock(r#"{"commandId":"L1"}"#), L1, ALL_CLEAR, Restart, L1],
            None,
        ),
        // The property was never read: its absence ends nothing.
        (vec![CALL_L1, NONE], Some("L1")),
        (vec![CALL_L1, Restart, NONE], Some("L1")),
        (vec![mode(r#"{"mode":"lockdown"}"#), NONE], Some("")),
        // A second lockdown before the end of the first arrives.
        (vec![L1, CALL_L2, NONE], Some("L2")),
        (vec![L1, CALL_L2, NONE, L2], Some("L2")),
        (vec![L1, CALL_L2, NONE, L2, NONE], None),
        (vec![L1, L2, NONE], None),
        (vec![L1, ALL_CLEAR, CALL_L2, NONE], Some("L2")),
        (vec![L1, ALL_CLEAR, L2], Some("L2")),
        // Null while the door was off; a start in between.
        (vec![L1, Restart, NONE], None),
        (vec![L1, Reboot, NONE], None),
        (vec![L1, Reboot, L1], Some("L1")),
        // An invalid value changes nothing.
        (vec![BAD], None),
        (vec![L1, BAD], Some("L1")),
        (vec![L1, BAD, NONE], None),
        // A restored hub: only a call ends it.
        (vec![L1, LOST], Some("L1")),
        (vec![L1, LOST, NONE], Some("L1")),
        (vec![L1, LOST, Restart, NONE], Some("L1")),
        (vec![L1, LOST, ALL_CLEAR], None),
        (vec![CALL_L1, ALL_CLEAR, L1, LOST, L1], None),
    ] {
        let rig = run(&steps);
        let array = rig.door.authority();
        let lockdown = array.get(crate::Slot::Lockdown);
        let id = lockdown.map(|entry| entry.command_id.as_ref().map_or("", |id| id.as_str()));
        assert_eq!(id, in_force, "{steps:?}");
        let expected = if in_force.is_some() { Locked } else { Released };
        assert_eq!(array.want(), expected, "{steps:?}");
        let failed = rig.answers.iter().find(|(_, reply)| !reply.is_success());
        assert_eq!(failed, None, "{steps:?}");
        assert_eq!(rig.door.unanswered(), 0, "{steps:?}");
    }
}

#[test]
fn an_all_clear_does_not_end_a_lockdown_that_was_or_may_have_been_ordered_after_it() {
    const AT_00: Step = Call(
        "lockdown",
        r#"{"commandId":"L1","at":"2026-11-23T22:00:00Z"}"#,
    );
    const AT_05: Step = Call(
        "lockdown",
        r#"{"commandId":"L2","at":"2026-11-23T22:05:00Z"}"#,
    );
    const AT_14: Step = Call(
        "lockdown",
        r#"{"commandId":"L1","at":"2026-11-23T22:14:00Z"}"#,
    );
    const NEXT_YEAR: Step = Call(
        "lockdown",
        r#"{"commandId":"L1","at":"2027-11-23T22:00:00Z"}"#,
    );
    const CLEAR_04: Step = Call(
        "allClear",
        r#"{"commandId":"C","at":"2026-11-23T22:04:59.9Z"}"#,
    );
    const CLEAR_05: Step = Call(
        "allClear",
        r#"{"commandId":"C","at":"2026-11-23T22:05:00Z"}"#,
    );
    const CLEAR_11: Step = Call(
        "allClear",
        r#"{"commandId":"C","at":"2026-11-23T22:11:00Z"}"#,
    );
    const AT_20: Step = Call(
        "lockdown",
        r#"{"commandId":"L1","at":"2026-11-23T22:20:00Z"}"#,
    );
    const CLEAR_19: Step = Call(
        "allClear",
        r#"{"commandId":"C","at":"2026-11-23T22:19:00Z"}"#,
    );
    const CLEAR_21: Step = Call(
        "allClear",
        r#"{"commandId":"C","at":"2026-11-23T22:21:00Z"}"#,
    );
    const CLOCK_10: Step = Clock("2026-11-23T22:10:00Z");
    const HOUR_BACK: Step = Clock("2026-11-23T21:10:00Z");
    const RIGHT_AGAIN: Step = Clock("2026-11-23T22:10:06Z");
    let mode_lockdown = mode(r#"{"mode":"lockdown"}"#);
    for (steps, status, text) in [
        (vec![AT_00, CLEAR_04], 200, ""),
        (vec![AT_05, CLEAR_05], 200, ""),
        (
            vec![AT_05, CLEAR_04],
            409,
            "before 2026-11-23T22:05:00Z, the time of lockdown L2",
        ),
        (vec![AT_05, Restart, CLEAR_04], 409, "L2"),
        (vec![AT_05, Reboot, CLEAR_04], 409, "L2"),
        (vec![AT_00, AT_05, CLEAR_04], 409, "L2"),
        // A late lockdown does not hide the newer one; a late duplicate does nothing.
        (vec![AT_05, AT_00, CLEAR_04], 409, "L2"),
        (vec![AT_00, CLEAR_04, AT_05, CLEAR_04], 200, "L2"),
        (vec![AT_05, CLEAR_04, CLEAR_05], 200, ""),
        // Without a time of its own it ends any.
        (vec![AT_05, ALL_CLEAR], 200, ""),
        // A lockdown without a time has the door's; a door without a clock ends none of those.
        (vec![CLOCK_10, CALL_L1, CLEAR_05], 409, "L1 by bob"),
        (vec![CLOCK_10, CALL_L1, CLEAR_11], 200, ""),
        (
            vec![CALL_L1, CLEAR_11],
            410,
            "without a trusted clock at cannot be checked; order another one without at and \
                notAfter",
        ),
        (vec![CALL_L1, CLOCK_10, CLEAR_05], 409, "L1"),
        (vec![L1, CLOCK_10, CLEAR_05], 409, "L1 by alice"),
        (vec![mode_lockdown, CLEAR_11], 410, "trusted clock"),
        (
            vec![CLOCK_10, mode_lockdown, CLEAR_05],
            409,
            "mode lockdown",
        ),
        (vec![CLOCK_10, mode_lockdown, AT_00, CLEAR_05], 409, "L1"),
        (vec![CLOCK_10, AT_00, mode_lockdown, CLEAR_05], 409, "L1"),
        (vec![CLOCK_10, AT_00, mode_lockdown, CLEAR_11], 200, ""),
        // The clock of the hub is 10 minutes ahead.
        (
            vec![CLOCK_10, AT_20, CLEAR_19],
            409,
            "before 2026-11-23T22:20:00Z",
        ),
        (vec![CLOCK_10, AT_20, CLEAR_21], 200, ""),
        // One reading of the clock is wrong.
        (vec![CLOCK_10, AT_05, HOUR_BACK, CLEAR_04], 409, "L2"),
        (
            vec![CLOCK_10, AT_05, HOUR_BACK, RIGHT_AGAIN, CLEAR_04],
            409,
            "L2",
        ),
        (
            vec![CLOCK_10, HOUR_BACK, CALL_L1, CLEAR_05],
            410,
            "trusted clock",
        ),
        (
            vec![CLOCK_10, HOUR_BACK, L1, RIGHT_AGAIN, CLEAR_05],
            409,
            "L1 by alice",
        ),
        (
            vec![CLOCK_10, HOUR_BACK, mode_lockdown, RIGHT_AGAIN, CLEAR_05],
            409,
            "mode",
        ),
        // A time that lies ahead counts as none, once the door knows the time.
        (vec![NEXT_YEAR, CLEAR_11], 409, "relinquish {\"slot\":5}"),
        (vec![NEXT_YEAR, CLOCK_10, CLEAR_11], 200, ""),
        (vec![CLOCK_10, NEXT_YEAR, CLEAR_11], 200, ""),
        (vec![CLOCK_10, NEXT_YEAR, Restart, CLEAR_11], 200, ""),
        (vec![CLOCK_10, NEXT_YEAR, CLEAR_05], 409, "L1"),
        (
            vec![CLOCK_10, AT_14, CLEAR_11],
            409,
            "before 2026-11-23T22:14:00Z",
        ),
    ] {
        let mut rig = run(&steps);
        let reply = rig.last_reply().clone();
        assert_eq!(reply.status, status, "{steps:?}");
        let ends = text.is_empty();
        let is_locked_down = rig.door.report().mode == Mode::Lockdown;
        assert_eq!(is_locked_down, !ends, "{steps:?}");
        let shown = match status {
            200 => format!("{:?}", rig.door.authority().lockdown()),
            _ => reply.body.response.clone(),
        };
        assert!(shown.contains(text), "{steps:?}: {shown}");
        // A refused one is forgotten and changes nothing: another all-clear ends the lockdown.
        rig.act(&Call("allClear", "{}"));
        rig.run_for(2000);
        assert_eq!(rig.door.report().mode, Mode::Normal, "{steps:?}");
    }
}

#[test]
fn the_mode_below_a_lockdown_follows_its_own_orders() {
    let lockdown = || desire(Mode::Lockdown);
    for (steps, expected) in [
        (vec![desire(Mode::Passage), L1, NONE], Mode::Passage),
        (vec![desire(Mode::Secure), CALL_L1, ALL_CLEAR], Mode::Secure),
        // A mode assigned meanwhile does not end it, and returns after it.
        (vec![L1, desire(Mode::Passage)], Mode::Lockdown),
        (vec![L1, desire(Mode::Passage), NONE], Mode::Passage),
        (
            vec![L1, desire(Mode::Passage), Restart, NONE],
            Mode::Passage,
        ),
        // So does a mode that is set: it may have been ordered before the lockdown.
        (vec![L1, mode(r#"{"mode":"secure"}"#)], Mode::Lockdown),
        (vec![L1, mode(r#"{"mode":"secure"}"#), NONE], Mode::Secure),
        // Mode lockdown, assigned by doorctl 0.1, and a lockdown end each on their own.
        (vec![lockdown(), L1, NONE], Mode::Lockdown),
        (vec![lockdown(), L1, Restart, NONE], Mode::Lockdown),
        (vec![L1, lockdown(), NONE], Mode::Lockdown),
        (vec![lockdown(), L1, desire(Mode::Normal)], Mode::Lockdown),
        (
            vec![lockdown(), L1, desire(Mode::Normal), NONE],
            Mode::Normal,
        ),
        (vec![lockdown(), L1, ALL_CLEAR, lockdown()], Mode::Normal),
    ] {
        let rig = run(&steps);
        assert_eq!(rig.door.report().mode, expected, "{steps:?}");
    }
}

#[test]
fn a_lockdown_is_proven_by_the_call_whichever_is_first() {
    for steps in [[(5000, CALL_L1), (5050, L1)], [(5000, L1), (5050, CALL_L1)]] {
        let mut rig = motor(Released).run(&steps);
        rig.run_to(8000);
        let called = |line: &&String| line.ends_with("Locked Secured");
        let lines: Vec<_> = rig.answer_lines.iter().filter(called).collect();
        assert_eq!(lines.len(), 1, "{:?}", rig.answer_lines);
        assert_eq!(rig.starts("Throw").len(), 1, "{:?}", rig.drives);
        let reply = rig
            .answers
            .iter()
            .find(|(_, reply)| reply.body.mode.is_some());
        assert_eq!(reply.unwrap().1.status, 200);
    }
    // Its reply is not sent before it is on disk.
    let rig = motor(Locked).run(&[
        (5000, SlowDisk(true)),
        (5000, L1),
        (5050, CALL_L1),
        (6000, SlowDisk(false)),
    ]);
    assert_eq!(
        rig.answer_lines,
        ["6000 #1 200 Locked Secured", "6000 #2 200 Locked Secured"]
    );
}

#[test]
fn a_lockdown_by_property_locks_before_the_disk_and_ends_after_it() {
    let rig = motor(Released).run(&[
        (5000, SlowDisk(true)),
        (5000, desire(Mode::Passage)),
        (5100, L1),
        (7000, SlowDisk(false)),
        (8000, SlowDisk(true)),
        (8000, NONE),
        (9000, SlowDisk(false)),
        (12_000, Nothing),
    ]);
    assert_eq!(
        rig.drives_from(2),
        "5100 Throw, 5700 DeEnergised, 9000 Retract, 11000 DeEnergised"
    );
    assert_eq!(rig.door.report().mode, Mode::Passage);
    // An end that cannot be saved does not act, and one that waits is followed by the next order.
    for (steps, expected) in [
        (vec![L1, SlowDisk(true), NONE, DiskFails], Mode::Lockdown),
        (
            vec![L1, SlowDisk(true), NONE, DiskFails, NONE],
            Mode::Normal,
        ),
        (
            vec![L1, SlowDisk(true), NONE, L2, SlowDisk(false)],
            Mode::Lockdown,
        ),
        (
            vec![L1, SlowDisk(true), NONE, CALL_L2, SlowDisk(false)],
            Mode::Lockdown,
        ),
        (
            vec![L1, SlowDisk(true), ALL_CLEAR, L1, SlowDisk(false)],
            Mode::Normal,
        ),
        (
            vec![SlowDisk(true), L1, DiskFails, Restart, L1],
            Mode::Lockdown,
        ),
    ] {
        assert_eq!(run(&steps).door.report().mode, expected, "{steps:?}");
    }
}

#[test]
fn a_failed_lockdown_stays_in_force_and_its_repetition_proves_it() {
    let rig = run(&[
        Jam(true),
        CALL_L1,
        Nothing,
        L1,
        Jam(false),
        CALL_L1,
        Nothing,
        ALL_CLEAR,
        L1,
    ]);
    assert_eq!(rig.statuses(), [500, 200, 200, 200, 200]);
    assert_eq!(rig.door.report().mode, Mode::Normal);
}

#[test]
fn a_lockdown_names_id_person_and_reason_everywhere() {
    let call = Call(
        "lockdown",
        r#"{"commandId":"L1","by":"bob","reason":"drill"}"#,
    );
    let mut rig = motor(Locked).run(&[
        (1000, Clock("2026-11-23T22:00:00Z")),
        (5000, call),
        (7000, unlock("{}")),
        (8000, Call("getState", "{}")),
    ]);
    let expected = json!({
        "id": "L1", "by": "bob", "at": "2026-11-23T22:00:04Z", "reason": "drill",
    });
    let report = serde_json::to_value(rig.door.report()).unwrap();
    assert_eq!(report["lockdown"], expected);
    let state = serde_json::to_value(&rig.last_reply().body).unwrap();
    assert_eq!(state["lockdown"], expected);
    assert_eq!(state["slots"][0]["commandId"], "L1");
    let refused = &rig.answers[1].1.body.response;
    assert!(
        refused.ends_with("in lockdown (slot 5): L1 by bob: drill"),
        "{refused}"
    );
    let event = rig.events_with("Mode {")[0];
    assert!(event.contains("L1") && event.contains("bob") && event.contains("drill"));
    rig.act(&ALL_CLEAR);
    assert_eq!(rig.door.report().lockdown, None);
}

#[test]
fn in_a_lockdown_by_property_exit_button_releases_and_reader_does_not() {
    for (press, releases) in [(Rex(true), true), (Grant(true), false)] {
        let rig = run(&[L1, press]);
        assert_eq!(
            rig.door.authority().want() == Released,
            releases,
            "{press:?}"
        );
    }
}

#[test]
fn a_saved_lockdown_is_kept_in_doubt_until_an_all_clear_and_read_from_0_1() {
    let slots = json!([{"slot": 5, "want": "locked", "commandId": "L1"}]);
    let state = |more: serde_json::Value| -> SavedDoor {
        let mut state = json!({
            "bootId": "boot-0", "savedAtMs": 90_000, "slots": slots, "commands": ["L1"],
        });
        state
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::from_value(state).unwrap()
    };
    let own = json!({"lockdown": {"id": "L1"}, "desiredLockdown": {"id": "L1", "version": 5}});
    for (more, doubt, steps, expected) in [
        (own.clone(), false, vec![NONE], Mode::Normal),
        (own.clone(), true, vec![NONE], Mode::Lockdown),
        (own.clone(), true, vec![L1, NONE], Mode::Secure),
        (own, true, vec![ALL_CLEAR], Mode::Secure),
        // Saved by 0.1, which knows the slot alone.
        (json!({}), false, vec![L1, NONE], Mode::Lockdown),
        (json!({}), false, vec![L1, ALL_CLEAR], Mode::Normal),
    ] {
        let mut rig = Rig::new(motor(Locked));
        let mut saved = state(more);
        if doubt {
            saved = SavedDoor::in_doubt(vec![saved], "a test".to_owned(), &rig.now);
        }
        rig.door = Door::new(motor(Locked), Some(&saved), &rig.now).0;
        rig.record = super::record::Record::default();
        rig.act(&Nothing);
        for step in &steps {
            rig.act(step);
        }
        let what = format!("{saved:?} {steps:?}");
        assert_eq!(rig.door.report().mode, expected, "{what}");
        assert_eq!(rig.door.authority().in_doubt().is_some(), doubt, "{what}");
    }
}

#[test]
fn a_mode_set_below_a_lockdown_is_held_by_slot_5() {
    for set in ["normal", "maintenance", "passage"] {
        let payload: &str = format!(r#"{{"mode":"{set}"}}"#).leak();
        let rig = run(&[CALL_L1, mode(payload)]);
        let reply = rig.last_reply();
        let status = reply.body.status.as_ref().unwrap();
        let held = status.held_by.map(|held| held.slot.number());
        assert_eq!((reply.status, held), (202, Some(5)), "{set}");
    }
    // Mode lockdown ends with it.
    let rig = run(&[mode(r#"{"mode":"lockdown"}"#), mode(r#"{"mode":"normal"}"#)]);
    let reply = rig.last_reply();
    let status = reply.body.status.as_ref().unwrap();
    assert_eq!((reply.status, status.held_by), (200, None));
}
