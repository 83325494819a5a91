//! The state of the inputs. Readings are levels, not edges: each stands for itself, so a missed
//! edge cannot invert the state.
//!
//! Why: docs/decisions/0017-levels-not-edges.md.

use std::fmt;
use std::time::Duration;

use crate::config::Fitted;
use crate::contract::{DoorState, InputFault, LockState, Proof};
use crate::time::BootTime;

/// A logical level: `Some(true)` is active; `None` is not fitted or not readable.
pub type Reading = Option<bool>;

/// Changes within [`WINDOW`] that count as chatter: more than a person can make.
const CHATTER_CHANGES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(5);
/// How long an input that chattered must be stable before the fault ends.
const STABLE_TIME: Duration = Duration::from_secs(10);
/// A button that is active for this long is stuck.
const STUCK_TIME: Duration = Duration::from_secs(300);
/// How long bond and door may contradict each other before it is a fault; longer than any debounce.
const CONTRADICTION_TIME: Duration = Duration::from_secs(1);

/// One reading of every input. The GPIO layer handles polarity and debounce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inputs {
    /// Door position switch: active while the door is closed.
    pub closed: Reading,
    /// Lock monitor: active while the bolt is thrown.
    pub bonded: Reading,
    /// Request to exit.
    pub rex: Reading,
    /// Local grant: an existing reader or keypad.
    pub grant: Reading,
    /// Fire release.
    pub fire: Reading,
    /// The key switch that ends a fire release.
    pub fire_reset: Reading,
    /// Tamper contact: active while the enclosure is open.
    pub tamper: Reading,
}

/// Keys of the inputs in `[board.inputs]`.
pub(crate) const INPUTS: [&str; 7] = [
    "door",
    "bond",
    "rex",
    "grant",
    "fire",
    "fire_reset",
    "tamper",
];

/// Inputs that a person presses or turns, and that can therefore be stuck.
const BUTTONS: [&str; 3] = ["rex", "grant", "fire_reset"];

impl Inputs {
    /// In the order of [`INPUTS`].
    fn levels(&self) -> [Reading; INPUTS.len()] {
        [
            self.closed,
            self.bonded,
            self.rex,
            self.grant,
            self.fire,
            self.fire_reset,
            self.tamper,
        ]
    }
}

impl Fitted {
    /// The readings of fitted inputs only.
    #[must_use]
    pub fn keep(&self, inputs: Inputs) -> Inputs {
        let kept = |fitted: bool, reading: Reading| reading.filter(|_| fitted);
        Inputs {
            closed: kept(self.door, inputs.closed),
            bonded: kept(self.bond, inputs.bonded),
            rex: kept(self.rex, inputs.rex),
            grant: kept(self.grant, inputs.grant),
            fire: kept(self.fire, inputs.fire),
            fire_reset: kept(self.fire_reset, inputs.fire_reset),
            tamper: kept(self.tamper, inputs.tamper),
        }
    }

    /// Whether the input with this key is fitted.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        let index = INPUTS.iter().position(|input| *input == key);
        index.is_some_and(|index| self.all()[index])
    }

    /// In the order of [`INPUTS`].
    pub(crate) fn all(&self) -> [bool; INPUTS.len()] {
        [
            self.door,
            self.bond,
            self.rex,
            self.grant,
            self.fire,
            self.fire_reset,
            self.tamper,
        ]
    }
}

/// How often the number of changes of an input in fault is reported.
const FAULT_INTERVAL: Duration = Duration::from_secs(60);

/// Index of an input in [`INPUTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Input(usize);

impl Input {
    pub(crate) const DOOR: Self = Self(0);
    pub(crate) const BOND: Self = Self(1);
    pub(crate) const REX: Self = Self(2);
    pub(crate) const GRANT: Self = Self(3);
    pub(crate) const FIRE: Self = Self(4);
    pub(crate) const FIRE_RESET: Self = Self(5);
    pub(crate) const TAMPER: Self = Self(6);

    /// Key in `[board.inputs]`.
    pub(crate) fn key(self) -> &'static str {
        INPUTS[self.0]
    }
}

/// A fault of one input, present or past.
#[derive(Debug, Clone)]
struct Fault {
    is_present: bool,
    why: InputFault,
    /// Changes of the level since the fault began.
    changes: u64,
    /// The part of `changes` that has been reported.
    reported: u64,
    /// Boot-clock time of the next report.
    next_report: BootTime,
}

/// Start, count or end of a fault, to be recorded as an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FaultReport {
    pub(crate) input: Input,
    pub(crate) fault: InputFault,
    /// Changes of the level since the fault began.
    pub(crate) changes: u64,
    pub(crate) ended: bool,
}

