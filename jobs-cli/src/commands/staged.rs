//! Locks and unlocks that doors get ahead: the timed entry of a job, and what doors report of it.
//!
//! A door with the feature `timed` gets the desired property `timed.ID` by a twin job and acts by
//! its own clock. It reports what became of it under the same name, which judges its row.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::time::Duration;

use anyhow::Context as _;
use door_core::contract::{
    Command, CommandHeader, DoorState, LockDoor, Secured, Slot, UnlockDoor, Want,
};
use door_core::schedule::Progress as EntryProgress;
use door_core::{EntryId, TimedEntry, TimedState};
use iothub_client::{ClientError, HubClient};
use iothub_protocol::DeviceId;
use iothub_protocol::job::{DeviceJobStatus, JobResponse};
use iothub_protocol::twin::{ConnectionState, Object, SectionPatch, Twin, TwinPatch};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::job_draft::MAX_EXECUTION;
use super::job_follow::MAX_HUB_ABSENCE;
use super::{acknowledge, many};
use crate::door::ReportedStatus;
use crate::failure::Failure;
use crate::outcome::{JobGoal, OutcomeRow, Progress};
use crate::printer::plain;
use crate::session::Session;
use crate::target;
use crate::time::countdown;

/// Matches the doors that can keep a timed entry.
pub(super) const CAN_STAGE: &str = "properties.reported.device.features.timed = true";

/// Poll interval before the start: one count query, of which Azure allows 20 a minute.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Entries that are over and stay at a door, so that `show` and `export` have the proof; from
/// [`ENTRIES_TOO_MANY`] on, older ones are removed.
const ENTRIES_KEPT: usize = 5;
const ENTRIES_TOO_MANY: usize = 8;

/// A job's timed entry.
#[derive(Debug, Clone)]
pub(super) struct StagedEntry {
    /// The id of the job, without a suffix.
    pub(super) id: EntryId,
    pub(super) entry: TimedEntry,
}

/// What a caller waits for at each door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The connected doors have armed or refused the entry.
    Armed,
    /// The doors have reported a result.
    Result,
    /// The doors have reached the goal, or cannot.
    Goal,
}

impl StagedEntry {
    /// The entry that a twin job writes, if its id is that of the entry, with a suffix or without.
    pub(super) fn of(job: &JobResponse) -> Option<Self> {
        let timed = job.update_twin.as_ref()?.desired.values()?.get("timed")?;
        let mut entries = timed.as_object()?.iter();
        let (Some((id, value)), None) = (entries.next(), entries.next()) else {
            return None;
        };
        let suffix = job.job_id.as_str().strip_prefix(id)?;
        if !suffix.is_empty() && !suffix.starts_with("-stage") {
            return None;
        }
        Some(Self {
            id: id.parse().ok()?,
            entry: TimedEntry::read(value).ok()?,
        })
    }

    /// Matches the doors that the hub has given the entry.
    pub(super) fn condition(&self) -> String {
        format!("is_defined({})", entry_path(&self.id))
    }

    /// Matches the doors to call: those without the entry, those that refused it, and connected
    /// ones that have not confirmed it, as their agent may be of another version by now.
    pub(super) fn call_condition(&self) -> String {
        let reported = format!("properties.reported.timed.[[{}]]", self.id);
        format!(
            "(NOT {} OR {reported}.ac >= 300 OR connectionState = 'Connected' AND NOT \
             is_defined({reported}))",
            self.condition()
        )
    }

    /// The twin change that gives doors the entry, or takes it away.
    pub(super) fn patch(&self, is_armed: bool) -> TwinPatch {
        let value = is_armed.then_some(&self.entry);
        patch(Object::from_iter([(self.id.to_string(), json!(value))]))
    }

    /// The call that fills the same slot until the same end.
    pub(super) fn command(&self, not_after: Timestamp) -> anyhow::Result<Command> {
        if self.entry.slot() == Slot::Schedule {
            let text = format!(
                "{} stands in place of the week, which no call does",
                self.id
            );
            return Err(Failure::new(text)
                .next("doorctl schedule override --help")
                .into());
        }
        let header = CommandHeader {
            command_id: Some(self.id.as_str().parse().context("the entry's id")?),
            not_after: Some(not_after),
            reason: self.entry.reason.clone(),
        };
        let until = self.entry.until;
        Ok(match self.entry.want {
            Want::Locked => Command::Lock(LockDoor {
                lock_time: None,
                until,
                header,
            }),
            Want::Released => Command::Unlock(UnlockDoor {
                unlock_time: None,
                until,
                pulse: None,
                header,
            }),
        })
    }

