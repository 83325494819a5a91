//! Making jobs: which doors, what, when; said back before and after.

mod plan;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use door_core::contract::{LockDoor, Relinquish, UnlockDoor};
use iothub_protocol::ErrorCode;
use iothub_protocol::job::JobAction;
use iothub_protocol::method::MethodRequest;
use iothub_protocol::twin::Twin;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::cli::confirm::ConfirmArgs;
use crate::cli::jobs::{CallArgs, LockArgs, MethodArgs, WorkCommand};
use crate::commands::confirm::{confirm, confirm_instant};
use crate::commands::{acknowledge, invoke, twin as twin_command};
use crate::exit_status::ExitStatus;
use crate::session::{Session, unknown_door};
use crate::target::Target;

pub(in crate::commands) use plan::Plan;
#[cfg(all(unix, feature = "demo"))]
pub(in crate::commands) use plan::numbered;

/// A job that is about to be made: which doors and when, what, and whether to ask first.
pub(super) struct Prepared {
    pub(super) plan: Plan,
    pub(super) action: JobAction,
    /// `lock`, `unlock`, the method, `twin` or `tags`.
    pub(super) what: String,
    /// The start, as it was given.
    pub(super) at_given: String,
    /// The id, when one was given.
    pub(super) id_given: Option<String>,
    /// For how long, when that was given.
    pub(super) length: Option<Duration>,
    confirm: ConfirmArgs,
}

/// Understands what is asked for; of the hub only its time is asked.
pub(super) async fn prepare(work: &WorkCommand, session: &Session) -> anyhow::Result<Prepared> {
    let (what, target, schedule, confirm, length) = match work {
        WorkCommand::Lock(args) => (
            "lock",
            &args.target,
            &args.schedule,
            args.confirm,
            args.length,
        ),
        WorkCommand::Unlock(args) => (
            "unlock",
            &args.target,
            &args.schedule,
            args.confirm,
            args.length,
        ),
        WorkCommand::Method(args) => (
            args.method.as_str(),
            &args.target,
            &args.schedule,
            args.confirm,
            None,
        ),
        WorkCommand::Twin(args) => ("twin", &args.target, &args.schedule, args.confirm, None),
        WorkCommand::Tags(args) => ("tags", &args.target, &args.schedule, args.confirm, None),
    };
    let calls = match work {
        WorkCommand::Lock(args) | WorkCommand::Unlock(args) => Some(&args.calls),
        WorkCommand::Method(args) => Some(&args.calls),
        WorkCommand::Twin(_) | WorkCommand::Tags(_) => None,
    };
    if let Some(calls) = calls {
        invoke::checked_response_timeout(calls.connect_timeout, calls.response_timeout)?;
    }
    let mut plan = Plan::new(what, Target::required(target)?, schedule, session).await?;
    let action = match work {
        WorkCommand::Lock(args) => lock(args, &plan)?,
        WorkCommand::Unlock(args) => unlock(args, &plan)?,
        WorkCommand::Method(args) => method(args, &plan)?,
        WorkCommand::Twin(args) => {
            plan.acknowledged_within = args.deadline;
            let action = twin(&args.desired, &args.tags)?;
            if let JobAction::UpdateTwin(patch) = &action {
                acknowledge::warn_of(patch.desired.values(), &session.printer);
            }
            action
        }
        WorkCommand::Tags(args) => {
            let removed = args.remove.iter().map(|key| (key.clone(), Value::Null));
            let tags: Vec<_> = args.set.iter().cloned().chain(removed).collect();
            twin(&[], &tags)?
        }
    };
    if let JobAction::Method(call) = &action {
        invoke::warn_without_end(call, &session.printer);
    }
    Ok(Prepared {
        plan,
        action,
        what: what.to_owned(),
        at_given: schedule.at.trim().to_owned(),
        id_given: schedule.id.clone(),
        length,
        confirm,
    })
}

/// Makes a job of it.
pub(super) async fn run(work: &WorkCommand, session: &Session) -> anyhow::Result<ExitStatus> {
    prepare(work, session).await?.make(session).await
}

