//! `doorctl jobs plan` and `doorctl jobs apply`: shows a job without creating it, and creates it
//! only if nothing has changed since.

mod conflict;
mod digest;
mod effect;
mod store;

use std::collections::{BTreeMap, BTreeSet};

use iothub_protocol::twin::{ConnectionState, Twin};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::create::{self, PreparedJob};
use crate::cli::jobs::WorkCommand;
use crate::commands::digest::short;
use crate::commands::many;
use crate::door::{LOCK_TITLES, ReportedStatus, can_stage, connection_cell, report_age};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::{Cell, Format, Row, Tone, doors, first_names};
use crate::session::Session;
use crate::time::describe;
use conflict::Conflict;
use digest::{MAX_NAMES_SHOWN, MIN_DIGEST_LEN, PlanContent};

/// A planned job, as `-o json` prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PlanReport<'a> {
    digest: &'a str,
    what: &'a str,
    start: Timestamp,
    condition: &'a str,
    offline: usize,
    staged: usize,
    doors: &'a [PlanRow],
    conflicts: &'a [Conflict],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PlanRow {
    door: String,
    connection_state: ConnectionState,
    #[serde(flatten)]
    state: ReportedStatus,
    effect: String,
    conflicts: Vec<String>,
    /// Age of the last report, for an offline door.
    #[serde(skip)]
    age: Option<String>,
}

/// The doors that match now, and the digest of the plan.
struct PlanSnapshot {
    twins: Vec<Twin>,
    content: PlanContent,
    digest: String,
}

/// Prints what the job would do.
pub(in crate::commands) async fn plan(
    work: &WorkCommand,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let prepared = create::prepare(work, session).await?;
    let snapshot = take_snapshot(&prepared, session).await?;
    let names = snapshot.content.doors.iter().cloned().collect();
    let conflicts = conflict::conflicts(&prepared, &names, session).await?;
    let staged = &snapshot.content.staged;
    let rows = rows(&prepared, &snapshot, &conflicts, session.hub.now());
    let offline = rows
        .iter()
        .filter(|row| row.connection_state == ConnectionState::Disconnected)
        .count();
    store::save(&snapshot.content, &snapshot.digest);
    let printer = &session.printer;
    match printer.format() {
        Format::Json => printer.document(&PlanReport {
            digest: short(&snapshot.digest),
            what: &prepared.what,
            start: prepared.draft.start(),
            condition: &prepared.draft.target.condition,
            offline,
            staged: staged.len(),
            doors: &rows,
            conflicts: &conflicts,
        })?,
        _ => printer.rows(&rows)?,
    }
    warn_of_conflicts(&conflicts, session);
    let offline = match offline {
        0 => String::new(),
        offline => format!(", {offline} of them offline"),
    };
    printer.say(format!(
        "this would {} {}{offline}; no job was created",
        prepared.verb_phrase(),
        doors(rows.len() as u64),
    ));
    session.echo("starts", &prepared.draft.at);
    if !staged.is_empty() {
        let called = rows.len() - staged.len();
        printer.say(format!(
            "{} staged, {called} called at the start",
            staged.len()
        ));
    }
    printer.say(format!(
        "plan {0}; to apply it, with the same arguments: doorctl {1} --plan {0}",
        short(&snapshot.digest),
        prepared.apply_verb()
    ));
    Ok(ExitStatus::Success)
}

/// Creates the job that was planned.
pub(in crate::commands) async fn apply(
    given: &str,
    work: &WorkCommand,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let given = given.trim().to_ascii_lowercase();
    let is_digest = given.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !(MIN_DIGEST_LEN..=64).contains(&given.len()) || !is_digest {
        return Err(Failure::new(format!(
            "invalid --plan {given:?}: expected {MIN_DIGEST_LEN} to 64 hexadecimal digits, as \
             `jobs plan` prints them"
        ))
        .next("doorctl jobs plan, with the same arguments")
        .into());
    }
    let prepared = create::prepare(work, session).await?;
    let snapshot = take_snapshot(&prepared, session).await?;
    if !snapshot.digest.starts_with(&given) {
        return Err(outdated_error(&given, &snapshot).into());
    }
    let names: BTreeSet<String> = snapshot.content.doors.iter().cloned().collect();
    let conflicts = conflict::conflicts(&prepared, &names, session).await?;
    warn_of_conflicts(&conflicts, session);
    prepared.create(session).await
}