    pub(super) fn goal(&self, accept_unproven: bool) -> JobGoal {
        match self.entry.want {
            Want::Locked => JobGoal::Secured { accept_unproven },
            Want::Released => JobGoal::Released,
        }
    }

    /// The method of [`StagedEntry::command`], or `override` of the week.
    pub(super) fn what(&self) -> &'static str {
        match (self.entry.slot(), self.entry.want) {
            (Slot::Schedule, _) => "override",
            (_, Want::Locked) => "lockDoor",
            (_, Want::Released) => "unlockDoor",
        }
    }

    pub(super) fn is_desired(&self, twin: &Twin) -> bool {
        self.is_in(&twin.properties.desired.values)
    }

    /// Whether a door reports that it keeps the entry.
    pub(super) fn is_reported(&self, twin: &Twin) -> bool {
        self.is_in(&twin.properties.reported.values)
    }

    fn is_in(&self, values: &Object) -> bool {
        let timed = values.get("timed");
        timed.is_some_and(|timed| timed.get(self.id.as_str()).is_some())
    }

    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.entry.until.is_some_and(|until| until <= now)
    }

    /// How long doors may take to report a result: as long as calls would run.
    pub(super) fn result_until(&self, job: &JobResponse, hub: &HubClient) -> Instant {
        let runs = Duration::from_secs(job.max_execution_time_in_seconds.unwrap_or_default());
        let left = self.entry.from.duration_since(hub.now());
        Instant::now() + Duration::try_from(left).unwrap_or_default() + runs.max(MAX_EXECUTION)
    }

    /// Judges the doors that a twin job has given the entry, until all have what is awaited or the
    /// time has come; returns their twins.
    pub(super) async fn judge(
        &self,
        rows: &mut [OutcomeRow],
        goal: JobGoal,
        awaited: Awaited,
        ends_at: Instant,
        session: &Session,
    ) -> Result<Vec<Twin>, ClientError> {
        let mut waiting: Vec<DeviceId> = rows
            .iter()
            .filter(|row| row.status == DeviceJobStatus::Completed)
            .filter_map(|row| row.door.parse().ok())
            .collect();
        let mut read = BTreeMap::new();
        let mut announced = awaited == Awaited::Armed;
        let mut away_since: Option<Instant> = None;
        loop {
            let twins = match acknowledge::read(&waiting, &session.hub).await {
                Ok(twins) => twins,
                Err(error) if error.is_transient() && Instant::now() < ends_at => {
                    if away_since.get_or_insert_with(Instant::now).elapsed() > MAX_HUB_ABSENCE {
                        return Err(error);
                    }
                    acknowledge::pause(waiting.len(), ends_at).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            away_since = None;
            let named = twins.into_iter().map(|twin| (twin.device_id.clone(), twin));
            let mut twins: BTreeMap<DeviceId, Twin> = named.collect();
            let now = session.hub.now();
            let asked: BTreeSet<DeviceId> = waiting.drain(..).collect();
            for row in &mut *rows {
                let name: Option<DeviceId> = row.door.parse().ok();
                let Some(name) = name.filter(|name| asked.contains(name)) else {
                    continue;
                };
                let twin = twins.remove(&name);
                let is_waiting = self.judge_door(row, twin.as_ref(), goal, now);
                let is_offline =
                    |twin: &Twin| twin.connection_state == ConnectionState::Disconnected;
                let waits_on = match awaited {
                    Awaited::Armed => {
                        row.timed == Some("sent") && !twin.as_ref().is_some_and(is_offline)
                    }
                    Awaited::Result => row.progress == Progress::Waiting,
                    Awaited::Goal => is_waiting,
                };
                if waits_on {
                    waiting.push(name.clone());
                }
                read.extend(twin.map(|twin| (name, twin)));
            }
            if waiting.is_empty() || Instant::now() >= ends_at {
                return Ok(read.into_values().collect());
            }
            let before = self.entry.from.duration_since(now);
            if !announced && before.is_positive() {
                announced = true;
                let armed = rows.iter().filter(|row| row.timed == Some("armed")).count();
                session.printer.say(format!(
                    "{}  armed {armed} of {}; the doors act {}",
                    self.id,
                    rows.len(),
                    countdown(self.entry.from, now)
                ));
            }
            match awaited {
                Awaited::Armed => acknowledge::pause(waiting.len(), ends_at).await,
                _ if before.is_positive() => self.wait_for_start(ends_at, session).await?,
                _ => acknowledge::pause(waiting.len(), ends_at).await,
            }
        }
    }

    /// Waits for the start, or until no door has the entry any more.
    async fn wait_for_start(&self, ends_at: Instant, session: &Session) -> Result<(), ClientError> {
        loop {
            let left = self.entry.from.duration_since(session.hub.now());
            let left = Duration::try_from(left).unwrap_or_default();
            let now = Instant::now();
            if left.is_zero() || now >= ends_at {
                return Ok(());
            }
            tokio::time::sleep_until(ends_at.min(now + left.min(POLL_INTERVAL))).await;
            let armed = target::count_doors(&self.condition(), session).await;
            // The count is a courtesy: only its zero ends the wait.
            if matches!(armed, Ok(0)) {
                return Ok(());
            }
        }
    }

    /// Stores in the row what the door reports; returns whether it may still reach the goal.
    fn judge_door(
        &self,
        row: &mut OutcomeRow,
        twin: Option<&Twin>,
        goal: JobGoal,
        now: Timestamp,
    ) -> bool {
        let Some(twin) = twin else {
            row.progress = Progress::Failed;
            row.outcome = "the hub no longer has this door".to_owned();
            return false;
        };
        row.state = ReportedStatus::reported(twin);
        let is_offline = twin.connection_state == ConnectionState::Disconnected;
        let id = self.id.as_str();
        let is_desired = self.is_desired(twin);
        let reported = twin.properties.reported.values.get("timed");
        // The property as a whole is refused when it is not an object.
        let whole = reported.filter(|timed| timed.get("ac").is_some());
        let answer = whole.or_else(|| reported?.get(id));
        let code = answer.and_then(|answer| answer.get("ac")?.as_u64());
        let entry: Option<EntryProgress> =
            answer.and_then(|answer| serde_json::from_value(answer.clone()).ok());
        let (timed, progress, outcome) = match (is_desired, code, entry) {
            (false, ..) if self.is_over(now) => (
                "over",
                Progress::Accepted,
                "over; the door keeps no record of it any more".to_owned(),
            ),
            (false, _, Some(_)) if is_offline => (
                "disarmed",
                Progress::Failed,
                "disarmed, but the door is offline and still has the entry".to_owned(),
            ),
            (false, ..) => (
                "disarmed",
                Progress::Failed,
                "disarmed: its entry was removed".to_owned(),
            ),
            (true, Some(code @ 300..), _) => {
                let why = answer.and_then(|answer| answer.get("ad")).map(plain);
                let why = why.unwrap_or_else(|| "no reason given".to_owned());
                (
                    "refused",
                    Progress::Failed,
                    format!("refused ({code}): {why}"),
                )
            }
            (true, _, None) => {
                let text = match is_offline {
                    true => "not armed: the door is offline",
                    false => "not armed yet",
                };
                ("sent", Progress::Waiting, text.to_owned())
            }
            (true, _, Some(entry)) => {
                let (progress, outcome) = judge_entry(&entry, &row.state, goal);
                row.at = entry.at;
                let outcome = match is_offline && now >= self.entry.from {
                    true if progress == Progress::Waiting => {
                        format!("{outcome}; the door is offline and reports when it connects")
                    }
                    _ => outcome,
                };
                (entry.state.as_str(), progress, outcome)
            }
        };
        (row.timed, row.progress, row.outcome) = (Some(timed), progress, outcome);
        matches!(progress, Progress::Waiting | Progress::Accepted) && timed != "over"
    }
}

/// Progress of an entry that a door keeps, and its description. What proved the entry is of the
/// past: only a present state that is the goal too counts while it holds.
fn judge_entry(entry: &EntryProgress, state: &ReportedStatus, goal: JobGoal) -> (Progress, String) {
    let reached = goal.reached();
    let result = entry.result.as_ref();
    let was_reached = result.is_some_and(|result| result.reached);
    let is_reached = goal.is_reached_by(state);
    let why = entry.why.as_deref().unwrap_or("no reason given");
    match (entry.state, result) {
        (TimedState::Armed, _) => (Progress::Waiting, "armed".to_owned()),
        (TimedState::Holding, Some(result)) if is_reached && result.error.is_none() => {
            (Progress::Reached, reached.to_owned())
        }
        (TimedState::Holding, _) if was_reached => (
            Progress::Accepted,
            format!("{reached} before, {} now", state.lock_state),
        ),
        (TimedState::Over, _) if was_reached => (Progress::Reached, format!("{reached}, over now")),
        (TimedState::Overruled, _) if was_reached => (
            Progress::Failed,
            format!("{reached} before, then overruled: {why}"),
        ),
        (TimedState::Overruled, _) => (Progress::Failed, format!("overruled: {why}")),
        (TimedState::Over, _) if entry.at.is_none() => (
            Progress::Failed,
            "over: the door was off all the time".to_owned(),
        ),
        (TimedState::Over, _) => (Progress::Failed, format!("over, and never {reached}")),
        (TimedState::Holding, None) => (Progress::Waiting, "holding".to_owned()),
        (TimedState::Holding, Some(result)) => match &result.error {
            Some(error) => (Progress::Failed, format!("failed: {error}")),
            None if state.door_state == DoorState::Open => {
                (Progress::Accepted, "holding: door open".to_owned())
            }
            None if result.secured == Secured::Unknown => (
                Progress::Accepted,
                "holding: no sensor proves it".to_owned(),
            ),
            None => (Progress::Accepted, format!("holding: {}", state.secured)),
        },
    }
}

/// Removes entries that are over and reported so, except for the latest, from doors with many.
pub(super) async fn tidy(twins: &[Twin], session: &Session) {
    let now = session.hub.now();
    let stale = twins.iter().filter_map(|twin| {
        let patch = patch(stale_entries(twin, now)?);
        Some((twin.device_id.clone(), (twin.etag.clone(), patch)))
    });
    let removed = many::for_each_door(stale, &session.hub, |hub, door, (etag, patch)| async move {
        hub.twin_patch(&door, &patch, Some(&etag)).await
    });
    // A twin that was changed meanwhile keeps them until the next job.
    drop(removed.await);
}

fn stale_entries(twin: &Twin, now: Timestamp) -> Option<Object> {
    let timed = |values: &Object| values.get("timed").cloned();
    let reported = timed(&twin.properties.reported.values)?;
    let desired = timed(&twin.properties.desired.values)?;
    let mut over: Vec<(Timestamp, String)> = desired
        .as_object()?
        .iter()
        .filter_map(|(id, value)| {
            let entry = TimedEntry::read(value).ok()?;
            let answer = reported.get(id)?;
            // A lock without an end whose slot was changed later never speaks again.
            let settled = match entry.until {
                Some(_) => TimedState::Over,
                None => TimedState::Overruled,
            };
            let is_settled = answer.get("state") == Some(&json!(settled))
                || answer.get("ac").and_then(Value::as_u64) >= Some(300);
            let end = entry.until.unwrap_or(entry.from);
            (end <= now && is_settled).then(|| (end, id.clone()))
        })
        .collect();
    if over.len() < ENTRIES_TOO_MANY {
        return None;
    }
    over.sort_unstable_by(|a, b| b.cmp(a));
    let stale: Object = over
        .into_iter()
        .skip(ENTRIES_KEPT)
        .map(|(_, id)| (id, Value::Null))
        .collect();
    (!stale.is_empty()).then_some(stale)
}

/// The desired property of an entry, in a query.
pub(super) fn entry_path(id: &impl Display) -> String {
    format!("properties.desired.timed.[[{id}]]")
}

fn patch(entries: Object) -> TwinPatch {
    TwinPatch {
        etag: None,
        tags: SectionPatch::Absent,
        desired: SectionPatch::Values(Object::from_iter([("timed".to_owned(), entries.into())])),
    }
}

#[cfg(test)]
mod tests;
