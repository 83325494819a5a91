//! Jobs: scheduled operations on many devices.
//!
//! [`JobRequest`] is the body of `PUT /jobs/v2/{id}`, [`JobResponse`] the service's view of a job,
//! [`DeviceJob`] the record of one device in it (`SELECT * FROM devices.jobs`). The spellings are
//! the service's and differ between the documents: a job is `cancelled`, a device's record
//! `canceled`; a job has `createdTime`, a record `createdDateTimeUtc`. Source: "Schedule jobs on
//! multiple devices", and the fixtures and models of the official clients.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use device_job::{DeviceJob, JobError, JobOutcome};
pub use request::{DEFAULT_MAX_EXECUTION_TIME, JobAction, JobRequest};
pub use response::{DeviceJobStatistics, JobResponse};

mod device_job;
mod request;
mod response;

/// A text is not one of the names of an enum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}; expected one of {expected}")]
pub struct UnknownName {
    text: String,
    kind: &'static str,
    expected: String,
}

/// Defines an enum of names. Names are compared without case, since .NET capitalises them.
/// Documents may contain other names; they are read as `Unknown`.
macro_rules! names {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $($name:literal $variant:ident $text:literal)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type {
            $(#[doc = $text] $variant,)*
        }

        impl $type {
            /// All values.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                let known = Self::ALL.iter().find(|name| name.as_str().eq_ignore_ascii_case(text));
                known.copied().ok_or_else(|| UnknownName {
                    text: text.chars().take(64).collect(),
                    kind: $kind,
                    expected: [$($name,)*].join(", "),
                })
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Ok(text.parse().unwrap_or(Self::Unknown))
            }
        }
    };
}

names! {
    /// What a job does.
    JobType, "job type",
    "unknown" Unknown "Another value."
    "export" Export "Writes the registry to a blob."
    "import" Import "Reads the registry from a blob."
    "backup" Backup "Writes a backup."
    "readDeviceProperties" ReadDeviceProperties "Of an older interface."
    "writeDeviceProperties" WriteDeviceProperties "Of an older interface."
    "updateDeviceConfiguration" UpdateDeviceConfiguration "Of an older interface."
    "rebootDevice" RebootDevice "Of an older interface."
    "factoryResetDevice" FactoryResetDevice "Of an older interface."
    "firmwareUpdate" FirmwareUpdate "Of an older interface."
    "scheduleDeviceMethod" ScheduleDeviceMethod "Calls a method of each device."
    "scheduleUpdateTwin" ScheduleUpdateTwin "Changes the twin of each device."
    "restoreFromBackup" RestoreFromBackup "Reads a backup."
    "failoverDataCopy" FailoverDataCopy "Moves the hub's data."
}

names! {
    /// Progress of a job.
    JobStatus, "job status",
    "unknown" Unknown "Another value."
    "enqueued" Enqueued "It waits for other jobs."
    "running" Running "It is running."
    "completed" Completed "Every device has completed or failed."
    "failed" Failed "It failed as a whole."
    "cancelled" Cancelled "It was cancelled before it started."
    "scheduled" Scheduled "It waits for its start time."
    "queued" Queued "It was accepted."
}

names! {
    /// Progress of one device in a job.
    DeviceJobStatus, "status of a device's job",
    "unknown" Unknown "Another value."
    "pending" Pending "It has not been called yet."
    "scheduled" Scheduled "The start time of the job is in the future."
    "running" Running "It was called and has not answered."
    "completed" Completed "It answered, or its twin was changed."
    "failed" Failed "It failed; see the error."
    "canceled" Canceled "The job was cancelled."
}

impl JobStatus {
    /// Whether the job has ended.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl DeviceJobStatus {
    /// Whether the device's part has ended, successfully or not.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled)
    }
}

#[cfg(test)]
mod tests;
