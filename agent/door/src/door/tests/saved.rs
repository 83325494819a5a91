//! Rules of a start: parts of a saved state that no longer fit are dropped, with an event.

use std::time::Duration;

use serde_json::{Value, json};

use super::rig::Step::Nothing;
use super::rig::{LOCK, Rig, config, motor};
use crate::Want::{Locked, Released};
use crate::config::{DoorConfig, Fitted, Setting, StrikeConfig};
use crate::contract::{Alarm, Mode, Raised};
use crate::desired::DesiredMode;
use crate::door::{Action, Door};
use crate::event::{DropReason, EventKind};
use crate::saved::SavedDoor;
use crate::time::{BootId, ClockQuality, at};
use crate::{Slot, Want};

fn saved(slots: &Value, settings: &Value) -> SavedDoor {
    let saved = json!({
        "bootId": "boot-0", "savedAtMs": 90_000, "slots": slots, "settings": settings,
        "commands": ["A"],
    });
    serde_json::from_value(saved).unwrap()
}

/// A start: the slots, the events, and whether the state is saved at once.
fn start(config: DoorConfig, saved: &SavedDoor) -> (Door, Vec<EventKind>, bool) {
    let rig = Rig::new(motor(Locked));
    let (mut door, actions) = Door::new(config, Some(saved), &rig.now);
    let saves = actions
        .iter()
        .any(|action| matches!(action, Action::Persist { .. }));
    let events = actions.into_iter().filter_map(|action| match action {
        Action::Record(event) => Some(event.kind),
        _ => None,
    });
    let events = events.collect();
    door.handle_inputs(&rig.now, rig.inputs);
    (door, events, saves)
}

fn slots(door: &Door) -> Vec<u8> {
    let entries = door.authority().entries();
    entries.map(|(slot, _)| slot.number()).collect()
}

#[test]
fn a_saved_slot_whose_input_is_not_fitted_is_dropped_and_recorded() {
    let without_fire = Fitted {
        fire: false,
        fire_reset: false,
        ..Fitted::ALL
    };
    let only_reset = Fitted {
        fire: false,
        ..Fitted::ALL
    };
    let without_buttons = Fitted {
        rex: false,
        grant: false,
        ..Fitted::ALL
    };
    for (fitted, slot, stays, is_recorded) in [
        (Fitted::ALL, 1, true, false),
        (without_fire, 1, false, true),
        (only_reset, 1, false, true),
        // A button press does not survive a restart, even if a file has it.
        (Fitted::ALL, 2, false, false),
        (without_buttons, 2, false, true),
        (without_buttons, 3, false, true),
        (without_fire, 5, true, false),
        (without_fire, 7, true, false),
        (without_fire, 8, true, false),
    ] {
        let config = config(Locked, StrikeConfig::motor_lock(), fitted);
        let state = saved(&json!([{"slot": slot, "want": "released"}]), &json!({}));
        let what = format!("slot {slot}, {fitted:?}");
        let gone: Vec<_> = state.unfitted_slots(fitted).collect();
        assert_eq!(gone.len(), usize::from(is_recorded), "{what}");
        let (door, events, saves) = start(config, &state);
        assert_eq!(
            slots(&door),
            if stays { vec![slot] } else { vec![] },
            "{what}"
        );
        let slot = Slot::try_from(slot).unwrap();
        let why = DropReason::InputNotFitted;
        let dropped = EventKind::Dropped { slot, why };
        assert_eq!(events.contains(&dropped), is_recorded, "{what}: {events:?}");
        assert_eq!(saves, is_recorded, "{what}");
        assert_eq!(
            door.authority().want(),
            if stays { Released } else { Locked },
            "{what}"
        );
    }
}

#[test]
fn an_unknown_or_unfitting_saved_setting_is_recorded() {
    // A pre-alarm time longer than the held-open time is refused.
    for (setting, ms, is_recorded) in [
        ("strikeTime", 7000, false),
        ("strikeTime", 0, true),
        ("strikeTime", 600_001, true),
        ("strikeTime", u64::MAX, true),
        ("openSesame", 7000, true),
        ("preAlarmTime", 3_600_000, true),
    ] {
        let state = saved(&json!([]), &json!({setting: ms}));
        let (mut door, events, _) = start(motor(Locked), &state);
        let mut rig = Rig::new(motor(Locked));
        rig.inputs.rex = Some(true);
        door.handle_inputs(&rig.now, rig.inputs);
        assert_eq!(door.authority().want(), Released, "{setting} {ms}");
        let setting = setting.to_owned();
        let dropped = EventKind::SettingDropped { setting };
        assert_eq!(
            events.contains(&dropped),
            is_recorded,
            "{dropped:?}: {events:?}"
        );
    }
}

