//! Calls doors now: one directly, many by a job, which continues when this program ends.
//!
//! A hub that runs one job at a time, like Azure's, must not delay the call until another job ends:
//! then every door is called directly, some at a time.

use std::time::Duration;

use door_core::contract::{Command, CommandHeader};
use iothub_client::ClientError;
use iothub_protocol::job::JobAction;
use iothub_protocol::twin::{ConnectionState, Twin};
use iothub_protocol::{DeviceId, ErrorCode, JobId};

use super::direct::{Goal, call_directly};
use crate::cli::doors::NowArgs;
use crate::cli::jobs::ScheduleArgs;
use crate::cli::target::TargetArgs;
use crate::commands::job_draft::JobDraft;
use crate::commands::many::{no_door_error, refuse_unknown};
use crate::commands::{job_wait, method_call};
use crate::exit_status::ExitStatus;
use crate::outcome::JobGoal;
use crate::session::Session;
use crate::target::{Selection, Target};

/// The selected doors, as they are now.
#[derive(Debug)]
pub(super) struct SelectedDoors {
    target: Target,
    found: Selection,
}

impl SelectedDoors {
    /// Looks up the doors.
    ///
    /// # Errors
    ///
    /// When no flag selects doors, no door matches, or a named one does not exist.
    pub(super) async fn find(args: &TargetArgs, session: &Session) -> anyhow::Result<Self> {
        let target = Target::required(args)?;
        let found = target.select(session).await?;
        if found.count < target.names.len() {
            refuse_unknown(&target, session).await?;
        }
        target.refuse_empty_places(found.count, session).await?;
        match (found.count, target.allows_none()) {
            (0, true) => Err(no_door_error().status(ExitStatus::Incomplete).into()),
            (0, false) => Err(no_door_error().into()),
            _ => Ok(Self { target, found }),
        }
    }

    /// From doors that were read before.
    pub(super) fn of(target: Target, twins: &[Twin]) -> Self {
        let found = Selection::of(twins);
        Self { target, found }
    }

    pub(super) fn count(&self) -> usize {
        self.found.count
    }

    /// The names, connected doors first: calls have a deadline, and offline doors use it up.
    async fn names(&self, session: &Session) -> Result<Vec<DeviceId>, ClientError> {
        let mut twins = self.target.twins(session).await?;
        twins.sort_by_key(|twin| twin.connection_state == ConnectionState::Disconnected);
        Ok(twins.into_iter().map(|twin| twin.device_id).collect())
    }
}

/// A call that is about to be made.
pub(super) struct DoorCall<'a> {
    draft: JobDraft,
    selected: SelectedDoors,
    now: &'a NowArgs,
    session: &'a Session,
}

impl<'a> DoorCall<'a> {
    /// Prepares a call; `what` is the first word of its id.
    pub(super) async fn new(
        what: &str,
        selected: SelectedDoors,
        now: &'a NowArgs,
        session: &'a Session,
    ) -> anyhow::Result<Self> {
        let schedule = ScheduleArgs {
            at: "now".to_owned(),
            max_execution: None,
            id: None,
            watch: true,
        };
        Ok(Self {
            draft: JobDraft::new(what, selected.target.clone(), &schedule, session).await?,
            selected,
            now,
            session,
        })
    }

    /// Command id and validity for the payload.
    pub(super) fn header(&self) -> anyhow::Result<CommandHeader> {
        self.draft.header()
    }

    /// Calls the doors, waits for them, and prints the outcomes.
    pub(super) async fn send(self, command: &Command) -> anyhow::Result<ExitStatus> {
        let Self {
            draft,
            selected,
            now,
            session,
        } = self;
        let call = method_call::door_call(command, now.connect_timeout, now.response_timeout)?;
        method_call::warn_without_end(command, &session.printer);
        let goal = Goal {
            wanted: JobGoal::of_command(command, now.accept_unproven),
            deadline: now.deadline,
        };
        if let Some(door) = selected.found.only {
            return call_directly(vec![door], &draft.id, call, goal, session).await;
        }
        let several = selected.target.parts().len() > 1;
        // Where one job runs at a time, the first would be created and the rest refused.
        let reason = match several && !session.hub.is_door_hub().await? {
            true => "too many names for one job, and this hub runs one job at a time",
            false => match draft.submit(JobAction::Method(call.clone()), session).await {
                Ok(jobs) => {
                    let ids: Vec<JobId> = jobs.into_iter().map(|job| job.job_id).collect();
                    session.printer.say(calling_text(&ids, selected.count()));
                    return job_wait::watch_all(
                        &ids,
                        goal.deadline,
                        Duration::ZERO,
                        goal.wanted,
                        session,
                    )
                    .await;
                }
                Err(error) if is_busy(&error) && !several => {
                    "this hub is running another job and runs one job at a time"
                }
                Err(error) => return Err(error),
            },
        };
        session
            .printer
            .say(format!("{reason}: calling each door directly"));
        let doors = selected.names(session).await?;
        call_directly(doors, &draft.id, call, goal, session).await
    }
}

/// Reports the created jobs and how many doors they call.
fn calling_text(ids: &[JobId], doors: usize) -> String {
    match ids {
        [id] => format!("job {id} calls {doors} doors"),
        ids => {
            let ids: Vec<&str> = ids.iter().map(JobId::as_str).collect();
            format!("jobs {} call {doors} doors", ids.join(", "))
        }
    }
}

fn is_busy(error: &anyhow::Error) -> bool {
    let code = error
        .downcast_ref::<ClientError>()
        .and_then(ClientError::code);
    code == Some(ErrorCode::ThrottlingMaxActiveJobCountExceeded)
}