/// Input and fault for a reader, such as "input tamper chatters".
impl fmt::Display for FaultReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match self.fault {
            InputFault::Unreadable => "cannot be read",
            InputFault::Contradiction => "reads thrown in an open door",
            InputFault::Chatter => "chatters",
            InputFault::Stuck => "is stuck",
        };
        write!(f, "input {} {fault}", self.input.key())
    }
}

/// Faults of several inputs for a reader.
pub(crate) fn faults_text(faults: &[FaultReport]) -> String {
    let faults: Vec<_> = faults.iter().map(FaultReport::to_string).collect();
    faults.join(", ")
}

/// Readings, and since when they hold.
///
/// An input in fault is still read. Exit button and fire release are trusted whenever they are
/// active, even in fault. Reader and reset key are ignored until they have been seen idle again.
/// Door and bond are unknown.
#[derive(Debug, Clone)]
pub(crate) struct Sensing {
    fitted: Fitted,
    /// As read; `None` before the first reading.
    raw: Option<Inputs>,
    trusted: Inputs,
    /// Boot-clock time since which the door has been seen closed.
    closed_since: Option<BootTime>,
    /// Boot-clock time since which the bolt has been seen thrown in an open door.
    contradiction_since: Option<BootTime>,
    watches: [Watch; INPUTS.len()],
    faults: [Option<Fault>; INPUTS.len()],
    /// Reader and reset key: true from a fault until they are seen idle.
    awaiting_idle: [bool; INPUTS.len()],
    reports: Vec<FaultReport>,
}

impl Sensing {
    pub(crate) fn new(fitted: Fitted) -> Self {
        Self {
            fitted,
            raw: None,
            trusted: Inputs::default(),
            closed_since: None,
            contradiction_since: None,
            watches: Default::default(),
            faults: Default::default(),
            awaiting_idle: Default::default(),
            reports: Vec::new(),
        }
    }

    /// Handles a reading. Inputs that are not fitted are ignored.
    pub(crate) fn read(&mut self, at: BootTime, inputs: Inputs) {
        let inputs = self.fitted.keep(inputs);
        for (index, level) in inputs.levels().into_iter().enumerate() {
            let changed = self.watches[index].read(at, level);
            if let Some(fault) = self.faults[index].as_mut().filter(|_| changed) {
                fault.changes += 1;
            }
        }
        self.raw = Some(inputs);
        let since = |held: Option<BootTime>, holds: bool| holds.then(|| held.unwrap_or(at));
        self.closed_since = since(self.closed_since, inputs.closed == Some(true));
        let contradiction = inputs.bonded == Some(true) && inputs.closed == Some(false);
        self.contradiction_since = since(self.contradiction_since, contradiction);
        self.advance(at);
    }

    /// Updates faults, and with them the trusted readings, by time alone.
    pub(crate) fn advance(&mut self, at: BootTime) {
        let Some(raw) = self.raw else {
            return;
        };
        for index in 0..INPUTS.len() {
            let cause = self.cause(Input(index), at);
            self.follow_fault(Input(index), cause, at);
        }
        for input in [Input::GRANT, Input::FIRE_RESET] {
            let idle = raw.levels()[input.0] == Some(false);
            let awaiting_idle = &mut self.awaiting_idle[input.0];
            *awaiting_idle = is_present(&self.faults[input.0]) || (*awaiting_idle && !idle);
        }
        let unless_awaiting_idle =
            |input: Input, reading: Reading| reading.filter(|_| !self.awaiting_idle[input.0]);
        let bond_unknown = self.faults[Input::BOND.0]
            .as_ref()
            // Either sensor may be the wrong one: the strike continues with both readings.
            .is_some_and(|fault| fault.is_present && fault.why != InputFault::Contradiction);
        self.trusted = Inputs {
            closed: raw.closed.filter(|_| !self.is_faulty(Input::DOOR)),
            bonded: raw.bonded.filter(|_| !bond_unknown),
            grant: unless_awaiting_idle(Input::GRANT, raw.grant),
            // No reset while it is unknown whether the fire release is idle.
            fire_reset: unless_awaiting_idle(Input::FIRE_RESET, raw.fire_reset)
                .filter(|_| !self.is_faulty(Input::FIRE)),
            ..raw
        };
    }

