//! Errors of a configuration.

use std::time::Duration;

use thiserror::Error;

/// A combination that cannot work. The message names the keys.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A bolt without a door position switch could be thrown into an open door.
    #[error(
        "a bolt must not fire into an open door: fit a door position switch ([board.inputs.door])"
    )]
    NoDoorSwitch,
    /// `free-mechanical` with a maglock: no handle opens a door that a magnet holds.
    #[error(
        "[door] egress = \"free-mechanical\" is invalid with a maglock, which holds the door \
         whatever its handle does: expected \"hardware-release\""
    )]
    MaglockHoldsHandles,
    /// `hardware-release` with a lock that stays locked without power.
    #[error(
        "[door] egress = \"hardware-release\" is invalid with this {kind}, which {rest} without \
         power: expected \"free-mechanical\", or a lock that is released without power"
    )]
    HardwareReleasesNothing {
        /// The kind of strike.
        kind: &'static str,
        /// What it does without power.
        rest: &'static str,
    },
    /// A maglock holds the door whatever a handle does, so the configuration must name the egress.
    #[error(
        "[door] egress is missing, expected \"hardware-release\" (exit button and fire release cut \
         the power of the magnet) or \"none\" (nobody is ever behind this door): a maglock holds \
         the door whatever its handle does"
    )]
    MaglockWithoutEgress,
    /// A fire release without a key switch could never be reset.
    #[error(
        "a fire release lasts until it is reset at the door: fit its key switch \
         ([board.inputs.fire_reset])"
    )]
    NoFireReset,
    /// A key that the strike's kind requires is missing.
    #[error("[strike] {key} is missing: {expected}")]
    Missing {
        /// The missing key.
        key: &'static str,
        /// What it should contain.
        expected: &'static str,
    },
    /// A key that does not apply to the strike's kind.
    #[error("[strike] {key} does not apply to {kind}")]
    Unused {
        /// The key that does not apply.
        key: &'static str,
        /// The kind as configured.
        kind: &'static str,
    },
    /// A time is too short for another one.
    #[error("{key} = {value:?} is too short: it must be at least {least:?}, {reason}")]
    TooShort {
        /// The key with its table.
        key: &'static str,
        /// The configured value.
        value: Duration,
        /// The shortest value allowed.
        least: Duration,
        /// Why it must be at least that.
        reason: &'static str,
    },
    /// The relinquish default would keep the coil energised without end.
    #[error(
        "[door] relinquish_default = {want:?} keeps the coil energised, but [strike] max_on limits \
         it to {max_on:?}"
    )]
    CannotHold {
        /// The relinquish default.
        want: &'static str,
        /// The limit.
        max_on: Duration,
    },
    /// Egress would depend on a coil that may have to rest.
    #[error(
        "[strike] max_on limits a coil that must be energised to release, and \
         [board.inputs.{input}] would depend on it: use a fail-safe bolt or a coil for continuous \
         duty"
    )]
    EgressOnLimitedCoil {
        /// Key of the input in `[board.inputs]`.
        input: &'static str,
    },
}

impl ConfigError {
    /// The key that it is about: table and key, joined by a dot.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::NoDoorSwitch => "board.inputs.door".to_owned(),
            Self::NoFireReset => "board.inputs.fire_reset".to_owned(),
            Self::MaglockHoldsHandles
            | Self::HardwareReleasesNothing { .. }
            | Self::MaglockWithoutEgress => "door.egress".to_owned(),
            // An unused key may have its value: `fail = "safe"`.
            Self::Missing { key, .. } | Self::Unused { key, .. } => {
                format!("strike.{}", key.split(' ').next().unwrap_or(key))
            }
            Self::TooShort { key, .. } => key.replace('[', "").replace("] ", "."),
            Self::CannotHold { .. } => "door.relinquish_default".to_owned(),
            Self::EgressOnLimitedCoil { .. } => "strike.max_on".to_owned(),
        }
    }
}