#[test]
fn a_saved_alarm_whose_sensor_is_not_fitted_is_cleared_and_recorded() {
    for bond in [true, false] {
        let fitted = Fitted {
            bond,
            ..Fitted::ALL
        };
        let mut state = saved(&json!([]), &json!({}));
        state.lock_forced = Some(Raised { since: None });
        let config = config(Locked, StrikeConfig::motor_lock(), fitted);
        let (door, events, saves) = start(config, &state);
        let alarm = Alarm::LockForced;
        assert_eq!(door.report().alarms.contains_key(&alarm), bond);
        let cleared = EventKind::AlarmCleared { alarm };
        assert_eq!((events.contains(&cleared), saves), (!bond, !bond));
    }
}

#[test]
fn in_doubt_any_fire_latch_and_the_locks_of_the_newest_state_are_kept() {
    let latch = json!({"slot": 1, "want": "released"});
    let lock = json!({"slot": 8, "want": "locked", "commandId": "L"});
    let short = json!({"slot": 8, "want": "locked",
        "expiry": {"remainingMs": 60_000, "governs": "boottime"}});
    let unlock = json!({"slot": 8, "want": "released"});
    let grant = json!({"slot": 7, "want": "released",
        "expiry": {"remainingMs": 60_000, "governs": "boottime"}});
    let lockdown = json!({"slot": 5, "want": "locked"});
    let passage = json!({"slot": 9, "want": "released"});
    // (states, newest first; relinquish default; occupied slots; mode)
    for (found, default, expected, mode) in [
        (vec![], Locked, vec![], Mode::Secure),
        (vec![], Released, vec![(8, Locked)], Mode::Secure),
        (
            vec![json!([]), json!([latch])],
            Locked,
            vec![(1, Released)],
            Mode::Secure,
        ),
        (
            vec![json!([latch]), json!([])],
            Locked,
            vec![(1, Released)],
            Mode::Secure,
        ),
        (
            vec![json!([latch]), json!([latch])],
            Released,
            vec![(1, Released), (8, Locked)],
            Mode::Secure,
        ),
        (
            vec![json!([grant, unlock, passage])],
            Locked,
            vec![],
            Mode::Secure,
        ),
        (
            vec![json!([lockdown, unlock])],
            Locked,
            vec![(5, Locked)],
            Mode::Lockdown,
        ),
        (
            vec![json!([]), json!([lockdown, lock])],
            Locked,
            vec![],
            Mode::Secure,
        ),
        (vec![json!([lock])], Locked, vec![(8, Locked)], Mode::Secure),
        (
            vec![json!([short])],
            Locked,
            vec![(8, Locked)],
            Mode::Secure,
        ),
        (
            vec![json!([short])],
            Released,
            vec![(8, Locked)],
            Mode::Secure,
        ),
    ] {
        let what = format!("{found:?}, {default}");
        let now = Rig::new(motor(Locked)).now;
        let states = found.iter().map(|slots| saved(slots, &json!({})));
        let state = SavedDoor::in_doubt(states.collect(), "it was dropped".to_owned(), &now);
        // As read back from the disk at the next start.
        for state in [state.clone(), read_back(&state)] {
            let (door, events, saves) = start(motor(default), &state);
            let entries = door.authority().entries();
            let held: Vec<(u8, Want)> = entries
                .map(|(slot, entry)| (slot.number(), entry.want))
                .collect();
            assert_eq!(held, expected, "{what}");
            assert_eq!(door.authority().mode(), mode, "{what}");
            assert_eq!(
                door.authority().in_doubt(),
                Some("it was dropped"),
                "{what}"
            );
            let reason = "it was dropped".to_owned();
            assert!(
                events.contains(&EventKind::StateInDoubt { reason }),
                "{what}"
            );
            assert!(saves, "{what}");
            let hold = door.authority().get(Slot::OperatorHold);
            let ends = hold.is_some_and(|hold| hold.expiry.is_some());
            assert!(!(ends && default == Released), "{what}: {hold:?}");
        }
    }
}

fn read_back(state: &SavedDoor) -> SavedDoor {
    serde_json::from_value(serde_json::to_value(state).unwrap()).unwrap()
}

#[test]
fn a_mode_secure_that_an_operator_had_set_outlasts_the_doubt() {
    for (mode, after) in [
        ("secure", Mode::Secure),
        ("normal", Mode::Normal),
        ("passage", Mode::Normal),
        ("maintenance", Mode::Normal),
    ] {
        let mut rig = Rig::new(motor(Locked));
        let state = json!({
            "bootId": "boot-0", "savedAtMs": 90_000, "slots": [], "mode": mode, "commands": [],
        });
        let state: SavedDoor = serde_json::from_value(state).unwrap();
        let state = SavedDoor::in_doubt(vec![state], "a test".to_owned(), &rig.now);
        // A second doubt while the first still lasts.
        let state = SavedDoor::in_doubt(vec![state], "another".to_owned(), &rig.now);
        let (door, _) = Door::new(motor(Locked), Some(&state), &rig.now);
        assert_eq!(door.authority().mode(), Mode::Secure, "{mode}");
        rig.door = door;
        rig.act(&LOCK);
        assert_eq!(rig.door.authority().mode(), after, "{mode}");
        assert_eq!(rig.door.authority().in_doubt(), None, "{mode}");
    }
}

