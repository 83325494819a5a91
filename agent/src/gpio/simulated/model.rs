//! The physics of a simulated door; time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use door_core::{Inputs, Outputs};

use super::super::earlier_of;
use super::wiring::Wiring;
use super::{Hold, Sensor, SimCommand, SimError, SimState};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mechanism {
    /// A motor for both directions.
    Motor,
    /// A coil throws the bolt, a spring retracts it.
    CoilThrows,
    /// A coil retracts the bolt, a spring throws it.
    CoilRetracts,
}

#[derive(Debug)]
pub(super) struct Model {
    /// Travel time from one end to the other.
    travel: Duration,
    mechanism: Mechanism,
    /// Whether a bolt moves into the frame; otherwise the door latches.
    has_bolt: bool,
    as_of: Instant,
    /// Position of the bolt, in travel time.
    bolt: Duration,
    outputs: Outputs,
    closed: bool,
    jammed: bool,
    power: bool,
    /// Sensors held active, with the end if it is timed.
    held: BTreeMap<Sensor, Option<Instant>>,
    wiring: Wiring,
}

impl Model {
    /// A closed door, its bolt at rest without power.
    pub(super) fn new(
        travel: Duration,
        mechanism: Mechanism,
        has_bolt: bool,
        now: Instant,
    ) -> Self {
        Self {
            travel,
            mechanism,
            has_bolt,
            as_of: now,
            bolt: match mechanism {
                Mechanism::Motor | Mechanism::CoilThrows => Duration::ZERO,
                Mechanism::CoilRetracts => travel,
            },
            outputs: Outputs::DeEnergised,
            closed: true,
            jammed: false,
            power: true,
            held: BTreeMap::new(),
            wiring: Wiring::default(),
        }
    }

    pub(super) fn read(&mut self, now: Instant) -> Inputs {
        self.pass(now);
        let reading = |sensor| Some(self.wire(sensor, now));
        Inputs {
            closed: reading(Sensor::Door),
            bonded: reading(Sensor::Bond),
            rex: reading(Sensor::Rex),
            grant: reading(Sensor::Grant),
            fire: reading(Sensor::Fire),
            fire_reset: reading(Sensor::FireReset),
            tamper: reading(Sensor::Tamper),
        }
    }

    /// The level of each wire, by the key of its input.
    pub(super) fn wires(&mut self, now: Instant) -> [(&'static str, bool); Sensor::ALL.len()] {
        self.pass(now);
        Sensor::ALL.map(|(key, sensor)| (key, self.wire(sensor, now)))
    }

    fn wire(&self, sensor: Sensor, now: Instant) -> bool {
        self.wiring.read(sensor, |sensor| self.senses(sensor), now)
    }

    pub(super) fn drive(&mut self, now: Instant, outputs: Outputs) {
        self.pass(now);
        self.outputs = outputs;
    }

    pub(super) fn apply(&mut self, now: Instant, command: SimCommand) -> Result<(), SimError> {
        self.pass(now);
        match command {
            SimCommand::Open if self.closed && self.is_thrown() => return Err(SimError::Locked),
            SimCommand::Close if self.has_bolt && !self.closed && !self.bolt.is_zero() => {
                return Err(SimError::BoltOut);
            }
            SimCommand::Open => self.closed = false,
            SimCommand::Force => {
                self.bolt = Duration::ZERO;
                self.closed = false;
            }
            SimCommand::Close => self.closed = true,
            SimCommand::Handle => {
                self.bolt = Duration::ZERO;
                self.closed = false;
            }
            SimCommand::Hold(sensor, Hold::Off) => {
                self.held.remove(&sensor);
            }
            SimCommand::Hold(sensor, Hold::On) => {
                self.held.insert(sensor, None);
            }
            SimCommand::Hold(sensor, Hold::For(time)) => {
                self.held.insert(sensor, Some(now + time));
            }
            SimCommand::Jam => self.jammed = true,
            SimCommand::Free => self.jammed = false,
            SimCommand::Miswire(sensor, fault) => {
                let level = self.wire(sensor, now);
                self.wiring.add_fault(sensor, fault, level, now);
            }
            SimCommand::Repair(Some(sensor)) => self.wiring.repair(sensor),
            SimCommand::Repair(None) => self.wiring.repair_all(),
            SimCommand::CutPower => self.power = false,
            SimCommand::RestorePower => self.power = true,
            SimCommand::Show => {}
        }
        Ok(())
    }

    pub(super) fn state(&self) -> SimState {
        SimState {
            door: if self.closed { "closed" } else { "open" },
            bolt: match self.bolt {
                _ if self.is_thrown() => "thrown",
                Duration::ZERO => "back",
                _ => "between",
            },
            outputs: self.outputs,
            jammed: self.jammed,
            power: self.power,
            active: self.held.keys().map(|sensor| sensor.key()).collect(),
            faults: self.wiring.faults(),
        }
    }

    /// When a reading changes by itself.
    pub(super) fn next_change(&self) -> Option<Instant> {
        let bolt = match self.direction() {
            Some(true) if !self.is_thrown() => Some(self.as_of + (self.travel - self.bolt)),
            // The bond switch opens with the first motion, a moment after it starts.
            Some(false) if self.is_thrown() => Some(self.as_of + Duration::from_millis(1)),
            _ => None,
        };
        let bolt = bolt.filter(|_| !self.jammed);
        let released = self.held.values().copied().fold(None, earlier_of);
        let wiring = self.wiring.next_change(self.as_of);
        [bolt, released, wiring].into_iter().fold(None, earlier_of)
    }

    /// Advances the model to `now`.
    pub(super) fn pass(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.as_of);
        self.as_of = self.as_of.max(now);
        self.held
            .retain(|_, until| until.is_none_or(|until| until > now));
        if self.jammed {
            return;
        }
        match self.direction() {
            Some(true) => self.bolt = (self.bolt + passed).min(self.travel),
            Some(false) => self.bolt = self.bolt.saturating_sub(passed),
            None => {}
        }
    }

