//! Types that HTTP or MQTT pass through a service to the store. Plain data, known to every layer.

use iothub_protocol::id::PolicyName;

/// A call before it is executed, for the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuditAttempt {
    /// The policy whose token the call carries.
    pub(crate) policy: PolicyName,
    /// The client's address.
    pub(crate) peer: String,
    /// The stable name of the operation.
    pub(crate) operation: &'static str,
    /// The device or job.
    pub(crate) target: String,
    /// The method, or the job's type and condition.
    pub(crate) detail: Option<String>,
    /// The reason that the caller gave.
    pub(crate) reason: Option<String>,
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
