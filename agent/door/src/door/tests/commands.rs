//! Rules of the array, the commands and their answers.

use super::rig::Step::{
    Call, Clock, DiskFails, Fire, FireReset, Grant, Nothing, Reboot, Restart, Rex, SlowDisk,
};
use super::rig::{LOCK, LOCKDOWN, Step, UNLOCK, lock, motor, relinquish, unlock};
use crate::Want::{Locked, Released};
use crate::contract::Command;
use crate::door::{Action, NotSaved, Ticket};

const START: &str = "2026-11-23T22:00:00Z";

#[test]
fn a_lock_is_driven_then_saved_then_answered_an_unlock_saved_then_driven_then_answered() {
    let rig = motor(Released).run(&[(5000, LOCK), (8000, UNLOCK), (12_000, Nothing)]);
    let order: Vec<_> = rig
        .log
        .iter()
        .filter(|line| !line.contains("event"))
        .skip_while(|line| !line.starts_with("5000"))
        .collect();
    assert_eq!(
        order,
        [
            "5000 drive Throw",
            "5000 persist",
            "5600 drive DeEnergised",
            "5600 answer 5600 #1 200 Locked Secured",
            "8000 persist",
            "8000 drive Retract",
            "10000 drive DeEnergised",
            "10000 answer 10000 #2 200 Unlocked Unsecured",
        ]
    );
}

#[test]
fn a_lock_does_not_wait_for_the_disk_an_unlock_does() {
    let rig = motor(Released).run(&[
        (5000, SlowDisk(true)),
        (5000, LOCK),
        (7000, SlowDisk(false)),
        (8000, SlowDisk(true)),
        (8000, UNLOCK),
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
            "11000 #2 200 Unlocked Unsecured"
        ]
    );
}

