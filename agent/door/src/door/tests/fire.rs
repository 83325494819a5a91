//! The fire release is latched until its key switch is turned at the door after the release ended.

use super::rig::Step::{Fire, FireReset, Nothing, Reboot, Restart};
use super::rig::{Rig, Step, motor};
use crate::Slot;
use crate::Want::Locked;
use crate::time::at;

#[test]
fn a_reset_counts_only_after_it_was_seen_idle_since_the_latch() {
    const FIRE: Step = Fire(true);
    const OVER: Step = Fire(false);
    const KEY: Step = FireReset(true);
    const IDLE: Step = FireReset(false);
    let cases: [(&[Step], bool); 17] = [
        (&[FIRE, OVER], true),
        (&[FIRE, OVER, KEY], false),
        // Left turned, or stuck.
        (&[KEY, FIRE, OVER], true),
        (&[KEY, FIRE, OVER, KEY], true),
        (&[KEY, FIRE, OVER, IDLE, KEY], false),
        (&[KEY, FIRE, IDLE, OVER, KEY], false),
        // Not while the release is active.
        (&[FIRE, KEY], true),
        (&[FIRE, KEY, IDLE], true),
        (&[FIRE, KEY, IDLE, OVER], true),
        (&[FIRE, KEY, IDLE, OVER, KEY], false),
        // Turned while it is active, and left turned: the contact may open because its wire burnt.
        (&[FIRE, KEY, OVER], true),
        (&[FIRE, KEY, OVER, IDLE, KEY], false),
        (&[FIRE, OVER, FIRE, KEY, OVER], true),
        // One reset, one latch.
        (&[FIRE, OVER, KEY, FIRE, OVER], true),
        // Over a restart: the latch is restored, earlier readings are unknown.
        (&[FIRE, OVER, Restart, KEY], false),
        (&[KEY, FIRE, OVER, Restart], true),
        (&[KEY, FIRE, OVER, Reboot, IDLE, KEY], false),
    ];
    for (scenario, latched) in cases {
        let mut rig = Rig::new(motor(Locked));
        for step in scenario {
            let start = if matches!(step, Reboot) { 100 } else { 0 };
            rig.act(step);
            let end = rig.now.boottime.max(at(start));
            rig.run_until(end + std::time::Duration::from_secs(10));
        }
        let slot = rig.door.authority().get(Slot::FireRelease);
        assert_eq!(slot.is_some(), latched, "{scenario:?}: {:?}", rig.log);
        let resets = rig.events_with("FireReset").len();
        assert!(latched || resets > 0, "{scenario:?}: {:?}", rig.events);
    }
}

#[test]
fn a_start_with_the_key_turned_keeps_the_latch_that_it_restores() {
    for start in [Restart, Reboot] {
        let mut rig = motor(Locked).run(&[(5000, Fire(true)), (9000, Fire(false))]);
        rig.inputs.fire_reset = Some(true);
        rig.act(&start);
        rig.run_for(10_000);
        let slot = rig.door.authority().get(Slot::FireRelease);
        assert!(slot.is_some(), "{start:?}: {:?}", rig.log);
        rig.act(&FireReset(false));
        rig.act(&FireReset(true));
        assert!(rig.door.authority().get(Slot::FireRelease).is_none());
    }
}

#[test]
fn nothing_is_reset_while_the_fire_release_cannot_be_read() {
    let mut rig = motor(Locked).run(&[(5000, Fire(true)), (9000, Nothing)]);
    rig.inputs.fire = None;
    rig.act(&FireReset(true));
    assert!(rig.door.authority().get(Slot::FireRelease).is_some());
    // Nor by a key that was turned meanwhile and left turned.
    rig.act(&Fire(false));
    assert!(rig.door.authority().get(Slot::FireRelease).is_some());
    rig.act(&FireReset(false));
    rig.inputs.fire = None;
    rig.act(&FireReset(true));
    rig.act(&Fire(false));
    assert!(rig.door.authority().get(Slot::FireRelease).is_some());
    rig.act(&FireReset(false));
    rig.act(&FireReset(true));
    assert!(rig.door.authority().get(Slot::FireRelease).is_none());
}

#[test]
fn a_change_of_the_latch_is_saved_at_once_and_again_after_a_second() {
    let saves = |rig: &Rig| -> Vec<String> {
        let saves = rig.log.iter().filter(|line| line.ends_with(" persist"));
        saves.cloned().collect()
    };
    let fire = [(5000, Fire(true)), (9000, Fire(false))];
    let reset = [(11_000, FireReset(true)), (20_000, Nothing)];
    let latched = ["5000 persist", "6000 persist"];
    let both = [
        "5000 persist",
        "6000 persist",
        "11000 persist",
        "12000 persist",
    ];
    for (steps, expected) in [
        (vec![fire[0], (5999, Nothing)], &latched[..1]),
        (vec![fire[0], (6000, Nothing)], &latched[..]),
        (fire.to_vec(), &latched),
        ([fire, reset].concat(), &both),
    ] {
        let rig = motor(Locked).run(&steps);
        assert_eq!(saves(&rig), expected, "{steps:?}");
    }
}
