//! What the hub does, one file per resource: the rules over the store and the live connections.
//! HTTP and MQTT both call it; it knows neither.

mod audit;
mod device;
mod error;
mod event;
mod integrity;
mod job;
mod method;
mod policy;
mod query;
mod session;
mod stored;
mod telemetry;
mod twin;

use std::time::{Duration, Instant};

use iothub_protocol::id::PolicyName;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use audit::AuditRow;
pub(crate) use audit::{Attempt, AuditService};
pub(crate) use device::DeviceService;
pub(crate) use device::{BulkRequest, BulkResult, Device, DeviceUpdate};
pub use error::ServiceError;
pub(crate) use event::{EventBatch, EventService, EventStream};
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
pub(crate) use integrity::{Integrity, Looked};

use crate::config::AuditLimits;
use crate::identity::Policy;
use crate::metrics::{CertificateTimes, Metrics, Snapshot};
use crate::session::Registry;
use crate::store::Store;
use stored::Stored;

pub(crate) use crate::store::{AuditFilter, Cancel, ConnectionEpoch, EventFilter, EventKind};

/// How often it is looked whether a store that fails works again.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How long nothing was written when the database's log is emptied.
const QUIET: Duration = Duration::from_secs(60);

/// When nothing has been written for this long, it is tried: a disk that died meanwhile should not
/// be found by the next lockdown.
const PROBE_AFTER: Duration = Duration::from_secs(300);

/// How often old records are dropped that no new ones push out.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(3600);

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
    /// What happened.
    pub event: EventService,
    /// What connections leave behind.
    pub session: SessionService,
    /// Jobs.
    pub job: JobService,
    /// Who changed or commanded what.
    pub audit: AuditService,
    /// Shared access policies.
    pub policy: PolicyService,
    /// What is counted.
    pub metrics: Metrics,
    /// Whether the database is whole.
    pub integrity: Integrity,
    store: Store,
    stored: Stored,
    registry: Registry,
}

impl Services {
    /// Puts the services over `store` and `registry`.
    pub(crate) fn new(
        store: &Store,
        registry: &Registry,
        policies: Vec<Policy>,
        audit: AuditLimits,
        metrics: Metrics,
    ) -> Self {
        let method = MethodService::new(store.clone(), registry.clone(), metrics.clone());
        let job = JobService::new(store.clone(), method.clone());
        Self {
            device: DeviceService::new(store.clone(), registry.clone()),
            twin: TwinService::new(store.clone()),
            method,
            query: QueryService::new(store.clone()),
            telemetry: TelemetryService::new(store.clone(), metrics.clone()),
            event: EventService::new(store.clone()),
            session: SessionService::new(store.clone()),
            job,
            audit: AuditService::new(store.clone(), audit),
            policy: PolicyService::new(registry.clone(), policies),
            metrics,
            integrity: Integrity::default(),
            store: store.clone(),
            stored: Stored::default(),
            registry: registry.clone(),
        }
    }

    /// Looks over the database after the start and once a day, until `stop`.
    pub(crate) async fn inspect(self, stop: CancellationToken) {
        self.integrity.keep(self.store, stop).await;
    }

    /// Drops what is too old, and looks whether a store that fails works again, until `stop`.
    pub(crate) async fn keep(self, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut expired: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = stop.cancelled() => return,
            }
            let failing = self.store.is_failing();
            let work = async {
                self.store.rest(QUIET).await;
                if failing || self.store.idle_for() >= Some(PROBE_AFTER) {
                    let probed = self.store.probe().await;
                    if failing && probed.is_ok() {
                        tracing::info!("the database can be written again");
                    }
                }
            };
            if stop.run_until_cancelled(work).await.is_none() {
                return;
            }
            if expired.is_none_or(|then| then.elapsed() >= EXPIRE_INTERVAL) {
                expired = Some(Instant::now());
                for done in [self.event.expire().await, self.audit.expire().await] {
                    if let Err(error) = done {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "old records cannot be dropped");
                    }
                }
            }
        }
    }

    /// What is counted, and the state of the hub, in Prometheus' text format. What the store does
    /// not say in time is as it said last.
    pub(crate) async fn metrics_text(&self, certificate: CertificateTimes) -> Vec<u8> {
        let stored = self.stored.read(&self.store).await;
        self.metrics.render(&Snapshot {
            connected: self.registry.connected_count() as u64,
            ready: self.problem().is_none(),
            jobs: stored.jobs,
            events: stored.events,
            database_bytes: stored.database_bytes,
            integrity: self.integrity.last(),
            certificate,
        })
    }

    /// Why what the hub promises would not be kept now; none when its database takes what is
    /// written.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        if self.store.is_failing() {
            Some("the database cannot be written; the hub's log says why")
        } else if self.store.hangs() {
            Some("the database has not taken a write for more than 5 s; does its disk hang?")
        } else {
            None
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
    /// Reads `"tag"`, `W/"tag"`, `tag`, `*` and `"*"`: clients send all of them. `None` for what is
    /// none of these.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix("W/").unwrap_or(text);
        let text = match text.strip_prefix('"') {
            Some(open) => open.strip_suffix('"')?,
            None => text,
        };
        match text {
            "" => None,
            "*" => Some(Self::Any),
            tag => Some(Self::Etag(tag.to_owned())),
        }
    }

    /// Whether the change may be made to the version `etag`.
    pub(crate) fn check(&self, etag: &str) -> Result<(), ServiceError> {
        match self {
            Self::Etag(wanted) if wanted != etag => Err(ServiceError::precondition_failed()),
            _ => Ok(()),
        }
    }
}
