//! The board. Electrical terms stay in this module; the rest of the agent sees logical levels only.
//!
//! A [`Board`] reads and drives when the controller calls it; an edge only pokes the [`Wake`]. The
//! safe level is always *de-energised*.

#[cfg(target_os = "linux")]
mod character_device;
pub mod config;
#[cfg(target_os = "linux")]
mod debounce;
#[cfg(target_os = "linux")]
mod pin_claim;
#[cfg(target_os = "linux")]
mod pins;
#[cfg(target_os = "linux")]
mod raspberry_pi;
pub mod simulated;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use door_core::{Inputs, OutputFault, Outputs, Reading, StrikeConfig};
use thiserror::Error;
use tokio::sync::Notify;

pub use config::{BoardConfig, BoardConfigError, BoardKind, ClockTrust, PinName};
use simulated::{SimHandle, SimulatedBoard};

/// Levels of the inputs as words, by the keys of their tables in `[board.inputs]`.
pub type Levels = BTreeMap<&'static str, &'static str>;

/// A reading as words; an input without a pin is not among the keys `fitted`.
#[must_use]
pub fn levels(inputs: &Inputs, fitted: &[&str]) -> Levels {
    let readings = [
        ("door", inputs.closed),
        ("bond", inputs.bonded),
        ("rex", inputs.rex),
        ("grant", inputs.grant),
        ("fire", inputs.fire),
        ("fire_reset", inputs.fire_reset),
        ("tamper", inputs.tamper),
    ];
    readings
        .into_iter()
        .map(|(key, reading): (_, Reading)| {
            let (active, idle) = words(key);
            let word = match reading {
                Some(true) => active,
                Some(false) => idle,
                None if fitted.contains(&key) => "unreadable",
                None => "not fitted",
            };
            (key, word)
        })
        .collect()
}

/// The words for an input that is active and one that is idle, by its key.
#[must_use]
pub fn words(key: &str) -> (&'static str, &'static str) {
    match key {
        "door" => ("closed", "open"),
        "bond" => ("thrown", "not thrown"),
        "rex" => ("pressed", "idle"),
        _ => ("active", "idle"),
    }
}

/// The hardware of one door.
pub trait Board: Send {
    /// The present levels, debounced.
    fn read(&mut self) -> Inputs;

    /// Sets the outputs. A level may be set repeatedly. The other outputs are
    /// set whatever fails.
    fn drive(&mut self, outputs: Outputs) -> Result<(), OutputFault>;

    /// When a reading will change without an edge.
    fn next_change(&self) -> Option<Instant>;
}

/// A board whose pins can be inspected one by one, for the self-test.
pub trait WiredBoard: Board {
    /// All readable pins, in the same order each time: the inputs, and any other pins of the board.
    fn pins(&self) -> Vec<PinLevel>;
}

/// Level of a pin, without the agent's debounce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinLevel {
    /// The key of its table in `[board.inputs]`; `None` if it is not configured.
    pub role: Option<&'static str>,
    /// `None` on a simulated board.
    pub pin: Option<PinName>,
    /// Why it cannot be read; the levels mean nothing then.
    pub fault: Option<String>,
    /// 3.3 V.
    pub high: bool,
    /// Whether the configuration counts this level as active.
    pub active: bool,
}

/// A pin of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinId {
    /// The BCM number on the header, by rppal.
    Bcm(u8),
    /// A line of a GPIO chip, by the kernel.
    Line {
        /// Name of its device: `gpiochip0`.
        chip: String,
        offset: u32,
        /// Whether the chip has the header, where the offset is the BCM number.
        is_header: bool,
    },
}

impl fmt::Display for PinId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bcm(number) => write!(f, "BCM {number}"),
            Self::Line { chip, offset, .. } => write!(f, "line {offset} of {chip}"),
        }
    }
}

/// Wakes the controller to read the inputs. Pokes before it wakes are merged.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Never blocks; may be called from any thread.
    pub fn poke(&self) {
        self.0.notify_one();
    }

    /// Waits for a poke, unless one has come since the last wait.
    pub async fn poked(&self) {
        self.0.notified().await;
    }
}

