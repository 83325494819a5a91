//! `doorctl devices import`: checks the whole file first, then imports and reports each line
//! separately.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use iothub_client::{ClientError, HubClient};
use iothub_protocol::DeviceId;
use iothub_protocol::bulk::BulkItem;
use iothub_protocol::twin::{Object, SectionPatch, TwinPatch, merge};
use serde::Serialize;
use serde_json::Value;

use super::bulk::{self, BulkOutcome};
use super::record::{self, DoorRecord, FilePurpose};
use super::registry;
use super::report::tally;
use crate::cli::devices::file::ImportArgs;
use crate::commands::interrupt::{INTERRUPTED, Interrupt};
use crate::commands::many;
use crate::commands::progress::WorkProgress;
use crate::exit_status::ExitStatus;
use crate::failure::{how_to_get_rights, needed_rights, sentence};
use crate::printer::{Cell, Row, Tone, plain};
use crate::session::Session;

/// A line of the file, and its outcome.
#[derive(Debug, Serialize)]
struct LineRow {
    line: u64,
    door: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The rights that the line needs, if the policy lacks one of them.
    #[serde(skip)]
    needed_rights: Option<&'static str>,
}

impl LineRow {
    fn new(record: &DoorRecord, outcome: anyhow::Result<&'static str>) -> Self {
        Self {
            needed_rights: outcome.as_ref().err().and_then(needed_rights),
            line: record.line,
            door: record.id.to_string(),
            outcome: outcome.as_ref().map_or("failed", |outcome| *outcome),
            error: outcome.err().map(|error| sentence(&error)),
        }
    }
}

impl Row for LineRow {
    fn titles() -> Vec<&'static str> {
        vec!["line", "door", "outcome", "error"]
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        match (title, &self.error) {
            ("outcome", Some(_)) => Cell::toned(self.outcome, Tone::Bad),
            _ => Cell::from(plain(member)),
        }
    }
}

/// Creates the doors of a file, and with `--update` changes those that exist.
pub(super) async fn import(args: &ImportArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let (text, name) = record::source(&args.file, "FILE")?;
    let records = record::read(&text, &name, FilePurpose::Import)?;
    let names: Vec<DeviceId> = records.iter().map(|record| record.id.clone()).collect();
    let there = registry::existing(&names, &session.hub).await?;
    if !args.update {
        let next = "to change them too: --update; to preview that: --update --dry-run";
        record::refuse_existing(&records, &there, next)?;
    }
    let (old, new): (Vec<DoorRecord>, Vec<DoorRecord>) = records
        .into_iter()
        .partition(|record| there.contains(&record.id));
    let interrupt = Interrupt::new();
    let mut rows = Vec::new();
    if args.dry_run {
        for (records, outcome) in [(&new, "to be created"), (&old, "to be updated")] {
            rows.extend(records.iter().map(|door| LineRow::new(door, Ok(outcome))));
        }
    } else {
        create(&new, &interrupt, &mut rows, session).await?;
        update(old, &interrupt, &mut rows, session).await;
    }
    rows.sort_by_key(|row| row.line);
    session.printer.rows(&rows)?;
    let mut text = tally(rows.iter().map(|row| row.outcome));
    if args.dry_run {
        text.push_str("; nothing was changed");
    }
    session.printer.say(text);
    let failed = rows.iter().any(|row| row.error.is_some());
    // A policy that lacks a right lacks it for every door.
    if let Some(rights) = rows.iter().find_map(|row| row.needed_rights) {
        if rows.iter().all(|row| row.needed_rights.is_some()) {
            session.printer.say(how_to_get_rights(rights));
            return Ok(ExitStatus::Refused);
        }
    }
    if failed {
        session.printer.say(repeat_hint(&args.file));
    }
    Ok(match failed {
        true if interrupt.is_pressed() => ExitStatus::Interrupted,
        true => ExitStatus::Incomplete,
        false => ExitStatus::Success,
    })
}

/// How to repeat the failed lines; `-` stands for standard input again.
fn repeat_hint(file: &Path) -> String {
    format!(
        "to repeat the failed lines: doorctl devices import {} --update",
        file.display()
    )
}

