//! The hub's rules over the store and the live connections, one file per resource. HTTP and MQTT
//! both call this module; it knows neither.

mod audit;
mod device;
mod error;
mod event;
mod integrity;
mod job;
mod method;
mod page_session;
mod policy;
mod query;
mod session;
mod store_figures;
mod telemetry;
mod twin;

use std::time::{Duration, Instant};

use bytes::Bytes;
use iothub_protocol::id::PolicyName;
use iothub_protocol::query::parse_condition;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub(crate) use audit::AuditService;
pub(crate) use device::DeviceService;
pub(crate) use device::{BulkRequest, DeviceUpdate, RenewalRequest, bulk_message};
pub use error::ServiceError;
pub(crate) use event::{EventBatch, EventService, EventStream};
pub(crate) use job::JobService;
pub(crate) use method::MethodService;
pub(crate) use method::PreparedCall;
pub(crate) use page_session::{FAILURE_DELAY, LoginError, PageCaller, PageHandle, PageSessions};
pub(crate) use policy::{
    OWNER, PolicyService, add, change, default_policies, find, remove, rotate,
};
pub use policy::{PolicyError, PolicyKey};
pub(crate) use query::QueryService;
pub(crate) use session::SessionService;
pub(crate) use telemetry::TelemetryService;
pub(crate) use twin::TwinService;

use device::generate_key;
pub(crate) use integrity::{Integrity, IntegrityReport};

use crate::config::AuditLimits;
use crate::identity::Policy;
use crate::metrics::{CertificateTimes, Metrics, Snapshot};
use crate::session::Registry;
use crate::store::{RowPosition, Sections, Store};
use crate::types::{PlanPut, PlanRecord, Scope, all_of};
use store_figures::StoreFigures;

/// How often a failing store is probed.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Idle time after the last write before the database's write-ahead log is checkpointed.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(60);

/// Idle time after the last write before a probe write: a disk that died in the meantime must not
/// go unnoticed until the next lockdown.
const PROBE_AFTER: Duration = Duration::from_secs(300);

/// How often records past their maximum age are deleted; new records push out old ones without it.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(3600);

/// All services; clones share their state.
#[derive(Clone)]
pub(crate) struct Services {
    pub device: DeviceService,
    pub twin: TwinService,
    pub method: MethodService,
    pub query: QueryService,
    pub telemetry: TelemetryService,
    pub event: EventService,
    /// The state that outlives a connection: subscriptions and the device's connection state.
    pub session: SessionService,
    pub job: JobService,
    /// The audit log.
    pub audit: AuditService,
    pub policy: PolicyService,
    /// The logins of the web page.
    pub page_sessions: PageSessions,
    pub metrics: Metrics,
    /// The result of the last integrity check of the database.
    pub integrity: Integrity,
    store: Store,
    store_figures: StoreFigures,
    registry: Registry,
}

impl Services {
    pub(crate) fn new(
        store: &Store,
        registry: &Registry,
        policies: Vec<Policy>,
        audit: AuditLimits,
        metrics: Metrics,
    ) -> Self {
        let method = MethodService::new(store.clone(), registry.clone(), metrics.clone());
        let job = JobService::new(store.clone(), method.clone());
        let policy = PolicyService::new(store.clone(), registry.clone(), policies);
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
            page_sessions: PageSessions::new(store.clone(), policy.clone()),
            policy,
            metrics,
            integrity: Integrity::default(),
            store: store.clone(),
            store_figures: StoreFigures::default(),
            registry: registry.clone(),
        }
    }

    /// Checks the integrity of the database after the start and once a day, until `stop`.
    pub(crate) async fn run_integrity_checks(self, stop: CancellationToken) {
        self.integrity.run(self.store, stop).await;
    }

    /// Deletes expired records and probes a failing or idle store, until `stop`.
    pub(crate) async fn run_maintenance(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(PROBE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut expired: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let failing = self.store.is_failing();
            let work = async {
                self.store.look_for_file().await;
                self.store.checkpoint_if_idle(CHECKPOINT_AFTER).await;
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
                for outcome in [self.event.expire().await, self.audit.expire().await] {
                    if let Err(error) = outcome {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "cannot delete expired records");
                    }
                }
            }
        }
    }

    /// The metrics in Prometheus' text format. Values that the store does not deliver in time are
    /// those of the last successful read.
    pub(crate) async fn metrics_text(&self, certificate: CertificateTimes) -> Vec<u8> {
        let figures = self.store_figures.read(&self.store).await;
        self.metrics.render(&Snapshot {
            connected: self.registry.connected_count() as u64,
            ready: self.problem().is_none(),
            jobs: figures.jobs,
            events: figures.events,
            database_bytes: figures.database_bytes,
            integrity: self.integrity.last(),
            certificate,
        })
    }

    /// Why the hub is not ready: its database does not accept writes. `None` when it does.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        if self.store.is_failing() {
            Some("the database cannot be written; the hub's log says why")
        } else if self.store.is_hanging() {
            Some("the database has not completed a write for more than 5 s; check its disk")
        } else if self.store.is_file_lost() {
            Some("the database file is missing or replaced; check the data folder")
        } else {
            None
        }
    }

    pub(crate) async fn plans(&self) -> Result<Vec<PlanRecord>, ServiceError> {
        Ok(self.store.plans().await?)
    }

    /// The media type, the etag and the image of a plan. With bounds there is only a plan on which
    /// a door of the policy stands.
    pub(crate) async fn plan_get(
        &self,
        id: &str,
        scope: Option<&Scope>,
    ) -> Result<Option<(String, String, Bytes)>, ServiceError> {
        if let Some(scope) = scope {
            let stands = format!("tags.plan.id = '{id}'");
            let stands = parse_condition(&stands).map_err(|error| {
                ServiceError::argument(format!("the plan's id is `{id}`: {error}"))
            })?;
            let condition = all_of([scope.condition.clone(), Some(stands)]);
            let page = self
                .store
                .query_twins(condition, Sections::NONE, RowPosition::START, 1);
            if page.await?.rows.is_empty() {
                return Ok(None);
            }
        }
        Ok(self.store.plan_get(id.to_owned()).await?)
    }

    pub(crate) async fn plan_put(
        &self,
        plan: PlanRecord,
        image: Bytes,
        max: u32,
    ) -> Result<PlanPut, ServiceError> {
        Ok(self.store.plan_put(plan, image, max).await?)
    }

    pub(crate) async fn plan_delete(&self, id: String) -> Result<bool, ServiceError> {
        Ok(self.store.plan_delete(id).await?)
    }

    #[must_use]
    pub(crate) fn policy(&self, name: &PolicyName) -> Option<Policy> {
        self.policy.get(name)
    }
}

/// A page of documents, and the token that requests the next page.
#[derive(Debug)]
pub(crate) struct ListPage<T> {
    pub(crate) rows: Vec<T>,
    /// `None` on the last page.
    pub(crate) continuation: Option<String>,
}

/// The precondition of a change (RFC 7232, `If-Match`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// No header was sent.
    Absent,
    /// `*`: any version, but the resource must exist.
    Any,
    /// Only this version.
    Etag(String),
}

impl IfMatch {
    /// Parses `"tag"`, `W/"tag"`, `tag`, `*` and `"*"`: clients send all of them. `None` for any
    /// other form.
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

    /// Whether the version `etag` satisfies the precondition.
    pub(crate) fn check(&self, etag: &str) -> Result<(), ServiceError> {
        match self {
            Self::Etag(wanted) if wanted != etag => Err(ServiceError::precondition_failed()),
            _ => Ok(()),
        }
    }
}
