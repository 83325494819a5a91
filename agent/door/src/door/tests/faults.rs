//! Inputs in fault: what they still do, and how many events they may record.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::rig::{AT_REST, NO_BOND, bolt, config, magnet, motor, strike};
use crate::Want::{self, Locked, Released};
use crate::config::{DoorConfig, FailMode, StrikeConfig};
use crate::contract::{Alarm, Command, DoorState, InputFault, LockState, Proof, Secured};
use crate::door::{Action, Door, Ticket};
use crate::event::EventKind;
use crate::sensing::{INPUTS, Inputs, Reading};
use crate::strike::Outputs;
use crate::time::{BootId, BootTime, ClockQuality, Now, at};

/// A door with given readings, independent of its strike.
struct Bench {
    door: Door,
    now: Now,
    inputs: Inputs,
    outputs: Outputs,
    events: Vec<(BootTime, EventKind)>,
}

fn reading<'a>(inputs: &'a mut Inputs, input: &str) -> &'a mut Reading {
    match input {
        "door" => &mut inputs.closed,
        "bond" => &mut inputs.bonded,
        "rex" => &mut inputs.rex,
        "grant" => &mut inputs.grant,
        "fire" => &mut inputs.fire,
        "fire_reset" => &mut inputs.fire_reset,
        _ => &mut inputs.tamper,
    }
}

impl Bench {
    fn new(config: DoorConfig) -> Self {
        let now = Now {
            boottime: at(100),
            boot_id: BootId::new("boot-0"),
            wall: None,
            quality: ClockQuality::Unsynchronized,
        };
        let (door, _) = Door::new(config, None, &now);
        let mut bench = Self {
            door,
            now,
            inputs: AT_REST,
            outputs: Outputs::DeEnergised,
            events: Vec::new(),
        };
        bench.read();
        bench
    }

    fn read(&mut self) {
        let actions = self.door.handle_inputs(&self.now, self.inputs);
        self.take(actions);
    }

    fn set(&mut self, input: &str, level: Reading) {
        *reading(&mut self.inputs, input) = level;
        self.read();
    }

    fn call(&mut self, method: &str, payload: &str) {
        let command = Command::parse(method, payload.as_bytes()).unwrap();
        let actions = self.door.handle_command(&self.now, Ticket(1), &command);
        self.take(actions);
    }

    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Drive(outputs) => {
                    self.outputs = outputs;
                    let actions = self.door.handle_driven(&self.now, Ok(()));
                    self.take(actions);
                }
                Action::Record(event) => self.events.push((self.now.boottime, event.kind)),
                Action::Persist { generation, .. } => {
                    let actions = self.door.handle_persisted(&self.now, generation, Ok(()));
                    self.take(actions);
                }
                Action::Answer { .. } | Action::Report => {}
            }
        }
    }

    /// Lets time pass.
    fn wait(&mut self, ms: u64) {
        let end = self.now.boottime + Duration::from_millis(ms);
        let mut steps = 0;
        while let Some(due) = self.door.poll_timeout().filter(|due| *due <= end) {
            steps += 1;
            assert!(steps < 10_000, "time does not pass: {:?}", self.door);
            self.now.boottime = due.max(self.now.boottime);
            let actions = self.door.handle_timeout(&self.now);
            self.take(actions);
        }
        self.now.boottime = end;
    }

    /// Changes an input every 50 ms, and leaves it at `last`.
    fn chatter(&mut self, input: &str, changes: u64, last: Reading) {
        for n in (0..changes).rev() {
            let level = last.map(|last| last == (n % 2 == 0));
            self.set(input, level);
            self.wait(50);
        }
    }

    /// Puts an input in fault at the start of a scenario; a button is active then, if it can be.
    fn spoil(&mut self, input: &str, fault: InputFault) {
        match fault {
            InputFault::Unreadable => self.set(input, None),
            InputFault::Chatter => self.chatter(input, 30, Some(true)),
            InputFault::Stuck => {
                self.set(input, Some(true));
                self.wait(301_000);
            }
            InputFault::Contradiction => {
                self.inputs.closed = Some(false);
                self.set("bond", Some(true));
                self.wait(1100);
            }
        }
        self.read();
        assert!(self.door.report().alarms.contains_key(&Alarm::SensorFault));
    }

    fn want(&self) -> Want {
        self.door.authority().want()
    }

    fn has_alarm(&self, alarm: Alarm) -> bool {
        self.door.report().alarms.contains_key(&alarm)
    }

    fn count(&self, is: impl Fn(&EventKind) -> bool) -> usize {
        self.events.iter().filter(|(_, event)| is(event)).count()
    }
}

