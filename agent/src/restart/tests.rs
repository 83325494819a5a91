use serde_json::json;

use super::*;

/// A door whose slots are `(number, want)`, the deciding one first.
fn standing(
    rest: &str,
    slots: &[(u8, &str)],
    default: &str,
    outputs: &str,
    lock: &str,
) -> Standing {
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
    Standing::of(&status).unwrap()
}

fn next(rest: Rest) -> Next {
    Next {
        rest,
        relinquish_default: Want::Locked,
    }
}

#[test]
fn a_coil_is_restarted_where_it_stands_without_power() {
    for (rest, name) in [(Rest::Locked, "locked"), (Rest::Released, "released")] {
        for want in [Want::Locked, Want::Released] {
            let stays = want.as_str() == name;
            let outputs = if stays { "deEnergised" } else { "energised" };
            let door = standing(name, &[(8, want.as_str())], "locked", outputs, "unknown");
            let expected = if stays {
                Ok(want)
            } else {
                Err(Objection::Powered(want))
            };
            assert_eq!(door.judge(next(rest)), expected, "{rest:?} {want:?}");
        }
    }
}

#[test]
fn a_door_that_nobody_holds_goes_by_its_default() {
    let door = standing("locked", &[], "locked", "deEnergised", "locked");
    assert_eq!(door.judge(next(Rest::Locked)), Ok(Want::Locked));
    let changed = Next {
        relinquish_default: Want::Released,
        ..next(Rest::Locked)
    };
    assert_eq!(
        door.judge(changed),
        Err(Objection::OtherDefault(Want::Released))
    );
}

#[test]
fn a_press_of_the_exit_button_is_not_cut_short() {
    // A fail-safe strike is de-energised then, but would lock once the press is forgotten.
    let door = standing(
        "released",
        &[(2, "released"), (8, "locked")],
        "locked",
        "deEnergised",
        "unlocked",
    );
    assert_eq!(
        door.judge(next(Rest::Released)),
        Err(Objection::AtTheDoor(Slot::RequestToExit))
    );
    // A fire release is saved; and with a released slot below, it stays released afterwards.
    for slots in [
        &[(1, "released"), (8, "locked")][..],
        &[(2, "released"), (9, "released")],
    ] {
        let door = standing("released", slots, "locked", "deEnergised", "unlocked");
        assert_eq!(door.judge(next(Rest::Released)), Ok(Want::Released));
    }
}

#[test]
fn a_bolt_is_not_thrown_into_an_open_door() {
    let door = standing("locked", &[], "locked", "energised", "unlocked");
    assert_eq!(door.judge(next(Rest::Locked)), Err(Objection::HeldBack));
}

#[test]
fn a_motor_lock_is_restarted_when_its_bolt_is_where_it_should_be() {
    for (want, lock, outputs, judged) in [
        ("locked", "locked", "deEnergised", Ok(Want::Locked)),
        ("released", "unlocked", "deEnergised", Ok(Want::Released)),
        (
            "locked",
            "locking",
            "throw",
            Err(Objection::NotThere(LockState::Locking, Want::Locked)),
        ),
        (
            "locked",
            "jammed",
            "deEnergised",
            Err(Objection::NotThere(LockState::Jammed, Want::Locked)),
        ),
        (
            "released",
            "unlocked",
            "retract",
            Err(Objection::NotThere(LockState::Unlocked, Want::Released)),
        ),
    ] {
        let door = standing("stays", &[(8, want)], "locked", outputs, lock);
        assert_eq!(
            door.judge(next(Rest::Stays)),
            judged,
            "{want} {lock} {outputs}"
        );
    }
}

#[test]
fn what_is_not_on_disk_or_configured_otherwise_keeps_it() {
    let mut door = standing(
        "locked",
        &[(8, "locked")],
        "locked",
        "deEnergised",
        "locked",
    );
    assert_eq!(
        door.judge(next(Rest::Released)),
        Err(Objection::OtherStrike)
    );
    door.disk.problem = Some("no space left".to_owned());
    let told = door.judge(next(Rest::Locked)).unwrap_err().to_string();
    assert!(told.contains("not on disk (no space left)"), "{told}");
}

#[test]
fn an_agent_that_does_not_tell_enough_is_not_judged() {
    let status = json!({"door": {"want": "locked", "slots": []}, "disk": {}});
    assert!(Standing::of(&status).is_none());
}
