//! What the inputs say. Levels, not edges: each reading stands for itself, and a missed edge inverts nothing.

use std::time::Duration;

use crate::config::Fitted;
use crate::contract::{DoorState, Proof};

/// A logical level: `Some(true)` is active. `None`: not fitted, or not readable.
pub type Reading = Option<bool>;

/// How long bond and door may contradict each other before it is a fault: longer than any debounce.
const CONTRADICTION_TIME: Duration = Duration::from_secs(1);

/// One reading of every input. Polarity and debounce are the GPIO layer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inputs {
    /// Door position switch: active while the door is closed.
    pub closed: Reading,
    /// Lock monitor: active while the bolt is seen thrown.
    pub bonded: Reading,
    /// Request to exit.
    pub rex: Reading,
    /// Local grant: an existing reader or keypad.
    pub grant: Reading,
    /// Fire release.
    pub fire: Reading,
    /// The key switch that ends a fire release.
    pub fire_reset: Reading,
}

/// The readings and since when they hold.
#[derive(Debug, Clone)]
pub(crate) struct Sensing {
    fitted: Fitted,
    /// `None` before the first reading.
    inputs: Option<Inputs>,
    /// Boot-clock time from which the door has been seen closed.
    closed_since: Option<Duration>,
    /// Boot-clock time from which the bolt has been seen thrown in an open door.
    contradiction_since: Option<Duration>,
}

impl Sensing {
    pub(crate) fn new(fitted: Fitted) -> Self {
        Self {
            fitted,
            inputs: None,
            closed_since: None,
            contradiction_since: None,
        }
    }

    /// Takes a reading; what is not fitted is not believed.
    pub(crate) fn read(&mut self, at: Duration, inputs: Inputs) {
        let fitted = self.fitted;
        let believed = |fitted: bool, reading: Reading| reading.filter(|_| fitted);
        let inputs = Inputs {
            closed: believed(fitted.door, inputs.closed),
            bonded: believed(fitted.bond, inputs.bonded),
            rex: believed(fitted.rex, inputs.rex),
            grant: believed(fitted.grant, inputs.grant),
            fire: believed(fitted.fire, inputs.fire),
            fire_reset: believed(fitted.fire_reset, inputs.fire_reset),
        };
        self.inputs = Some(inputs);
        let since = |held: Option<Duration>, holds: bool| holds.then(|| held.unwrap_or(at));
        self.closed_since = since(self.closed_since, inputs.closed == Some(true));
        let contradiction = inputs.bonded == Some(true) && inputs.closed == Some(false);
        self.contradiction_since = since(self.contradiction_since, contradiction);
    }

    /// Whether there was a reading yet: before it nothing is driven.
    pub(crate) fn has_read(&self) -> bool {
        self.inputs.is_some()
    }

    /// The latest reading; nothing is known before the first.
    pub(crate) fn inputs(&self) -> Inputs {
        self.inputs.unwrap_or_default()
    }

    pub(crate) fn closed_since(&self) -> Option<Duration> {
        self.closed_since
    }

    pub(crate) fn door_state(&self) -> DoorState {
        match self.inputs().closed {
            Some(true) => DoorState::Closed,
            Some(false) => DoorState::Open,
            None => DoorState::Unknown,
        }
    }

    pub(crate) fn proof(&self) -> Proof {
        match (self.inputs().bonded, self.inputs().closed) {
            (Some(_), _) => Proof::Bond,
            // A fitted lock monitor that cannot be read leaves nothing to go by.
            (None, Some(_)) if !self.fitted.bond => Proof::Contact,
            (None, _) => Proof::None,
        }
    }

    /// The inputs that are fitted, by the keys of their tables, and how they are read.
    pub(crate) fn levels(&self) -> Vec<(&'static str, Reading)> {
        let (fitted, inputs) = (self.fitted, self.inputs());
        [
            ("door", fitted.door, inputs.closed),
            ("bond", fitted.bond, inputs.bonded),
            ("rex", fitted.rex, inputs.rex),
            ("grant", fitted.grant, inputs.grant),
            ("fire", fitted.fire, inputs.fire),
            ("fire_reset", fitted.fire_reset, inputs.fire_reset),
        ]
        .into_iter()
        .filter_map(|(name, fitted, reading)| fitted.then_some((name, reading)))
        .collect()
    }

    /// An input that is fitted cannot be read, or the bolt has been seen in an open door for too long.
    pub(crate) fn is_faulty(&self, at: Duration) -> bool {
        let Some(inputs) = self.inputs else {
            return false;
        };
        let Fitted {
            door,
            bond,
            rex,
            grant,
            fire,
            fire_reset,
        } = self.fitted;
        let readings = [
            (door, inputs.closed),
            (bond, inputs.bonded),
            (rex, inputs.rex),
            (grant, inputs.grant),
            (fire, inputs.fire),
            (fire_reset, inputs.fire_reset),
        ];
        readings
            .iter()
            .any(|(fitted, reading)| *fitted && reading.is_none())
            || self.contradiction_ends().is_some_and(|ends| ends <= at)
    }

    /// When a contradiction becomes a fault.
    pub(crate) fn contradiction_ends(&self) -> Option<Duration> {
        Some(self.contradiction_since? + CONTRADICTION_TIME)
    }
}
