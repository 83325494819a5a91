//! The header of a Raspberry Pi, through rppal. No other module uses rppal.

use std::path::Path;
use std::time::Instant;

use door_core::{Inputs, OutputFault, Outputs};
use log::warn;
use rppal::gpio::{Bias, Error, Gpio, InputPin, Level, OutputPin, Pin, Trigger};

use super::config::{self, ActiveLevel, BoardConfig, PinBias, bcm};
use super::pin_claim::{DIRECTORY, LAST_RESORT, PinClaim};
use super::pins::{InputReader, OutputDriver, POLL_INTERVAL, Pins, claim_all, claim_with_retry};
use super::{Board, BoardError, PinId, PinLevel, PinName, Wake, WiredBoard};

/// The pins of a door.
pub(super) type RaspberryPi = Pins<Output, Input>;

#[derive(Debug)]
pub(super) struct Output {
    pin: OutputPin,
    active: ActiveLevel,
}

#[derive(Debug)]
pub(super) struct Input {
    pin: InputPin,
    has_edges: bool,
}

pub(super) fn open(
    config: &BoardConfig,
    door: &str,
    wake: &Wake,
) -> Result<RaspberryPi, BoardError> {
    let claims = claim_all(door, pins_of(config)?.map(claimed))?;
    let gpio = Gpio::new().map_err(peripheral)?;
    Pins::open(
        config,
        claims,
        |role, pin| Output::open(&gpio, role, pin),
        |role, pin| Input::open(&gpio, role, pin, wake.clone()),
    )
}

/// The pins of one door, and all others of the header for inspection: an installer may have used
/// the wrong one.
#[derive(Debug)]
pub(super) struct WholeHeader {
    door: RaspberryPi,
    others: Vec<Pin>,
}

impl WholeHeader {
    pub(super) fn open(config: &BoardConfig, door: &str) -> Result<Self, BoardError> {
        let door = open(config, door, &Wake::default())?;
        let gpio = Gpio::new().map_err(peripheral)?;
        let own: Vec<_> = pins_of(config)?.map(|(_, pin)| pin).collect();
        Ok(Self {
            door,
            // Reading a pin changes neither its mode nor its level; an unreadable one is left out.
            others: config::HEADER
                .filter(|pin| !own.contains(pin))
                .filter_map(|pin| gpio.get(pin).ok())
                .collect(),
        })
    }
}

impl Board for WholeHeader {
    fn read(&mut self) -> Inputs {
        self.door.read()
    }

    fn drive(&mut self, outputs: Outputs) -> Result<(), OutputFault> {
        self.door.drive(outputs)
    }

    fn next_change(&self) -> Option<Instant> {
        self.door.next_change()
    }
}

impl WiredBoard for WholeHeader {
    fn pins(&self) -> Vec<PinLevel> {
        let others = self.others.iter().map(|pin| {
            let high = pin.read() == Level::High;
            PinLevel {
                role: None,
                pin: Some(PinName::Bcm(pin.pin())),
                high,
                active: high,
                fault: None,
            }
        });
        self.door.pins().into_iter().chain(others).collect()
    }
}

/// Every configured pin with its role.
fn pins_of(config: &BoardConfig) -> Result<impl Iterator<Item = (&'static str, u8)>, BoardError> {
    let number = |(table, role, pin)| Ok((role, bcm(table, role, pin)?));
    let pins: Result<Vec<_>, BoardError> = config.pins().map(number).collect();
    Ok(pins?.into_iter())
}

