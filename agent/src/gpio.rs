//! The board: electrical words end here. Above it there are logical levels only.
//!
//! A [`Board`] reads and drives when the controller tells it to; an edge only pokes the [`Wake`].
//! Whatever happens, the safe level is *de-energised*.

pub mod config;
#[cfg(target_os = "linux")]
mod debounce;
#[cfg(target_os = "linux")]
mod pin_claim;
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

/// What the inputs say in words, by the keys of their tables in `[board.inputs]`.
pub type Levels = BTreeMap<&'static str, &'static str>;

/// A reading in words; an input that is not fitted says so.
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

/// What an input is called when it is active and when it is not, by its key.
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

    /// Sets the outputs. A level may be set again and again.
    fn drive(&mut self, outputs: Outputs);

    /// When a reading will change although no edge will tell of it.
    fn next_change(&self) -> Option<Instant>;
}

/// A board whose wires can be looked at one by one: for whoever has just put them there.
pub trait WiredBoard: Board {
    /// Every pin that can be seen now, in the same order each time: the inputs, and whatever else
    /// the board has.
    fn pins(&self) -> Vec<PinLevel>;
}

/// What a pin shows, without debounce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinLevel {
    /// The key of its table in `[board.inputs]`; none when the configuration does not have it.
    pub role: Option<&'static str>,
    /// Its BCM number; none on a simulated board.
    pub bcm: Option<u8>,
    /// 3.3 V.
    pub high: bool,
    /// What the configuration makes of it.
    pub active: bool,
}

/// Wakes the controller to read the inputs. Any number of pokes before it comes are one.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Never blocks; may be called from any thread.
    pub fn poke(&self) {
        self.0.notify_one();
    }

    /// Waits for a poke, or takes the one that has come since the last wait.
    pub async fn poked(&self) {
        self.0.notified().await;
    }
}

/// A board in our hands: its pins are claimed and its outputs de-energised.
pub struct OpenBoard {
    /// The board.
    pub board: Box<dyn Board>,
    /// What its edges poke.
    pub wake: Wake,
    /// The hand on a simulated door.
    pub sim: Option<SimHandle>,
}

impl std::fmt::Debug for OpenBoard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenBoard")
            .field("sim", &self.sim)
            .finish_non_exhaustive()
    }
}

/// Why a board cannot be had.
#[derive(Debug, Error)]
pub enum BoardError {
    /// This system has no such board.
    #[error("[board] kind = \"raspberry-pi\" needs Linux")]
    NotHere,
    /// The GPIO peripheral cannot be reached.
    #[error("cannot reach the GPIO peripheral: {0}")]
    Peripheral(String),
    /// A pin cannot be had.
    #[error("cannot use BCM {pin} as {role}: {reason}")]
    Pin {
        /// Its BCM number.
        pin: u8,
        /// What it is for: the key of its table.
        role: &'static str,
        /// Why not.
        reason: String,
    },
    /// Another agent has the pin.
    #[error("cannot use BCM {pin} as {role}: {holder} has it")]
    PinHeld {
        /// Its BCM number.
        pin: u8,
        /// What it is for.
        role: &'static str,
        /// Who has it, as they have written down.
        holder: String,
    },
    /// The claim on a pin cannot be written down.
    #[error("cannot claim BCM {pin} as {role} in {}", path.display())]
    Claim {
        /// Its BCM number.
        pin: u8,
        /// What it is for.
        role: &'static str,
        /// The lock file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Claims the board for `door` and de-energises its outputs.
///
/// # Errors
/// When the peripheral or a pin cannot be had; nothing is driven then beyond the safe level.
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
            let board = raspberry_pi::RaspberryPi::open(config, door, &wake)?;
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

/// Claims the board as [`open`] does, to look at its wires; with the hand on a simulated one.
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

/// Tries every pin of a board without setting any: a line for each, such as "BCM 17 as throw".
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

/// De-energises the outputs of a board that no agent has, but for the pins `except`: for
/// `ExecStopPost`, after a kill that let nothing run.
///
/// # Errors
/// As [`open`]; an agent that still has the pins is one.
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

/// De-energises what agents of this machine that were killed drove and nobody has since, whatever
/// their configurations say by now. Gives the BCM numbers of the pins that are de-energised, none
/// on a machine without a board, and what kept it from another one.
pub fn de_energise_left_behind() -> (Vec<u8>, Result<(), BoardError>) {
    #[cfg(target_os = "linux")]
    return raspberry_pi::de_energise_left_behind();
    #[cfg(not(target_os = "linux"))]
    (Vec::new(), Ok(()))
}

/// The earlier of two moments that may not come.
pub(crate) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
