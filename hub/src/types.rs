//! Types that HTTP or MQTT pass through a service to the store. Plain data, known to every layer.

use iothub_protocol::id::PolicyName;
use iothub_protocol::job::{JobStatus, JobType};
use iothub_protocol::policy::Bounds;
use iothub_protocol::query::{Condition, Expression};
use serde::Serialize;

/// What exists for a policy with bounds: other devices and jobs do not.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// Jobs of this policy.
    pub(crate) policy: PolicyName,
    /// Devices that match it; `None`: all.
    pub(crate) condition: Option<Condition>,
}

/// Filters of a job list.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobFilter {
    pub(crate) kind: Option<JobType>,
    pub(crate) status: Option<JobStatus>,
    pub(crate) policy: Option<PolicyName>,
}

/// What a job keeps of its creator.
#[derive(Debug, Clone)]
pub(crate) struct JobAuthor {
    pub(crate) policy: PolicyName,
    /// A copy, at the time of creation.
    pub(crate) bounds: Option<Bounds>,
}

/// The condition that all of `conditions` are true, joined as trees; `None` without any.
pub(crate) fn all_of(conditions: impl IntoIterator<Item = Option<Condition>>) -> Option<Condition> {
    let mut conditions: Vec<Condition> = conditions.into_iter().flatten().collect();
    match conditions.len() {
        0 | 1 => conditions.pop(),
        _ => Some(Expression::And(conditions)),
    }
}

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

/// A plan without its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PlanRecord {
    pub(crate) id: String,
    /// The media type.
    #[serde(rename = "type")]
    pub(crate) media_type: String,
    /// The size of the image.
    pub(crate) bytes: u64,
    /// Changes with the image.
    pub(crate) etag: String,
}

/// Outcome of storing a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlanPut {
    Created,
    Replaced,
    /// The limit of plans is reached.
    TooMany,
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
