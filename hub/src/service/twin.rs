//! Device twins: the rules are the protocol's ([`iothub_protocol::twin`]); this module adds the
//! counters, the preconditions and the notifications.

use std::sync::Arc;

use bytes::Bytes;
use iothub_protocol::id::DeviceId;
use iothub_protocol::twin::limits::{check_growth, check_patch, check_replacement};
use iothub_protocol::twin::{
    self, Object, Properties, Section, SectionKind, SectionPatch, Twin, TwinError, TwinPatch,
};
use jiff::Timestamp;

use super::device::{status, stored_time};
use super::{IfMatch, ServiceError};
use crate::store::{Store, TwinChange, TwinEvent, TwinRecord};
use crate::types::Scope;

/// The operation in the event of a change (Azure's `opType`).
pub(super) const UPDATED: &str = "updateTwin";
pub(super) const REPLACED: &str = "replaceTwin";

#[derive(Clone)]
pub(crate) struct TwinService {
    store: Store,
}

impl TwinService {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// The twin as the device reads it: desired and reported properties, without metadata.
    ///
    /// # Errors
    ///
    /// `DeviceNotFound`, or when the store fails.
    pub(crate) async fn device_view(&self, device: &DeviceId) -> Result<Bytes, ServiceError> {
        let record = self.record(device, None).await?;
        let properties = Properties {
            desired: record.desired,
            reported: record.reported,
        }
        .without_metadata();
        Ok(json(&properties))
    }

    /// Merges a device's reported patch, on condition that `if_version`, if given, is the current
    /// `$version`; returns the new `$version` of the reported properties once it is on disk.
    ///
    /// # Errors
    ///
    /// `PreconditionFailed` when the version differs; `ArgumentInvalid` when the patch is not an
    /// object or breaks a limit of twins; `DeviceNotFound`; or when the store fails.
    pub(crate) async fn patch_reported(
        &self,
        device: &DeviceId,
        patch: Bytes,
        if_version: Option<u64>,
    ) -> Result<u64, ServiceError> {
        let patch: Object = serde_json::from_slice(&patch).map_err(|error| {
            ServiceError::argument(format!("the patch is not a JSON object: {error}"))
        })?;
        let now = Timestamp::now();
        let change = move |record: &mut TwinRecord| {
            if if_version.is_some_and(|expected| expected != record.reported.version) {
                return Err(ServiceError::precondition_failed());
            }
            record.reported.patch(SectionKind::Reported, &patch, now)?;
            let notification = record.reported.notification(patch);
            record.version += 1;
            let patches = TwinPatches {
                reported: Some(notification),
                ..TwinPatches::default()
            };
            let change = TwinChange {
                tags: false,
                desired: None,
                reported: true,
                event: patches.event(record.version, now),
            };
            Ok::<_, ServiceError>((change, record.reported.version))
        };
        let _turn = self.store.device_turn().await?;
        let changed = self.store.twin_update(device, None, change).await?;
        changed
            .map(|(_, version)| version)
            .ok_or_else(|| ServiceError::device_not_found(device.as_ref()))
    }

    pub(crate) async fn get(
        &self,
        device: &DeviceId,
        scope: Option<Arc<Scope>>,
    ) -> Result<Twin, ServiceError> {
        Ok(self.record(device, scope).await?.into())
    }

    pub(crate) async fn patch(
        &self,
        device: &DeviceId,
        if_match: IfMatch,
        patch: TwinPatch,
        scope: Option<Arc<Scope>>,
    ) -> Result<Twin, ServiceError> {
        self.change(device, if_match, scope, move |record, now| {
            merge(record, &patch, now)
        })
        .await
    }

    pub(crate) async fn replace(
        &self,
        device: &DeviceId,
        if_match: IfMatch,
        replacement: TwinPatch,
        scope: Option<Arc<Scope>>,
    ) -> Result<Twin, ServiceError> {
        self.change(device, if_match, scope, move |record, now| {
            replace(record, replacement, now)
        })
        .await
    }

    async fn change(
        &self,
        device: &DeviceId,
        if_match: IfMatch,
        scope: Option<Arc<Scope>>,
        change: impl FnOnce(&mut TwinRecord, Timestamp) -> Result<TwinChange, ServiceError>
        + Send
        + 'static,
    ) -> Result<Twin, ServiceError> {
        let now = Timestamp::now();
        let change = move |record: &mut TwinRecord| {
            if_match.check(&twin::etag(record.etag))?;
            Ok::<_, ServiceError>((change(record, now)?, ()))
        };
        let changed = self.store.twin_update(device, scope, change).await?;
        let (record, ()) =
            changed.ok_or_else(|| ServiceError::device_not_found(device.as_ref()))?;
        Ok(record.into())
    }

    async fn record(
        &self,
        device: &DeviceId,
        scope: Option<Arc<Scope>>,
    ) -> Result<TwinRecord, ServiceError> {
        self.store
            .twin_get(device, scope)
            .await?
            .ok_or_else(|| ServiceError::device_not_found(device.as_ref()))
    }
}

/// Runs the checks of a patch that need no twin.
pub(super) fn check(patch: &TwinPatch) -> Result<(), ServiceError> {
    for (kind, section) in [
        (SectionKind::Tags, &patch.tags),
        (SectionKind::Desired, &patch.desired),
    ] {
        section
            .values()
            .map_or(Ok(()), |values| check_patch(kind, values))?;
    }
    Ok(())
}