fn outdated_error(given: &str, snapshot: &PlanSnapshot) -> Failure {
    let changed = match store::find(given) {
        Some(before) => snapshot.content.differences(&before).join("; "),
        None => format!(
            "the plan is {} now, for {}; plan {given} is not stored on this machine",
            short(&snapshot.digest),
            doors(snapshot.content.doors.len() as u64)
        ),
    };
    Failure::new(format!(
        "plan {given} is outdated: {changed}; no job was created"
    ))
    .next("plan again with the same arguments, then take the new plan")
    .status(ExitStatus::Refused)
}

async fn take_snapshot(prepared: &PreparedJob, session: &Session) -> anyhow::Result<PlanSnapshot> {
    prepared.draft.refuse_split_unless_door_hub(session).await?;
    let target = &prepared.draft.target;
    let mut twins = many::read_target(target, session).await?;
    many::drop_removed(&mut twins, session).await?;
    target.refuse_empty_places(twins.len(), session).await?;
    twins.sort_by(|a, b| a.device_id.as_str().cmp(b.device_id.as_str()));
    let names = twins.iter().map(|twin| twin.device_id.to_string());
    let may_stage = prepared.staging_time(twins.len(), session).await?.is_some();
    let staged = twins.iter().filter(|twin| may_stage && can_stage(twin));
    let staged = staged.map(|twin| twin.device_id.to_string()).collect();
    let hub = session.hub.host_name().as_str();
    let content = PlanContent::new(prepared, hub, names.collect(), staged);
    Ok(PlanSnapshot {
        digest: content.digest(),
        twins,
        content,
    })
}

fn rows(
    prepared: &PreparedJob,
    PlanSnapshot { twins, content, .. }: &PlanSnapshot,
    conflicts: &[Conflict],
    now: Timestamp,
) -> Vec<PlanRow> {
    let staged: BTreeSet<&str> = content.staged.iter().map(String::as_str).collect();
    let mut by_door: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for conflict in conflicts {
        for door in &conflict.doors {
            by_door.entry(door).or_default().push(conflict.job.clone());
        }
    }
    let row = |twin: &Twin| PlanRow {
        door: twin.device_id.to_string(),
        connection_state: twin.connection_state,
        state: ReportedStatus::reported(twin),
        age: report_age(twin, now),
        effect: match staged.contains(twin.device_id.as_str()) {
            true => effect::staged(&prepared.action, twin),
            false => effect::effect(&prepared.action, twin),
        },
        conflicts: by_door.remove(twin.device_id.as_str()).unwrap_or_default(),
    };
    twins.iter().map(row).collect()
}

fn warn_of_conflicts(conflicts: &[Conflict], session: &Session) {
    for conflict in conflicts {
        session.printer.warn(format!(
            "job {} ({}) also uses {} of these doors, from {}: {}",
            conflict.job,
            conflict.what,
            conflict.doors.len(),
            describe(&conflict.start.to_zoned_datetime(session.zone.clone())),
            first_names(&conflict.doors, MAX_NAMES_SHOWN)
        ));
    }
}

impl Row for PlanRow {
    const LEAST_IMPORTANT: &'static [&'static str] =
        &["conflicts", "proof", "doorState", "secured", "lockState"];

    fn titles() -> Vec<&'static str> {
        let mut titles = vec!["door", "connectionState"];
        titles.extend(LOCK_TITLES);
        titles.extend(["effect", "conflicts"]);
        titles
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        let is_doubtful = |word: &&str| self.effect.starts_with(word);
        match title {
            "connectionState" => connection_cell(self.connection_state),
            "effect" if ["fails", "refuses", "may fail"].iter().any(is_doubtful) => {
                Cell::toned(&self.effect, Tone::Doubtful)
            }
            "conflicts" => Cell::toned(self.conflicts.join(" "), Tone::Doubtful),
            _ => self.state.cell(title, member, self.age.as_deref()),
        }
    }
}
