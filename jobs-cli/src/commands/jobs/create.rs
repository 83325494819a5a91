//! Creates jobs: selects the doors, the action and the time, and echoes them before and after.

use std::time::Duration;

use door_core::contract::duration::MAX;
use door_core::contract::{Command, LockDoor, Relinquish, UnlockDoor, Want};
use iothub_protocol::job::JobAction;
use jiff::Timestamp;
use serde_json::Value;

use super::stage::{self, Ahead};
use crate::cli::confirm::ConfirmArgs;
use crate::cli::doors::EndArgs;
use crate::cli::jobs::{CallArgs, LockArgs, MethodArgs, NO_WEEK, OVERRIDE, WEEK, WorkCommand};
use crate::commands::confirm::{confirm, confirm_instant};
use crate::commands::job_draft::JobDraft;
use crate::commands::schedule::end_by_week;
use crate::commands::{acknowledge, method_call, twin_patch};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::outcome::JobGoal;
use crate::session::Session;
use crate::target::Target;
use crate::time::{self, TimeArg, TimeArgError, TimeForm};

/// A job that is about to be created: doors, time, action, and whether to ask for confirmation.
pub(super) struct PreparedJob {
    pub(super) draft: JobDraft,
    pub(super) action: JobAction,
    pub(super) goal: JobGoal,
    /// `lock`, `unlock`, the method, `tags`, `twin` or what the change of the twin is for.
    pub(super) what: String,
    /// The start as typed.
    pub(super) start_text: String,
    /// The value of `--id`.
    pub(super) explicit_id: Option<String>,
    /// Length of the action, when it has an end.
    pub(super) length: Option<Duration>,
    /// The end, when it was given as a time.
    pub(super) until: Option<TimeArg>,
    /// Set when doors that can may be notified ahead.
    pub(super) ahead: Option<Ahead>,
    confirm: ConfirmArgs,
}

/// Parses and checks the arguments; the only request to the hub is for its clock.
pub(super) async fn prepare(work: &WorkCommand, session: &Session) -> anyhow::Result<PreparedJob> {
    let (what, job, end) = match work {
        WorkCommand::Lock(args) => ("lock", &args.job, Some(&args.end)),
        WorkCommand::Unlock(args) => ("unlock", &args.job, Some(&args.end)),
        WorkCommand::Method(args) => (args.method.as_str(), &args.job, None),
        WorkCommand::Twin(args) => (args.what, &args.job, None),
        WorkCommand::Tags(args) => ("tags", &args.job, None),
    };
    let calls = match work {
        WorkCommand::Lock(args) | WorkCommand::Unlock(args) => Some(&args.calls),
        WorkCommand::Method(args) => Some(&args.calls),
        WorkCommand::Twin(_) | WorkCommand::Tags(_) => None,
    };
    if let Some(calls) = calls {
        method_call::checked_response_timeout(calls.connect_timeout, calls.response_timeout)?;
    }
    let mut draft =
        JobDraft::new(what, Target::required(&job.target)?, &job.schedule, session).await?;
    let end = match end {
        Some(end) => {
            let end = end_by_week(end, &job.target, Some(draft.start()), session).await?;
            ActionEnd::parse(&end, &draft, session)?
        }
        None => ActionEnd::default(),
    };
    let (action, goal) = match work {
        WorkCommand::Lock(args) => {
            let command = Command::Lock(LockDoor {
                lock_time: end.length,
                until: end.instant(&draft)?,
                header: draft.header()?,
            });
            door_action(&command, &args.calls, session)?
        }
        WorkCommand::Unlock(args) => {
            let command = Command::Unlock(UnlockDoor {
                unlock_time: end.length,
                until: end.instant(&draft)?,
                pulse: None,
                header: draft.header()?,
            });
            door_action(&command, &args.calls, session)?
        }
        WorkCommand::Method(args) => method(args, &draft, session)?,
        WorkCommand::Twin(args) => {
            draft.acknowledged_within = args.deadline;
            let action = twin(&args.desired, &args.tags)?;
            if let JobAction::UpdateTwin(patch) = &action {
                acknowledge::warn_of_misspelled_keys(patch.desired.values(), &session.printer);
            }
            (action, JobGoal::Changed)
        }
        WorkCommand::Tags(args) => {
            let removed = args.remove.iter().map(|key| (key.clone(), Value::Null));
            let tags: Vec<_> = args.set.iter().cloned().chain(removed).collect();
            (twin(&[], &tags)?, JobGoal::Changed)
        }
    };
    let ahead = match work {
        WorkCommand::Lock(args) => stage_ahead(Want::Locked, args, &end, &draft)?,
        WorkCommand::Unlock(args) => stage_ahead(Want::Released, args, &end, &draft)?,
        _ => None,
    };
    Ok(PreparedJob {
        ahead,
        draft,
        action,
        goal,
        what: what.to_owned(),
        start_text: job.schedule.at.trim().to_owned(),
        explicit_id: job.schedule.id.clone(),
        length: end.length,
        until: end.until,
        confirm: job.confirm,
    })
}

/// What doors are notified of ahead, unless the job starts at once or an unlock has no end.
fn stage_ahead(
    want: Want,
    args: &LockArgs,
    end: &ActionEnd,
    draft: &JobDraft,
) -> anyhow::Result<Option<Ahead>> {
    let until = end.instant(draft)?;
    let is_now = draft.at.given == TimeForm::Now;
    if args.stage.no_stage || is_now || want == Want::Released && until.is_none() {
        return Ok(None);
    }
    let wait = !args.stage.no_wait;
    Ok(Some(Ahead { want, until, wait }))
}

