//! Wiring faults between a sensor and its pin.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::command::{Miswired, Sensor};

/// Time between two changes of a chattering contact.
const CHATTER: Duration = Duration::from_millis(10);

/// The faults of a door's wires.
#[derive(Debug, Default)]
pub(super) struct Wiring {
    faults: BTreeMap<Sensor, Fault>,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Cut,
    Stuck(bool),
    ChattersSince(Instant),
    Inverted,
    SwappedWith(Sensor),
}

impl Wiring {
    /// The level at the pin of `sensor`; `truth` returns the true states of the sensors.
    pub(super) fn read(
        &self,
        sensor: Sensor,
        truth: impl Fn(Sensor) -> bool,
        now: Instant,
    ) -> bool {
        match self.faults.get(&sensor) {
            None => truth(sensor),
            Some(Fault::Cut) => sensor.reads_when_cut(),
            Some(Fault::Stuck(level)) => *level,
            Some(Fault::Inverted) => !truth(sensor),
            Some(Fault::SwappedWith(other)) => truth(*other),
            Some(Fault::ChattersSince(since)) => {
                let turns = now.saturating_duration_since(*since).as_millis() / CHATTER.as_millis();
                truth(sensor) ^ (turns % 2 == 1)
            }
        }
    }

    /// Adds a fault to the wire of `sensor`, whose pin has `level` now.
    pub(super) fn add_fault(&mut self, sensor: Sensor, fault: Miswired, level: bool, now: Instant) {
        self.repair(sensor);
        let fault = match fault {
            Miswired::Cut => Fault::Cut,
            Miswired::Stuck => Fault::Stuck(level),
            Miswired::Chatters => Fault::ChattersSince(now),
            Miswired::Inverted => Fault::Inverted,
            Miswired::SwappedWith(other) => {
                self.repair(other);
                self.faults.insert(other, Fault::SwappedWith(sensor));
                Fault::SwappedWith(other)
            }
        };
        self.faults.insert(sensor, fault);
    }

    /// Repairs a wire, and the one it was swapped with.
    pub(super) fn repair(&mut self, sensor: Sensor) {
        if let Some(Fault::SwappedWith(other)) = self.faults.remove(&sensor) {
            self.faults.remove(&other);
        }
    }

    /// Repairs all wires.
    pub(super) fn repair_all(&mut self) {
        self.faults.clear();
    }

    /// When a chattering contact changes next.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        let chatter = self.faults.values().filter_map(|fault| match fault {
            Fault::ChattersSince(since) => {
                let passed = now.saturating_duration_since(*since);
                let into_turn = passed.as_millis() % CHATTER.as_millis();
                // Less than CHATTER, so that it fits.
                Some(now + CHATTER - Duration::from_millis(u64::try_from(into_turn).unwrap_or(0)))
            }
            _ => None,
        });
        chatter.min()
    }

    /// The faults as words, by the keys of the inputs.
    pub(super) fn faults(&self) -> BTreeMap<&'static str, &'static str> {
        self.faults
            .iter()
            .map(|(sensor, fault)| {
                let word = match fault {
                    Fault::Cut => "cut",
                    Fault::Stuck(_) => "stuck",
                    Fault::ChattersSince(_) => "chatters",
                    Fault::Inverted => "inverted",
                    Fault::SwappedWith(_) => "swapped",
                };
                (sensor.key(), word)
            })
            .collect()
    }
}