fn claimed((role, pin): (&'static str, u8)) -> (&'static str, PinId) {
    (role, PinId::Bcm(pin))
}

/// Claims and reads every pin: getting a pin changes neither its mode nor its level.
pub(super) fn probe(config: &BoardConfig, door: &str) -> Result<Vec<String>, BoardError> {
    // Nothing is driven, so nothing is recorded as driven.
    let claim = |(role, pin)| PinClaim::take(Path::new(DIRECTORY), pin, role, door);
    let claims: Result<Vec<_>, _> = pins_of(config)?.map(claimed).map(claim).collect();
    let _claims = claims?;
    let gpio = Gpio::new().map_err(peripheral)?;
    pins_of(config)?
        .map(|(role, pin)| {
            let held = gpio
                .get(pin)
                .map_err(|error| pin_error(pin, role, &error))?;
            let level = match held.read() {
                Level::High => "high",
                Level::Low => "low",
            };
            Ok(format!("BCM {pin} as {role}, {level} now"))
        })
        .collect()
}

/// Last resort: no process holds the pins, and their levels are unknown. `except` is done already.
pub(super) fn de_energise(
    config: &BoardConfig,
    door: &str,
    except: &[PinId],
) -> Result<(), BoardError> {
    let mut outputs = Vec::new();
    for (role, output) in config.outputs.all() {
        let Some(output) = output else { continue };
        let pin = PinId::Bcm(bcm("outputs", role, &output.pin)?);
        if !except.iter().any(|done| pin.is_same(done)) {
            outputs.push((role, output, claim_with_retry(&pin, role, door)?));
        }
    }
    let gpio = Gpio::new().map_err(peripheral)?;
    for (role, output, _) in &outputs {
        // Opening sets the safe level, and dropping keeps it.
        drop(Output::open(&gpio, role, output)?);
    }
    outputs
        .iter_mut()
        .try_for_each(|(.., claim)| claim.forget())
}

/// De-energises a pin that a killed process drove and that is claimed now.
pub(super) fn release(pin: u8, active: ActiveLevel) -> Result<(), BoardError> {
    let gpio = Gpio::new().map_err(peripheral)?;
    let pin = PinName::Bcm(pin);
    drop(Output::open(
        &gpio,
        LAST_RESORT,
        &config::OutputPin { pin, active },
    )?);
    Ok(())
}

impl Output {
    fn open(
        gpio: &Gpio,
        role: &'static str,
        config: &config::OutputPin,
    ) -> Result<Self, BoardError> {
        let number = bcm("outputs", role, &config.pin)?;
        let pin = gpio
            .get(number)
            .map_err(|error| pin_error(number, role, &error))?;
        // The level before the direction, so that the pin never shows another level.
        let mut pin = match config.active {
            ActiveLevel::High => pin.into_output_low(),
            ActiveLevel::Low => pin.into_output_high(),
        };
        // Restoring the pin's former mode may energise an active-low relay.
        pin.set_reset_on_drop(false);
        Ok(Self {
            pin,
            active: config.active,
        })
    }
}

impl OutputDriver for Output {
    /// By register, which cannot fail.
    fn set(&mut self, energised: bool) -> Result<(), String> {
        match (energised, self.active) {
            (true, ActiveLevel::High) | (false, ActiveLevel::Low) => self.pin.set_high(),
            (true, ActiveLevel::Low) | (false, ActiveLevel::High) => self.pin.set_low(),
        }
        Ok(())
    }
}

impl Input {
    fn open(
        gpio: &Gpio,
        role: &'static str,
        config: &config::InputPin,
        wake: Wake,
    ) -> Result<Self, BoardError> {
        let number = bcm("inputs", role, &config.pin)?;
        let pin = gpio
            .get(number)
            .map_err(|error| pin_error(number, role, &error))?;
        let mut pin = pin.into_input();
        pin.set_bias(match config.bias {
            PinBias::PullUp => Bias::PullUp,
            PinBias::PullDown => Bias::PullDown,
            PinBias::Off => Bias::Off,
        });
        pin.set_reset_on_drop(false);
        // Raw edges: the debounce works on reads, with or without an edge.
        let edges = pin.set_async_interrupt(Trigger::Both, None, move |_| wake.poke());
        if let Err(error) = &edges {
            warn!("BCM {number} ({role}) is polled every {POLL_INTERVAL:?}: {error}");
        }
        Ok(Self {
            pin,
            has_edges: edges.is_ok(),
        })
    }
}

impl InputReader for Input {
    /// By register, which cannot fail.
    fn is_high(&self) -> Result<bool, String> {
        Ok(self.pin.is_high())
    }

    fn is_debounced(&self) -> bool {
        false
    }

    fn has_edges(&self) -> bool {
        self.has_edges
    }
}

fn peripheral(error: Error) -> BoardError {
    BoardError::Peripheral(match error {
        Error::UnknownModel => "rppal does not support this model of Raspberry Pi".to_owned(),
        Error::PermissionDenied(path) => {
            format!("no permission for {path}: the agent's user must be in the group gpio")
        }
        other => other.to_string(),
    })
}

fn pin_error(pin: u8, role: &'static str, error: &Error) -> BoardError {
    BoardError::Pin {
        pin: PinId::Bcm(pin),
        role,
        reason: error.to_string(),
    }
}
