//! The physics of a simulated door; time comes in as an argument.

use std::time::{Duration, Instant};

use door_core::{Inputs, Outputs};

use super::super::earlier;
use super::{SimCommand, SimError, SimState};

/// How long a button pressed by hand stays pressed.
const PRESS: Duration = Duration::from_millis(500);

/// What moves the bolt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mechanism {
    /// A motor, either way.
    Motor,
    /// A coil throws it, a spring retracts it.
    CoilThrows,
    /// A coil retracts it, a spring throws it.
    CoilRetracts,
}

/// One door.
#[derive(Debug)]
pub(super) struct Model {
    /// From one end to the other.
    travel: Duration,
    mechanism: Mechanism,
    as_of: Instant,
    /// How far the bolt is out, in travel time.
    bolt: Duration,
    outputs: Outputs,
    closed: bool,
    jammed: bool,
    fire: bool,
    rex: Option<Instant>,
    grant: Option<Instant>,
    reset: Option<Instant>,
}

impl Model {
    /// A closed door, its bolt where it is without power.
    pub(super) fn new(travel: Duration, mechanism: Mechanism, now: Instant) -> Self {
        Self {
            travel,
            mechanism,
            as_of: now,
            bolt: match mechanism {
                Mechanism::Motor | Mechanism::CoilThrows => Duration::ZERO,
                Mechanism::CoilRetracts => travel,
            },
            outputs: Outputs::DeEnergised,
            closed: true,
            jammed: false,
            fire: false,
            rex: None,
            grant: None,
            reset: None,
        }
    }

    pub(super) fn read(&mut self, now: Instant) -> Inputs {
        self.pass(now);
        Inputs {
            closed: Some(self.closed),
            bonded: Some(self.is_thrown()),
            rex: Some(self.rex.is_some()),
            grant: Some(self.grant.is_some()),
            fire: Some(self.fire),
            fire_reset: Some(self.reset.is_some()),
        }
    }

    pub(super) fn drive(&mut self, now: Instant, outputs: Outputs) {
        self.pass(now);
        self.outputs = outputs;
    }

    pub(super) fn apply(&mut self, now: Instant, command: SimCommand) -> Result<(), SimError> {
        self.pass(now);
        match command {
            SimCommand::Open if self.closed && self.is_thrown() => return Err(SimError::Locked),
            SimCommand::Close if !self.closed && !self.bolt.is_zero() => {
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
            SimCommand::Rex => self.rex = Some(now + PRESS),
            SimCommand::Grant => self.grant = Some(now + PRESS),
            SimCommand::Fire => self.fire = true,
            SimCommand::FireEnd => self.fire = false,
            SimCommand::Reset => self.reset = Some(now + PRESS),
            SimCommand::Jam => self.jammed = true,
            SimCommand::Unjam => self.jammed = false,
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
            fire: self.fire,
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
        [bolt, self.rex, self.grant, self.reset]
            .into_iter()
            .fold(None, earlier)
    }

    /// Lets time pass up to `now`.
    pub(super) fn pass(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.as_of);
        self.as_of = self.as_of.max(now);
        for button in [&mut self.rex, &mut self.grant, &mut self.reset] {
            if button.is_some_and(|until| until <= now) {
                *button = None;
            }
        }
        if self.jammed {
            return;
        }
        match self.direction() {
            Some(true) => self.bolt = (self.bolt + passed).min(self.travel),
            Some(false) => self.bolt = self.bolt.saturating_sub(passed),
            None => {}
        }
    }

    /// Whether the bolt is moved out, in, or left where it is.
    fn direction(&self) -> Option<bool> {
        match (self.mechanism, self.outputs) {
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
        (Model::new(TRAVEL, mechanism, start), at)
    }

    #[test]
    fn a_motor_moves_the_bolt_while_it_runs_and_leaves_it_where_it_is() {
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
    fn a_jammed_bolt_stays_and_a_button_is_let_go_by_itself() {
        let (mut door, at) = model(Mechanism::Motor);
        door.apply(at(0), SimCommand::Jam).unwrap();
        door.drive(at(0), Outputs::Throw);
        assert_eq!(door.next_change(), None);
        assert_eq!(door.read(at(5000)).bonded, Some(false));
        door.apply(at(5000), SimCommand::Rex).unwrap();
        assert_eq!(door.next_change(), Some(at(5500)));
        assert_eq!(door.read(at(5499)).rex, Some(true));
        assert_eq!(door.read(at(5500)).rex, Some(false));
    }

    #[test]
    fn a_locked_door_does_not_open_and_a_bolt_that_is_out_hits_the_frame() {
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
    fn every_command_has_its_name() {
        for (name, command) in SimCommand::ALL {
            assert_eq!(name.parse(), Ok(command));
            assert_eq!(command.name(), name);
        }
        let error = "slam".parse::<SimCommand>().unwrap_err().to_string();
        assert!(
            error.contains("`slam`") && error.contains("fire-end"),
            "{error}"
        );
    }
}