/// An open board: its pins are claimed and its outputs de-energised.
pub struct OpenBoard {
    pub board: Box<dyn Board>,
    /// Poked by its edges.
    pub wake: Wake,
    /// Control of a simulated door.
    pub sim: Option<SimHandle>,
}

impl std::fmt::Debug for OpenBoard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenBoard")
            .field("sim", &self.sim)
            .finish_non_exhaustive()
    }
}

/// Why a board cannot be opened.
#[derive(Debug, Error)]
pub enum BoardError {
    /// Not supported on this operating system.
    #[error("[board] kind = \"{0}\" needs Linux")]
    NotHere(&'static str),
    /// The configuration cannot be this board's.
    #[error(transparent)]
    Config(#[from] BoardConfigError),
    /// The GPIO peripheral cannot be reached.
    #[error("cannot reach the GPIO peripheral: {0}")]
    Peripheral(String),
    /// The chip cannot be opened.
    #[error("cannot open {chip}, [board] chip: {reason}")]
    Chip { chip: String, reason: String },
    /// The chip has no such line.
    #[error("cannot use {name} as {role}: {chip} has {found}")]
    NoSuchLine {
        name: PinName,
        /// The key of its table.
        role: &'static str,
        /// Name of its device.
        chip: String,
        /// What it has instead.
        found: String,
    },
    /// A pin cannot be used.
    #[error("cannot use {pin} as {role}: {reason}")]
    Pin {
        pin: PinId,
        /// The key of its table.
        role: &'static str,
        reason: String,
    },
    /// Another process holds the pin.
    #[error("cannot use {pin} as {role}: held by {holder}")]
    PinHeld {
        pin: PinId,
        /// The key of its table.
        role: &'static str,
        /// From the pin's lock file, or the consumer that the kernel names.
        holder: String,
    },
    /// The lock file of a pin cannot be opened or written.
    #[error("cannot claim {pin} as {role} in {}", path.display())]
    Claim {
        pin: PinId,
        /// The key of its table.
        role: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Claims the board for `door` and de-energises its outputs.
///
/// # Errors
/// When the peripheral or a pin cannot be used; no output is energised then.
pub fn open(
    config: &BoardConfig,
    strike: &StrikeConfig,
    door: &str,
) -> Result<OpenBoard, BoardError> {
    let wake = Wake::default();
    let mut sim = None;
    let board: Box<dyn Board> = match config.kind {
        BoardKind::Simulated => {
            let (board, handle) = SimulatedBoard::new(config, strike, wake.clone());
            sim = Some(handle);
            Box::new(board)
        }
        #[cfg(target_os = "linux")]
        BoardKind::RaspberryPi => Box::new(raspberry_pi::open(config, door, &wake)?),
        #[cfg(target_os = "linux")]
        BoardKind::Gpio => Box::new(character_device::open(config, door, Some(&wake))?),
        #[cfg(not(target_os = "linux"))]
        BoardKind::RaspberryPi | BoardKind::Gpio => return Err(not_here(config, door)),
    };
    Ok(OpenBoard { board, wake, sim })
}

/// Claims the board as [`open`] does, to inspect its pins; with the control of a simulated one.
///
/// # Errors
/// As [`open`].
pub fn open_wired(
    config: &BoardConfig,
    strike: &StrikeConfig,
    door: &str,
) -> Result<(Box<dyn WiredBoard>, Option<SimHandle>), BoardError> {
    let board: Box<dyn WiredBoard> = match config.kind {
        BoardKind::Simulated => {
            let (board, sim) = SimulatedBoard::new(config, strike, Wake::default());
            return Ok((Box::new(board), Some(sim)));
        }
        #[cfg(target_os = "linux")]
        BoardKind::RaspberryPi => Box::new(raspberry_pi::WholeHeader::open(config, door)?),
        #[cfg(target_os = "linux")]
        BoardKind::Gpio => Box::new(character_device::open(config, door, None)?),
        #[cfg(not(target_os = "linux"))]
        BoardKind::RaspberryPi | BoardKind::Gpio => return Err(not_here(config, door)),
    };
    Ok((board, None))
}

/// Looks at every pin of a board without setting any: one line each, such as "BCM 17 as throw".
///
/// # Errors
/// As [`open`].
pub fn probe(config: &BoardConfig, door: &str) -> Result<Vec<String>, BoardError> {
    match config.kind {
        BoardKind::Simulated => Ok(Vec::new()),
        #[cfg(target_os = "linux")]
        BoardKind::RaspberryPi => raspberry_pi::probe(config, door),
        #[cfg(target_os = "linux")]
        BoardKind::Gpio => character_device::probe(config, door),
        #[cfg(not(target_os = "linux"))]
        BoardKind::RaspberryPi | BoardKind::Gpio => Err(not_here(config, door)),
    }
}

/// The module parameter with which the kernel of a Raspberry Pi keeps a line as it was after the
/// program that drove it ended; `None` if it makes it an input.
#[must_use]
pub fn kept_after_exit(config: &BoardConfig) -> Option<&'static str> {
    ["pinctrl_bcm2835", "pinctrl_rp1"]
        .into_iter()
        .find(|module| {
            let file = format!("/sys/module/{module}/parameters/persist_gpio_outputs");
            config.kind == BoardKind::Gpio
                && std::fs::read_to_string(file).is_ok_and(|value| value.trim() == "Y")
        })
}

/// De-energises the outputs of a board that no agent holds, except the pins `except`: for
/// `ExecStopPost`, after a SIGKILL.
///
/// # Errors
/// As [`open`]; also when an agent still holds the pins.
pub fn de_energise(config: &BoardConfig, door: &str, except: &[PinId]) -> Result<(), BoardError> {
    match config.kind {
        BoardKind::Simulated => Ok(()),
        #[cfg(target_os = "linux")]
        BoardKind::RaspberryPi => raspberry_pi::de_energise(config, door, except),
        #[cfg(target_os = "linux")]
        BoardKind::Gpio => character_device::de_energise(config, door, except),
        #[cfg(not(target_os = "linux"))]
        BoardKind::RaspberryPi | BoardKind::Gpio => {
            let _ = except;
            Err(not_here(config, door))
        }
    }
}

/// De-energises the pins that killed agents of this machine drove and nobody holds now, whatever
/// their configurations say. Returns the de-energised pins (none on a machine without a board),
/// and the error of one that failed.
pub fn de_energise_abandoned() -> (Vec<PinId>, Result<(), BoardError>) {
    let mut pins = Vec::new();
    let mut failed = Ok(());
    #[cfg(target_os = "linux")]
    {
        use pin_claim::{AbandonedPin, DIRECTORY};
        // One at a time, so that another door can claim its pins.
        for path in AbandonedPin::candidates(std::path::Path::new(DIRECTORY)) {
            let Some(abandoned) = AbandonedPin::take(&path) else {
                continue;
            };
            let pin = abandoned.pin.clone();
            let done = match &pin {
                PinId::Bcm(number) => raspberry_pi::release(*number, abandoned.active),
                PinId::Line { chip, offset, .. } => {
                    character_device::release(chip, *offset, abandoned.active)
                }
            };
            match done.and_then(|()| abandoned.forget()) {
                Ok(()) => pins.push(pin),
                Err(error) => failed = Err(error),
            }
        }
    }
    (pins, failed)
}

#[cfg(not(target_os = "linux"))]
fn not_here(config: &BoardConfig, _door: &str) -> BoardError {
    BoardError::NotHere(config.kind.name())
}

/// The earlier of two optional moments.
pub(crate) fn earlier_of(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_cannot_be_read_is_not_one_that_is_not_fitted() {
        let inputs = Inputs {
            closed: Some(true),
            ..Inputs::default()
        };
        let levels = levels(&inputs, &["door", "rex"]);
        assert_eq!(levels["door"], "closed");
        assert_eq!(levels["rex"], "unreadable");
        assert_eq!(levels["tamper"], "not fitted");
    }
}
