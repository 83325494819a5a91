//! The service's view of a job.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{JobStatus, JobType};
use crate::id::JobId;
use crate::method::MethodRequest;
use crate::time;
use crate::twin::TwinPatch;

/// A job. The response to its creation has id, type and status only. Absent members are omitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobResponse {
    /// The job id.
    pub job_id: JobId,
    /// The condition that selects the devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_condition: Option<String>,
    /// When it was created.
    #[serde(
        default,
        with = "time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub created_time: Option<Timestamp>,
    /// When it starts or started.
    #[serde(
        default,
        with = "time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub start_time: Option<Timestamp>,
    /// When it ended.
    #[serde(
        default,
        with = "time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub end_time: Option<Timestamp>,
    /// Execution time limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_execution_time_in_seconds: Option<u64>,
    /// What it does.
    #[serde(rename = "type")]
    pub job_type: JobType,
    /// Progress of the job.
    pub status: JobStatus,
    /// The method it calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_to_device_method: Option<MethodRequest>,
    /// The twin update it makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_twin: Option<TwinPatch>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// Further details, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_message: Option<String>,
    /// Number of devices by progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_job_statistics: Option<DeviceJobStatistics>,
}

impl JobResponse {
    /// The response to the creation of a job.
    #[must_use]
    pub const fn short(job_id: JobId, job_type: JobType, status: JobStatus) -> Self {
        Self {
            job_id,
            query_condition: None,
            created_time: None,
            start_time: None,
            end_time: None,
            max_execution_time_in_seconds: None,
            job_type,
            status,
            cloud_to_device_method: None,
            update_twin: None,
            failure_reason: None,
            status_message: None,
            device_job_statistics: None,
        }
    }
}

/// Number of devices of a job by progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceJobStatistics {
    /// All devices.
    pub device_count: u64,
    /// Devices that failed.
    pub failed_count: u64,
    /// Devices that completed.
    pub succeeded_count: u64,
    /// Devices that were called and have not answered.
    pub running_count: u64,
    /// Devices that have not been called yet.
    pub pending_count: u64,
}
