//! Changes that may release the door: each is on disk before it acts, and is refused if its
//! validity cannot be checked.

use super::rig::Step::{Clock, Desire, DiskFails, Nothing, Restart, SlowDisk};
use super::rig::{LOCK, LOCKDOWN, Rig, Step, UNLOCK, mode, motor, relinquish, unlock};
use crate::Want::{Locked, Released};
use crate::contract::{Command, Mode};
use crate::desired::DesiredMode;
use crate::door::{Action, Ticket};

const END_LOCKDOWN: Step = relinquish(r#"{"slot":5}"#);

#[test]
fn every_change_that_may_release_waits_for_the_disk() {
    let desired_lockdown = Desire(DesiredMode::Mode(Mode::Lockdown), None);
    let nothing_desired = Desire(DesiredMode::Absent, None);
    for (default, before, changes) in [
        (Locked, vec![], vec![UNLOCK]),
        // It releases nothing now, but allows later unlocks.
        (Locked, vec![], vec![mode(r#"{"mode":"maintenance"}"#)]),
        (Locked, vec![LOCKDOWN], vec![END_LOCKDOWN]),
        (Locked, vec![desired_lockdown], vec![nothing_desired]),
        // The second change releases only together with the first.
        (
            Released,
            vec![LOCK, LOCKDOWN],
            vec![END_LOCKDOWN, relinquish(r#"{"slot":8}"#)],
        ),
    ] {
        let mut rig = motor(default).run(&[(5000, Nothing)]);
        before.iter().for_each(|step| rig.act(step));
        rig.act(&SlowDisk(true));
        let array = |rig: &Rig| (rig.door.authority().mode(), rig.slots());
        let held = array(&rig);
        for change in &changes {
            rig.act(change);
            assert_eq!(array(&rig), held, "{changes:?}");
        }
        rig.act(&DiskFails);
        assert_eq!(array(&rig), held, "{changes:?}");
    }
}

#[test]
fn without_a_trusted_clock_not_after_refuses_only_what_may_release() {
    const VALID: &str = r#"{"notAfter":"2026-11-23T22:05:00Z"}"#;
    const VALID_5: &str = r#"{"slot":5,"notAfter":"2026-11-23T22:05:00Z"}"#;
    for (default, before, payload, status) in [
        (Locked, Nothing, VALID_5, 200),
        (Locked, LOCKDOWN, VALID_5, 410),
        (Released, Nothing, VALID, 200),
        (Released, LOCK, VALID, 410),
    ] {
        let mut rig = motor(default).run(&[(5000, before)]);
        rig.act(&relinquish(payload));
        let reply = rig.last_reply();
        assert_eq!(reply.status, status, "{before:?}, {payload}");
    }
}

#[test]
fn a_duplicate_of_a_change_that_waits_for_the_disk_does_not_act_after_later_changes() {
    let mut rig = motor(Locked).run(&[(5000, Nothing)]);
    let passage = r#"{"mode":"passage","commandId":"p"}"#;
    let mut newest = None;
    for (ticket, payload) in (1..).zip([passage, r#"{"mode":"normal"}"#, passage]) {
        let command = Command::parse("setMode", payload.as_bytes()).unwrap();
        let actions = rig.door.handle_command(&rig.now, Ticket(ticket), &command);
        for action in actions {
            if let Action::Persist { generation, .. } = action {
                newest = Some(generation);
            }
        }
    }
    // One save confirms all.
    rig.door.handle_persisted(&rig.now, newest.unwrap(), Ok(()));
    assert_eq!(rig.door.authority().mode(), Mode::Normal);
    assert_eq!(rig.door.authority().want(), Locked);
}

#[test]
fn an_unlock_that_expired_while_it_waited_for_the_disk_does_not_act_after_a_restart() {
    for payload in [
        r#"{"notAfter":"2026-11-23T22:00:03Z"}"#,
        r#"{"notAfter":"2026-11-23T22:00:03Z","commandId":"u"}"#,
    ] {
        let rig = motor(Locked).run(&[
            (4000, Clock("2026-11-23T22:00:00Z")),
            (4500, SlowDisk(true)),
            (5000, unlock(payload)),
            (8000, SlowDisk(false)),
            (8500, Restart),
            (12_000, Nothing),
        ]);
        assert_eq!(rig.answers[0].1.status, 410, "{payload}");
        assert_eq!(rig.slots(), [""; 0], "{payload}");
    }
}
