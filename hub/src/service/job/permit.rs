//! Whether a job may start: its policy must still exist, and both the bounds of the job's creation
//! and those of now must allow what it does. The first words of a reason are stable, for programs.

use iothub_protocol::job::{JobAction, JobType};
use iothub_protocol::policy::Bounds;
use iothub_protocol::query::Condition;

use crate::identity::Rights;
use crate::store::WaitingJob;
use crate::types::all_of;

/// The condition on devices that the bounds add; the error is the failure reason of the job.
pub(super) fn permit(job: &WaitingJob) -> Result<Option<Condition>, String> {
    let Some(author) = &job.author else {
        return Ok(None);
    };
    let name = &author.policy;
    let Some(policy) = &job.policy else {
        return Err(format!(
            "PolicyRemoved: the policy `{name}`, which created this job, is gone or damaged; \
             create the job again under another policy."
        ));
    };
    let narrowed = |missing: String| {
        format!("PolicyNarrowed: the policy `{name}` may no longer do this: {missing}.")
    };
    if !policy.rights.contains(Rights::SERVICE_CONNECT) {
        return Err(narrowed("it lacks ServiceConnect".to_owned()));
    }
    let mut conditions = Vec::new();
    for bounds in [&author.bounds, &policy.bounds].into_iter().flatten() {
        conditions.push(check(bounds, job).map_err(narrowed)?);
    }
    Ok(all_of(conditions))
}

fn check(bounds: &Bounds, job: &WaitingJob) -> Result<Option<Condition>, String> {
    let unreadable = |error: serde_json::Error| format!("its stored action is unreadable: {error}");
    let action = match job.kind {
        JobType::ScheduleUpdateTwin => serde_json::from_str(&job.action).map(JobAction::UpdateTwin),
        _ => serde_json::from_str(&job.action).map(JobAction::Method),
    };
    let action = action.map_err(unreadable)?;
    bounds
        .check_action(&action)
        .map_err(|error| error.to_string())?;
    bounds.check().map_err(|error| error.to_string())
}