    fn follow_fault(&mut self, input: Input, cause: Option<InputFault>, at: BootTime) {
        let slot = &mut self.faults[input.0];
        match (slot.as_mut().filter(|fault| fault.is_present), cause) {
            (None, None) => return,
            (None, Some(why)) => {
                *slot = Some(Fault {
                    is_present: true,
                    why,
                    changes: 0,
                    reported: 0,
                    next_report: at + FAULT_INTERVAL,
                });
            }
            (Some(fault), Some(why)) => {
                fault.why = why;
                if fault.next_report > at || fault.changes == fault.reported {
                    return;
                }
                fault.reported = fault.changes;
                fault.next_report = at + FAULT_INTERVAL;
            }
            (Some(fault), None) => fault.is_present = false,
        }
        self.reports.extend(self.fault_report(input));
    }

    /// The present fault of an input.
    fn cause(&self, input: Input, at: BootTime) -> Option<InputFault> {
        let watch = &self.watches[input.0];
        if !self.fitted.all()[input.0] {
            return None;
        }
        if watch.chatters(at) {
            return Some(InputFault::Chatter);
        }
        let raw = self.raw?;
        if raw.levels()[input.0].is_none() {
            return Some(InputFault::Unreadable);
        }
        let contradiction_ends = self
            .contradiction_since
            .map(|since| since + CONTRADICTION_TIME);
        if input == Input::BOND && contradiction_ends.is_some_and(|ends| ends <= at) {
            return Some(InputFault::Contradiction);
        }
        let stuck = BUTTONS.contains(&input.key()) && watch.is_stuck(at);
        stuck.then_some(InputFault::Stuck)
    }

    /// The fault reports since the last call.
    pub(crate) fn take_reports(&mut self) -> Vec<FaultReport> {
        std::mem::take(&mut self.reports)
    }

    /// The latest fault of an input; `None` if it never had one.
    pub(crate) fn fault_report(&self, input: Input) -> Option<FaultReport> {
        let fault = self.faults[input.0].as_ref()?;
        Some(FaultReport {
            input,
            fault: fault.why,
            changes: fault.changes,
            ended: !fault.is_present,
        })
    }

    /// Whether there has been a reading; before it nothing is driven.
    pub(crate) fn has_read(&self) -> bool {
        self.raw.is_some()
    }

    /// The trusted part of the latest reading; all unknown before the first.
    pub(crate) fn inputs(&self) -> Inputs {
        self.trusted
    }

    /// The door position switch reads open, trusted or not.
    pub(crate) fn reads_open(&self) -> bool {
        self.raw.is_some_and(|raw| raw.closed == Some(false))
    }

    pub(crate) fn closed_since(&self) -> Option<BootTime> {
        self.closed_since.filter(|_| self.trusted.closed.is_some())
    }

    pub(crate) fn door_state(&self) -> DoorState {
        match self.inputs().closed {
            Some(true) => DoorState::Closed,
            Some(false) => DoorState::Open,
            None => DoorState::Unknown,
        }
    }

    /// How the readings prove this state of the lock: never by a sensor that denies it.
    pub(crate) fn proof(&self, lock_state: LockState) -> Proof {
        match (self.inputs().bonded, self.inputs().closed) {
            _ if self.is_faulty(Input::BOND) => Proof::None,
            (Some(false), _) if lock_state == LockState::Locked => Proof::None,
            (Some(true), _) if lock_state == LockState::Unlocked => Proof::None,
            (Some(_), _) => Proof::Bond,
            (None, Some(false)) if lock_state == LockState::Locked => Proof::None,
            // If the fitted lock monitor cannot be read, there is no proof.
            (None, Some(_)) if !self.fitted.bond => Proof::Contact,
            (None, _) => Proof::None,
        }
    }

    /// The fitted inputs by key, with their raw readings.
    pub(crate) fn levels(&self) -> Vec<(&'static str, Reading)> {
        let raw = self.raw.unwrap_or_default();
        let levels = INPUTS.into_iter().zip(raw.levels());
        levels
            .zip(self.fitted.all())
            .filter_map(|(level, fitted)| fitted.then_some(level))
            .collect()
    }

    /// Whether the input is unreadable, contradicts another, chatters, or is a button that is
    /// stuck.
    pub(crate) fn is_faulty(&self, input: Input) -> bool {
        is_present(&self.faults[input.0])
    }

    pub(crate) fn has_fault(&self) -> bool {
        self.faults.iter().any(is_present)
    }

    /// The inputs in fault on which `secured` depends: door and bond.
    pub(crate) fn position_faults(&self) -> Vec<FaultReport> {
        let reports = [Input::DOOR, Input::BOND].map(|input| self.fault_report(input));
        reports
            .into_iter()
            .flatten()
            .filter(|report| !report.ended)
            .collect()
    }