impl Prepared {
    /// Makes the job, when nobody objects.
    pub(super) async fn make(self, session: &Session) -> anyhow::Result<ExitStatus> {
        self.plan.refuse_parts_elsewhere(session).await?;
        let doors = self.plan.preview(session).await?;
        confirm_instant("--at", self.plan.at(), self.confirm.yes, session)?;
        confirm(&self.said(), doors, self.confirm)?;
        self.plan.make(self.action, doors, session).await
    }

    /// What is done to doors: `lock`, `call identify of`, `change the twins of`.
    pub(super) fn said(&self) -> String {
        match (self.what.as_str(), &self.action) {
            ("lock" | "unlock", _) => self.what.clone(),
            ("tags", _) => "change the tags of".to_owned(),
            (_, JobAction::UpdateTwin(_)) => "change the twins of".to_owned(),
            (method, JobAction::Method(_)) => format!("call {method} of"),
        }
    }
}

fn lock(args: &LockArgs, plan: &Plan) -> anyhow::Result<JobAction> {
    let payload = LockDoor {
        lock_time: args.length,
        until: plan.until(args.length)?,
        window: plan.window()?,
    };
    let call = door_call("lockDoor", &payload, &args.calls)?;
    Ok(JobAction::Method(call))
}

fn unlock(args: &LockArgs, plan: &Plan) -> anyhow::Result<JobAction> {
    let payload = UnlockDoor {
        unlock_time: args.length,
        until: plan.until(args.length)?,
        pulse: None,
        window: plan.window()?,
    };
    let call = door_call("unlockDoor", &payload, &args.calls)?;
    Ok(JobAction::Method(call))
}

fn method(args: &MethodArgs, plan: &Plan) -> anyhow::Result<JobAction> {
    let payload = match (&args.payload, args.method.as_str()) {
        (Some(text), _) => Some(invoke::payload(text)?),
        (None, "relinquish") => Some(raw(&Relinquish {
            slot: None,
            window: plan.window()?,
        })?),
        (None, _) => None,
    };
    let calls = &args.calls;
    let call = invoke::call(
        &args.method,
        payload,
        calls.connect_timeout,
        calls.response_timeout,
    )?;
    Ok(JobAction::Method(call))
}

fn twin(desired: &[(String, Value)], tags: &[(String, Value)]) -> anyhow::Result<JobAction> {
    let mut patch = twin_command::patch(desired, tags)?;
    // IoT Hub's twin jobs know no other.
    patch.etag = Some("*".to_owned());
    Ok(JobAction::UpdateTwin(patch))
}

fn door_call(
    method: &str,
    payload: &impl Serialize,
    calls: &CallArgs,
) -> anyhow::Result<MethodRequest> {
    invoke::call(
        method,
        Some(raw(payload)?),
        calls.connect_timeout,
        calls.response_timeout,
    )
}

/// A payload as it is sent.
pub(in crate::commands) fn raw(payload: &impl Serialize) -> anyhow::Result<Box<RawValue>> {
    serde_json::value::to_raw_value(payload).context("cannot encode the payload")
}

/// An error when a door that was named does not exist: with the name that was probably meant. A door that a query does not
/// show is asked for by its name: Azure's queries lag behind.
pub(in crate::commands) async fn refuse_unknown(
    target: &Target,
    session: &Session,
) -> anyhow::Result<()> {
    let twins: Vec<Twin> = session.hub.query("SELECT * FROM devices").await?;
    let known: Vec<&str> = twins.iter().map(|twin| twin.device_id.as_str()).collect();
    let shown: BTreeSet<&str> = known.iter().copied().collect();
    for name in &target.names {
        if shown.contains(name.as_str()) {
            continue;
        }
        match session.hub.twin(name).await {
            Ok(_) => {}
            Err(error) if error.code() == Some(ErrorCode::DeviceNotFound) => {
                return Err(unknown_door(name.as_str(), &known).into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
