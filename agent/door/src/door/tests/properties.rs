//! Properties that hold for all scenarios.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::rig::{NO_BOND, NO_EGRESS, Rig, Step, bolt, config, limited, magnet, motor, strike};
use crate::Slot;
use crate::Want::{Locked, Released};
use crate::config::{DoorConfig, FailMode, Fitted, StrikeConfig};
use crate::contract::{Alarm, Mode, ReplyError};
use crate::desired::DesiredMode;
use crate::strike::Outputs;
use crate::time::BootTime;

/// A bond time, and time for anything else in progress.
const LONG: u64 = 30_000;

const MODES: [&str; 7] = [
    r#"{"mode":"normal"}"#,
    r#"{"mode":"passage"}"#,
    r#"{"mode":"secure"}"#,
    r#"{"mode":"maintenance"}"#,
    r#"{"mode":"lockdown"}"#,
    r#"{"mode":"lockdown","commandId":"m"}"#,
    r#"{"mode":"passage","commandId":"late","notAfter":"2026-11-23T21:00:00Z"}"#,
];

fn payload() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("{}"),
        Just(r#"{"lockTime":"10s"}"#),
        Just(r#"{"unlockTime":"10s"}"#),
        Just(r#"{"commandId":"a"}"#),
        Just(r#"{"commandId":"b","notAfter":"2026-11-23T22:00:30Z"}"#),
        Just(r#"{"commandId":"late","notAfter":"2026-11-23T21:00:00Z"}"#),
        Just(r#"{"until":"2026-11-23T22:00:40Z"}"#),
        Just("[]"),
    ]
}

fn desired_mode() -> impl Strategy<Value = DesiredMode> {
    prop_oneof![
        Just(DesiredMode::Absent),
        Just(DesiredMode::Unreadable),
        (0..Mode::ALL.len()).prop_map(|n| DesiredMode::Mode(Mode::ALL[n])),
    ]
}

/// Timed entries around the time to which the clock is set.
const TIMED: [&str; 6] = [
    "{}",
    r#"{"l": {"want": "locked", "from": "2026-11-23T22:00:10Z", "until": "2026-11-23T22:00:40Z"}}"#,
    r#"{"l": {"want": "locked", "from": "2026-11-23T22:00:20Z"}}"#,
    r#"{"r": {"want": "released", "from": "2026-11-23T22:00:05Z", "until": "2026-11-23T22:00:30Z"}}"#,
    r#"{"l": {"want": "locked", "from": "2026-11-23T22:00:10Z", "until": "2026-11-23T22:00:40Z"},
        "r": {"want": "released", "from": "2026-11-23T22:00:15Z", "until": "2026-11-23T22:00:20Z"}}"#,
    r#"{"r": {"want": "released", "from": "2026-11-23T22:00:05Z", "until": "2026-11-23T22:09:00Z"},
        "o": {"want": "released", "from": "2026-11-23T22:00:00Z", "until": "2026-11-23T22:30:00Z",
              "slot": 16}}"#,
];

/// Weeks that change around the time to which the clock is set, a Monday.
const WEEKS: [&str; 3] = [
    r#"{"name": "a", "zone": "UTC", "window": [
        {"days": "mon-fri", "from": "06:00", "to": "22:00", "want": "released"},
        {"days": "mon-sun", "from": "22:00", "to": "06:00", "want": "locked",
         "takes_over": true}]}"#,
    r#"{"name": "b", "zone": "UTC", "otherwise": "default", "window": [
        {"days": "mon", "from": "21:55", "to": "22:01", "want": "released"}]}"#,
    r#"{"name": "c", "zone": "UTC", "window": [
        {"days": "mon", "from": "22:01", "to": "23:00", "want": "released",
         "first_person_in": "30m"}]}"#,
];

const CLOCKS: [&str; 4] = [
    "2026-11-23T22:00:00Z",
    "2026-11-23T22:00:03Z",
    "2026-11-23T22:10:00Z",
    "2026-11-23T21:50:00Z",
];