/// Creates a job from the arguments.
pub(in crate::commands) async fn run(
    work: &WorkCommand,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    prepare(work, session).await?.create(session).await
}

impl PreparedJob {
    /// Creates the job after the user has confirmed it.
    pub(super) async fn create(self, session: &Session) -> anyhow::Result<ExitStatus> {
        self.draft.refuse_split_unless_door_hub(session).await?;
        let selected = self.draft.preview(session).await?;
        let doors = selected.count;
        confirm_instant("--at", &self.draft.at, self.confirm.yes, session)?;
        if let Some(until) = &self.until {
            confirm_instant("--until", until, self.confirm.yes, session)?;
        }
        confirm(&self.verb_phrase(), doors, self.confirm)?;
        if let Some(staged) = self.staged_doors(&selected, session).await? {
            return stage::create(self, staged, doors, session).await;
        }
        let Self {
            draft,
            action,
            goal,
            ..
        } = self;
        draft.create(action, goal, doors, session).await
    }

    /// The verb that creates the planned job.
    pub(super) fn apply_verb(&self) -> &'static str {
        match self.what.as_str() {
            WEEK => "schedule set",
            _ => "jobs apply",
        }
    }

    /// The verb phrase for prompts: `lock`, `call identify of`, `change the twins of`.
    pub(super) fn verb_phrase(&self) -> String {
        match (self.what.as_str(), &self.action) {
            ("lock" | "unlock", _) => self.what.clone(),
            ("tags", _) => "change the tags of".to_owned(),
            (WEEK, _) => "set the week of".to_owned(),
            (NO_WEEK, _) => "take the week from".to_owned(),
            (OVERRIDE, _) => "override the week of".to_owned(),
            (_, JobAction::UpdateTwin(_)) => "change the twins of".to_owned(),
            (method, JobAction::Method(_)) => format!("call {method} of"),
        }
    }
}

/// The end of the action of a job.
#[derive(Debug, Clone, Default)]
struct ActionEnd {
    /// Counted from the start.
    length: Option<Duration>,
    /// Set when the end was given as a time.
    until: Option<TimeArg>,
}

impl ActionEnd {
    /// Parses `--for`, or `--until`, which must be after the start of the job and is echoed.
    fn parse(args: &EndArgs, draft: &JobDraft, session: &Session) -> anyhow::Result<Self> {
        let Some(text) = &args.until else {
            return Ok(Self {
                length: args.length,
                until: None,
            });
        };
        let start = &draft.at.when;
        let failure = |why: String| Failure::new(format!("--until {text:?}: {why}"));
        let expected_after_start =
            || format!("expected a time after the start, {}", time::describe(start));
        let until = TimeArg::parse(text, start).map_err(|error| match error {
            TimeArgError::Past(when, _) => {
                failure(format!("{when} is too early; {}", expected_after_start()))
            }
            error => failure(error.to_string()),
        })?;
        let length = until.when.timestamp().duration_since(draft.start());
        let seconds = u64::try_from(length.as_secs()).unwrap_or_default();
        let why = match Duration::from_secs(seconds) {
            Duration::ZERO => expected_after_start(),
            length if length > MAX => format!(
                "it is more than 7 days after the start, {}; expected at most 7 days",
                time::describe(start)
            ),
            length => {
                session.echo("until", &until);
                return Ok(Self {
                    length: Some(length),
                    until: Some(until),
                });
            }
        };
        Err(failure(why).into())
    }

    /// The end as an instant: as given, or computed from a start that was given as a time.
    fn instant(&self, draft: &JobDraft) -> anyhow::Result<Option<Timestamp>> {
        match &self.until {
            Some(until) => Ok(Some(until.when.timestamp().round(jiff::Unit::Second)?)),
            None => draft.until(self.length),
        }
    }
}

/// The call of a command, and what it should bring each door to.
fn door_action(
    command: &Command,
    calls: &CallArgs,
    session: &Session,
) -> anyhow::Result<(JobAction, JobGoal)> {
    method_call::warn_without_end(command, &session.printer);
    let call = method_call::door_call(command, calls.connect_timeout, calls.response_timeout)?;
    Ok((JobAction::Method(call), JobGoal::of_command(command, false)))
}

fn method(
    args: &MethodArgs,
    draft: &JobDraft,
    session: &Session,
) -> anyhow::Result<(JobAction, JobGoal)> {
    let calls = &args.calls;
    if args.payload.is_none() && args.method == "relinquish" {
        let header = draft.header()?;
        let command = Command::Relinquish(Relinquish { slot: None, header });
        return door_action(&command, calls, session);
    }
    let payload = args
        .payload
        .as_deref()
        .map(method_call::payload)
        .transpose()?;
    let call = method_call::call(
        &args.method,
        payload,
        calls.connect_timeout,
        calls.response_timeout,
    )?;
    method_call::warn_of_call(&call, &session.printer);
    let goal = JobGoal::of_call(&call, false);
    Ok((JobAction::Method(call), goal))
}

fn twin(desired: &[(String, Value)], tags: &[(String, Value)]) -> anyhow::Result<JobAction> {
    let mut patch = twin_patch::from_assignments(desired, tags)?;
    // Twin jobs of IoT Hub accept no other etag.
    patch.etag = Some("*".to_owned());
    Ok(JobAction::UpdateTwin(patch))
}
