//! Jobs (`/jobs/v2`) and their outcome for each device (`devices.jobs`).

use iothub_protocol::JobId;
use iothub_protocol::job::{DeviceJob, JobRequest, JobResponse, JobStatus};
use reqwest::Method;
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::ClientError;
use super::{HubClient, RetryPolicy, Traffic};

impl HubClient {
    /// Creates a job. The response has only id, type and status.
    ///
    /// # Errors
    ///
    /// `JobAlreadyExists`, `ThrottlingMaxActiveJobCountExceeded` (Azure), or any other
    /// [`ClientError`].
    pub async fn job_create(
        &self,
        id: &JobId,
        job: &JobRequest,
    ) -> Result<JobResponse, ClientError> {
        let path = ["jobs", "v2", id.as_str()];
        let request = self
            .request(Method::PUT, &path, RetryPolicy::IfThrottled)?
            .json(job)?;
        self.send(&request).await?.json("a job")
    }

    /// Reads a job.
    ///
    /// # Errors
    ///
    /// [`ClientError::NoSuchJob`] and `JobNotFound`, or any other [`ClientError`].
    pub async fn job(&self, id: &JobId) -> Result<JobResponse, ClientError> {
        let request = self.get(&["jobs", "v2", id.as_str()])?;
        parse(id, &self.send(&request).await?.body)
    }

    /// Cancels a job that has not started.
    ///
    /// # Errors
    ///
    /// `JobNotFound`, `OperationNotAllowedInCurrentState`, or any other [`ClientError`].
    pub async fn job_cancel(&self, id: &JobId) -> Result<JobResponse, ClientError> {
        let path = ["jobs", "v2", id.as_str(), "cancel"];
        let request = self.request(Method::POST, &path, RetryPolicy::IfThrottled)?;
        self.send(&request).await?.json("a job")
    }

    /// Stops a job, also a running one: no more devices are called, and answers of pending calls
    /// are collected. door-hub only: Azure cancels only a job that has not started.
    ///
    /// # Errors
    ///
    /// `JobNotFound`, `OperationNotAllowedInCurrentState`, or any other [`ClientError`].
    pub async fn door_hub_job_stop(&self, id: &JobId) -> Result<JobResponse, ClientError> {
        let path = ["jobs", "v2", id.as_str(), "cancel"];
        let request = self
            .request(Method::POST, &path, RetryPolicy::IfThrottled)?
            .query("stop", "true");
        self.send(&request).await?.json("a job")
    }

    /// Reads all jobs, or those with one status, without those that have no form of a job: the
    /// watcher is notified of them.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`].
    pub async fn jobs(&self, status: Option<JobStatus>) -> Result<Vec<JobResponse>, ClientError> {
        let mut request = self.get(&["jobs", "v2", "query"])?;
        if let Some(status) = status {
            request = request.query("jobStatus", status.as_str());
        }
        let rows = self.all_pages(request, usize::MAX, "a list of jobs");
        let rows: Vec<Box<RawValue>> = rows.await?;
        let mut jobs = Vec::new();
        for row in rows {
            match serde_json::from_str(row.get()) {
                Ok(job) => jobs.push(with_readable_payload(job)),
                // One strange job must not hide the others.
                Err(error) => self.notify(|| Traffic::Skipped {
                    what: "a job",
                    error: &error,
                }),
            }
        }
        Ok(jobs)
    }

    /// Reads the outcome of a job for each device.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`].
    pub async fn device_jobs(&self, id: &JobId) -> Result<Vec<DeviceJob>, ClientError> {
        // A job id has only letters, digits and hyphens: no quoting is needed.
        self.query(&format!(
            "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{id}'"
        ))
        .await
    }
}

