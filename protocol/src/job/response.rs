//! What the service says of a job.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{JobStatus, JobType};
use crate::id::JobId;
use crate::method::MethodRequest;
use crate::time;
use crate::twin::TwinPatch;

/// A job. Right after it was made it shows its id, type and status only; what it does not have is
/// left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobResponse {
    /// Its name.
    pub job_id: JobId,
    /// Which devices it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_condition: Option<String>,
    /// When it was made.
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
    /// How long it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_execution_time_in_seconds: Option<u64>,
    /// What it does.
    #[serde(rename = "type")]
    pub job_type: JobType,
    /// How far it is.
    pub status: JobStatus,
    /// The method it calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_to_device_method: Option<MethodRequest>,
    /// The change of twins it makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_twin: Option<TwinPatch>,
    /// Why it could not be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_message: Option<String>,
    /// How many devices are how far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_job_statistics: Option<DeviceJobStatistics>,
}

impl JobResponse {
    /// What a job shows right after it was made.
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

/// How many devices of a job are how far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceJobStatistics {
    /// All of them.
    pub device_count: u64,
    /// Those that failed.
    pub failed_count: u64,
    /// Those that are done.
    pub succeeded_count: u64,
    /// Those that were sent something and have not answered.
    pub running_count: u64,
    /// Those with which nothing has been done yet.
    pub pending_count: u64,
}