async fn create(
    records: &[DoorRecord],
    interrupt: &Interrupt,
    rows: &mut Vec<LineRow>,
    session: &Session,
) -> anyhow::Result<()> {
    let items: Vec<BulkItem> = records
        .iter()
        .map(DoorRecord::create)
        .collect::<anyhow::Result<_>>()?;
    let progress = WorkProgress::new(&session.printer, "creating", items.len());
    let mut results = Vec::new();
    for request in bulk::requests(&items) {
        if interrupt.is_pressed() {
            break;
        }
        results.extend(bulk::send(&session.hub, request).await);
        progress.done(request.len());
    }
    progress.clear();
    let mut results = results.into_iter();
    for record in records {
        let outcome = match results.next() {
            Some(BulkOutcome::Done) => Ok("created"),
            Some(BulkOutcome::Refused(why) | BulkOutcome::Exists(why)) => Err(anyhow!(why)),
            Some(BulkOutcome::NotAllowed(refusal)) => Err(ClientError::Refused(refusal).into()),
            Some(BulkOutcome::Unknown(why)) => Err(anyhow!("{why}; it may have been created")),
            None => Err(anyhow!(INTERRUPTED)),
        };
        rows.push(LineRow::new(record, outcome));
    }
    Ok(())
}

async fn update(
    records: Vec<DoorRecord>,
    interrupt: &Interrupt,
    rows: &mut Vec<LineRow>,
    session: &Session,
) {
    let work = records
        .into_iter()
        .map(|record| (record.id.clone(), record));
    let done = many::for_each_counted(work.collect(), "updating", session, |hub, door, record| {
        let interrupt = interrupt.clone();
        async move {
            let outcome = match interrupt.is_pressed() {
                true => Err(anyhow!(INTERRUPTED)),
                false => update_one(&hub, &door, &record).await,
            };
            LineRow::new(&record, outcome)
        }
    });
    rows.extend(done.await.into_iter().map(|(_, row)| row));
}

/// Updates the identity first, so that a door to be disabled is locked out first.
async fn update_one(
    hub: &HubClient,
    door: &DeviceId,
    record: &DoorRecord,
) -> anyhow::Result<&'static str> {
    let mut identity = hub.device(door).await?;
    let before = (
        identity.status,
        identity.status_reason.clone(),
        identity.authentication.clone(),
    );
    identity.status = record.status.unwrap_or(identity.status);
    if record.status_reason.is_some() || record.status.is_some() {
        identity.status_reason.clone_from(&record.status_reason);
    }
    if let (Some(given), Some(present)) = (&record.authentication, &mut identity.authentication) {
        present.kind.clone_from(&given.kind);
        present.symmetric_key = given.symmetric_key.clone().or(present.symmetric_key.take());
        present.x509_thumbprint = given
            .x509_thumbprint
            .clone()
            .or(present.x509_thumbprint.take());
    }
    let identity_changes = before
        != (
            identity.status,
            identity.status_reason.clone(),
            identity.authentication.clone(),
        );
    if identity_changes {
        hub.device_update(&identity).await?;
    }
    let twin = hub.twin(door).await;
    let patched = match twin {
        Ok(twin) => {
            let patch = TwinPatch {
                etag: None,
                tags: difference(&twin.tags, &record.tags),
                desired: difference(&twin.properties.desired.values, &record.properties.desired),
            };
            match patch == TwinPatch::default() {
                true => {
                    return Ok(if identity_changes {
                        "updated"
                    } else {
                        "unchanged"
                    });
                }
                false => hub.twin_patch(door, &patch, None).await.map(drop),
            }
        }
        Err(error) => Err(error),
    };
    match identity_changes {
        true => {
            patched
                .context("status and keys were updated, tags and desired properties were not")?;
        }
        false => patched?,
    }
    Ok("updated")
}

/// The patch of a section, when it changes anything.
fn difference(present: &Object, wanted: &Object) -> SectionPatch {
    let mut after = present.clone();
    merge(&mut after, wanted);
    match after == *present {
        true => SectionPatch::Absent,
        false => SectionPatch::Values(wanted.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_is_a_valid_command() {
        for file in ["-", "doors.csv"] {
            let text = repeat_hint(Path::new(file));
            let command = format!("doorctl devices import {file} --update");
            assert!(text.ends_with(&command), "{text}");
        }
    }
}
