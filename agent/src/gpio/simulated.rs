//! A door in memory: bolt, door, sensors and people, each behaving like the real thing.
//!
//! It has no thread and no timer: time passes when it is read, and [`Board::next_change`] says when
//! to read again. So a thousand of them can run in one process. People act through a [`SimHandle`],
//! in the process or through the [`socket`].

mod command;
mod model;
pub mod socket;
mod wiring;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use door_core::config::{FailMode, Fitted, StrikeKind};
use door_core::{Inputs, OutputFault, Outputs, StrikeConfig};
use serde::Serialize;
use thiserror::Error;

use super::config::BoardConfig;
use super::{Board, PinLevel, Wake, WiredBoard};
pub use command::{Hold, Miswired, Sensor, SimCommand, SimSyntaxError, SimVerb, VERBS, parse_time};
use model::{Mechanism, Model};
pub use socket::SimSocket;

/// Name of the control socket in the agent's state directory.
pub const SIM_SOCKET: &str = "sim.sock";

/// The board that the controller drives.
#[derive(Debug)]
pub struct SimulatedBoard {
    model: Arc<Mutex<Model>>,
    fitted: Fitted,
}

/// Control of a simulated door; clones share the door.
#[derive(Debug, Clone)]
pub struct SimHandle {
    model: Arc<Mutex<Model>>,
    wake: Wake,
}

/// Why a simulated door refuses an action.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SimError {
    #[error("the door is locked: its bolt is thrown (`force` opens it anyway)")]
    Locked,
    /// The bolt would hit the frame.
    #[error("the door cannot be closed: its bolt is out")]
    BoltOut,
}

/// State of a simulated door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SimState {
    /// `open` or `closed`.
    pub door: &'static str,
    /// `thrown`, `back` or `between`.
    pub bolt: &'static str,
    /// The energised outputs.
    pub outputs: Outputs,
    /// The bolt is blocked.
    pub jammed: bool,
    /// The lock has power.
    pub power: bool,
    /// The buttons and inputs that are held active, by their keys.
    pub active: Vec<&'static str>,
    /// Wiring faults, by the keys of the inputs.
    pub faults: BTreeMap<&'static str, &'static str>,
}

impl SimulatedBoard {
    pub(super) fn new(
        config: &BoardConfig,
        strike: &StrikeConfig,
        wake: Wake,
    ) -> (Self, SimHandle) {
        let mechanism = match (strike.kind, strike.fail_mode()) {
            (StrikeKind::MotorLock, _) => Mechanism::Motor,
            (_, FailMode::Secure) => Mechanism::CoilRetracts,
            (_, FailMode::Safe) => Mechanism::CoilThrows,
        };
        let has_bolt = strike.kind.has_bolt();
        let model = Model::new(config.bolt_travel, mechanism, has_bolt, Instant::now());
        let model = Arc::new(Mutex::new(model));
        let handle = SimHandle {
            model: Arc::clone(&model),
            wake,
        };
        let fitted = config.fitted();
        (Self { model, fitted }, handle)
    }
}

impl Board for SimulatedBoard {
    fn read(&mut self) -> Inputs {
        self.fitted.keep(lock(&self.model).read(Instant::now()))
    }

    fn drive(&mut self, outputs: Outputs) -> Result<(), OutputFault> {
        lock(&self.model).drive(Instant::now(), outputs);
        Ok(())
    }

    fn next_change(&self) -> Option<Instant> {
        lock(&self.model).next_change()
    }
}

/// No pins: an active input is high.
impl WiredBoard for SimulatedBoard {
    fn pins(&self) -> Vec<PinLevel> {
        lock(&self.model)
            .wires(Instant::now())
            .into_iter()
            .filter(|(role, _)| self.fitted.has(role))
            .map(|(role, active)| PinLevel {
                role: Some(role),
                pin: None,
                high: active,
                active,
                fault: None,
            })
            .collect()
    }
}

impl SimHandle {
    /// Performs an action and returns the resulting state.
    ///
    /// # Errors
    /// When a real door would not allow it.
    pub fn apply(&self, command: SimCommand) -> Result<SimState, SimError> {
        let state = {
            let mut model = lock(&self.model);
            model.apply(Instant::now(), command)?;
            model.state()
        };
        self.wake.poke();
        Ok(state)
    }

    /// The present state.
    #[must_use]
    pub fn show(&self) -> SimState {
        let mut model = lock(&self.model);
        model.pass(Instant::now());
        model.state()
    }
}

/// A panic under the lock cannot leave the model inconsistent: every change is a single call.
fn lock(model: &Mutex<Model>) -> MutexGuard<'_, Model> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}
