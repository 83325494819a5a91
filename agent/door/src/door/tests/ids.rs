//! Rules of command ids: an id belongs to one command.

use serde_json::json;

use super::rig::Step::{Call, Clock, DiskFails, Handle, Jam, Nothing, Reboot, Restart, SlowDisk};
use super::rig::{Rig, lock, motor, unlock};
use crate::Want::{Locked, Released};
use crate::contract::{Command, ReplyError};
use crate::door::{Action, Door, Ticket};
use crate::saved::SavedDoor;

const START: &str = "2026-11-23T22:00:00Z";

type MethodCall = (&'static str, &'static str);

/// A command, another one with the same id, and whether that is a duplicate of the first.
const ROWS: [(MethodCall, MethodCall, bool); 16] = [
    (("lockDoor", "{}"), ("lockDoor", "{}"), true),
    // Other spellings; and members that a repetition may change.
    (
        ("lockDoor", r#"{"lockTime":"10m"}"#),
        (
            "lockDoor",
            r#"{"lockTime":600,"notAfter":"2026-11-23T23:00:00Z"}"#,
        ),
        true,
    ),
    (
        ("lockDoor", r#"{"until":"2026-11-23T23:00:00Z"}"#),
        ("lockDoor", r#"{"until":"2026-11-24T00:00:00+01:00"}"#),
        true,
    ),
    (
        ("unlockDoor", r#"{"unlockTime":"1h"}"#),
        ("unlockDoor", r#"{"unlockTime":"60m"}"#),
        true,
    ),
    (
        ("setMode", r#"{"mode":"passage"}"#),
        ("setMode", r#"{"mode":"passage"}"#),
        true,
    ),
    (
        ("relinquish", r#"{"slot":8}"#),
        ("relinquish", r#"{"slot":8}"#),
        true,
    ),
    // Another method.
    (("unlockDoor", "{}"), ("lockDoor", "{}"), false),
    (("unlockDoor", "{}"), ("relinquish", "{}"), false),
    (
        ("unlockDoor", "{}"),
        ("setMode", r#"{"mode":"lockdown"}"#),
        false,
    ),
    (("lockDoor", "{}"), ("unlockDoor", "{}"), false),
    // Another payload.
    (
        ("unlockDoor", "{}"),
        ("unlockDoor", r#"{"unlockTime":"10s"}"#),
        false,
    ),
    (
        ("unlockDoor", r#"{"pulse":"strike"}"#),
        ("unlockDoor", r#"{"unlockTime":"5s"}"#),
        false,
    ),
    (
        ("lockDoor", r#"{"lockTime":"1m"}"#),
        ("lockDoor", r#"{"lockTime":"10m"}"#),
        false,
    ),
    (("relinquish", "{}"), ("relinquish", r#"{"slot":8}"#), false),
    (
        ("setMode", r#"{"mode":"passage"}"#),
        ("setMode", r#"{"mode":"lockdown"}"#),
        false,
    ),
    // Checked before the id: it has expired, and it is another command.
    (
        ("unlockDoor", "{}"),
        ("lockDoor", r#"{"until":"2026-11-23T21:00:00Z"}"#),
        false,
    ),
];

fn named(payload: &str) -> &'static str {
    let payload = payload.replacen('{', r#"{"commandId":"A","#, 1);
    payload.replace(",}", "}").leak()
}

#[test]
fn an_id_belongs_to_one_method_and_payload_while_pending_and_over_restarts() {
    for ((method, payload), (again, other), same) in ROWS {
        for between in [Nothing, Restart, Reboot] {
            let what = format!("{method} {payload}, {again} {other}, {between:?}");
            let mut rig = motor(Locked).run(&[
                (1000, Clock(START)),
                (5000, Call(method, named(payload))),
                (15_000, between),
            ]);
            rig.act(&Clock("2026-11-23T22:00:20Z"));
            let before = rig.slots();
            rig.act(&Call(again, named(other)));
            rig.run_for(5000);
            let answer = rig.last_reply();
            let first = answer.body.first.map(|first| first.to_string());
            assert_eq!(first.as_deref(), Some("2026-11-23T22:00:04Z"), "{what}");
            assert_eq!(before, rig.slots(), "{what}");
            assert_eq!(answer.body.repeated, same, "{what}");
            if same {
                assert!(answer.is_success(), "{what}: {answer:?}");
                continue;
            }
            let error = answer.body.error;
            assert_eq!(
                (answer.status, error),
                (409, Some(ReplyError::CommandIdTaken)),
                "{what}"
            );
            for part in ["\"A\"", method, "2026-11-23T22:00:04Z"] {
                assert!(answer.body.response.contains(part), "{what}: {answer:?}");
            }
            // Refused: the id still belongs to the first command.
            rig.act(&Call(method, named(payload)));
            rig.run_for(5000);
            assert!(rig.last_reply().body.repeated, "{what}");
        }
    }
}

#[test]
fn another_command_with_the_id_of_one_that_waits_for_the_disk_is_refused() {
    let rig = motor(Locked).run(&[
        (5000, SlowDisk(true)),
        (5000, unlock(r#"{"commandId":"A"}"#)),
        (5100, lock(r#"{"commandId":"A"}"#)),
        (5200, unlock(r#"{"commandId":"A"}"#)),
        (6000, SlowDisk(false)),
        (9000, Nothing),
    ]);
    let answers: Vec<_> = rig
        .answers
        .iter()
        .map(|(ticket, reply)| (ticket.0, reply.status, reply.body.repeated))
        .collect();
    assert_eq!(answers, [(2, 409, false), (1, 200, false), (3, 200, true)]);
}

#[test]
fn an_id_whose_command_failed_is_free_again() {
    let rig = motor(Locked).run(&[
        (5000, SlowDisk(true)),
        (5000, unlock(r#"{"commandId":"A"}"#)),
        (6000, DiskFails),
        (7000, lock(r#"{"commandId":"A"}"#)),
        (9000, Nothing),
    ]);
    let answers: Vec<_> = rig.answers.iter().map(|(_, reply)| reply.status).collect();
    assert_eq!(answers, [500, 200]);
}

#[test]
fn an_id_whose_command_failed_is_free_over_a_restart_too() {
    let lock = lock(r#"{"commandId":"A"}"#);
    let jam = Jam(true);
    for steps in [
        vec![(4000, jam), (5000, lock)],
        // A duplicate finds that the state has failed since.
        vec![(5000, lock), (9000, jam), (9000, Handle), (13_000, lock)],
    ] {
        let mut rig = motor(Released).run(&steps);
        rig.run_to(14_000);
        assert_eq!(rig.last_reply().body.error, Some(ReplyError::Jammed));
        rig.act(&Restart);
        rig.act(&Jam(false));
        rig.act(&lock);
        rig.run_to(20_000);
        let reply = rig.last_reply();
        assert_eq!(
            (reply.status, reply.body.repeated),
            (200, false),
            "{steps:?}"
        );
    }
}

#[test]
fn a_duplicate_is_no_error_after_its_end_or_with_an_end_too_far_away() {
    let payload = r#"{"commandId":"A","until":"2026-11-23T22:00:20Z"}"#;
    for clock in [
        "2026-11-23T22:00:10Z",
        "2026-11-23T22:00:30Z",
        "2026-11-01T00:00:00Z",
    ] {
        let rig = motor(Locked).run(&[
            (1000, Clock(START)),
            (5000, lock(payload)),
            (9000, Clock(clock)),
            (9000, lock(payload)),
            (9500, Nothing),
        ]);
        let reply = rig.last_reply();
        assert_eq!((reply.status, reply.body.repeated), (200, true), "{clock}");
    }
}

#[test]
fn an_id_that_0_1_has_saved_stands_for_any_command() {
    let rig = Rig::new(motor(Released));
    let saved = json!({
        "bootId": "boot-0", "savedAtMs": 90_000, "slots": [], "mode": "normal", "commands": ["A"],
    });
    let saved: SavedDoor = serde_json::from_value(saved).unwrap();
    for (method, payload) in [("unlockDoor", "{}"), ("lockDoor", r#"{"lockTime":"10m"}"#)] {
        let (mut door, _) = Door::new(motor(Locked), Some(&saved), &rig.now);
        door.handle_inputs(&rig.now, rig.inputs);
        let command = Command::parse(method, named(payload).as_bytes()).unwrap();
        let actions = door.handle_command(&rig.now, Ticket(1), &command);
        assert_eq!(door.authority().entries().count(), 0, "{method}");
        let answer = actions.iter().find_map(|action| match action {
            Action::Answer { reply, .. } => Some(reply),
            _ => None,
        });
        let body = &answer.unwrap().body;
        assert_eq!((body.repeated, body.first), (true, None), "{method}");
    }
}