#[test]
fn in_doubt_every_dropped_release_of_an_operator_is_recorded_once() {
    let released = |slot| json!({"slot": slot, "want": "released"});
    let lockdown = json!({"slot": 5, "want": "locked"});
    let slots = json!([released(1), lockdown, released(7), released(8), released(9)]);
    let now = Rig::new(motor(Locked)).now;
    let found = vec![saved(&slots, &json!({}))];
    let state = SavedDoor::in_doubt(found, "a test".to_owned(), &now);
    // At the next start nothing is left to drop.
    for (state, expected) in [(read_back(&state), vec![]), (state, vec![7, 8, 9])] {
        let (_, events, _) = start(motor(Locked), &state);
        let dropped: Vec<u8> = events
            .iter()
            .filter_map(|event| match event {
                EventKind::Dropped { slot, why } if *why == DropReason::InDoubt => {
                    Some(slot.number())
                }
                _ => None,
            })
            .collect();
        assert_eq!(dropped, expected, "{events:?}");
    }
}

#[test]
fn in_doubt_the_desired_mode_counts_as_not_yet_applied() {
    let state = json!({
        "bootId": "boot-0", "savedAtMs": 90_000, "slots": [], "commands": [],
        "desiredMode": "lockdown", "desiredModeBefore": "passage", "settings": {"strikeTime": 7000},
    });
    let state: SavedDoor = serde_json::from_value(state).unwrap();
    let settings = [(Setting::StrikeTime, Duration::from_secs(7))].into();
    let desired = state.desired();
    assert_eq!(desired.mode, DesiredMode::Mode(Mode::Lockdown));
    assert_eq!(desired.settings, settings);

    let now = Rig::new(motor(Locked)).now;
    let state = SavedDoor::in_doubt(vec![state], "a test".to_owned(), &now);
    let desired = state.desired();
    assert_eq!(desired.mode, DesiredMode::Absent);
    assert_eq!(state.desired_mode_before, None);
    assert_eq!(desired.settings, settings);
}

#[test]
fn of_a_state_in_another_format_only_the_fire_latch_is_read() {
    let latch = json!({"slot": 1, "want": "released"});
    let lock = json!({"slot": 8, "want": "locked"});
    let unknown = json!({"slot": "roof", "want": "ajar"});
    for (text, has_latch) in [
        (json!({"slots": [unknown, lock, latch]}).to_string(), true),
        (json!({"slots": [lock]}).to_string(), false),
        (json!({"slots": []}).to_string(), false),
        (json!({"doors": 1}).to_string(), false),
        ("{".to_owned(), false),
    ] {
        let state = SavedDoor::fire_latch(&text);
        let found = state.map(|state| slots(&start(motor(Locked), &state).0));
        assert_eq!(found, has_latch.then(|| vec![1]), "{text}");
    }
}

#[test]
fn after_a_reboot_an_entry_ends_by_the_clock_but_keeps_at_most_its_remaining_time() {
    for (until, ends) in [
        ("2026-01-01T00:00:30Z", 130),
        ("2026-01-01T00:01:00Z", 160),
        // From a clock that was wrong.
        ("2027-01-01T00:00:00Z", 160),
    ] {
        let expiry = json!({"remainingMs": 60_000, "governs": "boottime", "until": until});
        let slots = json!([{"slot": 7, "want": "released", "expiry": expiry}]);
        let mut now = Rig::new(motor(Locked)).now;
        now.boot_id = BootId::new("boot-1");
        now.quality = ClockQuality::Synchronized;
        let (door, _) = Door::new(motor(Locked), Some(&saved(&slots, &json!({}))), &now);
        let grant = door.authority().get(Slot::OperatorGrant).unwrap();
        let expected = at(ends);
        assert_eq!(
            grant.expiry.map(|expiry| expiry.ends()),
            Some(expected),
            "{until}"
        );
    }
}

#[test]
fn a_bolt_follows_the_settle_time_that_was_desired() {
    for (settings, drive) in [
        (json!({}), "250 Throw"),
        (json!({"settleTime": 3000}), "3000 Throw"),
    ] {
        let mut rig = Rig::new(motor(Locked));
        let state = saved(&json!([]), &settings);
        rig.door = Door::new(motor(Locked), Some(&state), &rig.now).0;
        rig.act(&Nothing);
        rig.run_for(5000);
        assert_eq!(rig.drives[0], drive, "{settings}");
    }
}
