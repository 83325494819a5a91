//! Types that HTTP or MQTT pass through a service to the store. Plain data, known to every layer.

use iothub_protocol::id::DeviceId;
use jiff::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// A message from a device.
    Telemetry,
    /// A device has connected, or its connection has ended.
    Connection,
    /// A twin was changed.
    Twin,
    /// An identity was created or deleted.
    Device,
    /// A job has made progress.
    Job,
}

impl EventKind {
    /// All kinds with their names.
    pub(crate) const ALL: [(Self, &'static str); 5] = [
        (Self::Telemetry, "telemetry"),
        (Self::Connection, "connection"),
        (Self::Twin, "twin"),
        (Self::Device, "device"),
        (Self::Job, "job"),
    ];

    pub(crate) fn as_str(self) -> &'static str {
        let named = Self::ALL.iter().find(|(kind, _)| *kind == self);
        named.map_or("", |(_, name)| name)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let named = Self::ALL.iter().find(|(_, name)| *name == text);
        named.map(|(kind, _)| *kind)
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct EventFilter {
    pub(crate) device: Option<DeviceId>,
    /// Any of these kinds; all if empty.
    pub(crate) kinds: Vec<EventKind>,
    /// At this time or later.
    pub(crate) since: Option<Timestamp>,
}

/// Which jobs a cancellation applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CancelMode {
    /// Jobs that have not started, as on Azure.
    BeforeStart,
    /// Running jobs too: devices that were not called yet become `canceled`; calls that have been
    /// sent are awaited.
    Stop,
}

/// Identifies a connection among those of its device; later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionEpoch(pub(crate) u64);