fn step() -> impl Strategy<Value = Step> {
    let method = prop_oneof![
        Just("lockDoor"),
        Just("unlockDoor"),
        Just("relinquish"),
        Just("getState"),
        Just("selfTest")
    ];
    let modes = prop_oneof![
        2 => (0..MODES.len()).prop_map(|n| ("setMode", MODES[n])),
        1 => Just(("relinquish", r#"{"slot":5}"#)),
        1 => Just(("relinquish", r#"{"slot":9}"#)),
        1 => Just(("lockdown", r#"{"commandId":"L1"}"#)),
        1 => Just(("allClear", "{}")),
    ];
    let lockdowns = proptest::sample::select(vec!["L1", "L2", "none", "lost", "bad"]);
    prop_oneof![
        6 => (method, payload()).prop_map(|(method, payload)| Step::Call(method, payload)),
        2 => modes.prop_map(|(method, payload)| Step::Call(method, payload)),
        1 => (desired_mode(), prop_oneof![Just(None), Just(Some(2)), Just(Some(9))])
            .prop_map(|(mode, strike_time)| Step::Desire(mode, strike_time)),
        1 => lockdowns.prop_map(Step::DesireLockdown),
        2 => Just(Step::Open),
        3 => Just(Step::Close),
        1 => any::<bool>().prop_map(Step::Jam),
        1 => Just(Step::Handle),
        2 => any::<bool>().prop_map(Step::Rex),
        1 => any::<bool>().prop_map(Step::Grant),
        1 => any::<bool>().prop_map(Step::Fire),
        1 => any::<bool>().prop_map(Step::FireReset),
        1 => any::<bool>().prop_map(Step::Tamper),
        1 => any::<bool>().prop_map(Step::SlowDisk),
        1 => Just(Step::DiskFails),
        2 => (0..CLOCKS.len()).prop_map(|n| Step::Clock(CLOCKS[n])),
        1 => (0..WEEKS.len(), any::<bool>()).prop_map(|(n, now)| Step::Week(WEEKS[n], now)),
        3 => (0..TIMED.len()).prop_map(|n| Step::Timed(TIMED[n])),
        1 => Just(Step::Restart),
        1 => Just(Step::Reboot),
        1 => Just(Step::RebootInDoubt),
        3 => Just(Step::Nothing),
    ]
}

fn scenario() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let pause = prop_oneof![Just(0), 1..700_u64, 700..12_000_u64];
    proptest::collection::vec((pause, step()), 1..40)
}

fn limited_motor() -> DoorConfig {
    let strike = limited(StrikeConfig::motor_lock(), 7, 20);
    config(Locked, strike, Fitted::ALL)
}

fn limited_bolt() -> DoorConfig {
    let strike = limited(StrikeConfig::solenoid_bolt(FailMode::Safe), 7, 20);
    config(Released, strike, Fitted::ALL)
}

/// Energised to release: must not serve inputs that must always release.
fn limited_strike() -> DoorConfig {
    let strike = limited(StrikeConfig::hold_strike(FailMode::Secure), 12, 20);
    config(Locked, strike, NO_EGRESS)
}

fn door() -> impl Strategy<Value = DoorConfig> {
    prop_oneof![
        Just(motor(Locked)),
        Just(motor(Released)),
        Just(bolt(FailMode::Safe)),
        Just(bolt(FailMode::Secure)),
        Just(limited_motor()),
        Just(limited_bolt()),
        Just(strike(FailMode::Safe)),
        Just(strike(FailMode::Secure)),
        Just(magnet()),
        Just(config(Locked, StrikeConfig::maglock(), NO_BOND)),
        Just(config(Locked, StrikeConfig::motor_lock(), NO_BOND)),
    ]
}

/// Runs a scenario and checks after each step.
fn watch(config: DoorConfig, scenario: &[(u64, Step)], mut look: impl FnMut(&Rig, Step)) -> Rig {
    let mut rig = Rig::new(config);
    for (pause, step) in scenario {
        rig.run_for(*pause);
        rig.act(step);
        look(&rig, *step);
    }
    rig
}

/// The array without the reported wall time of an end, which a clock set meanwhile changes.
fn decisions(rig: &Rig) -> impl PartialEq + std::fmt::Debug + use<> {
    let array = rig.door.authority();
    let entries: Vec<_> = array
        .entries()
        .map(|(slot, entry)| {
            let ends = entry.expiry.map(|expiry| expiry.ends());
            (slot, entry.want, ends, entry.command_id.clone())
        })
        .collect();
    (
        array.mode(),
        array.displaced_mode(),
        array.desired_mode(),
        array.desired_before(),
        array.saved_lockdown(),
        entries,
    )
}

fn is_moving_in(rig: &Rig) -> bool {
    rig.door.report().status.lock_state == crate::contract::LockState::Unlocking
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    /// Request to exit, grant and fire: in the same step the bolt is retracted, being retracted, or
    /// has been driven and is stuck.
    #[test]
    fn a_release_at_the_door_is_driven_in_its_step(config in door(), scenario in scenario()) {
        let mut was_granted = false;
        watch(config, &scenario, |rig, step| {
            // A reader counts from idle on, and not in a lockdown.
            let was_active = std::mem::replace(&mut was_granted, rig.inputs.grant == Some(true));
            let may_grant = !was_active && rig.door.authority().mode() != Mode::Lockdown;
            let asked = matches!(step, Step::Rex(true) | Step::Fire(true))
                || (may_grant && matches!(step, Step::Grant(true)));
            if !asked {
                return;
            }
            assert_eq!(rig.door.authority().want(), Released);
            assert_ne!(rig.outputs, Outputs::Throw);
            let holds_locked = rig.energised_throws() && rig.outputs == Outputs::Energised;
            assert!(!holds_locked, "a coil still holds the bolt: {:?}", rig.door);
            let state = format!("{:?}", rig.door.report().status.lock_state);
            assert!(
                ["Unlocked", "Unlocking", "Jammed"].contains(&state.as_str())
                    || rig.is_exhausted(),
                "{state}: {:?}", rig.log
            );
        });
    }

    /// Checked when the drive starts.
    #[test]
    fn a_bolt_is_thrown_only_into_a_closed_door(config in door(), scenario in scenario()) {
        let rig = watch(config, &scenario, |_, _| {});
        prop_assert_eq!(rig.thrown_into_open, 0, "{:?}", rig.log);
    }

    /// Without further steps everything ends: no reply is pending, nothing moves.
    #[test]
    fn everything_temporary_ends(config in door(), scenario in scenario()) {
        let mut rig = watch(config, &scenario, |_, _| {});
        for calm in [Step::SlowDisk(false), Step::Rex(false), Step::Grant(false), Step::Jam(false)] {
            rig.act(&calm);
        }
        rig.run_for(LONG * 4);
        prop_assert_eq!(rig.door.unanswered(), 0, "{:?}", rig.log);
        prop_assert!(!is_moving_in(&rig), "{:?}", rig.door);
        prop_assert!(!matches!(rig.outputs, Outputs::Throw | Outputs::Retract), "{:?}", rig.door);
        for (slot, entry) in rig.door.authority().entries() {
            prop_assert!(
                entry.expiry.is_none_or(|expiry| expiry.ends() > rig.now.boottime),
                "{:?} is over", slot
            );
        }
    }

    /// Counted outside of the door, from a cold start: heat never exceeds the coil's limit.
    #[test]
    fn no_coil_is_driven_past_its_limit(
        config in prop_oneof![Just(limited_motor()), Just(limited_bolt()), Just(limited_strike())],
        scenario in scenario(),
    ) {
        let scenario: Vec<_> = scenario
            .into_iter()
            // A restart assumes half of the limit as heat, which is not what is counted here.
            .filter(|(_, step)| !matches!(step, Step::Restart | Step::Reboot | Step::RebootInDoubt))
            .collect();
        let limit = config.duty.map(|duty| duty.max_on).expect("it is limited");
        let mut rig = watch(config, &scenario, |rig, _| {
            assert!(rig.hottest <= limit, "{:?}", rig.log);
        });
        rig.run_for(LONG);
        prop_assert!(rig.hottest <= limit, "{:?}", rig.log);
    }

    /// Of all deliveries of one command id at most one fills a slot, unless an earlier one failed.
    #[test]
    fn a_duplicate_does_not_act(scenario in scenario()) {
        let once = |step: &Step| matches!(step, Step::Call("lockDoor", r#"{"commandId":"a"}"#));
        let mut rig = Rig::new(motor(Released));
        let mut succeeded = false;
        for (pause, step) in &scenario {
            rig.run_for(*pause);
            if !once(step) {
                // Steps in between are not checked here.
                rig.act(step);
                continue;
            }
            let answered = rig.answers.len();
            rig.act(&Step::SlowDisk(false));
            rig.run_for(6000);
            let before = rig.slots();
            rig.act(step);
            if succeeded {
                prop_assert_eq!(&before, &rig.slots(), "{:?}", rig.log);
            }
            rig.run_for(6000);
            prop_assert!(rig.answers.len() > answered);
            succeeded = rig.answers.last().is_some_and(|(_, reply)| reply.is_success());
        }
    }

    #[test]
    fn an_expired_command_never_acts(config in door(), scenario in scenario()) {
        let mut rig = Rig::new(config);
        rig.act(&Step::Clock("2026-11-23T22:00:00Z"));
        for (pause, step) in &scenario {
            if matches!(step, Step::Reboot | Step::RebootInDoubt) {
                continue;
            }
            rig.run_for(*pause);
            rig.act(step);
            for (slot, entry) in rig.door.authority().entries() {
                let id = entry.command_id.as_ref().map(|id| id.as_str());
                prop_assert_ne!(id, Some("late"), "in slot {:?}: {:?}", slot, rig.log);
            }
        }
    }

    /// Alarms of an open door last only while it is open; shortly after closing none is left.
    #[test]
    fn a_closed_door_is_neither_forced_nor_held(config in door(), scenario in scenario()) {
        watch(config, &scenario, |rig, _| {
            let alarms = rig.door.report().alarms;
            let open = [Alarm::ForcedOpen, Alarm::HeldOpen];
            if open.iter().any(|alarm| alarms.contains_key(alarm)) {
                assert_eq!(rig.inputs.closed, Some(false), "{:?}", rig.log);
            }
        });
    }

    /// The same scenario gives the same outputs, and every call gets exactly one reply.
    #[test]
    fn replaying_a_scenario_gives_the_same_result(config in door(), scenario in scenario()) {
        let first = watch(config, &scenario, |_, _| {});
        let second = watch(config, &scenario, |_, _| {});
        prop_assert_eq!(&first.log, &second.log);
        let tickets: BTreeSet<_> = first.answers.iter().map(|(ticket, _)| *ticket).collect();
        prop_assert_eq!(tickets.len(), first.answers.len());
    }

    /// While a mode refuses unlocks, no unlock fills a slot; under a lockdown only slots 1 and 2
    /// release; no lock is refused.
    #[test]
    fn a_mode_refuses_unlocks_and_nothing_else(config in door(), scenario in scenario()) {
        let mut rig = Rig::new(config);
        for (pause, step) in &scenario {
            rig.run_for(*pause);
            let refuses = matches!(rig.door.report().mode, Mode::Lockdown | Mode::Secure);
            let before = rig.slots();
            rig.act(step);
            let array = rig.door.authority();
            if let (true, Step::Call("unlockDoor", _)) = (refuses, step) {
                prop_assert_eq!(&before, &rig.slots(), "{:?}", rig.log);
            }
            if array.mode() == Mode::Lockdown && array.want() == Released {
                let winner = array.winner().map_or(0, |(slot, _)| slot.number());
                prop_assert!(matches!(winner, 1 | 2), "slot {} releases in a lockdown", winner);
            }
            if array.mode() == Mode::Secure {
                for slot in [Slot::OperatorGrant, Slot::OperatorHold] {
                    let want = array.get(slot).map(|entry| entry.want);
                    prop_assert_ne!(want, Some(Released), "{:?}", rig.log);
                }
            }
            prop_assert_eq!(array.get(Slot::Passage).is_some(), array.displaced_mode().unwrap_or(array.mode()) == Mode::Passage);
        }
        for (_, reply) in &rig.answers {
            let refused = reply.body.error == Some(ReplyError::Refused);
            let text = &reply.body.response;
            prop_assert!(!refused || text.starts_with("unlockDoor is refused"), "{}", text);
        }
    }

    /// A restart restores the array that was saved last, except presses of buttons.
    #[test]
    fn the_saved_state_restores_the_array(config in door(), scenario in scenario()) {
        let mut rig = watch(config, &scenario, |_, _| {});
        rig.act(&Step::SlowDisk(false));
        for calm in [Step::Rex(false), Step::Grant(false)] {
            rig.act(&calm);
        }
        // Until no button press lasts any more, and everything pending is on disk.
        rig.run_for(12_000);
        let before = decisions(&rig);
        rig.act(&Step::Restart);
        prop_assert_eq!(decisions(&rig), before, "{:?}", rig.log);
    }

    /// Reading the same desired mode and lockdown again changes nothing, whatever happened since.
    #[test]
    fn a_desired_mode_and_lockdown_act_once(config in door(), scenario in scenario()) {
        let mut rig = watch(config, &scenario, |_, _| {});
        rig.act(&Step::SlowDisk(false));
        // Any reading of the twin ends the doubt about the week.
        let decided = |rig: &Rig| {
            let mut slots = rig.slots();
            slots.retain(|slot| !slot.starts_with("Schedule"));
            (rig.door.authority().mode(), slots)
        };
        let before = decided(&rig);
        let (_, _, applied) = rig.door.authority().saved_lockdown();
        let id = applied.map_or("none", |applied| match applied.id.as_str() {
            "L1" => "L1",
            _ => "L2",
        });
        // Forget what a restart lost before it was saved.
        let kept = rig.door.agenda.to_saved(rig.now.boottime, &Default::default());
        rig.desired.schedule = kept.week().cloned();
        let timed = rig.door.timed().iter();
        rig.desired.timed = timed.map(|(id, it)| (id.clone(), it.entry.clone())).collect();
        rig.desired.mode = DesiredMode::Unreadable;
        rig.act(&Step::DesireLockdown(id));
        if let Some(applied) = rig.door.authority().desired_mode() {
            rig.act(&Step::Desire(DesiredMode::Mode(applied), None));
        }
        prop_assert_eq!(decided(&rig), before, "{:?}", rig.log);
    }

    /// Replaying all calls at another door gives the same actions: nothing else decides.
    #[test]
    fn replaying_recorded_calls_gives_the_same_actions(config in door(), scenario in scenario()) {
        let rig = watch(config, &scenario, |_, _| {});
        prop_assert!(rig.record.len() > scenario.len());
        prop_assert_eq!(rig.record.first_difference(config), None);
    }

    /// At any time everything temporary has an end in the future, and `poll_timeout` is not later.
    #[test]
    fn everything_temporary_has_a_deadline(config in door(), scenario in scenario()) {
        watch(config, &scenario, |rig, _| {
            let due = rig.door.poll_timeout();
            let by = |limit: BootTime| due.is_some_and(|due| due <= limit);
            for (slot, entry) in rig.door.authority().entries() {
                let temporary = matches!(slot.number(), 2 | 3 | 7);
                assert!(!temporary || entry.expiry.is_some(), "{slot:?} has no end");
                if let Some(expiry) = entry.expiry {
                    assert!(expiry.ends() > rig.now.boottime, "{slot:?} is over");
                    assert!(by(expiry.ends()), "{slot:?} ends unseen: {due:?}");
                }
            }
            // The disk has five seconds; the bond time after it is shorter.
            let owed = rig.door.unanswered() > 0;
            assert!(!owed || by(rig.now.boottime + Duration::from_secs(5)), "{due:?}");
            // The longest pause between two attempts, and the longest rest here.
            let rests = rig.door.required_rest().is_some();
            assert!(!rests || by(rig.now.boottime + Duration::from_secs(61)), "{due:?}");
            let moving = matches!(rig.outputs, Outputs::Throw | Outputs::Retract);
            assert!(!moving || by(rig.now.boottime + Duration::from_secs(3)), "{due:?}");
        });
    }
}
