//! The table `[board]`: kind of board and use of its pins.

mod error;
mod pin;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use door_core::config::{Fitted, StrikeConfig, StrikeKind, time};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

pub use error::BoardConfigError;
pub use pin::PinName;
pub(super) use pin::{ActiveLevel, Chip, InputPin, OutputPin, PinBias};

/// The pins of the header, by BCM number.
pub(super) const HEADER: RangeInclusive<u8> = 0..=27;

/// Labels of the chips with the header of a Raspberry Pi, where the offset of a line is its BCM
/// number: Pi 1 to 3, Pi 4, Pi 5.
pub(super) const HEADER_CHIPS: [&str; 3] = ["pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1"];

/// The table `[board]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardConfig {
    /// `simulated`, `raspberry-pi` or `gpio`.
    pub kind: BoardKind,
    /// GPIO character device: the chip that has the lines.
    #[serde(default)]
    pub chip: Option<Chip>,
    /// The output pins; a simulated door has none.
    #[serde(default)]
    pub outputs: OutputPins,
    /// The input pins. An input without a pin is not fitted. Simulated: the keys of the fitted
    /// inputs; all without this list.
    #[serde(default)]
    pub inputs: BoardInputs,
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
    /// A door in memory.
    Simulated,
    /// The header of a Raspberry Pi, through its registers.
    RaspberryPi,
    /// The lines of a GPIO chip, through its character device.
    Gpio,
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

/// `[board.outputs]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutputPins {
    /// Motor lock: towards thrown.
    pub throw: Option<OutputPin>,
    /// Motor lock: towards retracted.
    pub retract: Option<OutputPin>,
    /// Every other strike.
    pub coil: Option<OutputPin>,
}

/// `[board] inputs`: a table of pins, or the list of a simulated board.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BoardInputs {
    pins: InputPins,
    /// The inputs of a list.
    listed: Option<Fitted>,
}

impl BoardInputs {
    /// The pins; none for a list.
    #[must_use]
    pub fn pins(&self) -> &InputPins {
        &self.pins
    }
}

impl<'de> Deserialize<'de> for BoardInputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TableOrList;

        impl<'de> Visitor<'de> for TableOrList {
            type Value = BoardInputs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of input pins, or a list of inputs for a simulated board")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BoardInputs, A::Error> {
                let pins = InputPins::deserialize(MapAccessDeserializer::new(map))?;
                Ok(BoardInputs { pins, listed: None })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<BoardInputs, A::Error> {
                let mut fitted = Fitted::default();
                while let Some(input) = list.next_element()? {
                    *match input {
                        InputName::Door => &mut fitted.door,
                        InputName::Bond => &mut fitted.bond,
                        InputName::Rex => &mut fitted.rex,
                        InputName::Grant => &mut fitted.grant,
                        InputName::Fire => &mut fitted.fire,
                        InputName::FireReset => &mut fitted.fire_reset,
                        InputName::Tamper => &mut fitted.tamper,
                    } = true;
                }
                Ok(BoardInputs {
                    listed: Some(fitted),
                    ..BoardInputs::default()
                })
            }
        }

        deserializer.deserialize_any(TableOrList)
    }
}

/// Key of an input.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum InputName {
    Door,
    Bond,
    Rex,
    Grant,
    Fire,
    FireReset,
    Tamper,
}

/// `[board.inputs]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
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

impl BoardConfig {
    /// A simulated door.
    #[must_use]
    pub fn simulated() -> Self {
        Self {
            kind: BoardKind::Simulated,
            chip: None,
            outputs: OutputPins::default(),
            inputs: BoardInputs::default(),
            bolt_travel: default_bolt_travel(),
            clock: None,
        }
    }

