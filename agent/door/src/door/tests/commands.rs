//! Rules of the array, the commands and their answers.

use super::rig::{Rig, Step, motor};
use crate::Want::{Locked, Released};
use crate::contract::Command;
use crate::door::{Action, NotSaved, Ticket};

const START: &str = "2026-11-23T22:00:00Z";

#[test]
fn a_lock_is_driven_then_saved_then_answered_an_unlock_saved_then_driven_then_answered() {
    let rig = Rig::run(
        motor(Released),
        &[
            (5000, Step::Call("lockDoor", "{}")),
            (8000, Step::Call("unlockDoor", "{}")),
            (12_000, Step::Nothing),
        ],
    );
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
    let rig = Rig::run(
        motor(Released),
        &[
            (5000, Step::SlowDisk(true)),
            (5000, Step::Call("lockDoor", "{}")),
            (7000, Step::SlowDisk(false)),
            (8000, Step::SlowDisk(true)),
            (8000, Step::Call("unlockDoor", "{}")),
            (9000, Step::SlowDisk(false)),
            (12_000, Step::Nothing),
        ],
    );
    assert_eq!(
        rig.drives[2..],
        [
            "5000 Throw",
            "5600 DeEnergised",
            "9000 Retract",
            "11000 DeEnergised"
        ]
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
    let rig = Rig::run(
        motor(Locked),
        &[
            (5000, Step::SlowDisk(true)),
            (5000, Step::Call("unlockDoor", r#"{"commandId":"u"}"#)),
            (6000, Step::DiskFails),
            (7000, Step::SlowDisk(true)),
            (7000, Step::Call("lockDoor", "{}")),
            (13_000, Step::SlowDisk(false)),
            (14_000, Step::Call("unlockDoor", r#"{"commandId":"u"}"#)),
            (17_000, Step::Nothing),
        ],
    );
    assert_eq!(
        rig.answer_lines,
        [
            "6000 #1 500 NotStored Locked Secured",
            "12000 #2 500 NotStored Locked Secured",
            // Its id was dropped: it acts.
            "16000 #3 200 Unlocked Unsecured",
        ]
    );
    assert_eq!(rig.drives[2..], ["14000 Retract", "16000 DeEnergised"]);
}

#[test]
fn a_lock_overtakes_an_unlock_that_waits_for_the_disk() {
    let rig = Rig::run(
        motor(Locked),
        &[
            (5000, Step::SlowDisk(true)),
            (5000, Step::Call("unlockDoor", "{}")),
            (5100, Step::Call("lockDoor", "{}")),
            (6000, Step::SlowDisk(false)),
            (6000, Step::Restart),
            (9000, Step::Nothing),
        ],
    );
    assert_eq!(
        rig.answer_lines,
        ["5100 #1 202 Locked Secured", "6000 #2 200 Locked Secured"]
    );
    assert_eq!(rig.drives.len(), 2, "{:?}", rig.drives);
}

#[test]
fn a_lock_with_a_time_relinquishes_when_it_is_over() {
    let rig = Rig::run(
        motor(Released),
        &[
            (4000, Step::Clock(START)),
            (5000, Step::Call("lockDoor", r#"{"lockTime":"15s"}"#)),
            (6000, Step::Nothing),
            (25_000, Step::Nothing),
        ],
    );
    assert_eq!(
        rig.drives[2..],
        [
            "5000 Throw",
            "5600 DeEnergised",
            "20000 Retract",
            "22000 DeEnergised"
        ]
    );
    let until = rig.answers[0].1.body.status.as_ref().unwrap().locked_until;
    assert_eq!(until, Some("2026-11-23T22:00:16Z".parse().unwrap()));
    assert!(
        rig.events
            .contains(&"Expired { slot: OperatorHold, want: Released }".to_owned())
    );
}

#[test]
fn until_counts_with_a_trusted_clock_and_the_length_without() {
    let payload = r#"{"lockTime":"60s","until":"2026-11-23T22:00:20Z"}"#;
    let ended = |steps: &[(u64, Step)]| {
        let mut rig = Rig::run(motor(Released), steps);
        rig.run_until(std::time::Duration::from_secs(200));
        let line = rig
            .drives
            .iter()
            .find(|line| line.ends_with("Retract") && !line.starts_with("0 "));
        line.cloned().unwrap()
    };
    let lock = || Step::Call("lockDoor", payload);
    assert_eq!(
        ended(&[(4000, Step::Clock(START)), (5000, lock())]),
        "24000 Retract"
    );
    assert_eq!(ended(&[(5000, lock())]), "65000 Retract");
    // The clock is set in between.
    assert_eq!(
        ended(&[(5000, lock()), (10_000, Step::Clock(START))]),
        "30000 Retract"
    );
}

#[test]
fn a_grant_releases_for_its_time_and_a_lock_ends_it() {
    let rig = Rig::run(
        motor(Locked),
        &[
            (5000, Step::Call("unlockDoor", r#"{"unlockTime":"10s"}"#)),
            (18_000, Step::Call("unlockDoor", r#"{"unlockTime":"1h"}"#)),
            (25_000, Step::Call("lockDoor", r#"{"lockTime":"1m"}"#)),
            (27_000, Step::Nothing),
        ],
    );
    assert_eq!(
        rig.drives[2..],
        [
            "5000 Retract",
            "7000 DeEnergised",
            "15000 Throw",
            "15600 DeEnergised",
            "18000 Retract",
            "20000 DeEnergised",
            "25000 Throw",
            "25600 DeEnergised"
        ]
    );
    let slots: Vec<_> = rig
        .door
        .authority()
        .entries()
        .map(|(slot, _)| slot.number())
        .collect();
    assert_eq!(slots, [8]);
}

#[test]
fn relinquish_returns_to_the_default() {
    let rig = Rig::run(
        motor(Released),
        &[
            (5000, Step::Call("lockDoor", "{}")),
            (8000, Step::Call("relinquish", "")),
            (12_000, Step::Call("relinquish", "null")),
            (13_000, Step::Nothing),
        ],
    );
    assert_eq!(
        rig.answer_lines,
        [
            "5600 #1 200 Locked Secured",
            "10000 #2 200 Unlocked Unsecured",
            "12000 #3 200 Unlocked Unsecured"
        ]
    );
    assert_eq!(rig.drives[4..], ["8000 Retract", "10000 DeEnergised"]);
}

#[test]
fn a_request_to_exit_releases_at_once_whatever_holds_the_door_and_for_the_strike_time_after() {
    let rig = Rig::run(
        motor(Released),
        &[
            (5000, Step::Call("lockDoor", "{}")),
            (8000, Step::Rex(true)),
            (9500, Step::Rex(false)),
            (10_000, Step::Call("lockDoor", "{}")),
            (20_000, Step::Nothing),
        ],
    );
    assert_eq!(
        rig.drives[4..],
        [
            "8000 Retract",
            "10000 DeEnergised",
            "14500 Throw",
            "15100 DeEnergised"
        ]
    );
    assert_eq!(
        rig.answer_lines[1..],
        ["10000 #2 202 Unlocked Unsecured held by 2"]
    );
}

#[test]
fn a_local_grant_releases_for_the_strike_time() {
    let rig = Rig::run(
        motor(Locked),
        &[
            (5000, Step::Grant(true)),
            (5100, Step::Grant(false)),
            (15_000, Step::Nothing),
        ],
    );
    assert_eq!(
        rig.drives[2..],
        [
            "5000 Retract",
            "7000 DeEnergised",
            "10100 Throw",
            "10700 DeEnergised"
        ]
    );
    assert!(rig.events.contains(&"Unlocking by Local".to_owned()));
}

#[test]
fn a_fire_release_holds_until_it_is_reset_at_the_door_over_a_reboot_too() {
    let rig = Rig::run(
        motor(Locked),
        &[
            (5000, Step::Fire(true)),
            (6000, Step::FireReset(true)),
            (6100, Step::FireReset(false)),
            (8000, Step::Fire(false)),
            (60_000, Step::Call("lockDoor", "{}")),
            (61_000, Step::Reboot),
            (9000, Step::FireReset(true)),
            (9100, Step::FireReset(false)),
            (12_000, Step::Nothing),
        ],
    );
    assert_eq!(rig.drives[2..4], ["5000 Retract", "7000 DeEnergised"]);
    assert_eq!(
        rig.answer_lines,
        ["60000 #1 202 Unlocked Unsecured held by 1"]
    );
    // After the boot the bolt is retracted again to be safe; after the reset the lock saved in slot
    // 8 applies.
    assert_eq!(
        rig.drives[4..],
        [
            "0 Retract",
            "2000 DeEnergised",
            "9000 Throw",
            "9600 DeEnergised"
        ]
    );
}

#[test]
fn a_duplicate_does_not_act_and_answers_the_present_state() {
    let lock = || Step::Call("lockDoor", r#"{"lockTime":"10s","commandId":"job-1"}"#);
    let rig = Rig::run(
        motor(Released),
        &[
            (5000, lock()),
            // While the first is pending: answered together with it.
            (5100, lock()),
            (12_000, lock()),
            (14_900, lock()),
            (30_000, lock()),
            (31_000, Step::Nothing),
        ],
    );
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
    assert_eq!(rig.drives[4..], ["15000 Retract", "17000 DeEnergised"]);
}

#[test]
fn an_expired_command_never_acts() {
    let late = r#"{"notAfter":"2026-11-23T21:59:00Z","commandId":"x"}"#;
    let rig = Rig::run(
        motor(Released),
        &[
            (4000, Step::Clock(START)),
            (5000, Step::Call("lockDoor", late)),
            (5000, Step::Call("unlockDoor", late)),
            (5000, Step::Call("relinquish", late)),
            (
                5000,
                Step::Call("lockDoor", r#"{"until":"2026-11-23T21:59:00Z"}"#),
            ),
            (9000, Step::Nothing),
        ],
    );
    assert_eq!(
        rig.answer_lines,
        [1, 2, 3, 4].map(|n| format!("5000 #{n} 410 Expired Unlocked Unsecured"))
    );
    assert_eq!(rig.drives.len(), 2);
    assert_eq!(rig.door.authority().entries().count(), 0);
}

#[test]
fn without_a_trusted_clock_a_lock_acts_and_an_unlock_is_refused() {
    let window = r#"{"notAfter":"2026-11-23T22:05:00Z"}"#;
    let rig = Rig::run(
        motor(Released),
        &[
            (5000, Step::Call("lockDoor", window)),
            (8000, Step::Call("unlockDoor", window)),
            (
                8000,
                Step::Call("unlockDoor", r#"{"until":"2026-11-23T22:05:00Z"}"#),
            ),
            (8000, Step::Call("relinquish", window)),
            (9000, Step::Nothing),
        ],
    );
    assert_eq!(
        rig.answer_lines,
        [
            "5600 #1 200 Locked Secured",
            "8000 #2 410 Expired Locked Secured",
            "8000 #3 410 Expired Locked Secured",
            "8000 #4 410 Expired Locked Secured",
        ]
    );
}

#[test]
fn an_end_too_far_away_is_a_bad_payload() {
    let rig = Rig::run(
        motor(Released),
        &[
            (4000, Step::Clock(START)),
            (
                5000,
                Step::Call("lockDoor", r#"{"until":"2026-12-23T22:00:00Z"}"#),
            ),
        ],
    );
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
        let rig = Rig::run(
            motor(Locked),
            &[
                (4000, Step::Clock(START)),
                (5000, Step::Call("lockDoor", payload)),
                (5500, Step::Nothing),
            ],
        );
        assert_eq!(rig.answers[0].1.status, status, "{payload}");
    }
}

#[test]
fn get_state_returns_the_state_and_changes_nothing() {
    let rig = Rig::run(motor(Locked), &[(5000, Step::Call("getState", ""))]);
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
    let rig = Rig::run(
        motor(Released),
        &[
            (4000, Step::Clock(START)),
            (
                5000,
                Step::Call("lockDoor", r#"{"lockTime":"10m","commandId":"c"}"#),
            ),
            (6000, Step::Call("setMode", r#"{"mode":"lockdown"}"#)),
            (7000, Step::Call("getState", "")),
        ],
    );
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
    let rig = Rig::run(
        motor(Released),
        &[
            (5000, Step::Call("lockDoor", job)),
            (9000, Step::Call("lockDoor", job)),
            (9500, Step::Nothing),
        ],
    );
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
        let mut rig = Rig::run(motor(Released), &[(5000, Step::Nothing)]);
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
        let mut rig = Rig::run(motor(Locked), &[(5000, Step::Nothing)]);
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
