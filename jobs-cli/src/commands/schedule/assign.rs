//! `schedule plan`, `set`, `clear` and `override`: jobs that change what doors want by themselves.

use std::time::Duration;

use door_core::contract::{LockState, Mode, Want};
use door_core::schedule::Calendar;
use iothub_protocol::twin::Twin;
use jiff::{Timestamp, Unit};
use serde_json::{Value, json};

use super::{describe, file, next_want};
use crate::acknowledgement::has_feature;
use crate::cli::jobs::{JobArgs, NO_WEEK, OVERRIDE, ScheduleArgs, TwinArgs, WEEK, WorkCommand};
use crate::cli::schedule::{ClearArgs, OverrideArgs, SetArgs};
use crate::cli::twin::DEFAULT_ACK_TIMEOUT;
use crate::commands::confirm::confirm_instant;
use crate::commands::job_draft::generated_id;
use crate::commands::jobs::{create, plan};
use crate::commands::many;
use crate::door::{ReportedStatus, reported_mode};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::{doors, first_names};
use crate::session::Session;
use crate::target::Target;
use crate::time::{self, TimeArg, TimeArgError};

/// Doors that a warning names; the others are counted.
const MAX_NAMES_SHOWN: usize = 10;

/// Longest id of an entry: suffixes of its job have to fit.
const MAX_ENTRY_ID: usize = 52;

pub(super) async fn plan(args: SetArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    plan::plan(&work(args, session).await?, session).await
}

pub(super) async fn set(mut args: SetArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let plan = args.plan.take();
    let work = work(args, session).await?;
    match plan {
        Some(digest) => plan::apply(&digest, &work, session).await,
        None => create::run(&work, session).await,
    }
}

/// The job that assigns the week; prints its effect.
async fn work(args: SetArgs, session: &Session) -> anyhow::Result<WorkCommand> {
    let now = session.now().await?;
    let week = file::read(&args.file, now.date())?;
    week.warn(&session.printer);
    let start = session.at("--at", &args.change.job.schedule.at).await?;
    let target = Target::required(&args.change.job.target)?;
    let twins = many::read_target(&target, session).await?;
    warn_without("schedule", "follow a week", &twins, session);
    let start = start.when.timestamp();
    // Without a door the job itself is refused.
    if !twins.is_empty() {
        print_effect(&week.calendar, start, args.now, &twins, session);
    }
    // `null` removes the wish of an earlier assignment.
    let at_once = args.now.then_some(true);
    let value = json!({"digest": week.digest, "text": week.text, "now": at_once});
    Ok(twin_job(
        WEEK,
        "schedule".to_owned(),
        value,
        args.change.deadline,
        args.change.job,
    ))
}

/// Prints what the week wants at the start, and how many doors that releases.
fn print_effect(
    calendar: &Calendar,
    start: Timestamp,
    at_once: bool,
    twins: &[Twin],
    session: &Session,
) {
    let level = calendar.level(start);
    let name = &calendar.week().name;
    let printer = &session.printer;
    let until = next_want(calendar, start);
    let until = until.map_or("without an end in sight".to_owned(), |(at, _)| {
        format!(
            "until {}",
            time::describe(&at.to_zoned_datetime(calendar.zone().clone()))
        )
    });
    printer.say(format!("week {name} wants: {}, {until}", describe(&level)));
    if level.want != Some(Want::Released) {
        return;
    }
    let would_release = |twin: &&Twin| {
        let mode = reported_mode(twin);
        ReportedStatus::reported(twin).lock_state != LockState::Unlocked
            && !matches!(mode, Some(Mode::Lockdown | Mode::Secure))
    };
    let count = doors(twins.iter().filter(would_release).count() as u64);
    match at_once {
        true => printer.warn(format!("this releases {count} at once")),
        false => printer.say(format!(
            "doors begin with the next released window; --now would release {count} at once"
        )),
    }
}

pub(super) async fn clear(args: ClearArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let work = twin_job(
        NO_WEEK,
        "schedule".to_owned(),
        Value::Null,
        args.deadline,
        args.job,
    );
    create::run(&work, session).await
}

pub(super) async fn override_week(
    args: OverrideArgs,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let from = session.at("--from", &args.from).await?;
    let expected = || {
        let from = time::describe(&from.when);
        format!("expected a time after --from, {from}")
    };
    let failure = |why: String| Failure::new(format!("--until {:?}: {why}", args.until));
    let until = TimeArg::parse(&args.until, &from.when).map_err(|error| match error {
        TimeArgError::Past(when, _) => failure(format!("{when} is too early; {}", expected())),
        error => failure(error.to_string()),
    })?;
    let whole = |at: &TimeArg| at.when.timestamp().round(Unit::Second);
    let (starts, ends) = (whole(&from)?, whole(&until)?);
    if ends <= starts {
        return Err(failure(expected()).into());
    }
    let id = match args.id {
        Some(id) => id,
        None => generated_id(OVERRIDE, &from)?.to_string(),
    };
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if !(1..=MAX_ENTRY_ID).contains(&id.len()) || !id.bytes().all(plain) {
        let why = format!("--id {id:?}: expected 1 to {MAX_ENTRY_ID} of a-z, 0-9 and hyphens");
        return Err(Failure::new(why).into());
    }
    let twins = many::read_target(&Target::required(&args.target)?, session).await?;
    warn_without("timed", "keep timed entries", &twins, session);
    session.echo("from", &from);
    session.echo("until", &until);
    confirm_instant("--from", &from, args.confirm.yes, session)?;
    confirm_instant("--until", &until, args.confirm.yes, session)?;
    let mut entry = json!({
        "want": Want::from(args.want), "from": starts, "until": ends, "slot": 16,
    });
    if let Some(reason) = &session.reason {
        entry["reason"] = reason.as_str().into();
    }
    let schedule = ScheduleArgs {
        at: "now".to_owned(),
        max_execution: None,
        id: Some(id.clone()),
        watch: args.watch,
    };
    let job = JobArgs {
        target: args.target,
        schedule,
        confirm: args.confirm,
    };
    let work = twin_job(
        OVERRIDE,
        format!("timed.{id}"),
        entry,
        DEFAULT_ACK_TIMEOUT,
        job,
    );
    create::run(&work, session).await
}

fn twin_job(
    what: &'static str,
    key: String,
    value: Value,
    deadline: Duration,
    job: JobArgs,
) -> WorkCommand {
    WorkCommand::Twin(TwinArgs {
        desired: vec![(key, value)],
        tags: Vec::new(),
        deadline,
        what,
        job,
    })
}

/// Warns of doors that are not known to be able to.
fn warn_without(feature: &str, what: &str, twins: &[Twin], session: &Session) {
    let lacks = |twin: &&Twin| !has_feature(feature, &twin.properties.reported.values);
    let names: Vec<&str> = twins
        .iter()
        .filter(lacks)
        .map(|twin| twin.device_id.as_str())
        .collect();
    if !names.is_empty() {
        session.printer.warn(format!(
            "{} of {} may not {what}, as they do not report device.features.{feature}: {}",
            names.len(),
            doors(twins.len() as u64),
            first_names(&names, MAX_NAMES_SHOWN)
        ));
    }
}