const UNREAD: InputFault = InputFault::Unreadable;
const CHATTER: InputFault = InputFault::Chatter;
const STUCK: InputFault = InputFault::Stuck;

type Row = (
    &'static str,
    InputFault,
    &'static str,
    DoorConfig,
    fn(&mut Bench) -> bool,
);

/// Input, fault, rule, door, and a closure that tests the rule.
fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for fault in [UNREAD, CHATTER] {
        let both: Vec<Row> = vec![
            (
                "door",
                fault,
                "state and secured unknown",
                motor(Locked),
                |bench: &mut Bench| {
                    let status = bench.door.report().status;
                    status.door_state == DoorState::Unknown && status.secured != Secured::Secured
                },
            ),
            (
                "door",
                fault,
                "a locked door is not secured",
                magnet(),
                |bench| {
                    bench.set("bond", Some(true));
                    bench.wait(4000);
                    let status = bench.door.report().status;
                    (status.lock_state, status.secured) == (LockState::Locked, Secured::Unknown)
                },
            ),
            (
                "door",
                fault,
                "a motor throws no bolt",
                motor(Released),
                |bench| {
                    bench.call("lockDoor", "{}");
                    bench.wait(5000);
                    bench.outputs != Outputs::Throw && bench.want() == Locked
                },
            ),
            (
                "door",
                fault,
                "a spring throws no bolt",
                bolt(FailMode::Secure),
                |bench| {
                    bench.call("lockDoor", "{}");
                    bench.wait(5000);
                    bench.outputs == Outputs::Energised
                },
            ),
            (
                "door",
                fault,
                "a strike locks",
                strike(FailMode::Safe),
                |bench| {
                    bench.call("lockDoor", "{}");
                    bench.wait(5000);
                    bench.outputs == Outputs::Energised
                },
            ),
            ("door", fault, "a magnet holds", magnet(), |bench| {
                bench.call("lockDoor", "{}");
                bench.wait(5000);
                bench.outputs == Outputs::Energised
            }),
            ("door", fault, "exit still works", motor(Locked), |bench| {
                bench.set("rex", Some(true));
                bench.want() == Released
            }),
            ("bond", fault, "proof none", motor(Locked), |bench| {
                bench.wait(6000);
                let status = bench.door.report().status;
                (status.proof, status.secured) == (Proof::None, Secured::Unknown)
            }),
            (
                "rex",
                fault,
                "each active reading releases",
                magnet(),
                |bench| {
                    bench.set("rex", Some(false));
                    bench.wait(5500);
                    let was = bench.want();
                    bench.set("rex", Some(true));
                    was == Locked && bench.want() == Released
                },
            ),
            (
                "grant",
                fault,
                "releases again once it was seen idle",
                magnet(),
                |bench| {
                    bench.set("grant", Some(true));
                    bench.wait(11_000);
                    bench.read();
                    let active = bench.want();
                    bench.set("grant", Some(false));
                    bench.set("grant", Some(true));
                    active == Locked && bench.want() == Released
                },
            ),
            (
                "fire",
                fault,
                "each active reading releases",
                magnet(),
                |bench| {
                    bench.set("fire", Some(true));
                    bench.want() == Released
                },
            ),
            (
                "fire",
                fault,
                "no reset while it is unknown whether it is idle",
                magnet(),
                |bench| {
                    bench.set("fire", Some(true));
                    bench.set("fire", None);
                    bench.set("fire_reset", Some(true));
                    bench.want() == Released
                },
            ),
            (
                "fire_reset",
                fault,
                "resets again once it was seen idle",
                magnet(),
                |bench| {
                    bench.set("fire", Some(true));
                    bench.set("fire", Some(false));
                    bench.set("fire_reset", Some(true));
                    bench.wait(11_000);
                    bench.read();
                    let active = bench.want();
                    bench.set("fire_reset", Some(false));
                    bench.set("fire_reset", Some(true));
                    active == Released && bench.want() == Locked
                },
            ),
        ];
        rows.extend(both);
    }
    let one: Vec<Row> = vec![
        ("grant", CHATTER, "releases nothing", magnet(), |bench| {
            let at_once = bench.want();
            bench.set("grant", Some(false));
            bench.set("grant", Some(true));
            at_once == Locked && bench.want() == Locked
        }),
        (
            "grant",
            UNREAD,
            "is not active for coming back",
            magnet(),
            |bench| {
                bench.set("grant", Some(true));
                bench.want() == Locked
            },
        ),
        ("fire_reset", CHATTER, "resets nothing", magnet(), |bench| {
            bench.set("fire", Some(true));
            bench.set("fire", Some(false));
            bench.set("fire_reset", Some(false));
            bench.set("fire_reset", Some(true));
            bench.want() == Released
        }),
        (
            "fire_reset",
            UNREAD,
            "resets nothing for coming back",
            magnet(),
            |bench| {
                bench.set("fire", Some(true));
                bench.set("fire", Some(false));
                bench.set("fire_reset", Some(true));
                bench.want() == Released
            },
        ),
        (
            "bond",
            InputFault::Contradiction,
            "proof none",
            motor(Locked),
            |bench: &mut Bench| bench.door.report().status.proof == Proof::None,
        ),
        ("rex", STUCK, "releases", magnet(), |bench| {
            bench.want() == Released
        }),
        ("grant", STUCK, "releases nothing", magnet(), |bench| {
            bench.want() == Locked
        }),
        ("fire_reset", STUCK, "resets nothing", magnet(), |bench| {
            bench.set("fire", Some(true));
            bench.set("fire", Some(false));
            bench.want() == Released
        }),
        ("tamper", CHATTER, "an alarm holds", magnet(), |bench| {
            let raised = bench.has_alarm(Alarm::Tamper);
            bench.set("tamper", Some(false));
            raised && bench.has_alarm(Alarm::Tamper)
        }),
        (
            "tamper",
            UNREAD,
            "is raised by an active reading",
            magnet(),
            |bench| {
                bench.chatter("tamper", 22, Some(false));
                bench.set("tamper", Some(true));
                bench.set("tamper", None);
                bench.has_alarm(Alarm::Tamper)
            },
        ),
    ];
    rows.extend(one);
    rows
}

