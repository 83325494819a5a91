//! Creates a lock or unlock of which doors are notified ahead: a twin job now for the doors that
//! can keep a timed entry, and a job at the time that calls the others.

use std::time::Duration;

use anyhow::Context as _;
use door_core::contract::Want;
use door_core::{EntryId, TimedEntry};
use iothub_protocol::JobId;
use iothub_protocol::job::{JobAction, JobResponse, JobStatus};
use iothub_protocol::twin::TwinPatch;
use jiff::{SignedDuration, Timestamp, Unit};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::create::PreparedJob;
use crate::commands::job_draft::name_job_in_the_way;
use crate::commands::job_group::{STAGE, lookup};
use crate::commands::staged::{self, Awaited, CAN_STAGE, StagedEntry};
use crate::commands::{job_follow, job_wait};
use crate::door::can_stage;
use crate::exit_status::ExitStatus;
use crate::failure::{Failure, sentence};
use crate::outcome::{JobGoal, OutcomeRow};
use crate::printer::{Format, doors as door_count, printable};
use crate::session::Session;
use crate::target::{Selection, Target};

/// Shortest time from now to the start: `+1m` is staged.
const MIN_AHEAD: Duration = Duration::from_secs(55);

/// Doors that a twin job changes in a second, on door-hub and on Azure IoT Hub.
const DOOR_HUB_RATE: usize = 5_000;
const AZURE_RATE: usize = 10;

/// How long to wait until the doors have armed the entry.
const ARMED_WITHIN: Duration = Duration::from_secs(30);

/// Doors that are not armed and are named; the others are counted.
const MAX_NAMES_SHOWN: usize = 20;

/// The doors that are staged.
#[derive(Debug)]
pub(super) struct StagedDoors {
    target: Target,
    count: usize,
    /// How long the hub may take to write their entry.
    within: Duration,
}

/// What a door that is notified ahead wants, and until when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead {
    pub(super) want: Want,
    pub(super) until: Option<Timestamp>,
    /// Whether to wait until the doors have armed it.
    pub(super) wait: bool,
}

/// A staged job, as `-o json` prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StagedReport<'a> {
    job_id: &'a JobId,
    timed: &'a TimedEntry,
    staged: usize,
    called: usize,
    /// Absent without a wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    armed: Option<usize>,
    not_armed: Vec<&'a OutcomeRow>,
    jobs: &'a [JobResponse],
}

impl PreparedJob {
    /// How long the hub may take to write the entry of this number of doors, if the start is far
    /// enough ahead to stage them.
    pub(super) async fn staging_time(
        &self,
        doors: usize,
        session: &Session,
    ) -> anyhow::Result<Option<Duration>> {
        let left = self.draft.start().duration_since(session.hub.now());
        if self.ahead.is_none()
            || self.entry_id().is_err()
            || left < SignedDuration::try_from(MIN_AHEAD)?
        {
            return Ok(None);
        }
        let rate = match session.hub.is_door_hub().await? {
            true => DOOR_HUB_RATE,
            false => AZURE_RATE,
        };
        let needed = MIN_AHEAD + Duration::from_secs((doors / rate) as u64);
        Ok((left >= SignedDuration::try_from(needed)?).then_some(needed))
    }

    /// The doors that are staged, if there are any.
    pub(super) async fn staged_doors(
        &self,
        selected: &Selection,
        session: &Session,
    ) -> anyhow::Result<Option<StagedDoors>> {
        let stageable = selected.count_of(can_stage);
        if self.ahead.is_none() || stageable == Some(0) {
            return Ok(None);
        }
        let Some(within) = self.staging_time(selected.count, session).await? else {
            let soon = "the start is too soon to stage".to_owned();
            let why = self.entry_id().err().unwrap_or(soon);
            session
                .printer
                .say(format!("{why}: the doors are called at the start"));
            return Ok(None);
        };
        let target = self.draft.target.and(CAN_STAGE.to_owned())?;
        let count = match stageable {
            Some(count) => count,
            None => target.select(session).await?.count,
        };
        Ok((count > 0).then_some(StagedDoors {
            target,
            count,
            within,
        }))
    }

    /// The id of the entry: that of the job, if an entry may have it.
    fn entry_id(&self) -> Result<EntryId, String> {
        let id = self.draft.id.as_str();
        id.parse()
            .map_err(|why| format!("--id {id:?}: {why} for a job that is staged"))
    }

