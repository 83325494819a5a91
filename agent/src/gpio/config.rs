//! The table `[board]`: kind of board and use of its pins.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use door_core::config::{Fitted, StrikeConfig, StrikeKind, time};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, de};
use thiserror::Error;

/// The pins of the header, by BCM number.
pub(super) const HEADER: RangeInclusive<u8> = 0..=27;

/// Labels of the chips with the header of a Raspberry Pi, where the offset of a line is its BCM
/// number: Pi 1 to 3, Pi 4, Pi 5.
pub(super) const HEADER_CHIPS: [&str; 3] = ["pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1"];

/// Longest name of a line and longest label of a chip: `GPIO_MAX_NAME_SIZE` of `linux/gpio.h`,
/// less its final zero.
const MAX_NAME_BYTES: usize = 31;

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

/// A GPIO chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chip {
    /// `gpiochip0`, the name of its device in `/dev`; it may change from boot to boot.
    Name(String),
    /// What its driver calls it, such as `pinctrl-bcm2711`.
    Label(String),
}

/// A pin as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PinName {
    /// `pin = 17`: the BCM number on the header.
    Bcm(u8),
    /// `line = 17`: the offset on the chip.
    Offset(u32),
    /// `line = "GPIO17"`: the name of a line of the chip.
    Line(String),
}

impl fmt::Display for PinName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bcm(number) => write!(f, "BCM {number}"),
            Self::Offset(offset) => write!(f, "line {offset}"),
            Self::Line(name) => write!(f, "line {name:?}"),
        }
    }
}

impl PinName {
    /// The key that sets it.
    fn key(&self) -> &'static str {
        match self {
            Self::Bcm(_) => "pin",
            Self::Offset(_) | Self::Line(_) => "line",
        }
    }

    /// The pin as the configuration sets it.
    #[must_use]
    pub fn setting(&self) -> String {
        match self {
            Self::Bcm(number) => format!("pin = {number}"),
            Self::Offset(offset) => format!("line = {offset}"),
            Self::Line(name) => format!("line = {name:?}"),
        }
    }
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "OutputTable")]
pub struct OutputPin {
    pub pin: PinName,
    /// The level that energises.
    pub active: ActiveLevel,
}

/// `[board.inputs.<x>]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "InputTable")]
pub struct InputPin {
    pub pin: PinName,
    /// The level at which it is active.
    pub active: ActiveLevel,
    pub bias: PinBias,
    /// How long a level must hold to count.
    pub debounce: Duration,
    /// Only for `rex`: `false` if the contact only reports an exit through a free handle.
    pub releases: Option<bool>,
}

/// The keys of `[board.outputs.<x>]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputTable {
    /// Raspberry Pi: BCM number.
    pin: Option<u8>,
    /// GPIO character device: offset or name.
    line: Option<Line>,
    active: ActiveLevel,
}

/// The keys of `[board.inputs.<x>]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputTable {
    /// Raspberry Pi: BCM number.
    pin: Option<u8>,
    /// GPIO character device: offset or name.
    line: Option<Line>,
    /// The level at which it is active.
    active: ActiveLevel,
    /// `pull-up`, `pull-down` or `off`.
    bias: PinBias,
    /// How long a level must hold to count. `rex` and `fire` also count as active when they have
    /// not settled to idle for four times as long.
    #[serde(default = "default_debounce", deserialize_with = "time")]
    debounce: Duration,
    releases: Option<bool>,
}

/// `line = 17` or `line = "GPIO17"`.
struct Line(PinName);

impl TryFrom<OutputTable> for OutputPin {
    type Error = &'static str;

    fn try_from(table: OutputTable) -> Result<Self, Self::Error> {
        Ok(Self {
            pin: pin_name(table.pin, table.line)?,
            active: table.active,
        })
    }
}

impl TryFrom<InputTable> for InputPin {
    type Error = &'static str;

    fn try_from(table: InputTable) -> Result<Self, Self::Error> {
        Ok(Self {
            pin: pin_name(table.pin, table.line)?,
            active: table.active,
            bias: table.bias,
            debounce: table.debounce,
            releases: table.releases,
        })
    }
}

