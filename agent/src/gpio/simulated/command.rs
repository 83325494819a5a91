//! Actions at a simulated door. `words` is the grammar of `door-agent sim` and of its socket.

mod words;

use std::time::Duration;

pub use words::{SimSyntaxError, SimVerb, VERBS, parse_time};

/// Default time for which a button is pressed.
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
    /// Output of a reader or keypad.
    Grant,
    /// Fire release.
    Fire,
    /// The key switch that ends a fire release.
    FireReset,
    /// Tamper contact of the enclosure.
    Tamper,
}

impl Sensor {
    /// All sensors by their keys.
    pub const ALL: [(&'static str, Self); 7] = [
        ("door", Self::Door),
        ("bond", Self::Bond),
        ("rex", Self::Rex),
        ("grant", Self::Grant),
        ("fire", Self::Fire),
        ("fire_reset", Self::FireReset),
        ("tamper", Self::Tamper),
    ];

    /// The key in `[board.inputs]`.
    #[must_use]
    pub fn key(self) -> &'static str {
        Self::ALL
            .into_iter()
            .find(|(_, sensor)| *sensor == self)
            .map_or("door", |(key, _)| key)
    }

    /// The reading when its wire is cut. Fire release and tamper contact are closed loops, as they
    /// should be wired: a cut raises them. Every other input reads idle.
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

/// How a button or contact is operated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// On until changed.
    On,
    Off,
    /// On, then off after a time.
    For(Duration),
}

/// A fault of a sensor's wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miswired {
    /// Cut: see [`Sensor::reads_when_cut`].
    Cut,
    /// Keeps its present reading.
    Stuck,
    /// Toggles a hundred times a second.
    Chatters,
    /// Reads active when idle, as with the wrong `active` or the wrong contact of a switch.
    Inverted,
    /// Swapped with the wire of the other sensor.
    SwappedWith(Sensor),
}

/// An action at a simulated door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimCommand {
    /// Refused while the bolt is thrown.
    Open,
    /// Opens it against the bolt.
    Force,
    /// Refused while the bolt is out.
    Close,
    /// Turns the handle, which retracts the bolt, and opens.
    Handle,
    /// Operates `rex`, `grant`, `fire`, `fire_reset` or `tamper`.
    Hold(Sensor, Hold),
    /// Blocks the bolt.
    Jam,
    /// Ends a jam.
    Free,
    /// Adds a fault to the wire of a sensor.
    Miswire(Sensor, Miswired),
    /// Repairs the wire of a sensor, or all wires.
    Repair(Option<Sensor>),
    /// Cuts the power of the lock, whatever the outputs are.
    CutPower,
    /// Ends a power cut.
    RestorePower,
    /// Only shows the state.
    Show,
}

impl SimCommand {
    /// The default action of a button: half a second; a fire release stays on instead.
    #[must_use]
    pub const fn press(sensor: Sensor) -> Self {
        Self::Hold(sensor, Hold::For(PRESS))
    }
}
