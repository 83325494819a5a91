//! Reading the event log of door-hub (`/events`). Azure has no such path.

use jiff::Timestamp;

use crate::id::DeviceId;

/// The kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// A device has connected, or its connection has ended.
    Connection,
    /// An identity was created or deleted.
    Device,
    /// A job has made progress.
    Job,
    /// A message from a device.
    Telemetry,
    /// A twin was changed.
    Twin,
}

impl EventKind {
    /// All kinds with their names.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Telemetry, "telemetry"),
        (Self::Connection, "connection"),
        (Self::Twin, "twin"),
        (Self::Device, "device"),
        (Self::Job, "job"),
    ];

    /// The name of the kind.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let named = Self::ALL.iter().find(|(kind, _)| *kind == self);
        named.map_or("", |(_, name)| name)
    }

    /// The kind with this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let named = Self::ALL.iter().find(|(_, name)| *name == text);
        named.map(|(kind, _)| *kind)
    }
}

/// Which events to read.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Of this device; `None` matches all events.
    pub device: Option<DeviceId>,
    /// Any of these kinds; all if empty.
    pub kinds: Vec<EventKind>,
    /// At this time or later, as far as they are stored.
    pub since: Option<Timestamp>,
}

/// Which events to read, and how far.
#[derive(Debug, Clone, Default)]
pub struct EventRequest {
    /// Which events.
    pub filter: EventFilter,
    /// Events after this id; 0 reads all that are stored. Overrides `since`. Without both, only new
    /// events are read.
    pub after: Option<i64>,
    /// Whether to continue with new events.
    pub follow: bool,
}
