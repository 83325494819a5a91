//! The board. Electrical terms stay in this module; the rest of the agent sees logical levels only.
//!
//! A [`Board`] reads and drives when the controller calls it; an edge only pokes the [`Wake`]. The
//! safe level is always *de-energised*.

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
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use door_core::{Inputs, Outputs, Reading, StrikeConfig};
use thiserror::Error;
use tokio::sync::Notify;

pub use config::{BoardConfig, BoardConfigError, BoardKind, ClockTrust};
use simulated::{SimHandle, SimulatedBoard};

/// Levels of the inputs as words, by the keys of their tables in `[board.inputs]`.
pub type Levels = BTreeMap<&'static str, &'static str>;

/// A reading as words; an input without a pin is "not fitted".
#[must_use]
pub fn levels(inputs: &Inputs) -> Levels {
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

    /// Sets the outputs. A level may be set repeatedly.
    fn drive(&mut self, outputs: Outputs);

    /// When a reading will change without an edge.
    fn next_change(&self) -> Option<Instant>;
}

/// A board whose pins can be inspected one by one, for the self-test.
pub trait WiredBoard: Board {
    /// All readable pins, in the same order each time: the inputs, and any other pins of the board.
    fn pins(&self) -> Vec<PinLevel>;
}

/// Level of a pin, without debounce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinLevel {
    /// The key of its table in `[board.inputs]`; `None` if it is not configured.
    pub role: Option<&'static str>,
    /// The BCM number; `None` on a simulated board.
    pub bcm: Option<u8>,
    /// 3.3 V.
    pub high: bool,
    /// Whether the configuration counts this level as active.
    pub active: bool,
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
    #[error("[board] kind = \"raspberry-pi\" needs Linux")]
    NotHere,
    /// The GPIO peripheral cannot be reached.
    #[error("cannot reach the GPIO peripheral: {0}")]
    Peripheral(String),
    /// A pin cannot be used.
    #[error("cannot use BCM {pin} as {role}: {reason}")]
    Pin {
        /// The BCM number.
        pin: u8,
        /// The key of its table.
        role: &'static str,
        reason: String,
    },
    /// Another process holds the pin.
    #[error("cannot use BCM {pin} as {role}: held by {holder}")]
    PinHeld {
        /// The BCM number.
        pin: u8,
        /// The key of its table.
        role: &'static str,
        /// The holder, from the pin's lock file.
        holder: String,
    },
    /// The lock file of a pin cannot be opened or written.
    #[error("cannot claim BCM {pin} as {role} in {}", path.display())]
    Claim {
        /// The BCM number.
        pin: u8,
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
    match config.kind {
        BoardKind::Simulated => {
            let (board, sim) = SimulatedBoard::new(config, strike, wake.clone());
            Ok(OpenBoard {
                board: Box::new(board),
                wake,
                sim: Some(sim),
            })
        }
        #[cfg(target_os = "linux")]
        BoardKind::RaspberryPi => {
            let board = raspberry_pi::open(config, door, &wake)?;
            Ok(OpenBoard {
                board: Box::new(board),
                wake,
                sim: None,
            })
        }
        #[cfg(not(target_os = "linux"))]
        BoardKind::RaspberryPi => {
            let _ = door;
            Err(BoardError::NotHere)
        }
    }
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
    match config.kind {
        BoardKind::Simulated => {
            let (board, sim) = SimulatedBoard::new(config, strike, Wake::default());
            Ok((Box::new(board), Some(sim)))
        }
        #[cfg(target_os = "linux")]
        BoardKind::RaspberryPi => {
            let board = raspberry_pi::WholeHeader::open(config, door)?;
            Ok((Box::new(board), None))
        }
        #[cfg(not(target_os = "linux"))]
        BoardKind::RaspberryPi => {
            let _ = door;
            Err(BoardError::NotHere)
        }
    }
}

/// Reads every pin of a board without setting any: one line each, such as "BCM 17 as throw".
///
/// # Errors
/// As [`open`].
pub fn probe(config: &BoardConfig, door: &str) -> Result<Vec<String>, BoardError> {
    match config.kind {
        BoardKind::Simulated => Ok(Vec::new()),
        #[cfg(target_os = "linux")]
        BoardKind::RaspberryPi => raspberry_pi::probe(config, door),
        #[cfg(not(target_os = "linux"))]
        BoardKind::RaspberryPi => {
            let _ = door;
            Err(BoardError::NotHere)
        }
    }
}

/// De-energises the outputs of a board that no agent holds, except the pins `except`: for
/// `ExecStopPost`, after a SIGKILL.
///
/// # Errors
/// As [`open`]; also when an agent still holds the pins.
pub fn de_energise(config: &BoardConfig, door: &str, except: &[u8]) -> Result<(), BoardError> {
    match config.kind {
        BoardKind::Simulated => Ok(()),
        #[cfg(target_os = "linux")]
        BoardKind::RaspberryPi => raspberry_pi::de_energise(config, door, except),
        #[cfg(not(target_os = "linux"))]
        BoardKind::RaspberryPi => {
            let _ = (door, except);
            Err(BoardError::NotHere)
        }
    }
}

/// De-energises the pins that killed agents of this machine drove and nobody holds now, whatever
/// their configurations say. Returns the BCM numbers of the de-energised pins (none on a machine
/// without a board), and the error of one that failed.
pub fn de_energise_abandoned() -> (Vec<u8>, Result<(), BoardError>) {
    #[cfg(target_os = "linux")]
    return raspberry_pi::de_energise_abandoned();
    #[cfg(not(target_os = "linux"))]
    (Vec::new(), Ok(()))
}

/// The earlier of two optional moments.
pub(crate) fn earlier_of(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
