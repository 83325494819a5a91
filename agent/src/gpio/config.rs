//! The table `[board]`: kind of board and use of its pins.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use door_core::config::{Fitted, StrikeConfig, StrikeKind, time};
use serde::Deserialize;
use thiserror::Error;

/// The pins of the header, by BCM number.
pub(super) const HEADER: RangeInclusive<u8> = 0..=27;

/// The table `[board]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardConfig {
    /// `simulated` or `raspberry-pi`.
    pub kind: BoardKind,
    /// Raspberry Pi: the output pins.
    #[serde(default)]
    pub outputs: OutputPins,
    /// Raspberry Pi: the input pins. An input without a pin is not fitted.
    #[serde(default)]
    pub inputs: InputPins,
    /// Simulated: travel time of the bolt from one end to the other.
    #[serde(default = "default_bolt_travel", deserialize_with = "time")]
    pub bolt_travel: Duration,
    /// Whether the wall clock is trusted: `synchronized` (when the system reports that a time
    /// source has set it; default on a Pi), or `system` (always; default of the simulated board,
    /// whose host keeps the time).
    #[serde(default)]
    pub clock: Option<ClockTrust>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoardKind {
    /// A door in memory, with every input fitted.
    Simulated,
    /// The header of a Raspberry Pi.
    RaspberryPi,
}

/// When the wall clock is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockTrust {
    /// When a time source has set it since boot.
    Synchronized,
    /// Always.
    System,
}

/// The level at which an input or output is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActiveLevel {
    /// 3.3 V.
    High,
    /// 0 V.
    Low,
}

/// The pin's internal resistor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinBias {
    /// To 3.3 V.
    PullUp,
    /// To 0 V.
    PullDown,
    /// None: the wiring has a resistor.
    Off,
}

/// `[board.outputs.<x>]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputPin {
    /// BCM number.
    pub pin: u8,
    /// The level that energises.
    pub active: ActiveLevel,
}

/// `[board.inputs.<x>]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputPin {
    /// BCM number.
    pub pin: u8,
    /// The level at which it is active.
    pub active: ActiveLevel,
    /// `pull-up`, `pull-down` or `off`.
    pub bias: PinBias,
    /// How long a level must hold to count. `rex` and `fire` also count as active when they have
    /// not settled to idle for four times as long.
    #[serde(default = "default_debounce", deserialize_with = "time")]
    pub debounce: Duration,
}

/// `[board.outputs]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutputPins {
    /// Motor lock: towards thrown.
    pub throw: Option<OutputPin>,
    /// Motor lock: towards retracted.
    pub retract: Option<OutputPin>,
    /// Every other strike.
    pub coil: Option<OutputPin>,
}

/// `[board.inputs]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InputPins {
    /// Door position switch: active while the door is closed.
    pub door: Option<InputPin>,
    /// Lock monitor: active while the bolt is thrown.
    pub bond: Option<InputPin>,
    /// Request to exit.
    pub rex: Option<InputPin>,
    /// Output of a reader or keypad.
    pub grant: Option<InputPin>,
    /// Fire release.
    pub fire: Option<InputPin>,
    /// The key switch that ends a fire release.
    pub fire_reset: Option<InputPin>,
    /// Tamper contact of the enclosure: active while it is open.
    pub tamper: Option<InputPin>,
}

/// An invalid board configuration, by its keys.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BoardConfigError {
    /// The header does not have this pin.
    #[error("[board.{table}.{role}] pin = {pin}: the header has BCM 0 to 27")]
    NoSuchPin {
        /// `outputs` or `inputs`.
        table: &'static str,
        role: &'static str,
        pin: u8,
    },
    /// Two uses of one pin.
    #[error("BCM {pin} is both {first} and {second}")]
    PinUsedTwice {
        pin: u8,
        /// The first use.
        first: &'static str,
        /// The second use.
        second: &'static str,
    },
    /// The strike needs this output.
    #[error("[board.outputs.{role}] is missing: [strike] kind = \"{kind}\" is driven by it")]
    OutputMissing {
        role: &'static str,
        kind: &'static str,
    },
    /// The strike does not use this output.
    #[error("[board.outputs.{role}] is not used by [strike] kind = \"{kind}\": remove it")]
    OutputUnused {
        role: &'static str,
        kind: &'static str,
    },
    /// A simulated board has no pins.
    #[error("[board] kind = \"simulated\" has no pins: remove [board.outputs] and [board.inputs]")]
    PinsUnused,
}