#[test]
fn inputs_in_fault_act_by_their_purpose() {
    for (input, fault, rule, config, holds) in rows() {
        let mut bench = Bench::new(config);
        bench.wait(6000);
        bench.spoil(input, fault);
        assert!(
            holds(&mut bench),
            "{input} {fault:?}: {rule}: {:?}",
            bench.door
        );
    }
}

#[test]
fn alarms_of_an_open_door_hold_while_its_switch_is_in_fault_and_follow_it_after() {
    for fault in [UNREAD, CHATTER] {
        let mut bench = Bench::new(magnet());
        bench.wait(6000);
        bench.set("door", Some(false));
        assert!(bench.has_alarm(Alarm::ForcedOpen));
        match fault {
            UNREAD => bench.set("door", None),
            // Each of the first openings raises it again.
            _ => bench.chatter("door", 29, Some(false)),
        }
        let before = bench.has_alarm(Alarm::ForcedOpen);
        for level in [Some(true), None, Some(false), Some(true)] {
            if fault == CHATTER {
                bench.set("door", level);
                assert_eq!(
                    bench.has_alarm(Alarm::ForcedOpen),
                    before,
                    "{fault:?} {level:?}"
                );
            }
        }
        bench.wait(400_000);
        assert_eq!(
            bench.has_alarm(Alarm::ForcedOpen),
            fault == UNREAD,
            "{fault:?}"
        );
        bench.set("door", Some(true));
        assert!(!bench.has_alarm(Alarm::ForcedOpen), "{fault:?}");
    }
}

