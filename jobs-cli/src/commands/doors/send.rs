//! Calling doors now: one directly, many by a job, which goes on when this machine does not.
//!
//! A hub that runs no job beside another (Azure's runs one at a time) does not keep a door waiting for it: then every door is called directly, some
//! at a time.

use std::time::Duration;

use door_core::contract::Window;
use doorctl::{ClientError, Page};
use iothub_protocol::job::JobAction;
use iothub_protocol::twin::Twin;
use iothub_protocol::{DeviceId, ErrorCode};
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
use crate::outcome::Wanted;
use crate::session::Session;
use crate::target::Target;

/// How long a job may take, and a call be valid: what `jobs lock` has when nothing is said.
const MAX_EXECUTION: Duration = Duration::from_secs(5 * 60);

/// The doors that are meant, as there are now.
#[derive(Debug)]
pub(super) struct Meant {
    pub(super) target: Target,
    /// How many.
    pub(super) count: usize,
    /// It, when it is one.
    only: Option<DeviceId>,
}

impl Meant {
    /// Looks for them.
    ///
    /// # Errors
    ///
    /// When no flag chooses any, there is none, or one that was named does not exist.
    pub(super) async fn find(args: &TargetArgs, session: &Session) -> anyhow::Result<Self> {
        let target = Target::required(args)?;
        let page: Page<Twin> = session.hub.query_page(&target.query(), None).await?;
        let count = match page.continuation {
            None => page.items.len(),
            Some(_) => target.count(session).await?,
        };
        if count < target.names.len() {
            create::refuse_unknown(&target, session).await?;
        }
        if count == 0 {
            return Err(nobody().into());
        }
        let only = page.items.first().filter(|_| count == 1);
        Ok(Self {
            only: only.map(|twin| twin.device_id.clone()),
            target,
            count,
        })
    }

    /// Of doors that were read already.
    pub(super) fn of(target: Target, twins: &[Twin]) -> Self {
        Self {
            target,
            count: twins.len(),
            only: match twins {
                [only] => Some(only.device_id.clone()),
                _ => None,
            },
        }
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
    pub(super) fn new(
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
            plan: Plan::new(what, meant.target.clone(), &schedule, session)?,
            meant,
            now,
            session,
        })
    }

    /// Its name and validity, for the payload.
    pub(super) fn window(&self) -> anyhow::Result<Window> {
        self.plan.window()
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
        let aim = Aim {
            wanted: Wanted::of_call(Some(&call), now.accept_unproven),
            deadline: now.deadline,
        };
        if let Some(door) = meant.only {
            return directly(vec![door], plan.id(), call, aim, session).await;
        }
        let made = plan.submit(JobAction::Method(call.clone()), session).await;
        match made {
            Ok((job, _)) => session
                .printer
                .say(format!("job {} calls {} doors", job.job_id, meant.count)),
            Err(error) if is_busy(&error) => {
                session
                    .printer
                    .say("the hub runs another job and no second one: calling every door directly");
                let twins: Vec<Twin> = session.hub.query(&meant.target.query()).await?;
                let doors = twins.into_iter().map(|twin| twin.device_id).collect();
                return directly(doors, plan.id(), call, aim, session).await;
            }
            Err(error) => return Err(error),
        }
        match aim.deadline {
            None => wait::watch_as(plan.id(), aim.wanted, session).await,
            Some(deadline) => wait::wait_as(plan.id(), deadline, aim.wanted, session).await,
        }
    }
}

fn is_busy(error: &anyhow::Error) -> bool {
    let code = error
        .downcast_ref::<ClientError>()
        .and_then(ClientError::code);
    code == Some(ErrorCode::ThrottlingMaxActiveJobCountExceeded)
}
