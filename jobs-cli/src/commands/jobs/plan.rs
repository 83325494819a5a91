//! `doorctl jobs plan` and `doorctl jobs apply`: shows a job without creating it, and creates it
//! only if nothing has changed since.

mod conflict;
mod digest;
mod effect;
mod kept;

use std::collections::{BTreeMap, BTreeSet};

use iothub_protocol::twin::{ConnectionState, Twin};
use jiff::Timestamp;
use serde::Serialize;

use super::create::{self, Prepared};
use crate::cli::jobs::WorkCommand;
use crate::commands::many;
use crate::door::{LOCK_TITLES, LockState};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::{Cell, Format, Row, Tone};
use crate::session::Session;
use crate::time::describe;
use conflict::Conflict;
use digest::{Content, LEAST, short, some_of};

/// A planned job, as `-o json` prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    digest: &'a str,
    what: &'a str,
    start: Timestamp,
    condition: &'a str,
    offline: usize,
    doors: &'a [PlanRow],
    conflicts: &'a [Conflict],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PlanRow {
    door: String,
    connection_state: ConnectionState,
    #[serde(flatten)]
    state: LockState,
    effect: String,
    conflicts: Vec<String>,
}

/// The doors that match now, and the digest of the plan.
struct Seen {
    twins: Vec<Twin>,
    content: Content,
    digest: String,
}

/// Prints what the job would do.
pub(super) async fn plan(work: &WorkCommand, session: &Session) -> anyhow::Result<ExitStatus> {
    let prepared = create::prepare(work, session).await?;
    let seen = look(&prepared, session).await?;
    let names = seen.content.doors.iter().cloned().collect();
    let conflicts = conflict::conflicts(&prepared, &names, session).await?;
    let rows = rows(&prepared, &seen.twins, &conflicts);
    let offline = rows
        .iter()
        .filter(|row| row.connection_state == ConnectionState::Disconnected)
        .count();
    kept::keep(&seen.content, &seen.digest);
    let printer = &session.printer;
    match printer.format() {
        Format::Json => printer.document(&Report {
            digest: short(&seen.digest),
            what: &prepared.what,
            start: prepared.plan.start(),
            condition: &prepared.plan.target().condition,
            offline,
            doors: &rows,
            conflicts: &conflicts,
        })?,
        _ => printer.rows(&rows)?,
    }
    tell_conflicts(&conflicts, session);
    let offline = match offline {
        0 => String::new(),
        offline => format!(", {offline} of them offline"),
    };
    printer.say(format!(
        "this would {} {}{offline}; no job was created",
        prepared.said(),
        doors(rows.len()),
    ));
    let at = prepared.plan.at();
    printer.say(format!("starts {}", at.echo(session.hub.now())));
    if let Some(note) = &at.note {
        printer.say(format!("note: {note}"));
    }
    printer.say(format!(
        "plan {0}; to create the job: doorctl jobs apply --plan {0} with the same arguments",
        short(&seen.digest)
    ));
    Ok(ExitStatus::Success)
}

/// Creates the job that was planned.
pub(super) async fn apply(
    given: &str,
    work: &WorkCommand,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let given = given.trim().to_ascii_lowercase();
    let is_digest = given.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !(LEAST..=64).contains(&given.len()) || !is_digest {
        return Err(Failure::new(format!(
            "invalid --plan {given:?}: expected {LEAST} to 64 hexadecimal digits, as `jobs plan` prints them"
        ))
        .next("doorctl jobs plan, with the same arguments")
        .into());
    }
    let prepared = create::prepare(work, session).await?;
    let seen = look(&prepared, session).await?;
    if !seen.digest.starts_with(&given) {
        return Err(refused(&given, &seen).into());
    }
    let names: BTreeSet<String> = seen.content.doors.iter().cloned().collect();
    let conflicts = conflict::conflicts(&prepared, &names, session).await?;
    tell_conflicts(&conflicts, session);
    prepared.make(session).await
}

fn refused(given: &str, seen: &Seen) -> Failure {
    let changed = match kept::find(given) {
        Some(before) => seen.content.differences(&before).join("; "),
        None => format!(
            "the plan is {} now, for {}; plan {given} is not stored on this machine",
            short(&seen.digest),
            doors(seen.content.doors.len())
        ),
    };
    Failure::new(format!(
        "plan {given} is outdated: {changed}; no job was created"
    ))
    .next("plan again: doorctl jobs plan, with the same arguments")
    .status(ExitStatus::Refused)
}

async fn look(prepared: &Prepared, session: &Session) -> anyhow::Result<Seen> {
    prepared.plan.refuse_parts_elsewhere(session).await?;
    let target = prepared.plan.target();
    let mut twins = many::read(target, session).await?;
    target.refuse_empty_places(twins.len(), session).await?;
    twins.sort_by(|a, b| a.device_id.as_str().cmp(b.device_id.as_str()));
    let names = twins.iter().map(|twin| twin.device_id.to_string());
    let content = Content::new(prepared, session.hub.host_name().as_str(), names.collect());
    Ok(Seen {
        digest: content.digest(),
        twins,
        content,
    })
}

fn rows(prepared: &Prepared, twins: &[Twin], conflicts: &[Conflict]) -> Vec<PlanRow> {
    let mut by_door: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for conflict in conflicts {
        for door in &conflict.doors {
            by_door.entry(door).or_default().push(conflict.job.clone());
        }
    }
    let row = |twin: &Twin| PlanRow {
        door: twin.device_id.to_string(),
        connection_state: twin.connection_state,
        state: LockState::reported(twin),
        effect: effect::effect(&prepared.action, twin),
        conflicts: by_door.remove(twin.device_id.as_str()).unwrap_or_default(),
    };
    twins.iter().map(row).collect()
}

fn tell_conflicts(conflicts: &[Conflict], session: &Session) {
    for conflict in conflicts {
        session.printer.warn(format!(
            "job {} ({}) also uses {} of these doors, from {}: {}",
            conflict.job,
            conflict.what,
            conflict.doors.len(),
            describe(&conflict.start.to_zoned(session.zone.clone())),
            some_of(&conflict.doors)
        ));
    }
}

fn doors(count: usize) -> String {
    match count {
        1 => "1 door".to_owned(),
        count => format!("{count} doors"),
    }
}

impl Row for PlanRow {
    fn titles() -> Vec<&'static str> {
        let mut titles = vec!["door", "connectionState"];
        titles.extend(LOCK_TITLES);
        titles.extend(["effect", "conflicts"]);
        titles
    }

    fn cells(&self) -> Vec<Cell> {
        let connection = match self.connection_state {
            ConnectionState::Connected => Cell::from("connected"),
            ConnectionState::Disconnected => Cell::toned("offline", Tone::Doubtful),
        };
        let effect = match ["fails", "refuses", "may fail"]
            .iter()
            .any(|word| self.effect.starts_with(word))
        {
            true => Tone::Doubtful,
            false => Tone::Plain,
        };
        let mut cells = vec![Cell::from(&self.door), connection];
        cells.extend(self.state.cells());
        cells.push(Cell::toned(&self.effect, effect));
        cells.push(Cell::toned(self.conflicts.join(" "), Tone::Doubtful));
        cells
    }
}
