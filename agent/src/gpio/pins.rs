//! The pins of a real board by their roles: which outputs are on, which inputs are active.
//!
//! How a pin is driven or read is the business of each board, through [`OutputDriver`] and
//! [`InputReader`].

use std::time::Instant;

use door_core::{Inputs, Outputs, Reading};
use log::warn;

use super::config::{self, ActiveLevel, BoardConfig};
use super::debounce::Debounce;
use super::pin_claim::PinClaim;
use super::{Board, BoardError, PinLevel, WiredBoard, earlier_of};

/// A claimed output pin.
pub(super) trait OutputDriver: Send {
    /// Energises or de-energises what the pin drives.
    fn set(&mut self, energised: bool);
}

/// A claimed input pin.
pub(super) trait InputReader: Send {
    /// The present level, without debounce.
    fn is_high(&self) -> bool;
}

/// All pins of a door. Dropping it de-energises the outputs.
#[derive(Debug)]
pub(super) struct Pins<O: OutputDriver, I> {
    outputs: Vec<(&'static str, O)>,
    inputs: Vec<Input<I>>,
    claims: Vec<PinClaim>,
}

#[derive(Debug)]
struct Input<I> {
    role: &'static str,
    bcm: u8,
    active: ActiveLevel,
    reader: I,
    debounce: Debounce,
}

impl<O: OutputDriver, I: InputReader> Pins<O, I> {
    /// Opens every configured pin, outputs first.
    pub(super) fn open(
        config: &BoardConfig,
        claims: Vec<PinClaim>,
        output: impl Fn(&'static str, config::OutputPin) -> Result<O, BoardError>,
        input: impl Fn(&'static str, config::InputPin) -> Result<I, BoardError>,
    ) -> Result<Self, BoardError> {
        let mut outputs = Vec::new();
        for (role, pin) in config.outputs.all() {
            if let Some(pin) = pin {
                outputs.push((role, output(role, pin)?));
            }
        }
        let mut inputs = Vec::new();
        for (role, pin) in config.inputs.all() {
            if let Some(pin) = pin {
                inputs.push(Input::new(role, pin, input(role, pin)?));
            }
        }
        Ok(Self {
            outputs,
            inputs,
            claims,
        })
    }
}

impl<O: OutputDriver, I> Pins<O, I> {
    /// Switches off before it switches on: a motor never gets both of its directions.
    fn set_outputs(&mut self, outputs: Outputs) {
        let energised = match outputs {
            Outputs::DeEnergised => None,
            Outputs::Throw => Some("throw"),
            Outputs::Retract => Some("retract"),
            Outputs::Energised => Some("coil"),
        };
        for on in [false, true] {
            for (role, output) in &mut self.outputs {
                if (energised == Some(*role)) == on {
                    output.set(on);
                }
            }
        }
    }
}

impl<O: OutputDriver, I> Drop for Pins<O, I> {
    fn drop(&mut self) {
        self.set_outputs(Outputs::DeEnergised);
        for claim in &mut self.claims {
            // If this fails, the pin is de-energised once more later.
            if let Err(error) = claim.forget() {
                warn!("{error}");
            }
        }
    }
}

impl<O: OutputDriver, I: InputReader> Board for Pins<O, I> {
    fn read(&mut self) -> Inputs {
        let now = Instant::now();
        let mut inputs = Inputs::default();
        for input in &mut self.inputs {
            *reading_of(&mut inputs, input.role) = Some(input.read(now));
        }
        inputs
    }

    fn drive(&mut self, outputs: Outputs) {
        self.set_outputs(outputs);
    }

    fn next_change(&self) -> Option<Instant> {
        let due = self.inputs.iter().map(|input| input.debounce.due());
        due.fold(None, earlier_of)
    }
}

/// The configured inputs.
impl<O: OutputDriver, I: InputReader> WiredBoard for Pins<O, I> {
    fn pins(&self) -> Vec<PinLevel> {
        let level = |input: &Input<I>| PinLevel {
            role: Some(input.role),
            bcm: Some(input.bcm),
            high: input.reader.is_high(),
            active: input.is_active(),
        };
        self.inputs.iter().map(level).collect()
    }
}

impl<I: InputReader> Input<I> {
    fn new(role: &'static str, pin: config::InputPin, reader: I) -> Self {
        let active = reader.is_high() == (pin.active == ActiveLevel::High);
        Self {
            role,
            bcm: pin.pin,
            active: pin.active,
            reader,
            debounce: match role {
                "rex" | "fire" => Debounce::for_egress(pin.debounce, active),
                _ => Debounce::new(pin.debounce, active),
            },
        }
    }

    fn read(&mut self, now: Instant) -> bool {
        let raw = self.is_active();
        self.debounce.read(raw, now)
    }

    /// The level without debounce.
    fn is_active(&self) -> bool {
        self.reader.is_high() == (self.active == ActiveLevel::High)
    }
}

/// The reading of the input with this key in `[board.inputs]`.
fn reading_of<'a>(inputs: &'a mut Inputs, role: &str) -> &'a mut Reading {
    match role {
        "door" => &mut inputs.closed,
        "bond" => &mut inputs.bonded,
        "rex" => &mut inputs.rex,
        "grant" => &mut inputs.grant,
        "fire" => &mut inputs.fire,
        "fire_reset" => &mut inputs.fire_reset,
        _ => &mut inputs.tamper,
    }
}
