//! The header of a Raspberry Pi, through rppal. No other module uses rppal.

use std::path::Path;
use std::time::{Duration, Instant};

use door_core::{Inputs, Outputs};
use log::warn;
use rppal::gpio::{Bias, Error, Gpio, InputPin, Level, OutputPin, Pin, Trigger};

use super::config::{self, ActiveLevel, BoardConfig, PinBias};
use super::pin_claim::{AbandonedPin, DIRECTORY, LAST_RESORT, PinClaim};
use super::pins::{InputReader, OutputDriver, Pins};
use super::{Board, BoardError, PinLevel, Wake, WiredBoard};

/// The pins of a door.
pub(super) type RaspberryPi = Pins<Output, Input>;

#[derive(Debug)]
pub(super) struct Output {
    pin: OutputPin,
    active: ActiveLevel,
}

#[derive(Debug)]
pub(super) struct Input(InputPin);

pub(super) fn open(
    config: &BoardConfig,
    door: &str,
    wake: &Wake,
) -> Result<RaspberryPi, BoardError> {
    let mut claims = claim_all(config, door)?;
    let outputs = config.outputs.all().into_iter();
    for output in outputs.filter_map(|(_, output)| output) {
        let mut claims = claims.iter_mut();
        if let Some(claim) = claims.find(|claim| claim.pin() == output.pin) {
            claim.drives(output.active)?;
        }
    }
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
        let own: Vec<_> = pins_of(config).map(|(_, pin)| pin).collect();
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

    fn drive(&mut self, outputs: Outputs) {
        self.door.drive(outputs);
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
                bcm: Some(pin.pin()),
                high,
                active: high,
            }
        });
        self.door.pins().into_iter().chain(others).collect()
    }
}

fn claim_all(config: &BoardConfig, door: &str) -> Result<Vec<PinClaim>, BoardError> {
    pins_of(config)
        .map(|(role, pin)| PinClaim::take(Path::new(DIRECTORY), pin, role, door))
        .collect()
}

/// Every configured pin with its role.
fn pins_of(config: &BoardConfig) -> impl Iterator<Item = (&'static str, u8)> {
    let outputs = config.outputs.all().into_iter();
    let outputs = outputs.filter_map(|(role, output)| Some((role, output?.pin)));
    let inputs = config.inputs.all().into_iter();
    outputs.chain(inputs.filter_map(|(role, input)| Some((role, input?.pin))))
}

/// Claims and reads every pin: getting a pin changes neither its mode nor its level.
pub(super) fn probe(config: &BoardConfig, door: &str) -> Result<Vec<String>, BoardError> {
    let _claims = claim_all(config, door)?;
    let gpio = Gpio::new().map_err(peripheral)?;
    pins_of(config)
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
    except: &[u8],
) -> Result<(), BoardError> {
    let outputs = config.outputs.all().into_iter();
    let outputs = outputs.filter_map(|(role, output)| Some((role, output?)));
    let outputs: Vec<_> = outputs
        .filter(|(_, output)| !except.contains(&output.pin))
        .collect();
    let mut claims = Vec::new();
    for (role, output) in &outputs {
        claims.push(claim_with_retry(output.pin, role, door)?);
    }
    let gpio = Gpio::new().map_err(peripheral)?;
    for (role, output) in outputs {
        // Opening sets the safe level, and dropping keeps it.
        drop(Output::open(&gpio, role, output)?);
    }
    claims.iter_mut().try_for_each(PinClaim::forget)
}

/// Claims a pin that another door's last resort may hold for a moment.
fn claim_with_retry(pin: u8, role: &'static str, door: &str) -> Result<PinClaim, BoardError> {
    let mut tries = 20;
    loop {
        match PinClaim::take(Path::new(DIRECTORY), pin, role, door) {
            Err(BoardError::PinHeld { .. }) if tries > 0 => {
                tries -= 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            taken => return taken,
        }
    }
}

/// Like [`de_energise`], for pins that killed processes drove, whatever the configurations say.
/// Returns the de-energised pins, and the error of one that failed.
pub(super) fn de_energise_abandoned() -> (Vec<u8>, Result<(), BoardError>) {
    let mut pins = Vec::new();
    let mut failed = Ok(());
    // One at a time, so that another door can claim its pins.
    for pin in config::HEADER {
        let Some(abandoned) = AbandonedPin::take(Path::new(DIRECTORY), pin) else {
            continue;
        };
        match de_energise_abandoned_pin(abandoned) {
            Ok(()) => pins.push(pin),
            Err(error) => failed = Err(error),
        }
    }
    (pins, failed)
}

fn de_energise_abandoned_pin(abandoned: AbandonedPin) -> Result<(), BoardError> {
    let (pin, active) = (abandoned.pin, abandoned.active);
    let gpio = Gpio::new().map_err(peripheral)?;
    let output = config::OutputPin { pin, active };
    drop(Output::open(&gpio, LAST_RESORT, output)?);
    abandoned.forget()
}

impl Output {
    fn open(
        gpio: &Gpio,
        role: &'static str,
        config: config::OutputPin,
    ) -> Result<Self, BoardError> {
        let pin = gpio
            .get(config.pin)
            .map_err(|error| pin_error(config.pin, role, &error))?;
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
    fn set(&mut self, energised: bool) {
        match (energised, self.active) {
            (true, ActiveLevel::High) | (false, ActiveLevel::Low) => self.pin.set_high(),
            (true, ActiveLevel::Low) | (false, ActiveLevel::High) => self.pin.set_low(),
        }
    }
}

impl Input {
    fn open(
        gpio: &Gpio,
        role: &'static str,
        config: config::InputPin,
        wake: Wake,
    ) -> Result<Self, BoardError> {
        let pin = gpio
            .get(config.pin)
            .map_err(|error| pin_error(config.pin, role, &error))?;
        let mut pin = pin.into_input();
        pin.set_bias(match config.bias {
            PinBias::PullUp => Bias::PullUp,
            PinBias::PullDown => Bias::PullDown,
            PinBias::Off => Bias::Off,
        });
        pin.set_reset_on_drop(false);
        // Raw edges: the debounce works on reads, with or without an edge.
        let edges = pin.set_async_interrupt(Trigger::Both, None, move |_| wake.poke());
        if let Err(error) = edges {
            warn!(
                "BCM {} ({role}) has no interrupts and is polled once a second: {error}",
                config.pin
            );
        }
        Ok(Self(pin))
    }
}

impl InputReader for Input {
    fn is_high(&self) -> bool {
        self.0.is_high()
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
        pin,
        role,
        reason: error.to_string(),
    }
}