fn pin_name(pin: Option<u8>, line: Option<Line>) -> Result<PinName, &'static str> {
    match (pin, line) {
        (Some(number), None) => Ok(PinName::Bcm(number)),
        (None, Some(Line(name))) => Ok(name),
        // Worded as serde's own: one layer of a configuration may leave it to another.
        (None, None) => Err("missing field `pin`, or `line` with [board] kind = \"gpio\""),
        (Some(_), Some(_)) => Err(
            "both `pin` and `line` are set, expected `line` with [board] kind = \"gpio\", and \
             `pin` with kind = \"raspberry-pi\"",
        ),
    }
}

struct LineVisitor;

impl Visitor<'_> for LineVisitor {
    type Value = Line;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"the offset of a line such as 17, or its name such as "GPIO17""#)
    }

    fn visit_i64<E: de::Error>(self, offset: i64) -> Result<Line, E> {
        u32::try_from(offset)
            .map(|offset| Line(PinName::Offset(offset)))
            .map_err(|_| E::invalid_value(Unexpected::Signed(offset), &self))
    }

    fn visit_u64<E: de::Error>(self, offset: u64) -> Result<Line, E> {
        self.visit_i64(i64::try_from(offset).unwrap_or(i64::MAX))
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Line, E> {
        if is_kernel_name(name) {
            Ok(Line(PinName::Line(name.to_owned())))
        } else {
            Err(E::invalid_value(Unexpected::Str(name), &self))
        }
    }
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LineVisitor)
    }
}

impl<'de> Deserialize<'de> for Chip {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.strip_prefix("gpiochip");
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if number.is_some_and(is_number) {
            Ok(Self::Name(text))
        } else if is_kernel_name(&text) && !text.contains('/') {
            Ok(Self::Label(text))
        } else {
            Err(D::Error::invalid_value(
                Unexpected::Str(&text),
                &r#"the label of a GPIO chip such as "pinctrl-bcm2711", or its name such as "gpiochip0""#,
            ))
        }
    }
}

/// Whether the kernel could report this as the name of a line or the label of a chip.
fn is_kernel_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len()) && !text.contains(char::is_control)
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Label(label) => write!(f, "the chip {label:?}"),
        }
    }
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
    /// A pin that another kind of board has.
    #[error(
        "[board.{table}.{role}] {}: [board] kind = \"{kind}\" expects {expected}",
        pin.setting()
    )]
    OtherKindOfPin {
        /// `outputs` or `inputs`.
        table: &'static str,
        role: &'static str,
        pin: PinName,
        kind: &'static str,
        expected: &'static str,
    },
    /// The board finds its lines at a chip.
    #[error(
        "[board] chip is missing, expected the label of a GPIO chip such as \"pinctrl-bcm2711\", \
         or its name such as \"gpiochip0\": kind = \"gpio\" has its lines there"
    )]
    ChipMissing,
    /// Another kind of board has no chip.
    #[error("[board] chip = {chip:?} is not used by kind = \"{kind}\": remove it")]
    ChipUnused { chip: String, kind: &'static str },
    /// Two uses of one pin.
    #[error("{pin} is both {first} and {second}")]
    PinUsedTwice {
        pin: PinName,
        /// The first use.
        first: &'static str,
        /// `outputs` or `inputs`, of the second use.
        table: &'static str,
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
    #[error(
        "[board] kind = \"simulated\" has no pins: remove [board.outputs] and [board.inputs], or \
         write inputs = [\"door\", \"rex\"] to leave others out"
    )]
    PinsUnused,
    /// Inputs with pins are named by their tables.
    #[error("[board] inputs is a list, expected a table of pins such as [board.inputs.door]")]
    PinsMissing,
    /// Only an exit button can be one that releases nothing.
    #[error("[board.inputs.{role}] releases does not apply to this input: remove it")]
    ReleasesUnused { role: &'static str },
}

impl BoardConfigError {
    /// The key that it is about: tables and key, joined by dots.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::NoSuchPin { table, role, .. } => format!("board.{table}.{role}.pin"),
            Self::OtherKindOfPin {
                table, role, pin, ..
            } => format!("board.{table}.{role}.{}", pin.key()),
            Self::PinUsedTwice {
                table, second, pin, ..
            } => format!("board.{table}.{second}.{}", pin.key()),
            Self::ChipMissing | Self::ChipUnused { .. } => "board.chip".to_owned(),
            Self::OutputMissing { role, .. } | Self::OutputUnused { role, .. } => {
                format!("board.outputs.{role}")
            }
            Self::PinsUnused => "board.kind".to_owned(),
            Self::PinsMissing => "board.inputs".to_owned(),
            Self::ReleasesUnused { role } => format!("board.inputs.{role}.releases"),
        }
    }
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

