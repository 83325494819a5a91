//! Types that HTTP or MQTT pass through a service to the store. Plain data, known to every layer.

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