    /// All inputs in fault.
    pub(crate) fn present_faults(&self) -> Vec<FaultReport> {
        let reports = (0..INPUTS.len()).map(|index| self.fault_report(Input(index)));
        reports.flatten().filter(|report| !report.ended).collect()
    }

    /// When a fault begins, ends or has a count to report by time alone.
    pub(crate) fn poll_timeout(&self, at: BootTime) -> Option<BootTime> {
        let contradiction = self
            .contradiction_since
            .map(|since| since + CONTRADICTION_TIME);
        let watched = INPUTS
            .into_iter()
            .zip(&self.watches)
            .filter_map(|(key, watch)| watch.poll_timeout(at, BUTTONS.contains(&key)));
        let counts = self.faults.iter().flatten();
        let counts = counts
            .filter(|fault| fault.is_present && fault.changes > fault.reported)
            .map(|fault| fault.next_report);
        contradiction
            .into_iter()
            .chain(watched)
            .chain(counts)
            .filter(|due| *due > at)
            .min()
    }
}

fn is_present(fault: &Option<Fault>) -> bool {
    fault.as_ref().is_some_and(|fault| fault.is_present)
}

/// The history of one input, watched for chatter and for a stuck button.
#[derive(Debug, Clone, Default)]
struct Watch {
    level: Reading,
    /// The first reading is not a change.
    has_read: bool,
    /// Boot-clock time of the latest change.
    changed_at: BootTime,
    /// Changes since `window_start` began.
    changes: u32,
    window_start: BootTime,
    /// Boot-clock time at which the chatter will have ended.
    chatter_ends: Option<BootTime>,
}

impl Watch {
    /// Handles a reading; returns whether the level changed. Becoming readable or unreadable is a
    /// change too.
    fn read(&mut self, at: BootTime, level: Reading) -> bool {
        let first = !std::mem::replace(&mut self.has_read, true);
        if level == self.level {
            return false;
        }
        self.level = level;
        self.changed_at = at;
        if first {
            return false;
        }
        if self.window_start + WINDOW < at {
            self.window_start = at;
            self.changes = 0;
        }
        self.changes += 1;
        if self.changes >= CHATTER_CHANGES || self.chatters(at) {
            self.chatter_ends = Some(at + STABLE_TIME);
        }
        true
    }

    /// Whether the input is in chatter at `at`.
    fn chatters(&self, at: BootTime) -> bool {
        self.chatter_ends
            .is_some_and(|chatter_ends| chatter_ends > at)
    }

    /// Whether the input has been active for too long.
    fn is_stuck(&self, at: BootTime) -> bool {
        self.level == Some(true) && self.changed_at + STUCK_TIME <= at
    }

    /// When a fault begins or ends by time alone.
    fn poll_timeout(&self, at: BootTime, is_button: bool) -> Option<BootTime> {
        let chatter_ends = self.chatter_ends.filter(|chatter_ends| *chatter_ends > at);
        let held = is_button && self.level == Some(true) && !self.is_stuck(at);
        chatter_ends
            .into_iter()
            .chain(held.then(|| self.changed_at + STUCK_TIME))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::at;

    #[test]
    fn changes_within_5_s_inclusive_are_chatter_until_10_s_after_the_last() {
        for (late, chatters) in [(Duration::ZERO, true), (Duration::from_nanos(1), false)] {
            let mut watch = Watch::default();
            watch.read(at(1), Some(false));
            let first = at(10);
            for change in 1..CHATTER_CHANGES {
                watch.read(first, Some(change % 2 == 1));
            }
            let last = first + WINDOW + late;
            watch.read(last, Some(false));
            assert_eq!(watch.chatters(last), chatters, "{late:?}");
            let ends = last + STABLE_TIME;
            let due = watch.poll_timeout(last, false);
            assert_eq!(due, chatters.then_some(ends), "{late:?}");
            assert_eq!(watch.poll_timeout(ends, false), None);
        }
    }

    #[test]
    fn a_button_that_is_held_is_due_once_when_it_becomes_stuck() {
        let mut watch = Watch::default();
        watch.read(at(1), Some(true));
        let stuck = at(1) + STUCK_TIME;
        assert_eq!(watch.poll_timeout(at(2), true), Some(stuck));
        assert_eq!(watch.poll_timeout(at(2), false), None);
        assert_eq!(watch.poll_timeout(stuck, true), None);
        watch.read(at(3), Some(false));
        assert_eq!(watch.poll_timeout(at(3), true), None);
    }
}
