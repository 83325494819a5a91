//! A door in memory: bolt, door, sensors and the people at it, each behaving as the real thing does.
//!
//! It has no thread and no timer of its own: time passes when somebody looks, and [`Board::next_change`] says when to look again. So a thousand
//! of them run in one process. People act through a [`SimHandle`], in the process or through the [`socket`].

mod model;
pub mod socket;

use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use door_core::config::{FailMode, StrikeKind};
use door_core::{Inputs, Outputs, StrikeConfig};
use serde::Serialize;
use thiserror::Error;

use super::config::BoardConfig;
use super::{Board, Wake};
use model::{Mechanism, Model};
pub use socket::SimSocket;

/// Name of the control socket in the agent's state directory.
pub const SIM_SOCKET: &str = "sim.sock";

/// The board that the controller drives.
#[derive(Debug)]
pub struct SimulatedBoard {
    model: Arc<Mutex<Model>>,
}

/// The hand on a simulated door; clones reach the same door.
#[derive(Debug, Clone)]
pub struct SimHandle {
    model: Arc<Mutex<Model>>,
    wake: Wake,
}

/// What a person can do at a simulated door. Buttons and the key switch are let go by themselves after half a second.
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
    /// Presses the request-to-exit button.
    Rex,
    /// A reader lets somebody in.
    Grant,
    /// The fire release comes.
    Fire,
    /// The fire release goes; the door stays released until its key switch is turned.
    FireEnd,
    /// Turns the key switch that ends a fire release.
    Reset,
    /// The bolt does not move any more.
    Jam,
    /// It does again.
    Unjam,
    /// Only shows.
    Show,
}

impl SimCommand {
    /// Every command, by the name it has on the command line.
    pub const ALL: [(&'static str, Self); 12] = [
        ("open", Self::Open),
        ("force", Self::Force),
        ("close", Self::Close),
        ("handle", Self::Handle),
        ("rex", Self::Rex),
        ("grant", Self::Grant),
        ("fire", Self::Fire),
        ("fire-end", Self::FireEnd),
        ("reset", Self::Reset),
        ("jam", Self::Jam),
        ("unjam", Self::Unjam),
        ("show", Self::Show),
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL
            .into_iter()
            .find(|(_, command)| *command == self)
            .map_or("show", |(name, _)| name)
    }
}

impl FromStr for SimCommand {
    type Err = SimError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|(name, _)| *name == text)
            .map(|(_, command)| command)
            .ok_or_else(|| SimError::Unknown {
                text: text.chars().take(40).collect(),
            })
    }
}

/// Why a simulated door does not do what a person wants.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SimError {
    /// It is locked.
    #[error("the door is locked: its bolt is thrown (`force` opens it all the same)")]
    Locked,
    /// The bolt would hit the frame.
    #[error("the door cannot be closed: its bolt is out")]
    BoltOut,
    /// No such command.
    #[error("`{text}` is no command; expected one of {}", names())]
    Unknown {
        /// The word.
        text: String,
    },
}

/// What a simulated door looks like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SimState {
    /// `open` or `closed`.
    pub door: &'static str,
    /// `thrown`, `back` or `between`.
    pub bolt: &'static str,
    /// What is energised.
    pub outputs: Outputs,
    /// The bolt does not move.
    pub jammed: bool,
    /// The fire release is there.
    pub fire: bool,
}

impl SimulatedBoard {
    pub(super) fn new(
        config: &BoardConfig,
        strike: &StrikeConfig,
        wake: Wake,
    ) -> (Self, SimHandle) {
        let mechanism = match (strike.kind, strike.fail) {
            (StrikeKind::MotorLock, _) => Mechanism::Motor,
            (StrikeKind::SolenoidBolt, Some(FailMode::Secure)) => Mechanism::CoilRetracts,
            (StrikeKind::SolenoidBolt, _) => Mechanism::CoilThrows,
        };
        let model = Model::new(config.bolt_travel, mechanism, Instant::now());
        let model = Arc::new(Mutex::new(model));
        let handle = SimHandle {
            model: Arc::clone(&model),
            wake,
        };
        (Self { model }, handle)
    }
}

impl Board for SimulatedBoard {
    fn read(&mut self) -> Inputs {
        lock(&self.model).read(Instant::now())
    }

    fn drive(&mut self, outputs: Outputs) {
        lock(&self.model).drive(Instant::now(), outputs);
    }

    fn next_change(&self) -> Option<Instant> {
        lock(&self.model).next_change()
    }
}

impl SimHandle {
    /// Does something at the door and tells what it looks like then.
    ///
    /// # Errors
    /// When a real door would not let itself be treated like that.
    pub fn apply(&self, command: SimCommand) -> Result<SimState, SimError> {
        let state = {
            let mut model = lock(&self.model);
            model.apply(Instant::now(), command)?;
            model.state()
        };
        self.wake.poke();
        Ok(state)
    }

    /// What the door looks like.
    #[must_use]
    pub fn show(&self) -> SimState {
        let mut model = lock(&self.model);
        model.pass(Instant::now());
        model.state()
    }
}

/// A panic elsewhere leaves no half-changed model: each change is one call.
fn lock(model: &Mutex<Model>) -> MutexGuard<'_, Model> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

fn names() -> String {
    SimCommand::ALL.map(|(name, _)| name).join(", ")
}