#[test]
fn a_throw_is_withdrawn_if_the_door_reads_open_even_in_fault() {
    let mut bench = Bench::new(motor(Locked));
    bench.wait(6000);
    bench.set("bond", Some(true));
    bench.set("rex", Some(true));
    bench.set("bond", Some(false));
    bench.set("rex", Some(false));
    bench.wait(5000 + 300);
    for _ in 0..9 {
        bench.set("door", Some(false));
        bench.set("door", Some(true));
    }
    bench.wait(300);
    assert_eq!(bench.outputs, Outputs::Throw, "{:?}", bench.events);
    bench.set("door", None);
    bench.set("door", Some(false));
    assert_eq!(bench.door.report().status.door_state, DoorState::Unknown);
    assert_ne!(bench.outputs, Outputs::Throw);
}

/// Every input chatters 20 times a second for ten minutes.
#[test]
fn chatter_records_a_start_one_count_per_minute_and_an_end() {
    for input in INPUTS {
        let mut bench = Bench::new(motor(Locked));
        bench.wait(6000);
        bench.chatter(input, 30, Some(true));
        let began = bench.events.len();
        bench.chatter(input, 12_000, Some(true));
        let during = &bench.events[began..];
        let is_fault = |event: &EventKind| matches!(event, EventKind::InputFault { input: of, fault: CHATTER, .. } if of == input);
        assert_eq!(bench.count(is_fault), 11, "{input}: {:?}", bench.events);
        // The movement in progress at the start still completes.
        assert!(during.len() <= 10 + 6, "{input}: {during:?}");
        let last = during.iter().rev().find(|(_, event)| is_fault(event));
        assert!(
            matches!(last, Some((_, EventKind::InputFault { changes, ended: false, .. })) if *changes > 10_000),
            "{input}: {last:?}"
        );
        bench.wait(11_000);
        let end = bench.events.iter().rev().find(|(_, event)| is_fault(event));
        assert!(
            matches!(end, Some((_, EventKind::InputFault { ended: true, changes, .. })) if *changes > 11_900),
            "{input}: {end:?}"
        );
    }
}

#[test]
fn a_fault_wakes_the_door_for_its_count_only_after_a_change() {
    let due = |bench: &Bench, began: BootTime| {
        let due = bench.door.poll_timeout();
        due.map(|due| due.since(began).as_millis())
    };
    let mut bench = Bench::new(magnet());
    bench.wait(6000);
    bench.set("fire_reset", None);
    assert!(bench.has_alarm(Alarm::SensorFault));
    assert_eq!(due(&bench, bench.now.boottime), None);

    let mut bench = Bench::new(magnet());
    bench.wait(6000);
    // The twentieth change is chatter, and each later one prolongs it by 10 s.
    bench.chatter("fire_reset", 19, Some(true));
    bench.set("fire_reset", Some(false));
    let began = bench.now.boottime;
    assert_eq!(due(&bench, began), Some(10_000));
    for n in 1..=6 {
        bench.wait(9000);
        bench.set("fire_reset", Some(n % 2 == 1));
    }
    assert_eq!(due(&bench, began), Some(60_000));
    bench.wait(6000);
    assert_eq!(due(&bench, began), Some(64_000));
    bench.wait(4000);
    assert!(!bench.has_alarm(Alarm::SensorFault));
    assert_eq!(due(&bench, began), None);
}

