//! Rules of the modes: which releases are allowed, what returns, what is hidden.

use super::rig::Step::{Clock, Fire, Jam, Nothing, Reboot, Rex, SlowDisk};
use super::rig::{LOCK, LOCKDOWN, Rig, UNLOCK, lock, mode, motor, relinquish, unlock};
use crate::Want::{Locked, Released};
use crate::contract::{Alarm, Mode};

const START: &str = "2026-11-23T22:00:00Z";

#[test]
fn lockdown_and_secure_refuse_unlocks_by_name_and_accept_locks() {
    for (set, refuses, held_by) in [
        (r#"{"mode":"lockdown"}"#, Mode::Lockdown, Some(5)),
        (r#"{"mode":"secure"}"#, Mode::Secure, None),
    ] {
        let rig = motor(Locked).run(&[
            (5000, mode(set)),
            (6000, UNLOCK),
            (6000, unlock(r#"{"unlockTime":"10s","commandId":"u"}"#)),
            (6000, LOCK),
            (6000, relinquish("{}")),
        ]);
        assert_eq!(rig.statuses(), [200, 409, 409, 200, 200], "{set}");
        let body = &rig.answers[1].1.body;
        assert_eq!(body.mode, Some(refuses));
        let holder = body.status.as_ref().unwrap().held_by;
        assert_eq!(holder.map(|held| held.slot.number()), held_by);
        assert!(body.response.contains("slot"), "{}", body.response);
        assert_eq!(rig.drives.len(), 2, "{:?}", rig.drives);
    }
}

#[test]
fn a_refused_unlock_may_be_sent_again_once_the_lockdown_is_over() {
    let again = unlock(r#"{"commandId":"u"}"#);
    let rig = motor(Locked).run(&[
        (5000, LOCKDOWN),
        (6000, again),
        (7000, relinquish(r#"{"slot":5}"#)),
        (8000, again),
        (12_000, Nothing),
    ]);
    assert_eq!(
        rig.answer_lines,
        [
            "5000 #1 200 Locked Secured",
            "6000 #2 409 Refused Locked Secured held by 5",
            "7000 #3 200 Locked Secured",
            "10000 #4 200 Unlocked Unsecured",
        ]
    );
}

#[test]
fn in_a_lockdown_exit_button_and_fire_release_still_release() {
    for (press, slot) in [(Rex(true), 2), (Fire(true), 1)] {
        let rig = motor(Locked).run(&[
            (5000, LOCKDOWN),
            (6000, press),
            (9000, LOCKDOWN),
            (9000, Nothing),
        ]);
        assert_eq!(rig.drives[2], "6000 Retract");
        assert_eq!(
            rig.answer_lines[1],
            format!("9000 #2 202 Unlocked Unsecured held by {slot}")
        );
    }
}

#[test]
fn passage_releases_below_operators_and_returns_after_a_lockdown() {
    let rig = motor(Locked).run(&[
        (5000, mode(r#"{"mode":"passage","commandId":"p"}"#)),
        (10_000, lock(r#"{"lockTime":"5s"}"#)),
        (20_000, LOCKDOWN),
        (25_000, relinquish(r#"{"slot":5}"#)),
        (30_000, relinquish(r#"{"slot":9}"#)),
        (35_000, Nothing),
    ]);
    let drives: Vec<_> = rig.drives[2..].iter().step_by(2).collect();
    assert_eq!(
        drives,
        [
            "5000 Retract",
            "10000 Throw",
            "15000 Retract",
            "20000 Throw",
            "25000 Retract",
            "30000 Throw"
        ]
    );
    let reply = &rig.answers[2].1;
    assert_eq!(reply.body.mode, Some(Mode::Lockdown));
    assert_eq!(reply.body.displaced_mode, Some(Mode::Passage));
    assert_eq!(rig.door.report().mode, Mode::Normal);
    assert_eq!(
        rig.events_with("Mode {"),
        [
            "Mode { mode: Passage, lockdown: None }",
            "Mode { mode: Lockdown, lockdown: None }",
            "Mode { mode: Passage, lockdown: None }",
            "Mode { mode: Normal, lockdown: None }"
        ]
    );
}

#[test]
fn relinquish_empties_only_the_named_slot() {
    for (payload, left) in [
        ("{}", vec![5, 9]),
        (r#"{"slot":5}"#, vec![7, 8, 9]),
        (r#"{"slot":7}"#, vec![5, 8, 9]),
        (r#"{"slot":8}"#, vec![5, 7, 9]),
        (r#"{"slot":9}"#, vec![5, 7, 8]),
    ] {
        let rig = motor(Locked).run(&[
            (5000, mode(r#"{"mode":"passage"}"#)),
            (6000, LOCK),
            (7000, unlock(r#"{"unlockTime":"1h"}"#)),
            (9000, LOCKDOWN),
            (12_000, relinquish(payload)),
        ]);
        assert_eq!(rig.occupied(), left, "{payload}");
    }
}

#[test]
fn secure_ends_unlocks_and_a_lockdown_only_overrides_them() {
    let status_after = |set| {
        let mut rig = motor(Locked).run(&[
            (5000, UNLOCK),
            (8000, mode(set)),
            (10_000, mode(r#"{"mode":"normal"}"#)),
        ]);
        rig.run_to(14_000);
        rig.status()
    };
    assert_eq!(status_after(r#"{"mode":"secure"}"#), "Locked Secured");
    assert_eq!(status_after(r#"{"mode":"lockdown"}"#), "Unlocked Unsecured");
}

#[test]
fn a_lockdown_acts_before_the_disk_and_its_end_after_it() {
    let rig = motor(Released).run(&[
        (5000, SlowDisk(true)),
        (5000, LOCKDOWN),
        (7000, SlowDisk(false)),
        (8000, SlowDisk(true)),
        (8000, mode(r#"{"mode":"normal"}"#)),
        (9000, SlowDisk(false)),
        (12_000, Nothing),
    ]);
    assert_eq!(
        rig.drives_from(2),
        "5000 Throw, 5600 DeEnergised, 9000 Retract, 11000 DeEnergised"
    );
    assert_eq!(
        rig.answer_lines,
        [
            "7000 #1 200 Locked Secured",
            "9000 #2 200 Unlocking Unsecured"
        ]
    );
}

#[test]
fn a_lockdown_overrides_a_command_waiting_for_the_disk_without_losing_it() {
    let rig = motor(Locked).run(&[
        (5000, SlowDisk(true)),
        (5000, mode(r#"{"mode":"passage"}"#)),
        (5100, UNLOCK),
        (5200, LOCKDOWN),
        (6000, SlowDisk(false)),
        (7000, Nothing),
    ]);
    assert_eq!(
        rig.answer_lines,
        [
            "5200 #1 202 Locked Secured held by 5",
            "5200 #2 202 Locked Secured held by 5",
            "6000 #3 200 Locked Secured",
        ]
    );
    assert_eq!(rig.drives.len(), 2, "{:?}", rig.drives);
    let array = rig.door.authority();
    assert_eq!(array.displaced_mode(), Some(Mode::Passage));
    assert_eq!(rig.occupied(), [5, 8, 9]);
}

#[test]
fn a_mode_and_the_mode_it_displaced_survive_a_reboot() {
    let rig = motor(Released).run(&[
        (5000, mode(r#"{"mode":"secure"}"#)),
        (6000, LOCKDOWN),
        (20_000, Reboot),
        (5000, UNLOCK),
        (6000, relinquish(r#"{"slot":5}"#)),
        (10_000, UNLOCK),
        (11_000, Nothing),
    ]);
    assert_eq!(rig.statuses()[2..], [409, 200, 409]);
    assert_eq!(rig.door.report().mode, Mode::Secure);
}

#[test]
fn without_a_trusted_clock_only_modes_that_lock_are_accepted() {
    let expect = [
        ("lockdown", 200),
        ("secure", 200),
        ("normal", 410),
        ("passage", 410),
        ("maintenance", 410),
    ];
    for (name, status) in expect {
        let payload = format!(r#"{{"mode":"{name}","notAfter":"2026-11-23T22:05:00Z"}}"#);
        let payload: &'static str = payload.leak();
        let rig = motor(Locked).run(&[(5000, mode(payload)), (6000, Nothing)]);
        assert_eq!(rig.answers[0].1.status, status, "{name}");
    }
}

#[test]
fn an_expired_or_duplicate_mode_does_not_act() {
    let secure = || mode(r#"{"mode":"secure","commandId":"s","notAfter":"2026-11-23T22:05:00Z"}"#);
    let rig = motor(Locked).run(&[
        (4000, Clock(START)),
        (
            5000,
            mode(r#"{"mode":"lockdown","notAfter":"2026-11-23T21:59:00Z"}"#),
        ),
        (6000, secure()),
        (7000, mode(r#"{"mode":"normal"}"#)),
        (8000, secure()),
        (8000, Clock("2026-11-23T23:00:00Z")),
        (9000, secure()),
    ]);
    assert_eq!(rig.statuses(), [410, 200, 200, 200, 200]);
    assert_eq!(rig.door.report().mode, Mode::Normal);
}

#[test]
fn maintenance_hides_alarms_records_them_as_suppressed_and_shows_them_after_it() {
    let mut rig = motor(Released).run(&[
        (5000, Jam(true)),
        (6000, LOCK),
        (11_000, mode(r#"{"mode":"maintenance"}"#)),
        (12_000, Nothing),
    ]);
    assert!(rig.door.report().alarms.is_empty());
    assert_eq!(rig.status(), "Jammed Unsecured");
    let answer = rig.answers.last().unwrap();
    assert_eq!(answer.1.status, 200, "it asks nothing of the strike");
    rig.act(&mode(r#"{"mode":"normal"}"#));
    assert!(rig.has_alarm(Alarm::Jammed));
    assert_eq!(
        rig.events_with("Alarm"),
        [
            "AlarmRaised { alarm: Jammed, reason: None }",
            "AlarmSuppressed { alarm: Jammed }",
            "AlarmRaised { alarm: Jammed, reason: None }"
        ]
    );
}

#[test]
fn a_state_saved_before_there_were_modes_is_read_as_normal() {
    let text = r#"{"bootId":"boot-0","savedAtMs":100000,"slots":[{"slot":8,"want":"locked"}],"commands":["a"]}"#;
    let saved: crate::SavedDoor = serde_json::from_str(text).unwrap();
    let rig = Rig::new(motor(Released));
    let (door, _) = crate::Door::new(motor(Released), Some(&saved), &rig.now);
    assert_eq!(door.authority().mode(), Mode::Normal);
    assert_eq!(door.authority().entries().count(), 1);
}