#[test]
fn a_failed_save_is_reported_and_an_unlock_then_does_not_act() {
    let rig = motor(Locked).run(&[
        (5000, SlowDisk(true)),
        (5000, unlock(r#"{"commandId":"u"}"#)),
        (6000, DiskFails),
        (7000, SlowDisk(true)),
        (7000, LOCK),
        (13_000, SlowDisk(false)),
        (14_000, unlock(r#"{"commandId":"u"}"#)),
        (17_000, Nothing),
    ]);
    assert_eq!(
        rig.answer_lines,
        [
            "6000 #1 500 NotStored Locked Secured",
            "12000 #2 500 NotStored Locked Secured",
            // Its id was dropped: it acts.
            "16000 #3 200 Unlocked Unsecured",
        ]
    );
    assert_eq!(rig.drives_from(2), "14000 Retract, 16000 DeEnergised");
}

#[test]
fn a_lock_overtakes_an_unlock_that_waits_for_the_disk() {
    let rig = motor(Locked).run(&[
        (5000, SlowDisk(true)),
        (5000, UNLOCK),
        (5100, LOCK),
        (6000, SlowDisk(false)),
        (6000, Restart),
        (9000, Nothing),
    ]);
    assert_eq!(
        rig.answer_lines,
        ["5100 #1 202 Locked Secured", "6000 #2 200 Locked Secured"]
    );
    assert_eq!(rig.drives.len(), 2, "{:?}", rig.drives);
}

#[test]
fn a_lock_with_a_time_relinquishes_when_it_is_over() {
    let rig = motor(Released).run(&[
        (4000, Clock(START)),
        (5000, lock(r#"{"lockTime":"15s"}"#)),
        (6000, Nothing),
        (25_000, Nothing),
    ]);
    assert_eq!(
        rig.drives_from(2),
        "5000 Throw, 5600 DeEnergised, 20000 Retract, 22000 DeEnergised"
    );
    let until = rig.answers[0].1.body.status.as_ref().unwrap().locked_until;
    assert_eq!(until, Some("2026-11-23T22:00:16Z".parse().unwrap()));
    assert!(rig.has_event("Expired { slot: OperatorHold, want: Released }"));
}

#[test]
fn until_counts_with_a_trusted_clock_and_the_length_without() {
    let payload = r#"{"lockTime":"60s","until":"2026-11-23T22:00:20Z"}"#;
    let ended = |steps: &[(u64, Step)]| {
        let mut rig = motor(Released).run(steps);
        rig.run_to(100_000);
        let line = rig
            .drives
            .iter()
            .find(|line| line.ends_with("Retract") && !line.starts_with("0 "));
        line.cloned().unwrap()
    };
    assert_eq!(
        ended(&[(4000, Clock(START)), (5000, lock(payload))]),
        "24000 Retract"
    );
    assert_eq!(ended(&[(5000, lock(payload))]), "65000 Retract");
    // The clock is set in between.
    assert_eq!(
        ended(&[(5000, lock(payload)), (10_000, Clock(START))]),
        "30000 Retract"
    );
}

#[test]
fn a_grant_releases_for_its_time_and_a_lock_ends_it() {
    let rig = motor(Locked).run(&[
        (5000, unlock(r#"{"unlockTime":"10s"}"#)),
        (18_000, unlock(r#"{"unlockTime":"1h"}"#)),
        (25_000, lock(r#"{"lockTime":"1m"}"#)),
        (27_000, Nothing),
    ]);
    assert_eq!(
        rig.drives_from(2),
        "5000 Retract, 7000 DeEnergised, 15000 Throw, 15600 DeEnergised, \
         18000 Retract, 20000 DeEnergised, 25000 Throw, 25600 DeEnergised"
    );
    assert_eq!(rig.occupied(), [8]);
}

#[test]
fn relinquish_returns_to_the_default() {
    let rig = motor(Released).run(&[
        (5000, LOCK),
        (8000, relinquish("")),
        (12_000, relinquish("null")),
        (13_000, Nothing),
    ]);
    assert_eq!(
        rig.answer_lines,
        [
            "5600 #1 200 Locked Secured",
            "10000 #2 200 Unlocked Unsecured",
            "12000 #3 200 Unlocked Unsecured"
        ]
    );
    assert_eq!(rig.drives_from(4), "8000 Retract, 10000 DeEnergised");
}

#[test]
fn a_request_to_exit_releases_at_once_whatever_holds_the_door_and_for_the_strike_time_after() {
    let rig = motor(Released).run(&[
        (5000, LOCK),
        (8000, Rex(true)),
        (9500, Rex(false)),
        (10_000, LOCK),
        (20_000, Nothing),
    ]);
    assert_eq!(
        rig.drives_from(4),
        "8000 Retract, 10000 DeEnergised, 14500 Throw, 15100 DeEnergised"
    );
    assert_eq!(
        rig.answer_lines[1..],
        ["10000 #2 202 Unlocked Unsecured held by 2"]
    );
}

#[test]
fn a_local_grant_releases_for_the_strike_time() {
    let rig = motor(Locked).run(&[(5000, Grant(true)), (5100, Grant(false)), (15_000, Nothing)]);
    assert_eq!(
        rig.drives_from(2),
        "5000 Retract, 7000 DeEnergised, 10100 Throw, 10700 DeEnergised"
    );
    assert!(rig.has_event("Unlocking by Local"));
}

#[test]
fn a_fire_release_holds_until_it_is_reset_at_the_door_over_a_reboot_too() {
    let rig = motor(Locked).run(&[
        (5000, Fire(true)),
        (6000, FireReset(true)),
        (6100, FireReset(false)),
        (8000, Fire(false)),
        (60_000, LOCK),
        (61_000, Reboot),
        (9000, FireReset(true)),
        (9100, FireReset(false)),
        (12_000, Nothing),
    ]);
    assert_eq!(rig.drives[2..4], ["5000 Retract", "7000 DeEnergised"]);
    assert_eq!(
        rig.answer_lines,
        ["60000 #1 202 Unlocked Unsecured held by 1"]
    );
    // After the boot the bolt is retracted again to be safe; after the reset the lock saved in slot
    // 8 applies.
    assert_eq!(
        rig.drives_from(4),
        "0 Retract, 2000 DeEnergised, 9000 Throw, 9600 DeEnergised"
    );
}

#[test]
fn a_duplicate_does_not_act_and_answers_the_present_state() {
    let lock = lock(r#"{"lockTime":"10s","commandId":"job-1"}"#);
    let rig = motor(Released).run(&[
        (5000, lock),
        // While the first is pending: answered together with it.
        (5100, lock),
        (12_000, lock),
        (14_900, lock),
        (30_000, lock),
        (31_000, Nothing),
    ]);
    assert_eq!(
        rig.answer_lines,
        [
            "5600 #1 200 Locked Secured",
            "5600 #2 200 Locked Secured",
            "12000 #3 200 Locked Secured",
            "14900 #4 200 Locked Secured",
            "30000 #5 202 Unlocked Unsecured",
        ]
    );
    assert_eq!(rig.drives_from(4), "15000 Retract, 17000 DeEnergised");
}

#[test]
fn an_expired_command_never_acts() {
    let late = r#"{"notAfter":"2026-11-23T21:59:00Z","commandId":"x"}"#;
    let rig = motor(Released).run(&[
        (4000, Clock(START)),
        (5000, lock(late)),
        (5000, unlock(late)),
        (5000, relinquish(late)),
        (5000, lock(r#"{"until":"2026-11-23T21:59:00Z"}"#)),
        (9000, Nothing),
    ]);
    assert_eq!(
        rig.answer_lines,
        [1, 2, 3, 4].map(|n| format!("5000 #{n} 410 Expired Unlocked Unsecured"))
    );
    assert_eq!(rig.drives.len(), 2);
    assert_eq!(rig.door.authority().entries().count(), 0);
}

#[test]
fn an_end_too_far_away_is_a_bad_payload() {
    let rig = motor(Released).run(&[
        (4000, Clock(START)),
        (5000, lock(r#"{"until":"2026-12-23T22:00:00Z"}"#)),
    ]);
    let reply = &rig.answers[0].1;
    assert_eq!(
        (reply.status, reply.body.field.as_deref()),
        (400, Some("until"))
    );
    assert_eq!(rig.door.authority().entries().count(), 0);
}

#[test]
fn not_after_and_until_hold_up_to_their_bounds() {
    // It is 22:00:01 when the command arrives.
    for (payload, status) in [
        (r#"{"notAfter":"2026-11-23T22:00:00Z"}"#, 410),
        (r#"{"notAfter":"2026-11-23T22:00:01Z"}"#, 200),
        (r#"{"until":"2026-11-23T22:00:01Z"}"#, 410),
        (r#"{"until":"2026-11-23T22:00:02Z"}"#, 200),
        (r#"{"until":"2026-11-30T22:00:01Z"}"#, 200),
        (r#"{"until":"2026-11-30T22:00:02Z"}"#, 400),
    ] {
        let rig =
            motor(Locked).run(&[(4000, Clock(START)), (5000, lock(payload)), (5500, Nothing)]);
        assert_eq!(rig.answers[0].1.status, status, "{payload}");
    }
}

#[test]
fn get_state_returns_the_state_and_changes_nothing() {
    let rig = motor(Locked).run(&[(5000, Call("getState", ""))]);
    assert_eq!(rig.answer_lines, ["5000 #1 200 Locked Secured"]);
    let body = &rig.answers[0].1.body;
    assert!(body.mode.is_some() && body.alarms.is_some());
    assert_eq!(body.slots.as_deref(), Some(&[][..]));
    assert_eq!(body.relinquish_default, Some(Locked));
    assert!(
        !rig.log.iter().any(|line| line.contains("persist")),
        "{:?}",
        rig.log
    );
}

#[test]
fn get_state_lists_each_slot_with_its_end_and_source() {
    let rig = motor(Released).run(&[
        (4000, Clock(START)),
        (5000, lock(r#"{"lockTime":"10m","commandId":"c"}"#)),
        (6000, LOCKDOWN),
        (7000, Call("getState", "")),
    ]);
    let body = serde_json::to_value(&rig.answers[2].1.body).unwrap();
    assert_eq!(
        body["slots"],
        serde_json::json!([
            {"slot": 5, "want": "locked", "source": "remote", "until": null, "commandId": null},
            {"slot": 8, "want": "locked", "source": "remote",
                "until": "2026-11-23T22:10:01Z", "commandId": "c"},
        ])
    );
    assert_eq!(body["mode"], "lockdown");
    assert_eq!(body["displacedMode"], "normal");
    assert_eq!(body["relinquishDefault"], "released");
}

#[test]
fn every_command_is_recorded_with_its_status() {
    let job = r#"{"commandId":"job-1"}"#;
    let rig = motor(Released).run(&[(5000, lock(job)), (9000, lock(job)), (9500, Nothing)]);
    for repeated in [false, true] {
        let command = format!(
            r#"Command {{ method: "lockDoor", command_id: Some(CommandId("job-1")), reason: None, status: 200, repeated: {repeated} }}"#
        );
        assert!(rig.events.contains(&command), "{:?}", rig.events);
    }
}

#[test]
fn a_save_confirms_the_commands_before_it_and_no_later_ones() {
    let test = Command::parse("selfTest", b"").unwrap();
    // The saves that complete, and the calls that each answers.
    for (saves, expected) in [
        (vec![0, 1], vec![vec![1], vec![2]]),
        (vec![1], vec![vec![1, 2]]),
    ] {
        let mut rig = motor(Released).run(&[(5000, Nothing)]);
        let mut call = |ticket| {
            let actions = rig.door.handle_command(&rig.now, Ticket(ticket), &test);
            actions.iter().find_map(|action| match action {
                Action::Persist { generation, .. } => Some(*generation),
                _ => None,
            })
        };
        let generations = [call(1).unwrap(), call(2).unwrap()];
        let answered = saves.into_iter().map(|save| {
            let generation = generations[save];
            let actions = rig.door.handle_persisted(&rig.now, generation, Ok(()));
            let tickets = actions.iter().filter_map(|action| match action {
                Action::Answer { ticket, .. } => Some(ticket.0),
                _ => None,
            });
            tickets.collect()
        });
        let answered: Vec<Vec<u64>> = answered.collect();
        assert_eq!(answered, expected);
    }
}

#[test]
fn an_unlock_waits_for_its_own_save_whatever_becomes_of_an_earlier_one() {
    for earlier in [Ok(()), Err(NotSaved)] {
        let mut rig = motor(Locked).run(&[(5000, Nothing)]);
        let mut call = |ticket, method| {
            let command = Command::parse(method, b"").unwrap();
            let actions = rig.door.handle_command(&rig.now, Ticket(ticket), &command);
            let mut saves = actions.iter().filter_map(|action| match action {
                Action::Persist { generation, .. } => Some(*generation),
                _ => None,
            });
            saves.next().unwrap()
        };
        let (first, second) = (call(1, "selfTest"), call(2, "unlockDoor"));
        let wants = [(first, earlier, Locked), (second, Ok(()), Released)];
        for (generation, result, want) in wants {
            rig.door.handle_persisted(&rig.now, generation, result);
            assert_eq!(rig.door.authority().want(), want, "{earlier:?}");
            assert_eq!(rig.door.unanswered(), 1);
        }
    }
}
