//! One pin of the table `[board]`, and the chip that has its line.

use std::fmt;
use std::time::Duration;

use door_core::config::time;
use serde::de::{Deserializer, Error as _, Unexpected, Visitor};
use serde::{Deserialize, de};

/// Longest name of a line and longest label of a chip: `GPIO_MAX_NAME_SIZE` of `linux/gpio.h`,
/// less its final zero.
const MAX_NAME_BYTES: usize = 31;

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
    pub(super) fn key(&self) -> &'static str {
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

impl OutputPin {
    /// What may energise the output at BCM `pin` between power-on and the start of the agent.
    ///
    /// Source: BCM2835 ARM Peripherals, table 6-31 (pulls at reset: up for BCM 0 to 8, down for the
    /// others); the firmware reads a HAT's EEPROM over BCM 0 and 1, and with the serial console
    /// on drives BCM 14 (TXD), whose idle level is high.
    pub(super) fn hazard_at_boot(&self, pin: u8) -> Option<&'static str> {
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

fn default_debounce() -> Duration {
    Duration::from_millis(30)
}
