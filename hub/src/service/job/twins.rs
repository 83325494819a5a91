//! One run of a twin job. Each twin changes in the transaction that ends its row, so there is nothing between to be lost.

use iothub_protocol::error::ErrorCode;
use iothub_protocol::job::JobStatus;
use iothub_protocol::twin::TwinPatch;
use jiff::Timestamp;

use super::NOT_BEGUN;
use super::plan::{Devices, Job, Step, plan};
use super::retry::{Retry, RunClock};
use super::runner::{Context, view};
use crate::service::{ServiceError, twin};
use crate::store::JobRecord;

/// Twins in one transaction: it should leave the writer to the others again after a few milliseconds.
const SLICE: u32 = 100;

/// Runs the job to its end. `false` when the hub stops before that.
pub(super) async fn run(context: &Context, job: &JobRecord) -> Result<bool, ServiceError> {
    let patch: TwinPatch = serde_json::from_str(&job.action).map_err(|error| {
        ServiceError::new(
            ErrorCode::ServerError,
            format!("the job's update cannot be read back: {error}"),
        )
    })?;
    let view = Job {
        status: JobStatus::Running,
        ..view(job)
    };
    let mut devices = Devices {
        pending: u64::MAX,
        in_flight: 0,
    };
    let mut next = 0;
    let clock = RunClock::begin(Timestamp::now());
    let mut retry = Retry::default();
    while !context.stop.is_cancelled() {
        let store = &context.store;
        let now = Timestamp::now();
        let Step::Send { .. } = plan(clock.now(), &view, devices) else {
            let ended = store.job_complete(job.row, NOT_BEGUN, NOT_BEGUN, now);
            match ended.await {
                Ok(()) => return Ok(true),
                Err(error) => retry.after(error.into(), &context.stop).await?,
            }
            continue;
        };
        let patch = patch.clone();
        let update = move |record: &mut _| {
            twin::merge(record, &patch, now)
                .map_err(|error: ServiceError| (error.code.name(), error.message))
        };
        let updated = store.device_job_update_twins(job.row, next, SLICE, now, update);
        match updated.await {
            Ok(after) => {
                retry.worked();
                match after {
                    Some(after) => next = after,
                    None => devices.pending = 0,
                }
            }
            Err(error) => retry.after(error.into(), &context.stop).await?,
        }
    }
    Ok(false)
}
