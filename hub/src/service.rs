//! What the hub does, one file per resource: the rules over the store and the live connections. HTTP and MQTT both call it; it knows
//! neither.

mod audit;
mod device;
mod error;
mod job;
mod method;
mod policy;
mod query;
mod session;
mod telemetry;
mod twin;

use iothub_protocol::id::PolicyName;

pub use audit::AuditRow;
pub(crate) use audit::{Attempt, AuditService};
pub(crate) use device::DeviceService;
pub(crate) use device::{Device, DeviceUpdate};
pub use error::ServiceError;
pub(crate) use job::JobService;
pub(crate) use method::MethodService;
pub(crate) use method::PreparedCall;
pub(crate) use policy::{OWNER, PolicyService, add, default_policies, find, remove, rotate};
pub use policy::{PolicyError, PolicyKey};
pub(crate) use query::QueryService;
pub(crate) use session::SessionService;
pub(crate) use telemetry::TelemetryService;
pub(crate) use twin::TwinService;

use device::generate_key;

use crate::config::{AuditLimits, TelemetryLimits};
use crate::identity::Policy;
use crate::session::Registry;
use crate::store::Store;

pub(crate) use crate::store::{AuditFilter, Cancel, ConnectionEpoch};

/// All services; clones share what is beneath.
#[derive(Clone)]
pub(crate) struct Services {
    /// The identity registry.
    pub device: DeviceService,
    /// Device twins.
    pub twin: TwinService,
    /// Direct methods.
    pub method: MethodService,
    /// Queries over twins and job records.
    pub query: QueryService,
    /// Device-to-cloud messages.
    pub telemetry: TelemetryService,
    /// What connections leave behind.
    pub session: SessionService,
    /// Jobs.
    pub job: JobService,
    /// Who changed or commanded what.
    pub audit: AuditService,
    /// Shared access policies.
    pub policy: PolicyService,
}

impl Services {
    /// Puts the services over `store` and `registry`.
    pub(crate) fn new(
        store: &Store,
        registry: &Registry,
        policies: Vec<Policy>,
        telemetry: TelemetryLimits,
        audit: AuditLimits,
    ) -> Self {
        let method = MethodService::new(store.clone(), registry.clone());
        let job = JobService::new(store.clone(), method.clone());
        Self {
            device: DeviceService::new(store.clone(), registry.clone()),
            twin: TwinService::new(store.clone()),
            method,
            query: QueryService::new(store.clone()),
            telemetry: TelemetryService::new(store.clone(), telemetry),
            session: SessionService::new(store.clone()),
            job,
            audit: AuditService::new(store.clone(), audit),
            policy: PolicyService::new(registry.clone(), policies),
        }
    }

    /// The policy of that name.
    #[must_use]
    pub(crate) fn policy(&self, name: &PolicyName) -> Option<Policy> {
        self.policy.get(name)
    }
}

/// A page of documents, and the token with which the next one is asked for.
#[derive(Debug)]
pub(crate) struct Listed<T> {
    /// The documents.
    pub(crate) rows: Vec<T>,
    /// The token; `None` on the last page.
    pub(crate) continuation: Option<String>,
}

/// On what condition a change is made (RFC 7232, `If-Match`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// None was given.
    Absent,
    /// `*`: whatever the version, but it must exist.
    Any,
    /// Only if this is the version.
    Etag(String),
}

impl IfMatch {
    /// Whether the change may be made to the version `etag`.
    pub(crate) fn check(&self, etag: &str) -> Result<(), ServiceError> {
        match self {
            Self::Etag(wanted) if wanted != etag => Err(ServiceError::precondition_failed()),
            _ => Ok(()),
        }
    }
}
