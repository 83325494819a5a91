//! What is wrong with the table `[board]`.

use thiserror::Error;

use super::PinName;

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