    /// The inputs that are fitted.
    #[must_use]
    pub fn fitted(&self) -> Fitted {
        let pins = self.inputs.pins();
        match (self.kind, self.inputs.listed) {
            (_, Some(fitted)) => fitted,
            (BoardKind::Simulated, None) => Fitted::ALL,
            (BoardKind::RaspberryPi | BoardKind::Gpio, None) => Fitted {
                door: pins.door.is_some(),
                bond: pins.bond.is_some(),
                rex: pins.rex.is_some(),
                rex_reports_only: pins
                    .rex
                    .as_ref()
                    .is_some_and(|rex| rex.releases == Some(false)),
                grant: pins.grant.is_some(),
                fire: pins.fire.is_some(),
                fire_reset: pins.fire_reset.is_some(),
                tamper: pins.tamper.is_some(),
            },
        }
    }

    /// When the wall clock is trusted.
    #[must_use]
    pub fn clock_trust(&self) -> ClockTrust {
        self.clock.unwrap_or(match self.kind {
            BoardKind::Simulated => ClockTrust::System,
            BoardKind::RaspberryPi | BoardKind::Gpio => ClockTrust::Synchronized,
        })
    }

    /// Checks chip and pins, and that they suit the strike.
    ///
    /// # Errors
    /// The first mistake.
    pub fn check(&self, strike: &StrikeConfig) -> Result<(), BoardConfigError> {
        self.mistakes(strike).into_iter().next().map_or(Ok(()), Err)
    }

    /// Every mistake in chip and pins, and in how they suit the strike.
    #[must_use]
    pub fn mistakes(&self, strike: &StrikeConfig) -> Vec<BoardConfigError> {
        let mut mistakes = Vec::new();
        match (self.kind, &self.chip) {
            (BoardKind::Gpio, None) => mistakes.push(BoardConfigError::ChipMissing),
            (BoardKind::Simulated | BoardKind::RaspberryPi, Some(chip)) => {
                let (Chip::Name(chip) | Chip::Label(chip)) = chip.clone();
                let kind = self.kind.name();
                mistakes.push(BoardConfigError::ChipUnused { chip, kind });
            }
            _ => {}
        }
        if self.kind == BoardKind::Simulated {
            let none = self.outputs == OutputPins::default()
                && *self.inputs.pins() == InputPins::default();
            if !none {
                mistakes.push(BoardConfigError::PinsUnused);
            }
            return mistakes;
        }
        if self.inputs.listed.is_some() {
            mistakes.push(BoardConfigError::PinsMissing);
        }
        for (role, input) in self.inputs.pins().all() {
            if role != "rex" && input.is_some_and(|input| input.releases.is_some()) {
                mistakes.push(BoardConfigError::ReleasesUnused { role });
            }
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
                (None, true) => mistakes.push(BoardConfigError::OutputMissing { role, kind }),
                (Some(_), false) => mistakes.push(BoardConfigError::OutputUnused { role, kind }),
                _ => {}
            }
        }
        self.check_pins(&mut mistakes);
        mistakes
    }

    fn check_pins(&self, mistakes: &mut Vec<BoardConfigError>) {
        let mut used = BTreeMap::new();
        for (table, role, pin) in self.pins() {
            let suits = match (self.kind, pin) {
                (BoardKind::Simulated, _)
                | (BoardKind::Gpio, PinName::Offset(_) | PinName::Line(_)) => Ok(()),
                (BoardKind::RaspberryPi, pin) => bcm(table, role, pin).map(drop),
                (BoardKind::Gpio, PinName::Bcm(_)) => Err(other_kind(self.kind, table, role, pin)),
            };
            if let Err(mistake) = suits {
                mistakes.push(mistake);
            } else if let Some(first) = used.insert(pin, role) {
                mistakes.push(BoardConfigError::PinUsedTwice {
                    pin: pin.clone(),
                    first,
                    table,
                    second: role,
                });
            }
        }
    }

    /// Every configured pin: table, role and name.
    pub(super) fn pins(&self) -> impl Iterator<Item = (&'static str, &'static str, &PinName)> {
        let outputs = self.outputs.all().into_iter();
        let outputs = outputs.filter_map(|(role, it)| Some(("outputs", role, &it?.pin)));
        let inputs = self.inputs.pins().all().into_iter();
        outputs.chain(inputs.filter_map(|(role, it)| Some(("inputs", role, &it?.pin))))
    }

    /// What may energise each output between power-on and the start of the agent.
    pub fn hazards_at_boot(
        &self,
    ) -> impl Iterator<Item = (&'static str, &OutputPin, &'static str)> {
        let outputs = self.outputs.all().into_iter();
        outputs.filter_map(|(role, output)| {
            let output = output?;
            let hazard = match self.header_pin(&output.pin) {
                Some(number) => output.hazard_at_boot(number)?,
                None => {
                    "what this line does until the agent starts is not known: pull it to the level \
                     that is off with 10 kΩ, and measure it at a power-on with the lock \
                     disconnected"
                }
            };
            Some((role, output, hazard))
        })
    }

    /// The BCM number of a pin; `None` for a line that may be none of the header's.
    fn header_pin(&self, pin: &PinName) -> Option<u8> {
        let on_header = matches!(&self.chip, Some(Chip::Label(label)) if is_header(label));
        let number = match pin {
            PinName::Bcm(number) => return Some(*number),
            PinName::Offset(offset) => u8::try_from(*offset).ok(),
            PinName::Line(name) => name.strip_prefix("GPIO")?.parse().ok(),
        };
        number.filter(|number| on_header && HEADER.contains(number))
    }
}

