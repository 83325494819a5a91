//! `POST /devices`: up to a hundred registry operations in one call and one transaction. Each
//! succeeds or fails on its own.

mod request;

use iothub_protocol::bulk::{BulkError, BulkResult};
use iothub_protocol::error::ErrorCode;
use iothub_protocol::twin;
use jiff::Timestamp;

pub(crate) use request::BulkRequest;
use request::{ItemLabel, ItemTask, Operation};

use super::super::twin::merge;
use super::super::{IfMatch, ServiceError};
use super::{DeviceService, already_exists, change, new_record};
use crate::session::DisconnectReason;
use crate::store::{BulkTransaction, time_text};

/// Errors that the message of a call contains, at most; the result has them all.
const MAX_MESSAGE_ERRORS: usize = 5;

/// The failures in a sentence, the first [`MAX_MESSAGE_ERRORS`] of them.
pub(crate) fn bulk_message(result: &BulkResult) -> String {
    let failed = result.errors.len();
    let errors = result.errors.iter().take(MAX_MESSAGE_ERRORS);
    let texts: Vec<&str> = errors
        .map(|error| error.error_status.as_deref().unwrap_or_default())
        .collect();
    let more = if failed > MAX_MESSAGE_ERRORS {
        "; and more"
    } else {
        ""
    };
    format!(
        "{failed} of the registry operations failed, the others succeeded: {}{more}",
        texts.join("; ")
    )
}

impl DeviceService {
    /// Runs the operations of `request` in one transaction and returns the failed ones. Afterwards
    /// it disconnects devices that were disabled, deleted or given other credentials; connected
    /// devices are notified of desired changes.
    ///
    /// # Errors
    ///
    /// When the store fails; then nothing has changed.
    pub(crate) async fn bulk(&self, request: BulkRequest) -> Result<BulkResult, ServiceError> {
        let (labels, tasks): (Vec<ItemLabel>, Vec<_>) = request
            .items
            .into_iter()
            .enumerate()
            .map(|(index, item)| (item.label, (index, item.task)))
            .unzip();
        let now = Timestamp::now();
        let outcomes = self
            .store
            .device_bulk(tasks, move |write, (index, task)| {
                let task = task?;
                let device = task.device.clone();
                let disconnect = apply(write, task, now).map_err(|error| ServiceError {
                    message: format!("item {index}: {}", error.message),
                    ..error
                })?;
                Ok::<_, ServiceError>(disconnect.map(|reason| (device, reason)))
            })
            .await?;
        let mut errors = Vec::new();
        for (label, outcome) in labels.into_iter().zip(outcomes) {
            match outcome {
                Ok(None) => {}
                Ok(Some((device, reason))) => self.registry.disconnect(&device, reason),
                Err(error) => errors.push(BulkError {
                    device_id: label.device,
                    error_code: error.code.name().into(),
                    error_status: Some(error.message),
                    module_id: label.module,
                    operation: label.mode.map(|mode| mode.name().to_owned()),
                }),
            }
        }
        Ok(BulkResult::new(errors))
    }
}

/// Runs one operation. Returns the reason to disconnect the device, if there is one.
fn apply(
    write: &mut BulkTransaction<'_, '_>,
    task: ItemTask,
    now: Timestamp,
) -> Result<Option<DisconnectReason>, ServiceError> {
    let device = &task.device;
    let present = match task.operation {
        Operation::Delete(_) => write.get_to_delete(device)?,
        _ => write.get(device)?,
    };
    // A twin created here has no etag that a caller could know.
    let twin_if_match = match present {
        Some(_) => task.twin_if_match,
        None => IfMatch::Absent,
    };
    let disconnect = match (task.operation, present) {
        (Operation::Create(_), Some(_)) => return Err(already_exists(device)),
        (Operation::Create(update) | Operation::CreateOrUpdate(_, update), None) => {
            write.insert(&new_record(device, &update, now)?)?;
            None
        }
        (
            Operation::Update(if_match, update) | Operation::CreateOrUpdate(if_match, update),
            Some(mut record),
        ) => {
            check_etag(&if_match, &record.etag, "eTag")?;
            let disconnect = change(&mut record, &update, time_text(now))?;
            write.update(&record)?;
            disconnect
        }
        (Operation::Delete(if_match), Some(record)) => {
            check_etag(&if_match, &record.etag, "eTag")?;
            write.delete(device)?;
            return Ok(Some(DisconnectReason::Deleted));
        }
        (Operation::UpdateTwin, Some(_)) => None,
        (_, None) => return Err(ServiceError::device_not_found(device.as_ref())),
    };
    write.twin(device, |record| {
        if twin_if_match != IfMatch::Absent {
            check_etag(&twin_if_match, &twin::etag(record.etag), "twinETag")?;
        }
        merge(record, &task.twin, now)
    })?;
    Ok(disconnect)
}

/// An item may leave out its etag only if the device does not exist yet.
fn check_etag(expected: &IfMatch, present: &str, member: &str) -> Result<(), ServiceError> {
    let message = match expected {
        IfMatch::Any => return Ok(()),
        IfMatch::Etag(tag) if tag == present => return Ok(()),
        IfMatch::Etag(tag) => format!("{member} is `{tag}`; expected the current etag"),
        IfMatch::Absent => {
            format!("{member} is missing; expected the current etag, because the device exists")
        }
    };
    Err(ServiceError::new(ErrorCode::PreconditionFailed, message))
}
