//! The body of `PUT /jobs/v2/{id}`.

use std::time::Duration;

use jiff::Timestamp;
use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::JobType;
use crate::id::JobId;
use crate::integer::Integer;
use crate::method::MethodRequest;
use crate::time;
use crate::twin::TwinPatch;

/// Execution time limit of a job whose request has none.
pub const DEFAULT_MAX_EXECUTION_TIME: Duration = Duration::from_secs(3600);

/// A job: the action, its devices and its time.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRequest {
    /// The job id, if the body has one; the path always does.
    pub job_id: Option<JobId>,
    /// What to do.
    pub action: JobAction,
    /// The devices: the condition of a query, without `WHERE`, or `*` for all.
    pub query_condition: String,
    /// Start time; at once if it is absent or past.
    pub start_time: Option<Timestamp>,
    /// Execution time limit, in whole seconds.
    pub max_execution_time: Duration,
}

/// What a job does to each of its devices.
#[derive(Debug, Clone, PartialEq)]
pub enum JobAction {
    /// Calls a method.
    Method(MethodRequest),
    /// Updates the twin. The service requires that [`TwinPatch::etag`] is `*`.
    UpdateTwin(TwinPatch),
}

impl JobAction {
    /// The type of the job.
    #[must_use]
    pub const fn job_type(&self) -> JobType {
        match self {
            Self::Method(_) => JobType::ScheduleDeviceMethod,
            Self::UpdateTwin(_) => JobType::ScheduleUpdateTwin,
        }
    }
}

impl Serialize for JobRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            job_id: Option<&'a JobId>,
            #[serde(rename = "type")]
            job_type: JobType,
            #[serde(skip_serializing_if = "Option::is_none")]
            cloud_to_device_method: Option<&'a MethodRequest>,
            #[serde(skip_serializing_if = "Option::is_none")]
            update_twin: Option<&'a TwinPatch>,
            query_condition: &'a str,
            #[serde(with = "time::optional", skip_serializing_if = "Option::is_none")]
            start_time: Option<Timestamp>,
            max_execution_time_in_seconds: u64,
        }

        let (cloud_to_device_method, update_twin) = match &self.action {
            JobAction::Method(request) => (Some(request), None),
            JobAction::UpdateTwin(patch) => (None, Some(patch)),
        };
        Wire {
            job_id: self.job_id.as_ref(),
            job_type: self.action.job_type(),
            cloud_to_device_method,
            update_twin,
            query_condition: &self.query_condition,
            start_time: self.start_time,
            max_execution_time_in_seconds: self.max_execution_time.as_secs(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JobRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", expecting = "a JSON object")]
        struct Wire {
            #[serde(default)]
            job_id: Option<String>,
            #[serde(rename = "type")]
            job_type: String,
            #[serde(default)]
            cloud_to_device_method: Option<MethodRequest>,
            #[serde(default)]
            update_twin: Option<TwinPatch>,
            query_condition: String,
            #[serde(default, with = "time::optional")]
            start_time: Option<Timestamp>,
            #[serde(default)]
            max_execution_time_in_seconds: Option<Integer>,
            // Used until 2016. Ignoring it would run the job on devices that were not selected.
            #[serde(default)]
            device_ids: Option<IgnoredAny>,
        }

        let wire = Wire::deserialize(deserializer)?;
        if wire.device_ids.is_some() {
            return Err(D::Error::custom(
                "`deviceIds` is not supported; expected `queryCondition`",
            ));
        }
        let action = match wire.job_type.parse() {
            Ok(JobType::ScheduleDeviceMethod) => wire
                .cloud_to_device_method
                .map(JobAction::Method)
                .ok_or("cloudToDeviceMethod"),
            Ok(JobType::ScheduleUpdateTwin) => wire
                .update_twin
                .map(JobAction::UpdateTwin)
                .ok_or("updateTwin"),
            _ => {
                let expected = "`scheduleDeviceMethod` or `scheduleUpdateTwin`";
                return Err(D::Error::custom(format!(
                    "`type` is {:?}; expected {expected}",
                    wire.job_type
                )));
            }
        };
        let action = action.map_err(|member| {
            D::Error::custom(format!(
                "a job of type `{}` needs `{member}`",
                wire.job_type
            ))
        })?;
        if wire.query_condition.trim().is_empty() {
            return Err(D::Error::custom(
                "`queryCondition` is empty; expected a condition, or `*` for all devices",
            ));
        }
        let max_execution_time = match wire.max_execution_time_in_seconds {
            // Some serialisers write 0 for a member that is not set.
            None | Some(Integer(0)) => DEFAULT_MAX_EXECUTION_TIME,
            // 32 bits are 136 years, and cannot overflow when added to a time.
            Some(Integer(seconds)) => u32::try_from(seconds)
                .map(|seconds| Duration::from_secs(seconds.into()))
                .map_err(|_| {
                    D::Error::custom(format!(
                        "`maxExecutionTimeInSeconds` is {seconds}; expected 0 to {}",
                        u32::MAX
                    ))
                })?,
        };
        let job_id = wire.job_id.filter(|id| !id.is_empty());
        let job_id = job_id.map(|id| id.parse().map_err(D::Error::custom));
        Ok(Self {
            job_id: job_id.transpose()?,
            action,
            query_condition: wire.query_condition,
            start_time: wire.start_time,
            max_execution_time,
        })
    }
}
