//! What the inputs say. Levels, not edges: each reading stands for itself, and a missed edge inverts nothing.

mod watch;

use std::time::Duration;

use crate::config::Fitted;
use crate::contract::{DoorState, InputFault, Proof};
use watch::Watch;

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
    /// Tamper contact: active while the enclosure is open.
    pub tamper: Reading,
}

/// The inputs, by the keys of their tables.
const INPUTS: [&str; 7] = [
    "door",
    "bond",
    "rex",
    "grant",
    "fire",
    "fire_reset",
    "tamper",
];

/// Inputs that somebody presses or turns: those may be stuck.
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
    /// In the order of [`INPUTS`].
    fn all(&self) -> [bool; INPUTS.len()] {
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
    watches: [Watch; INPUTS.len()],
}

impl Sensing {
    pub(crate) fn new(fitted: Fitted) -> Self {
        Self {
            fitted,
            inputs: None,
            closed_since: None,
            contradiction_since: None,
            watches: Default::default(),
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
            tamper: believed(fitted.tamper, inputs.tamper),
        };
        for (watch, level) in self.watches.iter_mut().zip(inputs.levels()) {
            watch.read(at, level);
        }
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
        let levels = INPUTS.into_iter().zip(self.inputs().levels());
        levels
            .zip(self.fitted.all())
            .filter_map(|(level, fitted)| fitted.then_some(level))
            .collect()
    }

    /// The first input that cannot be believed, by its key, and why: one that is fitted cannot be read, the bolt has been seen in an open door for
    /// too long, a contact never rests, or nobody lets go of a button.
    pub(crate) fn fault(&self, at: Duration) -> Option<(&'static str, InputFault)> {
        self.inputs?;
        let unreadable = || {
            let levels = self.levels();
            let unread = levels.iter().find(|(_, level)| level.is_none())?;
            Some((unread.0, InputFault::Unreadable))
        };
        let contradiction = || {
            let ends = self.contradiction_since? + CONTRADICTION_TIME;
            (ends <= at).then_some(("bond", InputFault::Contradiction))
        };
        let watched = || {
            let watches = INPUTS.into_iter().zip(&self.watches);
            watches.into_iter().find_map(|(key, watch)| {
                if watch.chatters(at) {
                    return Some((key, InputFault::Chatter));
                }
                let stuck = BUTTONS.contains(&key) && watch.is_stuck(at);
                stuck.then_some((key, InputFault::Stuck))
            })
        };
        unreadable().or_else(contradiction).or_else(watched)
    }

    /// When time alone makes a fault, or ends one.
    pub(crate) fn poll_timeout(&self, at: Duration) -> Option<Duration> {
        let contradiction = self
            .contradiction_since
            .map(|since| since + CONTRADICTION_TIME);
        let watched = INPUTS
            .into_iter()
            .zip(&self.watches)
            .filter_map(|(key, watch)| watch.poll_timeout(at, BUTTONS.contains(&key)));
        contradiction
            .into_iter()
            .chain(watched)
            .filter(|due| *due > at)
            .min()
    }
}
