//! The desired properties of a door, already validated.

use crate::config::Overrides;
use crate::contract::Mode;

/// The desired properties that the door handles.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DesiredDoor {
    /// The desired mode.
    pub mode: DesiredMode,
    /// The desired settings; all others are as configured.
    pub settings: Overrides,
}

/// The desired property `mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DesiredMode {
    /// No mode is desired.
    #[default]
    Absent,
    /// The value is not a mode: nothing changes.
    Unreadable,
    /// This mode is desired.
    Mode(Mode),
}