#[test]
fn below_the_chatter_limit_alarm_events_are_bounded_and_end_with_the_present_state() {
    let mut bench = Bench::new(magnet());
    bench.wait(6000);
    // 18 changes in 5 s, for a minute.
    for _ in 0..108 {
        bench.set("tamper", Some(true));
        bench.wait(278);
        bench.set("tamper", Some(false));
        bench.wait(278);
    }
    bench.set("tamper", Some(true));
    bench.wait(61_000);
    let of = |event: &EventKind| {
        matches!(
            event,
            EventKind::AlarmRaised {
                alarm: Alarm::Tamper,
                ..
            } | EventKind::AlarmCleared {
                alarm: Alarm::Tamper
            }
        )
    };
    assert!(!bench.has_alarm(Alarm::SensorFault));
    assert!(bench.count(of) <= 22, "{:?}", bench.events);
    let omitted: u64 = bench
        .events
        .iter()
        .map(|(_, event)| match event {
            EventKind::AlarmRepeated { omitted, .. } => *omitted,
            _ => 0,
        })
        .sum();
    let repeated = bench.count(|event| matches!(event, EventKind::AlarmRepeated { .. }));
    // Each report of omitted events comes with one more event, the present state of the alarm.
    assert_eq!(
        bench.count(of) - repeated + usize::try_from(omitted).unwrap(),
        217,
        "{:?}",
        bench.events
    );
    let last = bench.events.iter().rev().find(|(_, event)| of(event));
    assert!(
        matches!(last, Some((_, EventKind::AlarmRaised { .. }))),
        "{:?}",
        bench.events
    );
}

fn any_door() -> impl Strategy<Value = DoorConfig> {
    prop_oneof![
        Just(motor(Locked)),
        Just(bolt(FailMode::Safe)),
        Just(bolt(FailMode::Secure)),
        Just(strike(FailMode::Safe)),
        Just(magnet()),
        Just(config(Locked, StrikeConfig::motor_lock(), NO_BOND)),
    ]
}

/// A sequence of readings, and how long each holds.
fn rhythm() -> impl Strategy<Value = (Vec<(usize, Reading)>, Vec<u64>)> {
    let reading = prop_oneof![3 => Just(Some(true)), 3 => Just(Some(false)), 1 => Just(None)];
    let step = (0..INPUTS.len(), reading);
    let pause = prop_oneof![1..20_u64, 200..400_u64, 900..1200_u64, 4000..12_000_u64];
    (
        proptest::collection::vec(step, 2..8),
        proptest::collection::vec(pause, 1..4),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// For any readings at any rate, over three minutes.
    #[test]
    fn the_events_of_a_minute_are_bounded(door in any_door(), (steps, pauses) in rhythm()) {
        let mut bench = Bench::new(door);
        let end = bench.now.boottime + Duration::from_secs(180);
        let mut n = 0;
        while bench.now.boottime < end {
            let (input, level) = steps[n % steps.len()];
            bench.set(INPUTS[input], level);
            bench.wait(pauses[n % pauses.len()]);
            n += 1;
        }
        for minute in 0..3 {
            let from = at(100 + minute * 60);
            let within = bench.events.iter().filter(|(time, _)| {
                (from..from + Duration::from_secs(60)).contains(time)
            });
            let mut by_subject: BTreeMap<String, usize> = BTreeMap::new();
            let mut all = 0;
            for (_, event) in within {
                all += 1;
                let subject = match event {
                    EventKind::AlarmRaised { alarm, .. }
                    | EventKind::AlarmCleared { alarm }
                    | EventKind::PreAlarm { alarm } => format!("{alarm:?}"),
                    EventKind::InputFault { input, .. } => input.clone(),
                    _ => continue,
                };
                *by_subject.entry(subject).or_default() += 1;
            }
            // Two windows of the limit may overlap a minute.
            for (subject, events) in by_subject {
                prop_assert!(events <= 22, "{}: {} in a minute", subject, events);
            }
            // 19 changes in 5 s of each of seven inputs, two events per change, and the limits by
            // subject.
            prop_assert!(all <= 7 * 19 * 12 * 2 + 15 * 22, "{} in a minute", all);
        }
    }
}