/// Whether a chip with this label has the header of a Raspberry Pi.
pub(super) fn is_header(label: &str) -> bool {
    HEADER_CHIPS.contains(&label)
}

/// The BCM number of a pin in `[board.<table>.<role>]`.
pub(super) fn bcm(
    table: &'static str,
    role: &'static str,
    pin: &PinName,
) -> Result<u8, BoardConfigError> {
    match pin {
        PinName::Bcm(number) if HEADER.contains(number) => Ok(*number),
        PinName::Bcm(number) => Err(BoardConfigError::NoSuchPin {
            table,
            role,
            pin: *number,
        }),
        PinName::Offset(_) | PinName::Line(_) => {
            Err(other_kind(BoardKind::RaspberryPi, table, role, pin))
        }
    }
}

fn other_kind(
    kind: BoardKind,
    table: &'static str,
    role: &'static str,
    pin: &PinName,
) -> BoardConfigError {
    BoardConfigError::OtherKindOfPin {
        table,
        role,
        pin: pin.clone(),
        kind: kind.name(),
        expected: match kind {
            BoardKind::Gpio => "`line`, the offset of a line or its name",
            BoardKind::RaspberryPi | BoardKind::Simulated => "`pin`, a BCM number",
        },
    }
}

impl BoardKind {
    /// As in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Simulated => "simulated",
            Self::RaspberryPi => "raspberry-pi",
            Self::Gpio => "gpio",
        }
    }
}

impl OutputPins {
    /// All outputs by their keys.
    #[must_use]
    pub fn all(&self) -> [(&'static str, Option<&OutputPin>); 3] {
        [
            ("throw", self.throw.as_ref()),
            ("retract", self.retract.as_ref()),
            ("coil", self.coil.as_ref()),
        ]
    }
}

impl InputPins {
    /// All inputs by their keys.
    #[must_use]
    pub fn all(&self) -> [(&'static str, Option<&InputPin>); 7] {
        [
            ("door", self.door.as_ref()),
            ("bond", self.bond.as_ref()),
            ("rex", self.rex.as_ref()),
            ("grant", self.grant.as_ref()),
            ("fire", self.fire.as_ref()),
            ("fire_reset", self.fire_reset.as_ref()),
            ("tamper", self.tamper.as_ref()),
        ]
    }
}

fn default_bolt_travel() -> Duration {
    Duration::from_millis(600)
}

#[cfg(test)]
mod tests;
