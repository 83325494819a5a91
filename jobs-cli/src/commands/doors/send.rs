//! Calls doors now: one directly, many by a job, which continues when this program ends.
//!
//! No failure to create a job may keep doors from being called: then they are called directly,
//! some at a time. So are those of a hub that runs one job at a time, like Azure's, when it runs
//! another.

use std::time::Duration;

use door_core::contract::{Command, CommandHeader};
use iothub_client::ClientError;
use iothub_protocol::job::JobAction;
use iothub_protocol::method::MethodRequest;
use iothub_protocol::twin::ConnectionState;
use iothub_protocol::{DeviceId, ErrorCode, JobId};

use super::direct::{Goal, call_directly};
use crate::cli::doors::NowArgs;
use crate::cli::jobs::ScheduleArgs;
use crate::cli::target::TargetArgs;
use crate::commands::job_draft::JobDraft;
use crate::commands::many::{no_door_error, refuse_unknown};
use crate::commands::{job_wait, method_call};
use crate::exit_status::ExitStatus;
use crate::failure::sentence;
use crate::outcome::JobGoal;
use crate::printer::doors;
use crate::session::Session;
use crate::target::{Selection, Target};

/// The selected doors, as they are now.
#[derive(Debug)]
pub(super) struct SelectedDoors {
    target: Target,
    pub(super) found: Selection,
}

impl SelectedDoors {
    /// Looks up the doors.
    ///
    /// # Errors
    ///
    /// When no flag selects doors, no door matches, or a named one does not exist.
    pub(super) async fn find(args: &TargetArgs, session: &Session) -> anyhow::Result<Self> {
        Self::find_or(args, ExitStatus::Error, session).await
    }

    /// Like [`SelectedDoors::find`], with the exit status if no door matches.
    pub(super) async fn find_or(
        args: &TargetArgs,
        none: ExitStatus,
        session: &Session,
    ) -> anyhow::Result<Self> {
        let target = Target::required(args)?;
        let found = target.select(session).await?;
        if found.count < target.names.len() {
            refuse_unknown(&target, session).await?;
        }
        target.refuse_empty_places(found.count, session).await?;
        match (found.count, target.allows_none()) {
            (0, true) => Err(no_door_error().status(ExitStatus::Incomplete).into()),
            (0, false) => Err(no_door_error().status(none).into()),
            _ => Ok(Self { target, found }),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.found.count
    }

    /// The door, if there is exactly one.
    pub(super) fn only(&self) -> Option<&DeviceId> {
        self.found.only.as_ref()
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }
}

/// The names, connected doors first: calls have a deadline, and offline doors use it up.
pub(super) async fn names(
    target: &Target,
    session: &Session,
) -> Result<Vec<DeviceId>, ClientError> {
    let mut twins = target.twins(session).await?;
    twins.sort_by_key(|twin| twin.connection_state == ConnectionState::Disconnected);
    Ok(twins.into_iter().map(|twin| twin.device_id).collect())
}

/// A call that is about to be made.
pub(super) struct DoorCall<'a> {
    pub(super) draft: JobDraft,
    pub(super) selected: SelectedDoors,
    now: &'a NowArgs,
    session: &'a Session,
}