    /// The true state of a sensor, without wiring faults.
    fn senses(&self, sensor: Sensor) -> bool {
        match sensor {
            Sensor::Door => self.closed,
            // Without a bolt nothing engages while the door is open.
            Sensor::Bond => self.is_thrown() && (self.has_bolt || self.closed),
            button => self.held.contains_key(&button),
        }
    }

    /// Whether the bolt moves out (`true`), in (`false`) or not at all.
    fn direction(&self) -> Option<bool> {
        let outputs = if self.power {
            self.outputs
        } else {
            Outputs::DeEnergised
        };
        match (self.mechanism, outputs) {
            (Mechanism::Motor, Outputs::Throw) => Some(true),
            (Mechanism::Motor, Outputs::Retract) => Some(false),
            (Mechanism::Motor, _) => None,
            (Mechanism::CoilThrows, outputs) => Some(outputs == Outputs::Energised),
            (Mechanism::CoilRetracts, outputs) => Some(outputs != Outputs::Energised),
        }
    }

    fn is_thrown(&self) -> bool {
        self.bolt == self.travel
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAVEL: Duration = Duration::from_millis(600);

    fn model(mechanism: Mechanism) -> (Model, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        let at = move |ms| start + Duration::from_millis(ms);
        (Model::new(TRAVEL, mechanism, true, start), at)
    }

    #[test]
    fn a_motor_moves_the_bolt_only_while_it_runs() {
        let (mut door, at) = model(Mechanism::Motor);
        door.drive(at(0), Outputs::Throw);
        assert_eq!(door.next_change(), Some(at(600)));
        assert_eq!(door.read(at(599)).bonded, Some(false));
        assert_eq!(door.state().bolt, "between");
        assert_eq!(door.read(at(600)).bonded, Some(true));
        assert_eq!(door.next_change(), None);
        door.drive(at(700), Outputs::DeEnergised);
        assert_eq!(door.read(at(9000)).bonded, Some(true));
        door.drive(at(9000), Outputs::Retract);
        assert_eq!(door.read(at(9001)).bonded, Some(false));
        door.drive(at(9300), Outputs::DeEnergised);
        assert_eq!(door.read(at(20_000)).bonded, Some(false));
        assert_eq!(door.state().bolt, "between");
    }

    #[test]
    fn a_coil_moves_it_one_way_and_its_spring_the_other() {
        for (mechanism, coil_throws) in [
            (Mechanism::CoilThrows, true),
            (Mechanism::CoilRetracts, false),
        ] {
            let (mut door, at) = model(mechanism);
            assert_eq!(door.read(at(0)).bonded, Some(!coil_throws));
            door.drive(at(0), Outputs::Energised);
            assert_eq!(door.read(at(1000)).bonded, Some(coil_throws));
            door.drive(at(1000), Outputs::DeEnergised);
            assert_eq!(door.read(at(2000)).bonded, Some(!coil_throws));
        }
    }

    #[test]
    fn a_jammed_bolt_stays_and_a_timed_press_ends() {
        let (mut door, at) = model(Mechanism::Motor);
        door.apply(at(0), SimCommand::Jam).unwrap();
        door.drive(at(0), Outputs::Throw);
        assert_eq!(door.next_change(), None);
        assert_eq!(door.read(at(5000)).bonded, Some(false));
        door.apply(at(5000), SimCommand::press(Sensor::Rex))
            .unwrap();
        assert_eq!(door.next_change(), Some(at(5500)));
        assert_eq!(door.read(at(5499)).rex, Some(true));
        assert_eq!(door.read(at(5500)).rex, Some(false));
    }

    #[test]
    fn a_locked_door_does_not_open_and_a_thrown_bolt_prevents_closing() {
        let (mut door, at) = model(Mechanism::Motor);
        door.drive(at(0), Outputs::Throw);
        door.pass(at(1000));
        assert_eq!(
            door.apply(at(1000), SimCommand::Open),
            Err(SimError::Locked)
        );
        door.apply(at(1000), SimCommand::Handle).unwrap();
        assert_eq!(door.read(at(1000)).closed, Some(false));
        door.pass(at(2000));
        assert_eq!(
            door.apply(at(2000), SimCommand::Close),
            Err(SimError::BoltOut)
        );
        door.drive(at(2000), Outputs::Retract);
        door.apply(at(3000), SimCommand::Close).unwrap();
        assert_eq!(door.state().door, "closed");
    }

    #[test]
    fn a_wiring_fault_changes_readings_until_it_is_repaired() {
        use super::super::Miswired::{Chatters, Cut, Inverted, Stuck, SwappedWith};
        // (sensor with the fault, the fault, readings of door, bond, rex, grant, fire while the
        // exit button is pressed)
        let right = [true, false, true, false, false];
        for (sensor, fault, seen) in [
            (Sensor::Door, Cut, [false, false, true, false, false]),
            (Sensor::Fire, Cut, [true, false, true, false, true]),
            (Sensor::Rex, Stuck, [true, false, false, false, false]),
            (Sensor::Bond, Inverted, [true, true, true, false, false]),
            (
                Sensor::Grant,
                SwappedWith(Sensor::Rex),
                [true, false, false, true, false],
            ),
            (Sensor::Rex, Chatters, [true, false, false, false, false]),
        ] {
            let (mut door, at) = model(Mechanism::Motor);
            door.apply(at(0), SimCommand::Miswire(sensor, fault))
                .unwrap();
            door.apply(at(10), SimCommand::Hold(Sensor::Rex, Hold::On))
                .unwrap();
            let read = |door: &mut Model, ms| {
                let Inputs {
                    closed,
                    bonded,
                    rex,
                    grant,
                    fire,
                    ..
                } = door.read(at(ms));
                [closed, bonded, rex, grant, fire].map(Option::unwrap)
            };
            assert_eq!(read(&mut door, 11), seen, "{sensor:?} {fault:?}");
            assert_eq!(
                door.state().faults.len(),
                if matches!(fault, SwappedWith(_)) {
                    2
                } else {
                    1
                }
            );
            if fault == Chatters {
                assert_eq!(door.next_change(), Some(at(20)));
                assert_eq!(read(&mut door, 20), right);
            }
            door.apply(at(30), SimCommand::Repair(Some(sensor)))
                .unwrap();
            assert_eq!(read(&mut door, 31), right, "{sensor:?} {fault:?} mended");
            assert_eq!(door.next_change(), None);
        }
    }

    #[test]
    fn without_power_a_spring_moves_the_bolt_and_a_motor_does_not() {
        for (mechanism, outputs, bonded) in [
            (Mechanism::Motor, Outputs::Throw, false),
            (Mechanism::CoilThrows, Outputs::Energised, false),
            (Mechanism::CoilRetracts, Outputs::Energised, true),
        ] {
            let (mut door, at) = model(mechanism);
            door.apply(at(0), SimCommand::CutPower).unwrap();
            door.drive(at(0), outputs);
            assert_eq!(door.read(at(5000)).bonded, Some(bonded), "{mechanism:?}");
            door.apply(at(5000), SimCommand::RestorePower).unwrap();
            assert_eq!(door.read(at(9000)).bonded, Some(!bonded), "{mechanism:?}");
        }
    }
}
