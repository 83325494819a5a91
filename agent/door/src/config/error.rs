//! What a configuration can have against it.

use std::time::Duration;

use thiserror::Error;

/// A combination that cannot work, by the keys that make it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The bolt would fire into an open door.
    #[error(
        "a bolt must not fire into an open door: fit a door position switch ([board.inputs.door])"
    )]
    NoDoorSwitch,
    /// No handle opens a door that a magnet holds.
    #[error(
        "[door] egress = \"free-mechanical\" cannot be with a maglock, which holds the door whatever its handle does: release it in hardware (\"hardware-release\")"
    )]
    MaglockHoldsHandles,
    /// Cutting the power opens no lock that needs none to stay locked.
    #[error(
        "[door] egress = \"hardware-release\" cannot be with this {kind}, which {rest} without power: expected \"free-mechanical\", or a lock that is released without power"
    )]
    HardwareReleasesNothing {
        /// The strike.
        kind: &'static str,
        /// What it does without power.
        rest: &'static str,
    },
    /// A magnet holds the door whatever a handle does: somebody has to have thought of that.
    #[error(
        "[door] egress is missing, expected \"hardware-release\" (exit button and fire release cut the power of the magnet) or \"none\" (nobody is ever behind this door): a maglock holds the door whatever its handle does"
    )]
    MaglockWithoutEgress,
    /// Nothing could end a fire release.
    #[error(
        "a fire release lasts until it is reset at the door: fit its key switch ([board.inputs.fire_reset])"
    )]
    NoFireReset,
    /// A key that the strike's kind needs.
    #[error("[strike] {key} is missing: {expected}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What it should say.
        expected: &'static str,
    },
    /// A key that the strike's kind does not have.
    #[error("[strike] {key} means nothing for {kind}")]
    Unused {
        /// The key.
        key: &'static str,
        /// The kind as configured.
        kind: &'static str,
    },
    /// A time too short for another.
    #[error("{key} = {value:?} is too short: it must be at least {least:?}, {reason}")]
    TooShort {
        /// The key with its table.
        key: &'static str,
        /// Its value.
        value: Duration,
        /// The least that works.
        least: Duration,
        /// Why.
        reason: &'static str,
    },
    /// The relinquish default needs the coil energised without end.
    #[error(
        "[door] relinquish_default = {want:?} keeps the coil energised, but [strike] max_on limits it to {max_on:?}"
    )]
    CannotHold {
        /// The default.
        want: &'static str,
        /// The limit.
        max_on: Duration,
    },
    /// Leaving would depend on a coil that may have to rest.
    #[error(
        "[strike] max_on limits a coil that must be energised to release, and [board.inputs.{input}] would depend on it: use a fail-safe bolt or a coil for continuous duty"
    )]
    EgressOnLimitedCoil {
        /// The input.
        input: &'static str,
    },
}