impl OutputPin {
    /// What may energise the output at BCM `pin` between power-on and the start of the agent.
    ///
    /// Source: BCM2835 ARM Peripherals, table 6-31 (pulls at reset: up for BCM 0 to 8, down for the
    /// others); the firmware reads a HAT's EEPROM over BCM 0 and 1, and with the serial console
    /// on drives BCM 14 (TXD), whose idle level is high.
    fn hazard_at_boot(&self, pin: u8) -> Option<&'static str> {
        match (pin, self.active) {
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
        let door = board.inputs.pins().door.as_ref();
        assert_eq!(
            door.map(|input| input.debounce),
            Some(Duration::from_millis(20))
        );
        assert_eq!(board.clock_trust(), ClockTrust::Synchronized);
        assert!(
            toml::from_str::<BoardConfig>("kind = \"simulated\"\nbolt_travle = \"1s\"").is_err()
        );
    }

    #[test]
    fn pins_driven_before_the_agent_starts_are_reported() {
        let hazard = |bcm, active| {
            let pin = PinName::Bcm(bcm);
            OutputPin { pin, active }.hazard_at_boot(bcm)
        };
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
    fn a_simulated_board_lists_its_inputs() {
        let board = |text: &str| toml::from_str::<BoardConfig>(text);
        let quiet = board("kind = \"simulated\"\ninputs = [\"door\", \"fire_reset\"]").unwrap();
        let expected = Fitted {
            door: true,
            fire_reset: true,
            ..Fitted::default()
        };
        assert_eq!(quiet.fitted(), expected);
        let pulse = StrikeConfig::pulse_strike(Duration::from_secs(10));
        assert_eq!(quiet.check(&pulse), Ok(()));
        assert_eq!(board("kind = \"simulated\"").unwrap().fitted(), Fitted::ALL);
        for (text, expected) in [
            ("inputs = [\"bell\"]", "unknown variant `bell`"),
            (
                "inputs = \"door\"",
                "a list of inputs for a simulated board",
            ),
            ("inputs.bell = {}", "unknown field `bell`"),
        ] {
            let error = board(&format!("kind = \"simulated\"\n{text}")).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn an_exit_button_may_only_report() {
        for (releases, reports_only) in [
            ("", false),
            ("releases = true", false),
            ("releases = false", true),
        ] {
            let rex = "[inputs.rex]\npin = 24\nactive = \"low\"\nbias = \"pull-up\"\n";
            let board = pi(&format!("{MOTOR}\n{rex}{releases}"));
            assert_eq!(board.check(&StrikeConfig::motor_lock()), Ok(()));
            assert_eq!(board.fitted().rex_reports_only, reports_only, "{releases}");
            assert!(board.fitted().rex);
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
                pi(&format!("{MOTOR}\ninputs = [\"door\"]")),
                motor,
                "inputs is a list",
            ),
            (
                pi(&format!(
                    "{MOTOR}\ninputs.door = {{ releases = false, {}",
                    input.trim_start_matches('{').replace("27", "22")
                )),
                motor,
                "[board.inputs.door] releases",
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

    fn gpio(text: &str) -> BoardConfig {
        toml::from_str(&format!("kind = \"gpio\"\n{text}")).unwrap()
    }

    #[test]
    fn a_line_is_an_offset_or_a_name_on_a_chip_by_label_or_name() {
        let board = gpio(
            r#"chip = "pinctrl-rp1"
            outputs.coil = { line = 17, active = "high" }
            inputs.door = { line = "GPIO22", active = "low", bias = "pull-up" }"#,
        );
        let strike = StrikeConfig::solenoid_bolt(FailMode::Safe);
        assert_eq!(board.check(&strike), Ok(()));
        assert_eq!(board.chip, Some(Chip::Label("pinctrl-rp1".to_owned())));
        let names: Vec<_> = board.pins().map(|(_, _, pin)| pin.to_string()).collect();
        assert_eq!(names, ["line 17", "line \"GPIO22\""]);
        assert!(board.fitted().door && !board.fitted().rex);
        assert_eq!(board.clock_trust(), ClockTrust::Synchronized);
        let named = gpio(r#"chip = "gpiochip4""#);
        assert_eq!(named.chip, Some(Chip::Name("gpiochip4".to_owned())));
    }

    #[test]
    fn wrong_chips_and_lines_are_refused_with_what_was_expected() {
        let line = "expected the offset of a line such as 17, or its name such as \"GPIO17\"";
        let chip = "expected the label of a GPIO chip";
        let long = format!("\"{}\"", "x".repeat(32));
        for (text, expected) in [
            ("chip = \"\"".to_owned(), chip),
            ("chip = 0".to_owned(), "expected a string"),
            ("chip = \"/dev/gpiochip0\"".to_owned(), chip),
            (format!("chip = {long}"), chip),
            ("outputs.coil.line = -1".to_owned(), line),
            ("outputs.coil.line = 4294967296".to_owned(), line),
            ("outputs.coil.line = \"\"".to_owned(), line),
            ("outputs.coil.line = \"a\\u0000b\"".to_owned(), line),
            (format!("outputs.coil.line = {long}"), line),
            ("outputs.coil.line = true".to_owned(), line),
            ("outputs.coil.line = 1.5".to_owned(), line),
            (
                "outputs.coil = { pin = 1, line = 1, active = \"low\" }".to_owned(),
                "both `pin` and `line` are set, expected `line` with [board] kind = \"gpio\"",
            ),
            (
                "inputs.rex = { active = \"low\", bias = \"off\" }".to_owned(),
                "missing field `pin`, or `line` with [board] kind = \"gpio\"",
            ),
            (
                "outputs.coil = { line = 1, active = \"low\", bias = \"off\" }".to_owned(),
                "unknown field `bias`, expected one of `pin`, `line`, `active`",
            ),
        ] {
            let error = toml::from_str::<BoardConfig>(&format!("kind = \"gpio\"\n{text}"));
            let error = error.expect_err(&text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let coil = StrikeConfig::solenoid_bolt(FailMode::Safe);
        let chip = "chip = \"pinctrl-rp1\"\n";
        for (board, expected) in [
            (gpio(""), "[board] chip is missing, expected the label"),
            (
                gpio(&format!(
                    "{chip}outputs.coil = {{ pin = 17, active = \"high\" }}"
                )),
                "[board.outputs.coil] pin = 17: [board] kind = \"gpio\" expects `line`",
            ),
            (
                pi("outputs.coil = { line = \"GPIO17\", active = \"high\" }"),
                "[board.outputs.coil] line = \"GPIO17\": [board] kind = \"raspberry-pi\" expects \
                 `pin`, a BCM number",
            ),
            (
                pi(chip),
                "[board] chip = \"pinctrl-rp1\" is not used by kind = \"raspberry-pi\": remove it",
            ),
            (
                gpio(&format!(
                    "{chip}outputs.coil = {{ line = 4, active = \"high\" }}\n\
                     inputs.rex = {{ line = 4, active = \"low\", bias = \"off\" }}"
                )),
                "line 4 is both coil and rex",
            ),
            (
                BoardConfig {
                    kind: BoardKind::Simulated,
                    ..gpio(chip)
                },
                "is not used by kind = \"simulated\"",
            ),
        ] {
            let error = board.check(&coil).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?}, expected {expected:?}");
        }
    }

    #[test]
    fn the_level_of_a_line_before_the_agent_starts_is_known_on_the_header_only() {
        for (chip, line, expected) in [
            ("pinctrl-bcm2711", "17", None),
            ("pinctrl-bcm2711", "\"GPIO17\"", None),
            ("pinctrl-bcm2711", "14", Some("serial console")),
            ("pinctrl-rp1", "\"GPIO4\"", Some("pulled up until")),
            ("pinctrl-bcm2711", "42", Some("is not known")),
            ("pinctrl-bcm2711", "\"STATUS\"", Some("is not known")),
            ("gpiochip0", "17", Some("is not known")),
            ("pcf8574", "4", Some("is not known")),
        ] {
            let board = gpio(&format!(
                "chip = \"{chip}\"\noutputs.coil = {{ line = {line}, active = \"high\" }}"
            ));
            let hazards: Vec<_> = board.hazards_at_boot().map(|(.., text)| text).collect();
            match expected {
                None => assert!(hazards.is_empty(), "{chip} {line}: {hazards:?}"),
                Some(text) => assert!(hazards[0].contains(text), "{chip} {line}: {hazards:?}"),
            }
        }
    }
}