impl BoardConfig {
    /// A simulated door.
    #[must_use]
    pub fn simulated() -> Self {
        Self {
            kind: BoardKind::Simulated,
            outputs: OutputPins::default(),
            inputs: InputPins::default(),
            bolt_travel: default_bolt_travel(),
            clock: None,
        }
    }

    /// The inputs that are fitted.
    #[must_use]
    pub fn fitted(&self) -> Fitted {
        match self.kind {
            BoardKind::Simulated => Fitted::ALL,
            BoardKind::RaspberryPi => Fitted {
                door: self.inputs.door.is_some(),
                bond: self.inputs.bond.is_some(),
                rex: self.inputs.rex.is_some(),
                grant: self.inputs.grant.is_some(),
                fire: self.inputs.fire.is_some(),
                fire_reset: self.inputs.fire_reset.is_some(),
                tamper: self.inputs.tamper.is_some(),
            },
        }
    }

    /// When the wall clock is trusted.
    #[must_use]
    pub fn clock_trust(&self) -> ClockTrust {
        self.clock.unwrap_or(match self.kind {
            BoardKind::Simulated => ClockTrust::System,
            BoardKind::RaspberryPi => ClockTrust::Synchronized,
        })
    }

    /// Checks the pins, and that they suit the strike.
    ///
    /// # Errors
    /// The first mistake.
    pub fn check(&self, strike: &StrikeConfig) -> Result<(), BoardConfigError> {
        if self.kind == BoardKind::Simulated {
            let none = self.outputs == OutputPins::default() && self.inputs == InputPins::default();
            return if none {
                Ok(())
            } else {
                Err(BoardConfigError::PinsUnused)
            };
        }
        let kind = strike.kind.name();
        let needed: &[_] = match strike.kind {
            StrikeKind::MotorLock => &["throw", "retract"],
            StrikeKind::SolenoidBolt
            | StrikeKind::HoldStrike
            | StrikeKind::PulseStrike
            | StrikeKind::Maglock => &["coil"],
        };
        for (role, output) in self.outputs.all() {
            match (output, needed.contains(&role)) {
                (None, true) => return Err(BoardConfigError::OutputMissing { role, kind }),
                (Some(_), false) => return Err(BoardConfigError::OutputUnused { role, kind }),
                _ => {}
            }
        }
        self.check_pins()
    }

    fn check_pins(&self) -> Result<(), BoardConfigError> {
        let outputs = self.outputs.all().map(|(role, output)| {
            let pin = output.map(|output| output.pin);
            ("outputs", role, pin)
        });
        let inputs = self.inputs.all().map(|(role, input)| {
            let pin = input.map(|input| input.pin);
            ("inputs", role, pin)
        });
        let mut used = BTreeMap::new();
        for (table, role, pin) in outputs.into_iter().chain(inputs) {
            let Some(pin) = pin else {
                continue;
            };
            if !HEADER.contains(&pin) {
                return Err(BoardConfigError::NoSuchPin { table, role, pin });
            }
            if let Some(first) = used.insert(pin, role) {
                return Err(BoardConfigError::PinUsedTwice {
                    pin,
                    first,
                    second: role,
                });
            }
        }
        Ok(())
    }
}

impl OutputPins {
    /// All outputs by their keys.
    #[must_use]
    pub fn all(&self) -> [(&'static str, Option<OutputPin>); 3] {
        [
            ("throw", self.throw),
            ("retract", self.retract),
            ("coil", self.coil),
        ]
    }
}

impl OutputPin {
    /// What may energise the output between power-on and the start of the agent.
    ///
    /// Source: BCM2835 ARM Peripherals, table 6-31 (pulls at reset: up for BCM 0 to 8, down for the
    /// others); the firmware reads a HAT's EEPROM over BCM 0 and 1, and with the serial console
    /// on drives BCM 14 (TXD), whose idle level is high.
    #[must_use]
    pub fn hazard_at_boot(self) -> Option<&'static str> {
        match (self.pin, self.active) {
            (0 | 1, _) => {
                Some("the firmware drives it at power-on to detect a HAT: use another pin")
            }
            (14 | 15, _) => Some(
                "the serial console drives it from power-on: use another pin, or disable the \
                 console",
            ),
            (2..=8, ActiveLevel::High) => Some(
                "it is pulled up until the agent starts, which energises it unless 10 kΩ pull it \
                 to ground: BCM 9 to 27 are pulled down",
            ),
            (9.., ActiveLevel::Low) => Some(
                "it is pulled down until the agent starts, which energises it unless 10 kΩ pull \
                 it to 3.3 V: BCM 2 to 8 are pulled up",
            ),
            _ => None,
        }
    }
}

