//! What the hub desires of a door, judged already.

use crate::config::Overrides;
use crate::contract::Mode;

/// The desired properties that are the door's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DesiredDoor {
    /// How it is to be run.
    pub mode: DesiredMode,
    /// Its settings, where they are not as configured.
    pub settings: Overrides,
}

/// The desired property `mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DesiredMode {
    /// None is desired.
    #[default]
    Absent,
    /// What is desired is no mode: nothing changes.
    Unreadable,
    /// This one.
    Mode(Mode),
}