/// A call by jobs, or directly, or both.
pub(super) struct StartedCall<'a> {
    jobs: Vec<JobId>,
    /// Calls of doors that no job calls.
    calls: Vec<(DeviceId, MethodRequest)>,
    /// Whether doors are not called, because their names are unknown.
    is_partial: bool,
    id: JobId,
    goal: Goal,
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
        self.start(&[(None, command)]).await?.finish().await
    }

    /// Calls each group of doors with its command: the doors of a draft, or `None` for all. The
    /// commands have the same goal.
    pub(super) async fn start(
        self,
        groups: &[(Option<JobDraft>, &Command)],
    ) -> anyhow::Result<StartedCall<'a>> {
        let Self {
            draft,
            selected,
            now,
            session,
        } = self;
        let mut parts = 0;
        let mut requests = Vec::new();
        for (own, command) in groups {
            method_call::warn_without_end(command, &session.printer);
            let own = own.as_ref().unwrap_or(&draft);
            parts += own.target.parts().len();
            let call = method_call::door_call(command, now.connect_timeout, now.response_timeout)?;
            requests.push((own, call));
        }
        let wanted = JobGoal::of_command(groups[0].1, now.accept_unproven);
        let mut started = StartedCall {
            jobs: Vec::new(),
            calls: Vec::new(),
            is_partial: false,
            id: draft.id.clone(),
            goal: Goal {
                wanted,
                deadline: now.deadline,
            },
            session,
        };
        if let (Some(door), [(_, call)]) = (&selected.found.only, &requests[..]) {
            started.calls.push((door.clone(), call.clone()));
            return Ok(started);
        }
        // Where one job runs at a time, the first would be created and the rest refused.
        let is_refused = parts > 1 && matches!(session.hub.is_door_hub().await, Ok(false));
        if is_refused {
            session.printer.say(
                "several jobs are needed, and this hub runs one job at a time: calling each door \
                 directly",
            );
        }
        let mut unknown = None;
        for (draft, call) in requests {
            if !is_refused {
                let action = JobAction::Method(call.clone());
                match draft.submit(action, session).await {
                    Ok(jobs) => {
                        started.jobs.extend(jobs.into_iter().map(|job| job.job_id));
                        continue;
                    }
                    Err(error) => session.printer.warn(format!(
                        "cannot create job {}: {}; calling each door directly",
                        draft.id,
                        sentence(&error)
                    )),
                }
            }
            match names(&draft.target, session).await {
                Ok(names) => {
                    let calls = names.into_iter().map(|door| (door, call.clone()));
                    started.calls.extend(calls);
                }
                Err(error) => unknown = Some(anyhow::Error::from(error)),
            }
        }
        if let Some(error) = unknown {
            if started.jobs.is_empty() && started.calls.is_empty() {
                return Err(error);
            }
            started.is_partial = true;
            session.printer.warn(format!(
                "some doors are not called, because their names are unknown: {}",
                sentence(&error)
            ));
        }
        if !started.jobs.is_empty() {
            let by_jobs = selected.count().saturating_sub(started.calls.len());
            let by_jobs = (!started.is_partial).then_some(by_jobs);
            session.printer.say(calling_text(&started.jobs, by_jobs));
        }
        Ok(started)
    }
}

impl StartedCall<'_> {
    /// Whether jobs call all doors, even without this program.
    pub(super) fn runs_jobs(&self) -> bool {
        self.calls.is_empty()
    }

    /// Waits for the doors and prints the outcomes.
    pub(super) async fn finish(self) -> anyhow::Result<ExitStatus> {
        let Self {
            jobs,
            calls,
            is_partial,
            id,
            goal,
            session,
        } = self;
        let called = async {
            match calls.is_empty() {
                true => Ok(ExitStatus::Success),
                false => call_directly(calls, &id, goal, session).await,
            }
        };
        let watched = async {
            let Goal { wanted, deadline } = goal;
            match jobs.is_empty() {
                true => Ok(ExitStatus::Success),
                false => {
                    job_wait::watch_all(&jobs, deadline, Duration::ZERO, wanted, session).await
                }
            }
        };
        let (called, watched) = tokio::join!(called, watched);
        Ok(match (called?, watched?) {
            (_, ExitStatus::Interrupted) => ExitStatus::Interrupted,
            (ExitStatus::Success, ExitStatus::Success) if is_partial => ExitStatus::Incomplete,
            (ExitStatus::Success, status) | (status, _) => status,
        })
    }
}

/// Reports the created jobs and how many doors they call, if that is known.
fn calling_text(ids: &[JobId], count: Option<usize>) -> String {
    let doors = count.map_or("the other doors".to_owned(), |count| {
        doors(u64::try_from(count).unwrap_or(u64::MAX))
    });
    match ids {
        [id] => format!("job {id} calls {doors}"),
        ids => {
            let ids: Vec<&str> = ids.iter().map(JobId::as_str).collect();
            format!("jobs {} call {doors}", ids.join(", "))
        }
    }
}

pub(super) fn is_busy(error: &anyhow::Error) -> bool {
    let code = error
        .downcast_ref::<ClientError>()
        .and_then(ClientError::code);
    code == Some(ErrorCode::ThrottlingMaxActiveJobCountExceeded)
}