impl InputPins {
    /// All inputs by their keys.
    #[must_use]
    pub fn all(&self) -> [(&'static str, Option<InputPin>); 7] {
        [
            ("door", self.door),
            ("bond", self.bond),
            ("rex", self.rex),
            ("grant", self.grant),
            ("fire", self.fire),
            ("fire_reset", self.fire_reset),
            ("tamper", self.tamper),
        ]
    }
}

fn default_bolt_travel() -> Duration {
    Duration::from_millis(600)
}

fn default_debounce() -> Duration {
    Duration::from_millis(30)
}

#[cfg(test)]
mod tests {
    use door_core::config::FailMode;

    use super::*;

    fn pi(text: &str) -> BoardConfig {
        toml::from_str(&format!("kind = \"raspberry-pi\"\n{text}")).unwrap()
    }

    const MOTOR: &str = r#"
        outputs.throw = { pin = 17, active = "high" }
        outputs.retract = { pin = 27, active = "low" }
    "#;

    #[test]
    fn the_board_table_parses() {
        let board = pi(&format!(
            r#"{MOTOR}
            [inputs.door]
            pin = 22
            active = "low"
            bias = "pull-up"
            debounce = "20ms"
            "#
        ));
        assert_eq!(board.check(&StrikeConfig::motor_lock()), Ok(()));
        assert!(board.fitted().door && !board.fitted().rex);
        assert_eq!(
            board.inputs.door.map(|input| input.debounce),
            Some(Duration::from_millis(20))
        );
        assert_eq!(board.clock_trust(), ClockTrust::Synchronized);
        assert!(
            toml::from_str::<BoardConfig>("kind = \"simulated\"\nbolt_travle = \"1s\"").is_err()
        );
    }

    #[test]
    fn pins_driven_before_the_agent_starts_are_reported() {
        let hazard = |pin, active| OutputPin { pin, active }.hazard_at_boot();
        for (pin, active, expected) in [
            (1, ActiveLevel::Low, "HAT"),
            (8, ActiveLevel::High, "pulled up until"),
            (9, ActiveLevel::Low, "pulled down until"),
            (14, ActiveLevel::High, "serial console"),
        ] {
            let hazard_text = hazard(pin, active).unwrap();
            assert!(hazard_text.contains(expected), "BCM {pin}: {hazard_text}");
        }
        for (pin, active) in [
            (2, ActiveLevel::Low),
            (8, ActiveLevel::Low),
            (9, ActiveLevel::High),
            (17, ActiveLevel::High),
        ] {
            assert_eq!(hazard(pin, active), None, "BCM {pin}");
        }
    }

    #[test]
    fn an_impossible_board_is_refused_with_its_keys() {
        let motor = StrikeConfig::motor_lock();
        let coil = StrikeConfig::solenoid_bolt(FailMode::Safe);
        let input = r#"{ pin = 27, active = "low", bias = "pull-up" }"#;
        for (board, strike, expected) in [
            (pi(""), motor, "outputs.throw] is missing"),
            (pi(MOTOR), coil, "outputs.throw] is not used"),
            (
                pi(&format!("{MOTOR}\ninputs.bond = {input}")),
                motor,
                "BCM 27 is both retract and bond",
            ),
            (
                pi("outputs.coil = { pin = 28, active = \"high\" }"),
                coil,
                "[board.outputs.coil] pin = 28",
            ),
            (
                BoardConfig {
                    kind: BoardKind::Simulated,
                    ..pi(MOTOR)
                },
                motor,
                "has no pins",
            ),
        ] {
            let error = board.check(&strike).unwrap_err().to_string();
            assert!(
                error.contains(expected),
                "{error:?} should contain {expected:?}"
            );
        }
    }
}