    fn staged_entry(&self, ahead: Ahead, session: &Session) -> anyhow::Result<StagedEntry> {
        let failure = |why: String| {
            Failure::new(format!("{why}; nothing was changed"))
                .next("change it, or add --no-stage to call the doors at the start")
        };
        let id = self.entry_id().map_err(failure)?;
        let from = self.draft.start().round(Unit::Second)?;
        let reason = session.reason.as_ref().filter(|reason| !reason.is_empty());
        let mut entry = json!({"want": ahead.want, "from": from, "by": session.hub.policy()});
        if let Some(until) = ahead.until {
            entry["until"] = json!(until);
        }
        if let Some(reason) = reason {
            entry["reason"] = json!(reason);
        }
        let entry = TimedEntry::read(&entry)
            .map_err(|why| failure(format!("cannot stage this job: {why}")))?;
        Ok(StagedEntry { id, entry })
    }
}

/// Creates both jobs, and waits until the doors have armed the entry.
pub(super) async fn create(
    prepared: PreparedJob,
    doors: StagedDoors,
    matching: usize,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let ahead = prepared.ahead.expect("doors are staged only with it");
    let staged = prepared.staged_entry(ahead, session)?;
    let (id, goal) = (prepared.draft.id.clone(), prepared.goal);
    let count = doors.count;
    let (mut stages, calls) = tokio::select! {
        submitted = submit(&prepared, &staged, doors, matching, session) => submitted?,
        _ = tokio::signal::ctrl_c() => {
            session.printer.say(format!(
                "interrupted while job {id} was created: doorctl jobs show {id}, or doorctl jobs \
                 cancel {id}"
            ));
            return Ok(ExitStatus::Interrupted);
        }
    };
    let staged_doors = if stages.is_empty() { 0 } else { count };
    // A door may have been added meanwhile.
    let called = matching.saturating_sub(staged_doors);
    let draft = prepared.draft;
    let is_called = !calls.is_empty();
    session.printer.say(format!(
        "job {id}: {} now; {staged_doors} staged, {called} called at the start",
        match matching {
            1 => "1 door matches".to_owned(),
            doors => format!("{doors} doors match"),
        }
    ));
    session.echo("starts", &draft.at);
    let mut rows = Vec::new();
    if ahead.wait {
        let armed = arm(&staged, &mut stages, is_called, goal, session);
        rows = tokio::select! {
            rows = armed => rows.unwrap_or_else(|error| {
                session.printer.warn(format!("{}; the job stands", sentence(&error)));
                Vec::new()
            }),
            _ = tokio::signal::ctrl_c() => {
                let text = format!("stopped waiting; the job stands: doorctl jobs show {id}");
                session.printer.say(text);
                return Ok(ExitStatus::Interrupted);
            }
        };
    }
    let jobs = [stages, calls].concat();
    if draft.is_watched() {
        let ids: Vec<JobId> = jobs.iter().map(|job| job.job_id.clone()).collect();
        return job_wait::watch_all(&ids, None, Duration::ZERO, goal, session).await;
    }
    let not_armed = rows.iter().filter(|row| !is_armed(row));
    let report = StagedReport {
        job_id: &id,
        timed: &staged.entry,
        staged: staged_doors,
        called,
        armed: ahead
            .wait
            .then(|| rows.iter().filter(|row| is_armed(row)).count()),
        not_armed: not_armed.collect(),
        jobs: &jobs,
    };
    match session.printer.format() {
        Format::Table => crate::printer::write(&format!("{id}\n"))?,
        _ => session.printer.document(&report)?,
    }
    session
        .printer
        .say(format!("follow it: doorctl jobs watch {id}"));
    // On door-hub, such a door is called.
    let is_left_out = |row: &OutcomeRow| row.timed.is_none_or(|timed| timed == "refused");
    let is_left_out = rows.iter().any(is_left_out) || ahead.wait && rows.len() < staged_doors;
    Ok(match !is_called && is_left_out {
        true => ExitStatus::Incomplete,
        false => ExitStatus::Success,
    })
}

