//! The actuator.

use serde::{Deserialize, Serialize};

/// What is energised: a level, not an order. De-energised is safe and what every pin shows when nobody is in charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outputs {
    /// Nothing.
    #[default]
    DeEnergised,
    /// Motor lock: the motor runs towards thrown.
    Throw,
    /// Motor lock: the motor runs towards retracted.
    Retract,
    /// Solenoid bolt: the coil is on.
    Energised,
}
