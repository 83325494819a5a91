//! The desired properties of a door, already validated.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Overrides;
use crate::contract::{Lockdown, Mode};
use crate::schedule::{AssignedWeek, EntryId, TimedEntry};

/// The desired properties that the door handles.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DesiredDoor {
    /// The desired mode.
    pub mode: DesiredMode,
    /// The desired settings; all others are as configured.
    pub settings: Overrides,
    /// The desired lockdown.
    pub lockdown: DesiredLockdown,
    /// The timed entries.
    pub timed: BTreeMap<EntryId, Arc<TimedEntry>>,
    /// The week.
    pub schedule: Option<AssignedWeek>,
    /// `$version` of the latest change of `timed` and `schedule`.
    pub timed_version: u64,
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

/// The desired property `lockdown`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DesiredLockdown {
    /// No lockdown is desired.
    #[default]
    Absent,
    /// Absent from a document older than the one that ordered the lockdown: the hub was restored
    /// from a backup. The lockdown stays until an all-clear is called.
    Lost,
    /// The value is invalid: nothing changes.
    Unreadable,
    /// This lockdown is desired.
    Lockdown {
        /// With its id.
        lockdown: Lockdown,
        /// `$version` of the desired properties that ordered it.
        version: u64,
    },
}
