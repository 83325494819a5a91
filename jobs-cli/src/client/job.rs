//! Jobs (`/jobs/v2`), and what they did on each device (`devices.jobs`).

use iothub_protocol::JobId;
use iothub_protocol::job::{DeviceJob, JobRequest, JobResponse, JobStatus};
use reqwest::Method;

use super::error::ClientError;
use super::{HubClient, Repeat};

impl HubClient {
    /// Makes a job. The hub answers with id, type and status alone.
    ///
    /// # Errors
    ///
    /// `JobAlreadyExists`, `ThrottlingMaxActiveJobCountExceeded` (Azure), or any other [`ClientError`].
    pub async fn job_create(
        &self,
        id: &JobId,
        job: &JobRequest,
    ) -> Result<JobResponse, ClientError> {
        let path = ["jobs", "v2", id.as_str()];
        let request = self
            .request(Method::PUT, &path, Repeat::WhenThrottled)?
            .json(job)?;
        self.send(&request).await?.json("a job")
    }

    /// Reads a job.
    ///
    /// # Errors
    ///
    /// `JobNotFound`, or any other [`ClientError`].
    pub async fn job(&self, id: &JobId) -> Result<JobResponse, ClientError> {
        let request = self.get(&["jobs", "v2", id.as_str()])?;
        self.send(&request).await?.json("a job")
    }

    /// Cancels a job that has not started.
    ///
    /// # Errors
    ///
    /// `JobNotFound`, `OperationNotAllowedInCurrentState`, or any other [`ClientError`].
    pub async fn job_cancel(&self, id: &JobId) -> Result<JobResponse, ClientError> {
        let path = ["jobs", "v2", id.as_str(), "cancel"];
        let request = self.request(Method::POST, &path, Repeat::WhenThrottled)?;
        self.send(&request).await?.json("a job")
    }

    /// Stops a job, also one that runs: nothing more is sent, and what was sent is heard. door-hub's alone: Azure cancels a job that has not
    /// started and refuses the rest.
    ///
    /// # Errors
    ///
    /// `JobNotFound`, `OperationNotAllowedInCurrentState`, or any other [`ClientError`].
    pub async fn door_hub_job_stop(&self, id: &JobId) -> Result<JobResponse, ClientError> {
        let path = ["jobs", "v2", id.as_str(), "cancel"];
        let request = self
            .request(Method::POST, &path, Repeat::WhenThrottled)?
            .query("stop", "true");
        self.send(&request).await?.json("a job")
    }

    /// Reads all jobs, or those of one status.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`].
    pub async fn jobs(&self, status: Option<JobStatus>) -> Result<Vec<JobResponse>, ClientError> {
        let mut jobs = Vec::new();
        let mut continuation: Option<String> = None;
        loop {
            let mut request = self.get(&["jobs", "v2", "query"])?;
            if let Some(status) = status {
                request = request.query("jobStatus", status.as_str());
            }
            let page = self
                .page(request, continuation.as_deref(), "a list of jobs")
                .await?;
            jobs.extend(page.items);
            continuation = page.continuation;
            if continuation.is_none() {
                return Ok(jobs);
            }
        }
    }

    /// Reads what a job did on each device.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`].
    pub async fn device_jobs(&self, id: &JobId) -> Result<Vec<DeviceJob>, ClientError> {
        // A job id has letters, digits and hyphens alone: nothing to quote.
        self.query(&format!(
            "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{id}'"
        ))
        .await
    }
}
