//! Calling doors now: one directly, many by a job, which goes on when this machine does not.
//!
//! A hub that runs no job beside another (Azure's runs one at a time) does not keep a door waiting
//! for it: then every door is called directly, some at a time.

use std::time::Duration;

use door_core::contract::CommandHeader;
use doorctl::ClientError;
use iothub_protocol::job::JobAction;
use iothub_protocol::twin::{ConnectionState, Twin};
use iothub_protocol::{DeviceId, ErrorCode, JobId};
use serde::Serialize;

use super::direct::{Aim, directly};
use crate::cli::doors::NowArgs;
use crate::cli::jobs::ScheduleArgs;
use crate::cli::target::TargetArgs;
use crate::commands::invoke;
use crate::commands::jobs::create::{self, Plan};
use crate::commands::jobs::wait;
use crate::commands::many::nobody;
use crate::exit_status::ExitStatus;
use crate::outcome::JobGoal;
use crate::session::Session;
use crate::target::{Selection, Target};

/// How long a job may take, and a call be valid: what `jobs lock` has when nothing is said.
const MAX_EXECUTION: Duration = Duration::from_secs(5 * 60);

/// The doors that are meant, as there are now.
#[derive(Debug)]
pub(super) struct Meant {
    target: Target,
    found: Selection,
}

impl Meant {
    /// Looks for them.
    ///
    /// # Errors
    ///
    /// When no flag chooses any, there is none, or one that was named does not exist.
    pub(super) async fn find(args: &TargetArgs, session: &Session) -> anyhow::Result<Self> {
        let target = Target::required(args)?;
        let found = target.select(session).await?;
        if found.count < target.names.len() {
            create::refuse_unknown(&target, session).await?;
        }
        target.refuse_empty_places(found.count, session).await?;
        match (found.count, target.allows_none()) {
            (0, true) => Err(nobody().status(ExitStatus::Incomplete).into()),
            (0, false) => Err(nobody().into()),
            _ => Ok(Self { target, found }),
        }
    }

    /// Of doors that were read already.
    pub(super) fn of(target: Target, twins: &[Twin]) -> Self {
        let found = Selection::of(twins);
        Self { target, found }
    }

    /// How many.
    pub(super) fn count(&self) -> usize {
        self.found.count
    }

    /// Their names, those that are connected first: calls have an end, and doors that are away take
    /// their time.
    async fn names(&self, session: &Session) -> Result<Vec<DeviceId>, ClientError> {
        let mut twins = self.target.twins(session).await?;
        twins.sort_by_key(|twin| twin.connection_state == ConnectionState::Disconnected);
        Ok(twins.into_iter().map(|twin| twin.device_id).collect())
    }
}

/// A call that is about to be made.
pub(super) struct Call<'a> {
    plan: Plan,
    meant: Meant,
    now: &'a NowArgs,
    session: &'a Session,
}

impl<'a> Call<'a> {
    /// Names it; `what` is the first word of its id.
    pub(super) async fn new(
        what: &str,
        meant: Meant,
        now: &'a NowArgs,
        session: &'a Session,
    ) -> anyhow::Result<Self> {
        let schedule = ScheduleArgs {
            at: "now".to_owned(),
            max_execution: MAX_EXECUTION,
            id: None,
            watch: true,
        };
        Ok(Self {
            plan: Plan::new(what, meant.target.clone(), &schedule, session).await?,
            meant,
            now,
            session,
        })
    }

    /// Its name and validity, for the payload.
    pub(super) fn header(&self) -> anyhow::Result<CommandHeader> {
        self.plan.header()
    }

    /// Calls the doors, follows each, prints what they came to.
    pub(super) async fn send(
        self,
        method: &str,
        payload: &impl Serialize,
    ) -> anyhow::Result<ExitStatus> {
        let Self {
            plan,
            meant,
            now,
            session,
        } = self;
        let payload = create::raw(payload)?;
        let call = invoke::call(
            method,
            Some(payload),
            now.connect_timeout,
            now.response_timeout,
        )?;
        invoke::warn_without_end(&call, &session.printer);
        let aim = Aim {
            wanted: JobGoal::of_call(Some(&call), now.accept_unproven),
            deadline: now.deadline,
        };
        if let Some(door) = meant.found.only {
            return directly(vec![door], plan.id(), call, aim, session).await;
        }
        let several = meant.target.parts().len() > 1;
        // Where one runs at a time, the first of several would be made and the rest refused.
        let instead = match several && !session.hub.is_door_hub().await? {
            true => "so many names take several jobs, and the hub runs one at a time",
            false => match plan.submit(JobAction::Method(call.clone()), session).await {
                Ok((jobs, _)) => {
                    let ids: Vec<JobId> = jobs.into_iter().map(|job| job.job_id).collect();
                    session.printer.say(calling(&ids, meant.count()));
                    return wait::watch_all(
                        &ids,
                        aim.deadline,
                        Duration::ZERO,
                        aim.wanted,
                        session,
                    )
                    .await;
                }
                Err(error) if is_busy(&error) && !several => {
                    "the hub runs another job and no second one"
                }
                Err(error) => return Err(error),
            },
        };
        session
            .printer
            .say(format!("{instead}: calling every door directly"));
        let doors = meant.names(session).await?;
        directly(doors, plan.id(), call, aim, session).await
    }
}

/// What is said of jobs that were made: that they call so many doors.
fn calling(ids: &[JobId], doors: usize) -> String {
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
