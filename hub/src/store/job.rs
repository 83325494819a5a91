//! Jobs and the rows of their devices as every store returns and takes them, and the limits that
//! every store keeps.

use std::time::Duration;

use iothub_protocol::id::{DeviceId, JobId};
use iothub_protocol::job::{JobStatus, JobType};
use iothub_protocol::query::Condition;
use jiff::Timestamp;

use crate::identity::Policy;
use crate::types::JobAuthor;

/// Maximum number of unfinished jobs. The runner visits each of them at every step.
pub(super) const ACTIVE: i64 = 1000;

/// Maximum number of unfinished jobs of policies with bounds: the rest is for the others.
pub(super) const ACTIVE_BOUNDED: i64 = 200;

/// Maximum number of unfinished jobs of one policy with bounds.
pub(super) const ACTIVE_OF_ONE: i64 = 50;

/// Maximum number of ended jobs of one policy with bounds, and of their bytes. A new job deletes
/// the oldest beyond, so that such a policy cannot fill the disk.
pub(super) const ENDED_OF_ONE: (i64, i64) = (1000, 256 << 20);

/// The newest ended jobs, which stay whatever their size.
pub(super) const ALWAYS_KEPT: i64 = 10;

/// Approximate size in bytes of what a job keeps of one device, answer included.
pub(super) const DEVICE_BYTES: i64 = 1024;

/// A job to store.
#[derive(Debug, Clone)]
pub(crate) struct NewJob {
    pub(crate) job_id: JobId,
    pub(crate) kind: JobType,
    /// `cloudToDeviceMethod` or `updateTwin`, as the client wrote it.
    pub(crate) action: String,
    pub(crate) query_condition: String,
    pub(crate) created: Timestamp,
    pub(crate) start: Timestamp,
    pub(crate) max_execution: Duration,
    /// `None`: a job of a hub that did not keep it.
    pub(crate) author: Option<JobAuthor>,
}

/// The result of inserting a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobInsert {
    Done,
    /// A job with that id exists.
    Exists,
    /// As many jobs as allowed are unfinished: the limit and what it applies to.
    TooMany(i64, &'static str),
    /// The policy was removed after it had authenticated the call.
    PolicyRemoved,
}

/// The result of cancelling a job.
#[derive(Debug)]
pub(crate) enum JobCancel {
    /// It is cancelled, or stopping.
    Done(Box<JobRecord>),
    /// The job is running or has ended.
    TooLate(JobStatus),
    NotFound,
}

/// A stored job.
#[derive(Debug, Clone)]
pub(crate) struct JobRecord {
    /// Row id; reflects the order of creation.
    pub(crate) row: i64,
    pub(crate) job_id: JobId,
    pub(crate) kind: JobType,
    pub(crate) status: JobStatus,
    pub(crate) action: String,
    pub(crate) query_condition: String,
    pub(crate) created: Timestamp,
    pub(crate) start: Timestamp,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) max_execution: Duration,
    pub(crate) failure_reason: Option<String>,
    /// Nothing more is sent; the job ends when the pending calls have ended.
    pub(crate) stopped: bool,
    pub(crate) counts: JobCounts,
}

/// The number of devices in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct JobCounts {
    pub(crate) devices: u64,
    pub(crate) pending: u64,
    pub(crate) running: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
}

/// A job that waits for its start, and what limits it.
#[derive(Debug)]
pub(crate) struct WaitingJob {
    pub(crate) kind: JobType,
    pub(crate) action: String,
    /// Its policy and the bounds of its creation; `None`: a job of a hub that did not keep them.
    pub(crate) author: Option<JobAuthor>,
    /// The policy as it is now; `None` if it is gone.
    pub(crate) policy: Option<Policy>,
}

/// Decides whether a job may start: the devices that exist for it, or its failure reason.
pub(crate) type JobPermit = fn(&WaitingJob) -> Result<Option<Condition>, String>;

/// The result of starting a job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JobStart {
    /// Number of devices.
    Started(u64),
    /// It was cancelled before its start.
    Cancelled,
    /// It failed, with this reason.
    Refused(String),
}

/// Which pending devices of a job to claim.
#[derive(Debug)]
pub(crate) struct ClaimRequest {
    /// Devices by ordinal.
    pub(crate) ordinals: Vec<u32>,
    /// Further devices: the first ordinal.
    pub(crate) from: u32,
    /// Further devices: their maximum number.
    pub(crate) at_most: u32,
}

/// The result of a claim.
#[derive(Debug)]
pub(crate) struct ClaimedDevices {
    /// Devices that are now `running` and must be called.
    pub(crate) targets: Vec<JobTarget>,
    /// Devices that are offline and stay `pending`.
    pub(crate) offline: Vec<JobTarget>,
    /// The ordinal from which to claim further devices; `None` if there are none.
    pub(crate) next: Option<u32>,
}

/// A device of a job, to be called or updated.
#[derive(Debug, Clone)]
pub(crate) struct JobTarget {
    /// The device's number within the job.
    pub(crate) ordinal: u32,
    pub(crate) device: DeviceId,
    /// Whether it is still the device that the job matched at its start; another one may have been
    /// created with the same id since.
    pub(super) exists: bool,
}

/// The outcome of a job for one device.
#[derive(Debug, Clone)]
pub(crate) struct DeviceOutcome {
    /// The device's number within the job.
    pub(crate) ordinal: u32,
    /// Whether its row is `running`; otherwise it is `pending`.
    pub(crate) claimed: bool,
    pub(crate) result: DeviceResult,
}

/// What happened with one device.
#[derive(Debug, Clone)]
pub(crate) enum DeviceResult {
    Answered {
        /// The status of the device's answer.
        status: i32,
        /// The payload of the device's answer, as JSON.
        payload: Option<String>,
    },
    /// Its twin was updated.
    Updated,
    /// The call or the update failed.
    Failed {
        /// The name of the error code.
        code: &'static str,
        /// The reason, for people.
        description: String,
    },
    /// The call was not sent. The device becomes `pending` again, or `canceled` if the job has been
    /// stopped.
    NotSent,
}

#[derive(Debug, Clone)]
pub(crate) struct DeviceJobRecord {
    pub(crate) device_id: DeviceId,
    pub(crate) job_id: String,
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) created: String,
    pub(crate) started: Option<String>,
    pub(crate) ended: Option<String>,
    pub(crate) updated: String,
    pub(crate) response: Option<(i32, Option<String>)>,
    pub(crate) error: Option<(String, String)>,
}

/// Why an update of a twin was refused: the name of the error code, and the reason.
pub(crate) type Refusal = (&'static str, String);