/// Merges `patch` into the twin, as a PATCH and a twin job do. `tags: null` has no effect,
/// `desired: null` clears the section, as on Azure.
pub(super) fn merge(
    record: &mut TwinRecord,
    patch: &TwinPatch,
    now: Timestamp,
) -> Result<TwinChange, ServiceError> {
    let mut changed = TwinPatches::default();
    if let SectionPatch::Values(patch) = &patch.tags {
        check_patch(SectionKind::Tags, patch)?;
        let mut tags = record.tags.clone();
        twin::merge(&mut tags, patch);
        check_growth(SectionKind::Tags, &record.tags, &tags)?;
        record.tags = tags;
        changed.tags = Some(patch.clone());
    }
    let desired = match &patch.desired {
        SectionPatch::Absent => None,
        SectionPatch::Null => Some(record.desired.clear(SectionKind::Desired, now)),
        SectionPatch::Values(patch) => {
            record.desired.patch(SectionKind::Desired, patch, now)?;
            Some(patch.clone())
        }
    };
    changed.desired = desired.map(|patch| record.desired.notification(patch));
    let (tags, desired) = (changed.tags.is_some(), changed.desired.as_ref().map(json));
    count(record, tags || desired.is_some());
    Ok(TwinChange {
        tags,
        desired,
        reported: false,
        event: changed.event(record.version, now),
    })
}

/// Replaces the twin's sections with those that `replacement` has.
fn replace(
    record: &mut TwinRecord,
    replacement: TwinPatch,
    now: Timestamp,
) -> Result<TwinChange, ServiceError> {
    let (mut tags_replaced, mut desired_replaced) = (false, None);
    let values = |section: SectionPatch| match section {
        SectionPatch::Absent => None,
        SectionPatch::Null => Some(Object::new()),
        SectionPatch::Values(values) => Some(values),
    };
    if let Some(tags) = values(replacement.tags) {
        check_replacement(SectionKind::Tags, &tags)?;
        check_growth(SectionKind::Tags, &record.tags, &tags)?;
        record.tags = tags;
        tags_replaced = true;
    }
    if let Some(desired) = values(replacement.desired) {
        let patch = record.desired.replace(SectionKind::Desired, desired, now)?;
        desired_replaced = Some(json(&record.desired.notification(patch)));
    }
    count(record, tags_replaced || desired_replaced.is_some());
    let whole = ReplacedTwin {
        version: record.version,
        tags: &record.tags,
        properties: ReplacedSections {
            desired: &record.desired,
            reported: &record.reported,
        },
    };
    let event = TwinEvent {
        operation: REPLACED,
        at: now,
        body: json(&whole),
    };
    Ok(TwinChange {
        tags: tags_replaced,
        desired: desired_replaced,
        reported: false,
        event,
    })
}

/// One write of tags or desired properties counts once, in `version` and in the etag.
fn count(record: &mut TwinRecord, changed: bool) {
    if changed {
        record.version += 1;
        record.etag += 1;
    }
}

/// The patches of a merge, section by section; those of properties include the resulting
/// `$version`.
#[derive(Default)]
struct TwinPatches {
    tags: Option<Object>,
    desired: Option<Object>,
    reported: Option<Object>,
}

impl TwinPatches {
    /// The event of the merge (`twinChangeNotification` with `opType` `updateTwin`). Metadata is
    /// added when the event is read: it follows from the rest.
    fn event(self, version: u64, at: Timestamp) -> TwinEvent {
        let mut body = Object::new();
        body.insert("version".into(), version.into());
        body.extend(self.tags.map(|tags| ("tags".into(), tags.into())));
        let sections = [("desired", self.desired), ("reported", self.reported)];
        let sections = sections
            .into_iter()
            .filter_map(|(name, section)| Some((name.into(), section?.into())));
        let sections: Object = sections.collect();
        if !sections.is_empty() {
            body.insert("properties".into(), sections.into());
        }
        TwinEvent {
            operation: UPDATED,
            at,
            body: json(&body),
        }
    }
}

/// The event body of a replaced twin.
#[derive(serde::Serialize)]
struct ReplacedTwin<'a> {
    version: u64,
    tags: &'a Object,
    properties: ReplacedSections<'a>,
}

#[derive(serde::Serialize)]
struct ReplacedSections<'a> {
    desired: &'a Section,
    reported: &'a Section,
}

fn json(document: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(document)
        .expect("objects of JSON values have text keys alone")
        .into()
}

impl From<TwinError> for ServiceError {
    fn from(error: TwinError) -> Self {
        Self::argument(error.to_string())
    }
}

impl<O, S> From<TwinRecord<O, S>> for Twin<O, S> {
    fn from(record: TwinRecord<O, S>) -> Self {
        let device = record.device;
        Self {
            device_id: device.device_id,
            etag: twin::etag(record.etag),
            device_etag: Some(device.etag),
            status: status(device.enabled),
            status_reason: device.status_reason,
            status_update_time: stored_time(&device.status_updated),
            connection_state: device.connection_state,
            last_activity_time: stored_time(&device.last_activity),
            cloud_to_device_message_count: 0,
            authentication_type: device.authentication.kind,
            x509_thumbprint: device.authentication.thumbprints,
            model_id: record.model_id,
            version: record.version,
            tags: record.tags,
            properties: Properties {
                desired: record.desired,
                reported: record.reported,
            },
            capabilities: twin::Capabilities {
                iot_edge: device.iot_edge,
            },
        }
    }
}
