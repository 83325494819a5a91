//! The record of one device in a job.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{DeviceJobStatus, JobType};
use crate::id::{DeviceId, JobId};
use crate::method::MethodResult;
use crate::time;

/// What a job has to do with one device. What it does not have is left out, never null: .NET's
/// client reads the times into types that have no null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceJob {
    /// The device.
    pub device_id: DeviceId,
    /// The job.
    pub job_id: JobId,
    /// What the job does.
    pub job_type: JobType,
    /// How far the device is.
    pub status: DeviceJobStatus,
    /// When its part began.
    #[serde(
        default,
        with = "time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub start_time_utc: Option<Timestamp>,
    /// When its part ended.
    #[serde(
        default,
        with = "time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub end_time_utc: Option<Timestamp>,
    /// When the record was made. A document that filters by it calls it `createdTimeUtc`.
    #[serde(
        default,
        alias = "createdTimeUtc",
        with = "time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub created_date_time_utc: Option<Timestamp>,
    /// When the record last changed.
    #[serde(
        default,
        with = "time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub last_updated_date_time_utc: Option<Timestamp>,
    /// What came of it, when it completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<JobOutcome>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
}

/// What came of a device's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobOutcome {
    /// What it answered; `null` for a change of its twin.
    #[serde(default)]
    pub device_method_response: Option<MethodResult>,
}

/// Why a device's part failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// The name of an error code, such as `DeviceNotOnline`.
    pub code: String,
    /// What happened, for a person.
    #[serde(default)]
    pub description: String,
}
