//! `doorctl devices import`: checks the whole file first, then imports and reports each line
//! separately.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use doorctl::{BulkItem, HubClient};
use iothub_protocol::DeviceId;
use iothub_protocol::twin::{Object, SectionPatch, TwinPatch, merge};
use serde::Serialize;

use super::bulk::{self, Became};
use super::record::{self, Form, Record};
use super::registry;
use super::report::tally;
use crate::cli::devices::file::ImportArgs;
use crate::commands::interrupt::{Interrupt, NOT_ANY_MORE};
use crate::commands::many;
use crate::commands::progress::Progress;
use crate::exit_status::ExitStatus;
use crate::failure::{Failure, sentence};
use crate::printer::{Cell, Row, Tone};
use crate::session::Session;

/// A line of the file, and its outcome.
#[derive(Debug, Serialize)]
struct LineRow {
    line: u64,
    door: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl LineRow {
    fn new(record: &Record, outcome: anyhow::Result<&'static str>) -> Self {
        Self {
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

    fn cells(&self) -> Vec<Cell> {
        let tone = match self.error {
            Some(_) => Tone::Bad,
            None => Tone::Plain,
        };
        vec![
            Cell::from(self.line.to_string()),
            Cell::from(&self.door),
            Cell::toned(self.outcome, tone),
            Cell::from(self.error.clone().unwrap_or_default()),
        ]
    }
}

/// Creates the doors of a file, and with `--update` changes those that exist.
pub(super) async fn import(args: &ImportArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let (text, name) = record::source(&args.file, "FILE")?;
    let records = record::read(&text, &name, Form::Import)?;
    let names: Vec<DeviceId> = records.iter().map(|record| record.id.clone()).collect();
    let there = registry::existing(&names, &session.hub).await?;
    if !args.update {
        refuse_existing(&records, &there)?;
    }
    let (old, new): (Vec<Record>, Vec<Record>) = records
        .into_iter()
        .partition(|record| there.contains(&record.id));
    let interrupt = Interrupt::new();
    let mut rows = Vec::new();
    if args.dry_run {
        rows.extend(
            new.iter()
                .map(|record| LineRow::new(record, Ok("to be created"))),
        );
        rows.extend(
            old.iter()
                .map(|record| LineRow::new(record, Ok("to be updated"))),
        );
    } else {
        create(&new, &interrupt, &mut rows, session).await?;
        update(old, &interrupt, &mut rows, session).await;
    }
    rows.sort_by_key(|row| row.line);
    session.printer.rows(&rows)?;
    let mut said = tally(rows.iter().map(|row| row.outcome));
    if args.dry_run {
        said.push_str("; nothing was changed");
    }
    session.printer.say(said);
    let failed = rows.iter().any(|row| row.error.is_some());
    if failed {
        session.printer.say(again(&args.file));
    }
    Ok(match failed {
        true if interrupt.came() => ExitStatus::Interrupted,
        true => ExitStatus::Incomplete,
        false => ExitStatus::Success,
    })
}

/// How to repeat the failed lines; `-` stands for standard input again.
fn again(file: &Path) -> String {
    format!(
        "to repeat the failed lines: doorctl devices import {} --update",
        file.display()
    )
}

fn refuse_existing(records: &[Record], there: &HashSet<DeviceId>) -> Result<(), Failure> {
    match record::refuse_those_there(records, there) {
        None => Ok(()),
        Some(refused) => {
            Err(refused.next("to change them too: --update; to preview that: --update --dry-run"))
        }
    }
}

async fn create(
    records: &[Record],
    interrupt: &Interrupt,
    rows: &mut Vec<LineRow>,
    session: &Session,
) -> anyhow::Result<()> {
    let items: Vec<BulkItem> = records
        .iter()
        .map(Record::create)
        .collect::<anyhow::Result<_>>()?;
    let progress = Progress::new(&session.printer, "creating", items.len());
    let mut became = Vec::new();
    for call in bulk::calls(&items) {
        if interrupt.came() {
            break;
        }
        became.extend(bulk::call(&session.hub, call).await);
        progress.done(call.len());
    }
    progress.clear();
    let mut became = became.into_iter();
    for record in records {
        let outcome = match became.next() {
            Some(Became::Done) => Ok("created"),
            Some(Became::Refused(why) | Became::Exists(why)) => Err(anyhow!(why)),
            Some(Became::Unknown(why)) => Err(anyhow!("{why}; it may have been created")),
            None => Err(anyhow!(NOT_ANY_MORE)),
        };
        rows.push(LineRow::new(record, outcome));
    }
    Ok(())
}

async fn update(
    records: Vec<Record>,
    interrupt: &Interrupt,
    rows: &mut Vec<LineRow>,
    session: &Session,
) {
    let progress = Progress::new(&session.printer, "updating", records.len());
    let work = records
        .into_iter()
        .map(|record| (record.id.clone(), record));
    let done = many::each(work, &session.hub, |hub, door, record| {
        let (progress, interrupt) = (progress.clone(), interrupt.clone());
        async move {
            let outcome = match interrupt.came() {
                true => Err(anyhow!(NOT_ANY_MORE)),
                false => update_one(&hub, &door, &record).await,
            };
            progress.done(1);
            LineRow::new(&record, outcome)
        }
    });
    rows.extend(done.await.into_iter().map(|(_, row)| row));
    progress.clear();
}

/// Updates the identity first, so that a door to be disabled is locked out first.
async fn update_one(
    hub: &HubClient,
    door: &DeviceId,
    record: &Record,
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
    fn what_is_advised_can_be_typed() {
        for file in ["-", "doors.csv"] {
            let said = again(Path::new(file));
            let command = format!("doorctl devices import {file} --update");
            assert!(said.ends_with(&command), "{said}");
        }
    }
}
