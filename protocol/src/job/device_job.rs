//! The record of one device in a job.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{DeviceJobStatus, JobType};
use crate::id::{DeviceId, JobId};
use crate::method::MethodResult;
use crate::time;

/// The part of a job that concerns one device. Absent members are omitted, never null: .NET's
/// client reads the times into types without null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceJob {
    /// The device id.
    pub device_id: DeviceId,
    /// The job id.
    pub job_id: JobId,
    /// What the job does.
    pub job_type: JobType,
    /// Progress of the device's part.
    pub status: DeviceJobStatus,
    /// When the device's part started.
    #[serde(
        default,
        with = "time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub start_time_utc: Option<Timestamp>,
    /// When the device's part ended.
    #[serde(
        default,
        with = "time::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub end_time_utc: Option<Timestamp>,
    /// When the record was created. One document filters by it as `createdTimeUtc`.
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
    /// The outcome, if it completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<JobOutcome>,
    /// The error, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
}

/// Outcome of a device's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobOutcome {
    /// The device's answer to the method; `null` for a twin update.
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