/// Parses a job. Azure answers 200 with type and status `unknown` for a missing job.
fn parse(id: &JobId, body: &[u8]) -> Result<JobResponse, ClientError> {
    let not_a_job = |source| ClientError::UnexpectedBody {
        what: "a job",
        source,
    };
    let document: Value = serde_json::from_slice(body).map_err(not_a_job)?;
    let word = |member: &str| {
        document
            .get(member)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let is_unknown = |member| word(member).eq_ignore_ascii_case(JobStatus::Unknown.as_str());
    if is_unknown("type") && is_unknown("status") {
        return Err(ClientError::NoSuchJob(id.clone()));
    }
    let mut job: JobResponse = serde_json::from_slice(body).map_err(not_a_job)?;
    if job.status == JobStatus::Unknown && job.status_message.is_none() {
        job.status_message = Some(format!(
            "the hub reports the unknown status {:?}",
            word("status")
        ));
    }
    Ok(with_readable_payload(job))
}

/// Decodes the payload of a method job: Azure shows it as an array of the bytes of its JSON text.
fn with_readable_payload(mut job: JobResponse) -> JobResponse {
    job.cloud_to_device_method = job.cloud_to_device_method.map(|call| {
        let text = call.payload().and_then(text_of_bytes);
        match text.and_then(|text| RawValue::from_string(text).ok()) {
            Some(payload) => call.with_payload(payload),
            None => call,
        }
    });
    job
}

/// The text of an array of bytes. An array that spells a number may be a real array of numbers and
/// is left unchanged.
fn text_of_bytes(payload: &RawValue) -> Option<String> {
    let bytes: Vec<u8> = serde_json::from_str(payload.get()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let is_number = text.parse::<f64>().is_ok();
    (!is_number).then_some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(document: &Value) -> Result<JobResponse, ClientError> {
        parse(&"tonight".parse().unwrap(), document.to_string().as_bytes())
    }

    #[test]
    fn an_unknown_job_of_azure_is_an_error() {
        for document in [
            json!({"type": "unknown", "status": "unknown"}),
            json!({"jobId": "tonight", "type": "unknown", "status": "unknown"}),
            json!({
                "jobId": "tonight", "type": "Unknown", "status": "UNKNOWN",
                "maxExecutionTimeInSeconds": 0,
            }),
        ] {
            let error = job(&document).unwrap_err();
            assert!(
                matches!(error, ClientError::NoSuchJob(_)),
                "{document}: {error}"
            );
            assert_eq!(error.code(), Some(iothub_protocol::ErrorCode::JobNotFound));
        }
        // Unknown words of a newer hub still make a job.
        for (kind, status) in [
            ("scheduleUpdateTwin", "paused"),
            ("other", "paused"),
            ("other", "running"),
        ] {
            let job = job(&json!({"jobId": "tonight", "type": kind, "status": status})).unwrap();
            let word = (status == "paused")
                .then(|| "the hub reports the unknown status \"paused\"".to_owned());
            assert_eq!(job.status_message, word, "{kind} {status}");
        }
    }

    #[test]
    fn a_payload_given_as_bytes_is_decoded() {
        let shown = |payload: &Value| {
            let call = json!({"methodName": "lockDoor", "payload": payload});
            let document = json!({
                "jobId": "tonight", "type": "scheduleDeviceMethod", "status": "running",
                "cloudToDeviceMethod": call,
            });
            let call = job(&document).unwrap().cloud_to_device_method.unwrap();
            call.payload().map_or(Value::Null, |payload| {
                serde_json::from_str(payload.get()).unwrap()
            })
        };
        let bytes = |text: &str| json!(text.as_bytes());
        for (returned, expected) in [
            (bytes(r#"{"lockTime":"10m"}"#), json!({"lockTime": "10m"})),
            (bytes(r#""text""#), json!("text")),
            (bytes("null"), json!(null)),
            (json!({"lockTime": "10m"}), json!({"lockTime": "10m"})),
            (json!([49, 50]), json!([49, 50])),
            (json!([1, 2]), json!([1, 2])),
            (json!([300]), json!([300])),
            (json!([]), json!([])),
            (json!(null), json!(null)),
        ] {
            assert_eq!(shown(&returned), expected, "{returned}");
        }
    }
}
