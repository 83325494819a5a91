//! A door with realistic simulated hardware; tests move the time.

use std::collections::VecDeque;
use std::time::Duration;

use super::record::{DoorCall, Record};
use crate::config::{DoorConfig, DoorSettings, FailMode, Fitted, Setting, StrikeConfig};
use crate::contract::{Alarm, Command, Lockdown, MethodReply};
use crate::desired::{DesiredDoor, DesiredLockdown, DesiredMode};
use crate::door::{Action, Door, Generation, NotSaved, Ticket};
use crate::event::EventKind;
use crate::saved::SavedDoor;
use crate::schedule::AssignedWeek;
use crate::sensing::Inputs;
use crate::strike::{OutputFault, Outputs};
use crate::time::{BootId, BootTime, ClockQuality, Now, at};

/// How long the bolt takes from one end to the other.
const TRAVEL: Duration = Duration::from_millis(600);
/// The shell reads the inputs at least this often.
const READ_INTERVAL: Duration = Duration::from_secs(1);

/// One step of a scenario, at the door or to the program.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Open,
    Close,
    /// The bolt does not move while it holds.
    Jam(bool),
    /// Somebody turns the handle: the bolt is back.
    Handle,
    Rex(bool),
    Grant(bool),
    Fire(bool),
    FireReset(bool),
    Tamper(bool),
    /// No output can be set while it holds.
    OutputFault(bool),
    /// These outputs of a motor cannot be set from here on.
    StuckOutputs(&'static [Outputs]),
    /// The door position switch cannot be read.
    Unplug,
    /// Method and payload; tickets count from 1.
    Call(&'static str, &'static str),
    /// The desired mode, and the desired strike time in seconds, are read: changed or not.
    Desire(DesiredMode, Option<u64>),
    /// The desired lockdown is read: its id, `none`, `lost` or `bad`. Other desired properties are
    /// as before.
    DesireLockdown(&'static str),
    /// The desired timed entries, as JSON, are read.
    Timed(&'static str),
    /// The desired week, as JSON, is read; it begins at once or with its next window.
    Week(&'static str, bool),
    /// True: from here on saves are pending. False: pending saves complete.
    SlowDisk(bool),
    /// Pending saves fail.
    DiskFails,
    /// The wall clock is set and trusted from here on.
    Clock(&'static str),
    /// The program is killed and starts again.
    Restart,
    /// The power fails for a while; the wall clock is not trusted until [`Step::Clock`].
    Reboot,
    /// The same, and the newest saved state may be lost.
    RebootInDoubt,
    Nothing,
}

pub(super) struct Rig {
    pub(super) door: Door,
    config: DoorConfig,
    energised_throws: bool,
    /// Throws that started while the door was open.
    pub(super) thrown_into_open: usize,
    heat: Duration,
    /// The highest heat reached, counted from a cold start.
    pub(super) hottest: Duration,
    pub(super) now: Now,
    pub(super) inputs: Inputs,
    unplugged: bool,
    jammed: bool,
    stuck_outputs: &'static [Outputs],
    /// How far the bolt is out, in travel time.
    pub(super) bolt: Duration,
    pub(super) outputs: Outputs,
    last_read: BootTime,
    pub(super) disk: Option<SavedDoor>,
    pub(super) desired: DesiredDoor,
    slow_disk: bool,
    waiting: VecDeque<(Generation, SavedDoor)>,
    next_ticket: u64,
    pub(super) drives: Vec<String>,
    pub(super) answers: Vec<(Ticket, MethodReply)>,
    pub(super) answer_lines: Vec<String>,
    pub(super) events: Vec<String>,
    /// Drives, saves, replies and events in order.
    pub(super) log: Vec<String>,
    boots: u32,
    pub(super) record: Record,
}

/// The readings of a closed door with its bolt retracted.
pub(super) const AT_REST: Inputs = Inputs {
    closed: Some(true),
    bonded: Some(false),
    rex: Some(false),
    grant: Some(false),
    fire: Some(false),
    fire_reset: Some(false),
    tamper: Some(false),
};

/// All inputs except the lock monitor.
pub(super) const NO_BOND: Fitted = Fitted {
    bond: false,
    ..Fitted::ALL
};

/// Without exit button and fire release, which must not depend on a coil of limited duty.
pub(super) const NO_EGRESS: Fitted = Fitted {
    rex: false,
    fire: false,
    ..Fitted::ALL
};

pub(super) const LOCK: Step = lock("{}");
pub(super) const UNLOCK: Step = unlock("{}");
pub(super) const LOCKDOWN: Step = mode(r#"{"mode":"lockdown"}"#);

pub(super) const fn lock(payload: &'static str) -> Step {
    Step::Call("lockDoor", payload)
}

pub(super) const fn unlock(payload: &'static str) -> Step {
    Step::Call("unlockDoor", payload)
}

pub(super) const fn relinquish(payload: &'static str) -> Step {
    Step::Call("relinquish", payload)
}

pub(super) const fn mode(payload: &'static str) -> Step {
    Step::Call("setMode", payload)
}

/// Steps followed by more steps.
pub(super) fn then(steps: &[(u64, Step)], more: &[(u64, Step)]) -> Vec<(u64, Step)> {
    [steps, more].concat()
}

/// Coil or motor may be energised for `max_on` seconds before it rests for `cool_down` seconds.
pub(super) fn limited(strike: StrikeConfig, max_on: u64, cool_down: u64) -> StrikeConfig {
    StrikeConfig {
        max_on: Some(Duration::from_secs(max_on)),
        cool_down: Some(Duration::from_secs(cool_down)),
        ..strike
    }
}

pub(super) fn motor(default: crate::Want) -> DoorConfig {
    config(default, StrikeConfig::motor_lock(), Fitted::ALL)
}

pub(super) fn bolt(fail: FailMode) -> DoorConfig {
    config(
        crate::Want::Released,
        StrikeConfig::solenoid_bolt(fail),
        Fitted::ALL,
    )
}

pub(super) fn strike(fail: FailMode) -> DoorConfig {
    config(
        crate::Want::Locked,
        StrikeConfig::hold_strike(fail),
        Fitted::ALL,
    )
}

pub(super) fn magnet() -> DoorConfig {
    config(crate::Want::Locked, StrikeConfig::maglock(), Fitted::ALL)
}

pub(super) fn config(default: crate::Want, strike: StrikeConfig, fitted: Fitted) -> DoorConfig {
    let settings = DoorSettings {
        relinquish_default: default,
        ..DoorSettings::default()
    };
    DoorConfig::new(settings, strike, fitted).unwrap()
}

impl DoorConfig {
    /// Runs a scenario at such a door: each step happens at its time in milliseconds.
    pub(super) fn run(self, steps: &[(u64, Step)]) -> Rig {
        let mut rig = Rig::new(self);
        for (ms, step) in steps {
            rig.run_to(*ms);
            rig.act(step);
        }
        rig
    }
}

impl Rig {
    /// A closed door with its bolt retracted, on a machine up for 100 s without a trusted clock.
    /// Times of steps count from there.
    pub(super) fn new(config: DoorConfig) -> Self {
        let now = Now {
            boottime: at(100),
            boot_id: BootId::new("boot-0"),
            wall: Some("2026-01-01T00:00:00Z".parse().unwrap()),
            quality: ClockQuality::Unsynchronized,
        };
        let (door, actions) = Door::new(config, None, &now);
        assert_eq!(actions, []);
        let mut record = Record::default();
        record.add(&now, DoorCall::Start(None), &actions);
        let mut rig = Self {
            door,
            config,
            energised_throws: matches!(
                config.actuator,
                crate::config::Actuator::Coil {
                    fail: FailMode::Safe,
                    ..
                }
            ),
            thrown_into_open: 0,
            heat: Duration::ZERO,
            hottest: Duration::ZERO,
            inputs: AT_REST,
            unplugged: false,
            jammed: false,
            stuck_outputs: &[],
            bolt: Duration::ZERO,
            outputs: Outputs::DeEnergised,
            last_read: now.boottime,
            now,
            disk: None,
            desired: DesiredDoor::default(),
            slow_disk: false,
            waiting: VecDeque::new(),
            next_ticket: 1,
            drives: Vec::new(),
            answers: Vec::new(),
            answer_lines: Vec::new(),
            events: Vec::new(),
            log: Vec::new(),
            boots: 0,
            record,
        };
        rig.read();
        rig
    }

    pub(super) fn act(&mut self, step: &Step) {
        match step {
            Step::Open => self.inputs.closed = Some(false),
            Step::Close => self.inputs.closed = Some(true),
            Step::Jam(jammed) => self.jammed = *jammed,
            Step::Handle => self.bolt = Duration::ZERO,
            Step::Rex(on) => self.inputs.rex = Some(*on),
            Step::Grant(on) => self.inputs.grant = Some(*on),
            Step::Fire(on) => self.inputs.fire = Some(*on),
            Step::FireReset(on) => self.inputs.fire_reset = Some(*on),
            Step::Tamper(on) => self.inputs.tamper = Some(*on),
            Step::OutputFault(true) => self.act(&Step::StuckOutputs(&[
                Outputs::Throw,
                Outputs::Retract,
                Outputs::Energised,
            ])),
            Step::OutputFault(false) => self.act(&Step::StuckOutputs(&[])),
            Step::StuckOutputs(stuck) => {
                self.stuck_outputs = stuck;
                self.drive(self.door.outputs());
            }
            Step::Unplug => self.unplugged = true,
            Step::Call(method, payload) => self.call(method, payload),
            Step::Desire(mode, strike_time) => {
                let strike_time = strike_time.map(Duration::from_secs);
                self.desired.mode = *mode;
                let strike_time = strike_time.map(|time| (Setting::StrikeTime, time));
                self.desired.settings = strike_time.into_iter().collect();
                self.desire();
            }
            Step::DesireLockdown(id) => {
                self.desired.lockdown = match *id {
                    "none" => DesiredLockdown::Absent,
                    "lost" => DesiredLockdown::Lost,
                    "bad" => DesiredLockdown::Unreadable,
                    id => DesiredLockdown::Lockdown {
                        lockdown: Lockdown {
                            id: id.parse().ok(),
                            by: Some("alice".to_owned()),
                            ..Lockdown::default()
                        },
                        version: 5,
                    },
                };
                self.desire();
            }
            Step::Timed(entries) => {
                self.desired.timed = serde_json::from_str(entries).unwrap();
                self.desired.timed_version += 1;
                self.desire();
            }
            Step::Week(text, now) => {
                self.desired.schedule = Some(AssignedWeek {
                    digest: format!("{} bytes", text.len()),
                    text: (*text).to_owned(),
                    now: *now,
                });
                self.desired.timed_version += 1;
                self.desire();
            }
            Step::SlowDisk(slow) => {
                self.slow_disk = *slow;
                while let Some((generation, saved)) = self.waiting.pop_front() {
                    self.disk = Some(saved);
                    self.call_door(DoorCall::Persisted(generation, Ok(())));
                }
            }
            Step::DiskFails => {
                self.slow_disk = false;
                if let Some((generation, _)) = self.waiting.pop_back() {
                    self.waiting.clear();
                    let failed = Err(NotSaved);
                    self.call_door(DoorCall::Persisted(generation, failed));
                }
            }
            Step::Clock(text) => {
                self.now.wall = Some(text.parse().unwrap());
                self.now.quality = ClockQuality::Synchronized;
            }
            Step::Restart => self.restart(),
            Step::Reboot | Step::RebootInDoubt => {
                if matches!(step, Step::RebootInDoubt) {
                    let found = self.disk.take().into_iter().collect();
                    self.disk = Some(SavedDoor::in_doubt(found, "a test".to_owned(), &self.now));
                }
                self.boots += 1;
                self.now.boot_id = BootId::new(&format!("boot-{}", self.boots));
                self.now.boottime = at(100);
                self.now.quality = ClockQuality::Unsynchronized;
                self.restart();
            }
            Step::Nothing => {}
        }
        self.read();
    }

    fn desire(&mut self) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.call_door(DoorCall::Desired(ticket, self.desired.clone()));
    }

    fn restart(&mut self) {
        self.waiting.clear();
        // A kill de-energises the outputs, whether or not the door is closed.
        self.outputs = Outputs::DeEnergised;
        self.call_door(DoorCall::Start(self.disk.clone()));
    }

    fn call(&mut self, method: &str, payload: &str) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        match Command::parse(method, payload.as_bytes()) {
            Ok(command) => {
                self.call_door(DoorCall::Command(ticket, command));
            }
            Err(reply) => self.answer(ticket, reply),
        }
    }

    /// Lets time pass; the door is called at its timeouts and when a reading changes.
    pub(super) fn run_until(&mut self, end: impl Into<BootTime>) {
        let end = end.into();
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 100_000, "time does not pass: {:?}", self.log);
            let due = self.door.poll_timeout();
            let next = [
                due,
                self.bolt_arrives(),
                Some(self.last_read + READ_INTERVAL),
            ]
            .into_iter()
            .flatten()
            .min()
            .map_or(end, |next| next.max(self.now.boottime));
            if next > end {
                self.pass(end);
                return;
            }
            self.pass(next);
            if due.is_some_and(|due| due <= next) {
                self.call_door(DoorCall::Timeout);
                let again = self.door.poll_timeout();
                assert!(
                    again.is_none_or(|again| again > next),
                    "still due: {:?}",
                    self.door
                );
            }
            self.read();
            if next == end {
                return;
            }
        }
    }

    /// Lets time pass up to this many milliseconds after the scenario began.
    pub(super) fn run_to(&mut self, ms: u64) {
        self.run_until(at(100) + Duration::from_millis(ms));
    }

    /// Lets this many milliseconds pass.
    pub(super) fn run_for(&mut self, ms: u64) {
        self.run_until(self.now.boottime + Duration::from_millis(ms));
    }

    fn pass(&mut self, to: BootTime) {
        let passed = to.since(self.now.boottime);
        self.now.boottime = to;
        self.now.wall = self.now.wall.map(|wall| {
            wall.checked_add(jiff::SignedDuration::try_from(passed).unwrap())
                .unwrap()
        });
        if let Some(duty) = self.config.duty {
            self.heat = if self.outputs == Outputs::DeEnergised {
                let cooled =
                    passed.as_secs_f64() * duty.max_on.as_secs_f64() / duty.cool_down.as_secs_f64();
                self.heat.saturating_sub(Duration::from_secs_f64(cooled))
            } else {
                self.heat + passed
            };
            self.hottest = self.hottest.max(self.heat);
        }
        if !self.jammed {
            self.bolt = match self.direction() {
                Some(true) => (self.bolt + passed).min(TRAVEL),
                Some(false) => self.bolt.saturating_sub(passed),
                None => self.bolt,
            };
        }
    }

    fn has_bolt(&self) -> bool {
        self.config.strike_kind().has_bolt()
    }

    /// Whether the bolt is moved out, in, or left.
    fn direction(&self) -> Option<bool> {
        let coil = matches!(self.config.actuator, crate::config::Actuator::Coil { .. });
        match self.outputs {
            Outputs::Throw => Some(true),
            Outputs::Retract => Some(false),
            Outputs::Energised => Some(self.energised_throws),
            Outputs::DeEnergised if coil => Some(!self.energised_throws),
            Outputs::DeEnergised => None,
        }
    }

    fn bolt_arrives(&self) -> Option<BootTime> {
        let left = match self.direction()? {
            true => TRAVEL - self.bolt,
            false => self.bolt,
        };
        (!self.jammed && !left.is_zero()).then(|| self.now.boottime + left)
    }

    fn read(&mut self) {
        self.last_read = self.now.boottime;
        // A strike's keeper and a magnet's armature hold nothing while the door is open.
        let holds = self.has_bolt() || self.inputs.closed == Some(true);
        self.inputs.bonded = Some(self.bolt == TRAVEL && holds);
        let mut inputs = self.inputs;
        if self.unplugged {
            inputs.closed = None;
        }
        self.call_door(DoorCall::Inputs(inputs));
    }

    fn call_door(&mut self, call: DoorCall) {
        let mut door = Some(self.door.clone());
        let actions = call.apply(&mut door, self.config, &self.now);
        self.door = door.expect("a door stays one");
        self.record.add(&self.now, call, &actions);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        let (mut drive, mut save) = (None, None);
        for action in actions {
            match action {
                Action::Drive(outputs) => drive = Some(outputs),
                Action::Persist { generation, saved } => save = Some((generation, saved)),
                Action::Answer { ticket, reply } => self.answer(ticket, reply),
                Action::Record(event) => {
                    let text = match event.kind {
                        EventKind::LockState {
                            lock_state, source, ..
                        } => {
                            format!("{lock_state:?} by {source:?}")
                        }
                        EventKind::DoorState { door_state } => format!("door {door_state:?}"),
                        other => format!("{other:?}"),
                    };
                    self.note("event", &text);
                    self.events.push(text);
                }
                Action::Report => {}
            }
        }
        if let Some(outputs) = drive {
            self.drive(outputs);
        }
        if let Some((generation, saved)) = save {
            self.persist(generation, saved);
        }
        assert!(
            !self.stuck_outputs.is_empty() || self.door.outputs() == self.outputs,
            "the outputs changed without an action"
        );
    }

    fn drive(&mut self, outputs: Outputs) {
        let is_energised = !self.stuck_outputs.contains(&outputs);
        if is_energised && !self.stuck_outputs.contains(&Outputs::Energised) {
            self.set_outputs(outputs);
        }
        let problem = "line 4 (throw) cannot be driven: input/output error".to_owned();
        let fault = OutputFault {
            problem,
            is_energised,
        };
        let driven = self.stuck_outputs.is_empty();
        self.call_door(DoorCall::Driven(driven.then_some(()).ok_or(fault)));
    }

    fn set_outputs(&mut self, outputs: Outputs) {
        if outputs == self.outputs {
            return;
        }
        let throws = match outputs {
            Outputs::Throw => true,
            Outputs::Energised => self.energised_throws,
            Outputs::Retract => false,
            Outputs::DeEnergised => self.outputs == Outputs::Energised && !self.energised_throws,
        };
        if throws && self.has_bolt() && self.inputs.closed != Some(true) {
            self.thrown_into_open += 1;
        }
        self.outputs = outputs;
        let line = format!("{} {outputs:?}", self.time());
        self.drives.push(line);
        self.note("drive", &format!("{outputs:?}"));
    }

    fn persist(&mut self, generation: Generation, saved: SavedDoor) {
        let text = serde_json::to_string(&saved).unwrap();
        let read_back = serde_json::from_str::<SavedDoor>(&text).unwrap();
        assert_eq!(serde_json::to_string(&read_back).unwrap(), text);
        self.note("persist", "");
        if self.slow_disk {
            self.waiting.push_back((generation, saved));
            return;
        }
        self.disk = Some(saved);
        self.call_door(DoorCall::Persisted(generation, Ok(())));
    }

    fn answer(&mut self, ticket: Ticket, reply: MethodReply) {
        let mut line = format!("{} #{} {}", self.time(), ticket.0, reply.status);
        if let Some(error) = reply.body.error {
            line.push_str(&format!(" {error:?}"));
        }
        if let Some(status) = &reply.body.status {
            line.push_str(&format!(" {:?} {:?}", status.lock_state, status.secured));
            if let Some(held) = status.held_by {
                line.push_str(&format!(" held by {}", held.slot.number()));
            }
        }
        self.note("answer", &line);
        self.answer_lines.push(line);
        self.answers.push((ticket, reply));
    }

    fn note(&mut self, what: &str, text: &str) {
        let line = format!("{} {what} {text}", self.time());
        self.log.push(line.trim_end().to_owned());
    }

    /// Milliseconds since the scenario began.
    fn time(&self) -> u128 {
        self.now.boottime.since(at(100)).as_millis()
    }

    /// All drives from the given one on.
    pub(super) fn drives_from(&self, first: usize) -> String {
        self.drives[first..].join(", ")
    }

    /// When a drive of this kind started.
    pub(super) fn starts(&self, drive: &str) -> Vec<u64> {
        let times = self
            .drives
            .iter()
            .map(|line| line.strip_suffix(drive)?.trim().parse().ok());
        times.flatten().collect()
    }

    pub(super) fn statuses(&self) -> Vec<u16> {
        let replies = self.answers.iter();
        replies.map(|(_, reply)| reply.status).collect()
    }

    pub(super) fn last_reply(&self) -> &MethodReply {
        &self.answers.last().expect("a reply").1
    }

    pub(super) fn has_event(&self, event: &str) -> bool {
        self.events.iter().any(|recorded| recorded == event)
    }

    /// The recorded events that contain a text.
    pub(super) fn events_with(&self, text: &str) -> Vec<&str> {
        let events = self.events.iter().map(String::as_str);
        events.filter(|event| event.contains(text)).collect()
    }

    /// Numbers of the occupied slots.
    pub(super) fn occupied(&self) -> Vec<u8> {
        let entries = self.door.authority().entries();
        entries.map(|(slot, _)| slot.number()).collect()
    }

    pub(super) fn status(&self) -> String {
        let status = self.door.report().status;
        format!("{:?} {:?}", status.lock_state, status.secured)
    }

    pub(super) fn energised_throws(&self) -> bool {
        self.energised_throws
    }

    /// Whether coil or motor must rest, by the alarm.
    pub(super) fn is_exhausted(&self) -> bool {
        self.has_alarm(Alarm::LockFault)
    }

    /// The operator's slots.
    pub(super) fn slots(&self) -> Vec<String> {
        let entries = self.door.authority().entries();
        entries
            .filter(|(slot, _)| !slot.is_at_the_door())
            .map(|(slot, entry)| format!("{slot:?} {:?} {:?}", entry.want, entry.command_id))
            .collect()
    }

    pub(super) fn has_alarm(&self, alarm: Alarm) -> bool {
        self.door.report().alarms.contains_key(&alarm)
    }
}
