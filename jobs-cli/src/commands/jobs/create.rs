//! Making jobs: which doors, what, when; said back before and after.

use std::time::Duration;

use anyhow::Context as _;
use door_core::contract::{CommandId, LockDoor, Relinquish, UnlockDoor, Window};
use doorctl::Page;
use iothub_protocol::job::{JobAction, JobRequest, JobResponse};
use iothub_protocol::method::MethodRequest;
use iothub_protocol::twin::Twin;
use iothub_protocol::{ErrorCode, JobId};
use jiff::Timestamp;
use rand::Rng as _;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::wait;
use crate::cli::confirm::ConfirmArgs;
use crate::cli::jobs::{CallArgs, LockArgs, MethodArgs, ScheduleArgs, WorkCommand};
use crate::commands::confirm::confirm;
use crate::commands::{invoke, twin as twin_command};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::outcome::Wanted;
use crate::printer::Format;
use crate::session::{Session, unknown_door};
use crate::target::Target;
use crate::time::At;

/// What is in an id that doorctl makes: easy to tell apart when read aloud.
const ID_ALPHABET: &[u8] = b"23456789abcdefghjkmnpqrstuvwxyz";

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

/// Understands what is asked for; nothing is sent.
pub(super) fn prepare(work: &WorkCommand, session: &Session) -> anyhow::Result<Prepared> {
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
    let plan = Plan::new(what, Target::required(target)?, schedule, session)?;
    let action = match work {
        WorkCommand::Lock(args) => lock(args, &plan)?,
        WorkCommand::Unlock(args) => unlock(args, &plan)?,
        WorkCommand::Method(args) => method(args, &plan)?,
        WorkCommand::Twin(args) => twin(&args.desired, &args.tags)?,
        WorkCommand::Tags(args) => {
            let removed = args.remove.iter().map(|key| (key.clone(), Value::Null));
            let tags: Vec<_> = args.set.iter().cloned().chain(removed).collect();
            twin(&[], &tags)?
        }
    };
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
    prepare(work, session)?.make(session).await
}

impl Prepared {
    /// Makes the job, when nobody objects.
    pub(super) async fn make(self, session: &Session) -> anyhow::Result<ExitStatus> {
        let doors = self.plan.preview(session).await?;
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
        until: args.length.map(|length| plan.after(length)).transpose()?,
        window: plan.window()?,
    };
    let call = door_call("lockDoor", &payload, &args.calls)?;
    Ok(JobAction::Method(call))
}

