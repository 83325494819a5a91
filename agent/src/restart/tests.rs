use serde_json::json;

use super::*;

/// A door whose slots are `(number, want)`, the deciding one first.
fn running_state(
    rest: &str,
    slots: &[(u8, &str)],
    default: &str,
    outputs: &str,
    lock: &str,
) -> RunningState {
    let slots: Vec<_> = slots
        .iter()
        .map(|(slot, want)| json!({"slot": slot, "want": want, "source": "remote"}))
        .collect();
    let want = slots.first().map_or(json!(default), |s| s["want"].clone());
    let status = json!({
        "device": "lobby-east",
        "door": {
            "report": {"lockState": lock, "doorState": "closed"},
            "want": want,
            "slots": slots,
            "relinquishDefault": default,
            "outputs": outputs,
            "rest": rest,
        },
        "disk": {"problem": null},
    });
    RunningState::of(&status).unwrap()
}

fn next(rest: Rest) -> NextStart {
    NextStart {
        rest,
        relinquish_default: Want::Locked,
    }
}

#[test]
fn a_coil_is_restarted_only_in_its_rest_state() {
    for (rest, name) in [(Rest::Locked, "locked"), (Rest::Released, "released")] {
        for want in [Want::Locked, Want::Released] {
            let stays = want.as_str() == name;
            let outputs = if stays { "deEnergised" } else { "energised" };
            let door = running_state(name, &[(8, want.as_str())], "locked", outputs, "unknown");
            let expected = if stays {
                Ok(want)
            } else {
                Err(RestartObjection::Powered(want))
            };
            assert_eq!(door.judge(next(rest)), expected, "{rest:?} {want:?}");
        }
    }
}

#[test]
fn without_occupied_slots_the_default_decides() {
    let door = running_state("locked", &[], "locked", "deEnergised", "locked");
    assert_eq!(door.judge(next(Rest::Locked)), Ok(Want::Locked));
    let changed = NextStart {
        relinquish_default: Want::Released,
        ..next(Rest::Locked)
    };
    assert_eq!(
        door.judge(changed),
        Err(RestartObjection::OtherDefault(Want::Released))
    );
}

#[test]
fn a_press_of_the_exit_button_is_not_cut_short() {
    // A fail-safe strike is de-energised then, but would lock once the press is forgotten.
    let door = running_state(
        "released",
        &[(2, "released"), (8, "locked")],
        "locked",
        "deEnergised",
        "unlocked",
    );
    assert_eq!(
        door.judge(next(Rest::Released)),
        Err(RestartObjection::AtTheDoor(Slot::RequestToExit))
    );
    // A fire release is saved; and with a released slot below, it stays released afterwards.
    for slots in [
        &[(1, "released"), (8, "locked")][..],
        &[(2, "released"), (9, "released")],
    ] {
        let door = running_state("released", slots, "locked", "deEnergised", "unlocked");
        assert_eq!(door.judge(next(Rest::Released)), Ok(Want::Released));
    }
}

#[test]
fn a_bolt_is_not_thrown_into_an_open_door() {
    let door = running_state("locked", &[], "locked", "energised", "unlocked");
    assert_eq!(
        door.judge(next(Rest::Locked)),
        Err(RestartObjection::HeldBack)
    );
}

#[test]
fn a_motor_lock_is_restarted_when_its_bolt_is_in_position() {
    for (want, lock, outputs, judged) in [
        ("locked", "locked", "deEnergised", Ok(Want::Locked)),
        ("released", "unlocked", "deEnergised", Ok(Want::Released)),
        (
            "locked",
            "locking",
            "throw",
            Err(RestartObjection::NotThere(LockState::Locking, Want::Locked)),
        ),
        (
            "locked",
            "jammed",
            "deEnergised",
            Err(RestartObjection::NotThere(LockState::Jammed, Want::Locked)),
        ),
        (
            "released",
            "unlocked",
            "retract",
            Err(RestartObjection::NotThere(
                LockState::Unlocked,
                Want::Released,
            )),
        ),
    ] {
        let door = running_state("stays", &[(8, want)], "locked", outputs, lock);
        assert_eq!(
            door.judge(next(Rest::Stays)),
            judged,
            "{want} {lock} {outputs}"
        );
    }
}

#[test]
fn unsaved_state_or_another_strike_prevents_a_restart() {
    let mut door = running_state(
        "locked",
        &[(8, "locked")],
        "locked",
        "deEnergised",
        "locked",
    );
    assert_eq!(
        door.judge(next(Rest::Released)),
        Err(RestartObjection::OtherStrike)
    );
    door.disk.problem = Some("no space left".to_owned());
    let message = door.judge(next(Rest::Locked)).unwrap_err().to_string();
    assert!(message.contains("not on disk (no space left)"), "{message}");
}

#[test]
fn a_status_without_the_needed_members_is_not_judged() {
    let status = json!({"door": {"want": "locked", "slots": []}, "disk": {}});
    assert!(RunningState::of(&status).is_none());
}
