//! What can be done at a simulated door. `words` is its grammar: one for `door-agent sim`, its
//! scripts and its socket.

mod words;

use std::time::Duration;

pub(crate) use words::{EXPECTED_TIME, is_verb, shortened, verb_names};
pub use words::{SimSyntaxError, SimVerb, VERBS, parse_time};

/// How long a button pressed by hand stays pressed, when nothing is said.
pub(super) const PRESS: Duration = Duration::from_millis(500);

/// An input of the board, by its key in `[board.inputs]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sensor {
    /// Door position switch: active while the door is closed.
    Door,
    /// Lock monitor: active while the bolt is thrown.
    Bond,
    /// Request to exit.
    Rex,
    /// An existing reader or keypad.
    Grant,
    /// Fire release.
    Fire,
    /// The key switch that ends a fire release.
    FireReset,
    /// Tamper contact of the enclosure.
    Tamper,
}

impl Sensor {
    /// Every sensor, by its key.
    pub const ALL: [(&'static str, Self); 7] = [
        ("door", Self::Door),
        ("bond", Self::Bond),
        ("rex", Self::Rex),
        ("grant", Self::Grant),
        ("fire", Self::Fire),
        ("fire_reset", Self::FireReset),
        ("tamper", Self::Tamper),
    ];

    /// Its key in `[board.inputs]`.
    #[must_use]
    pub fn key(self) -> &'static str {
        Self::ALL
            .into_iter()
            .find(|(_, sensor)| *sensor == self)
            .map_or("door", |(key, _)| key)
    }

    /// What its reading is once its wire is cut. Fire release and tamper contact are closed loops,
    /// as they should be wired: a cut one raises. Every other input falls to its idle level.
    #[must_use]
    pub fn reads_when_cut(self) -> bool {
        matches!(self, Self::Fire | Self::Tamper)
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(key, _)| *key == word || key.replace('_', "-") == word)
            .map(|(_, sensor)| sensor)
    }
}

/// What somebody presses, turns or sets off; each is the sensor of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// On until told otherwise.
    On,
    /// Off.
    Off,
    /// On, then off by itself.
    For(Duration),
}

/// What is wrong with the wire of a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miswired {
    /// Cut: see [`Sensor::reads_when_cut`].
    Cut,
    /// Stays at what it reads now.
    Stuck,
    /// Goes back and forth a hundred times a second.
    Chatters,
    /// Reads active when idle, as with the wrong `active` or the other contact of a switch.
    Inverted,
    /// On the pin of the other sensor, and the other on its.
    SwappedWith(Sensor),
}

/// What can be done at a simulated door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimCommand {
    /// Opens the door.
    Open,
    /// Opens it against the bolt.
    Force,
    /// Closes it.
    Close,
    /// Turns the handle, which retracts the bolt, and opens.
    Handle,
    /// Presses, turns, sets off or opens `rex`, `grant`, `fire`, `fire_reset` or `tamper`.
    Hold(Sensor, Hold),
    /// The bolt does not move any more.
    Jam,
    /// It does again.
    Free,
    /// Does something to the wire of a sensor.
    Miswire(Sensor, Miswired),
    /// Puts the wire of a sensor right, or all of them.
    Mend(Option<Sensor>),
    /// Takes the power off the lock, whatever the outputs say.
    CutPower,
    /// Gives it back.
    RestorePower,
    /// Only shows.
    Show,
}

impl SimCommand {
    /// A button is pressed for half a second, a fire release stays: what the verb alone does.
    #[must_use]
    pub const fn press(sensor: Sensor) -> Self {
        Self::Hold(sensor, Hold::For(PRESS))
    }
}