fn unlock(args: &LockArgs, plan: &Plan) -> anyhow::Result<JobAction> {
    let payload = UnlockDoor {
        unlock_time: args.length,
        until: args.length.map(|length| plan.after(length)).transpose()?,
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

/// Which doors, when, and under which name.
pub(in crate::commands) struct Plan {
    id: JobId,
    target: Target,
    at: At,
    max_execution: Duration,
    /// No start time is sent then: the hub's clock decides, not ours.
    at_once: bool,
    watch: bool,
}

impl Plan {
    pub(in crate::commands) fn new(
        what: &str,
        target: Target,
        schedule: &ScheduleArgs,
        session: &Session,
    ) -> anyhow::Result<Self> {
        let now = session.now();
        let at = At::parse(&schedule.at, &now)
            .map_err(|error| Failure::new(format!("--at {:?}: {error}", schedule.at)))?;
        let id = match &schedule.id {
            Some(id) => id
                .parse()
                .map_err(|error| Failure::new(format!("--id {id:?}: {error}")))?,
            None => made_up_id(what, &at)?,
        };
        Ok(Self {
            id,
            target,
            at_once: at.when == now,
            at,
            max_execution: schedule.max_execution,
            watch: schedule.watch,
        })
    }

    /// Its id.
    pub(in crate::commands) fn id(&self) -> &JobId {
        &self.id
    }

    /// When the doors are called.
    pub(in crate::commands) fn start(&self) -> Timestamp {
        self.at.when.timestamp()
    }

    /// So long after the start.
    pub(in crate::commands) fn after(&self, length: Duration) -> anyhow::Result<Timestamp> {
        Ok(self
            .start()
            .checked_add(length)?
            .round(jiff::Unit::Second)?)
    }

    /// A repeated delivery is known by the job's id; one that comes after the job's end does not act.
    pub(in crate::commands) fn window(&self) -> anyhow::Result<Window> {
        let command_id: CommandId = self
            .id
            .as_str()
            .parse()
            .context("the job's id as a command id")?;
        Ok(Window {
            command_id: Some(command_id),
            not_after: Some(self.after(self.max_execution)?),
        })
    }

    /// Makes the job, says so, and follows it when that was asked for.
    pub(super) async fn make(
        self,
        action: JobAction,
        doors: usize,
        session: &Session,
    ) -> anyhow::Result<ExitStatus> {
        let matching = matching(doors);
        let (job, wanted) = self.submit(action, session).await?;
        let printer = &session.printer;
        printer.say(format!("job {} is {}: {matching}", self.id, job.status));
        printer.say(format!("starts {}", self.at.echo(Timestamp::now())));
        if let Some(note) = &self.at.note {
            printer.say(format!("note: {note}"));
        }
        if self.watch {
            return wait::watch_as(&self.id, wanted, session).await;
        }
        match printer.format() {
            Format::Table => crate::printer::write(&format!("{}\n", self.id))?,
            _ => printer.document(&job)?,
        }
        printer.say(format!("follow it: doorctl jobs watch {}", self.id));
        Ok(ExitStatus::Success)
    }

    /// Hands the job to the hub; gives it, and what it wants of each door.
    pub(in crate::commands) async fn submit(
        &self,
        action: JobAction,
        session: &Session,
    ) -> anyhow::Result<(JobResponse, Wanted)> {
        let request = JobRequest {
            job_id: Some(self.id.clone()),
            action,
            query_condition: self.target.condition.clone(),
            start_time: (!self.at_once).then(|| self.start()),
            max_execution_time: self.max_execution,
        };
        let wanted = Wanted::of_request(&request);
        match session.hub.job_create(&self.id, &request).await {
            Ok(job) => Ok((job, wanted)),
            Err(error) if error.code() == Some(ErrorCode::JobAlreadyExists) => {
                Err(Failure::new(format!(
                    "--id: the hub has a job called {} already; nothing was changed",
                    self.id
                ))
                .next("choose another --id, or leave it out to have one made")
                .into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// How many doors the condition finds now; an error when a door that was named does not exist.
    pub(super) async fn preview(&self, session: &Session) -> anyhow::Result<usize> {
        let page: Page<Twin> = session.hub.query_page(&self.target.query(), None).await?;
        let doors = match page.continuation {
            None => page.items.len(),
            Some(_) => self.target.count(session).await?,
        };
        if doors < self.target.names.len() {
            refuse_unknown(&self.target, session).await?;
        }
        if doors == 0 {
            session
                .printer
                .warn("no door matches now; which doors are meant is decided when the job starts");
        }
        Ok(doors)
    }

    /// Which doors.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// When, as it is told.
    pub(super) fn at(&self) -> &At {
        &self.at
    }

    /// How long the job may run.
    pub(super) fn max_execution(&self) -> Duration {
        self.max_execution
    }
}

fn matching(doors: usize) -> String {
    match doors {
        0 => "no door matches now".to_owned(),
        1 => "1 door matches now".to_owned(),
        doors => format!("{doors} doors match now"),
    }
}

/// An error when a door that was named does not exist: with the name that was probably meant.
pub(in crate::commands) async fn refuse_unknown(
    target: &Target,
    session: &Session,
) -> anyhow::Result<()> {
    let twins: Vec<Twin> = session.hub.query("SELECT * FROM devices").await?;
    let known: Vec<&str> = twins.iter().map(|twin| twin.device_id.as_str()).collect();
    match target
        .names
        .iter()
        .find(|name| !known.contains(&name.as_str()))
    {
        Some(name) => Err(unknown_door(name.as_str(), &known).into()),
        None => Ok(()),
    }
}

/// `lock-20261123-220000-x7k2`.
fn made_up_id(what: &str, at: &At) -> anyhow::Result<JobId> {
    let mut random = rand::rng();
    let suffix: String = (0..4)
        .map(|_| char::from(ID_ALPHABET[random.random_range(0..ID_ALPHABET.len())]))
        .collect();
    // Of a method's name what a job's id may have, and no more than fits.
    let what: String = what
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(32)
        .collect();
    let text = format!("{what}-{}-{suffix}", at.when.strftime("%Y%m%d-%H%M%S"));
    text.parse().with_context(|| format!("job id {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_id_says_what_and_when() {
        let now = "2026-11-23T21:15:00+01:00[Europe/Berlin]".parse().unwrap();
        let at = At::parse("22:00", &now).unwrap();
        let id = made_up_id("lock", &at).unwrap();
        assert!(id.as_str().starts_with("lock-20261123-220000-"), "{id}");
        assert_eq!(id.as_str().len(), 25);
        assert!(
            made_up_id("comp*set_point", &at)
                .unwrap()
                .as_str()
                .starts_with("compsetpoint-")
        );
    }
}