/// Submits the job that calls doors at the start, and the one that stages. On door-hub the call
/// comes first and is for every door that is not staged in the end: whatever happens to the
/// staging, each door is called or staged. Azure IoT Hub has one active job at a time, so that the
/// staging must be over before a call that is needed. Returns the jobs that stage, and the calls.
async fn submit(
    prepared: &PreparedJob,
    staged: &StagedEntry,
    doors: StagedDoors,
    matching: usize,
    session: &Session,
) -> anyhow::Result<(Vec<JobResponse>, Vec<JobResponse>)> {
    let draft = &prepared.draft;
    let id = &draft.id;
    let stage_id: JobId = format!("{id}{STAGE}").parse()?;
    for used in [id, &stage_id] {
        let is_given = prepared.explicit_id.is_some();
        if is_given && lookup(used.as_str(), &session.hub).await?.is_some() {
            return Err(Failure::new(format!(
                "--id: the hub has a job called {used} already; nothing was changed"
            ))
            .next("choose another --id, or omit it to generate one")
            .into());
        }
    }
    let mut stage = draft.with(stage_id, doors.target, session.at("--at", "now").await?);
    stage.max_execution = doors.within;
    // Twin jobs of IoT Hub accept no other etag.
    let patch = TwinPatch {
        etag: Some("*".to_owned()),
        ..staged.patch(true)
    };
    let patch = JobAction::UpdateTwin(patch);
    let others = draft.target.and(staged.call_condition())?;
    let calls = draft.with(id.clone(), others, draft.at.clone());
    let call = prepared.action.clone();
    if session.hub.is_door_hub().await? {
        let calls = calls.submit(call, session).await?;
        let stages = match stage.submit(patch, session).await {
            Ok(stages) => stages,
            Err(error) => {
                let text = format!("{}; all doors are called at the start", sentence(&error));
                session.printer.warn(text);
                Vec::new()
            }
        };
        // A cancel that came before saw the call alone.
        let call = calls.first().context("a call")?.job_id.as_str();
        let call = lookup(call, &session.hub).await;
        if matches!(call, Ok(Some(call)) if call.status == JobStatus::Cancelled) {
            super::cancel::cancel(id, session).await?;
            return Err(cancelled_error(id).into());
        }
        return Ok((stages, calls));
    }
    let mut stages = match stage.submit(patch, session).await {
        Ok(stages) => stages,
        Err(error) => return Err(name_job_in_the_way(error, session).await),
    };
    if matching <= doors.count {
        return Ok((stages, Vec::new()));
    }
    let submitted = async {
        for job in &mut stages {
            job_follow::until_over(job, None, &session.hub).await?;
        }
        calls.submit(call, session).await
    };
    let error = match submitted.await {
        Ok(calls) => return Ok((stages, calls)),
        Err(error) => error,
    };
    // A cancellation uses the id for a job with another condition.
    let own = |condition: &String| calls.target.parts().contains(condition);
    let used = lookup(id.as_str(), &session.hub).await;
    let used = used.ok().flatten().and_then(|job| job.query_condition);
    let failure = match used.is_some_and(|condition| !own(&condition)) {
        true => cancelled_error(id),
        false => Failure::new(format!(
            "{}; {} are staged already, the other doors would not be called",
            sentence(&error),
            door_count(doors.count as u64)
        ))
        .next(format!("doorctl jobs cancel {id}, then try again")),
    };
    Err(failure.into())
}

fn cancelled_error(id: &JobId) -> Failure {
    let message = format!("job {id} was cancelled meanwhile: no door will be called by it");
    Failure::new(message)
        .next(format!("doorctl jobs show {id}"))
        .status(ExitStatus::Refused)
}

/// Waits until the doors have armed the entry, and names those that have not.
async fn arm(
    staged: &StagedEntry,
    jobs: &mut [JobResponse],
    is_called: bool,
    goal: JobGoal,
    session: &Session,
) -> anyhow::Result<Vec<OutcomeRow>> {
    let printer = &session.printer;
    let ends_at = Instant::now() + ARMED_WITHIN;
    let mut rows = Vec::new();
    for job in jobs {
        job_follow::until_over(job, Some(ends_at), &session.hub).await?;
        let mut doors = job_follow::rows(&session.hub, job, goal).await?;
        let judged = staged.judge(&mut doors, goal, Awaited::Armed, ends_at, session);
        staged::tidy(&judged.await?, session).await;
        rows.extend(doors);
    }
    let missing: Vec<&OutcomeRow> = rows.iter().filter(|row| !is_armed(row)).collect();
    let armed = rows.len() - missing.len();
    printer.say(format!("armed {armed} of {}", rows.len()));
    for row in missing.iter().take(MAX_NAMES_SHOWN) {
        let is_called = is_called && row.timed == Some("refused");
        let called = if is_called {
            "; called at the start"
        } else {
            ""
        };
        printer.warn(printable(&format!("{}: {}{called}", row.door, row.outcome)));
    }
    if missing.len() > MAX_NAMES_SHOWN {
        let more = missing.len() - MAX_NAMES_SHOWN;
        printer.warn(format!(
            "{more} more are not armed: doorctl jobs show {}",
            staged.id
        ));
    }
    Ok(rows)
}

fn is_armed(row: &OutcomeRow) -> bool {
    matches!(row.timed, Some("armed" | "holding"))
}
