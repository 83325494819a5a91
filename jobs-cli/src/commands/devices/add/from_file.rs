//! `doorctl devices add --from`: adds all doors of a file or none.

use std::collections::HashMap;
use std::path::Path;

use iothub_protocol::DeviceId;
use iothub_protocol::bulk::BulkItem;
use serde::Serialize;

use super::keys_folder::KeysFolder;
use crate::cli::devices::file::AddArgs;
use crate::commands::devices::record::{self, DoorRecord, FilePurpose};
use crate::commands::devices::{registry, without_port};
use crate::commands::interrupt::Interrupt;
use crate::printer::{Row, doors};
use crate::session::Session;

pub(super) async fn run(path: &Path, args: &AddArgs, session: &Session) -> anyhow::Result<()> {
    let (text, name) = record::source(path, "--from")?;
    let records = record::read(&text, &name, FilePurpose::Add)?;
    let names: Vec<DeviceId> = records.iter().map(|record| record.id.clone()).collect();
    let there = registry::existing(&names, &session.hub).await?;
    let next = "remove them from the file, or update them: doorctl devices import FILE --update";
    record::refuse_existing(&records, &there, next)?;
    let items: Vec<BulkItem> = records
        .iter()
        .map(DoorRecord::create)
        .collect::<anyhow::Result<_>>()?;
    let host = without_port(session.hub.host_name())?;
    let mut folder = match &args.keys_folder {
        Some(path) => Some(KeysFolder::check(path, &items, host)?),
        None => None,
    };
    if !args.dry_run {
        let interrupt = Interrupt::new();
        if let Some(folder) = &mut folder {
            folder.write(&items, || interrupt.is_pressed())?;
        }
        let lines: HashMap<&DeviceId, u64> = records
            .iter()
            .map(|record| (&record.id, record.line))
            .collect();
        let describe =
            |door: &DeviceId| format!("{name} line {}, {door}", lines.get(door).unwrap_or(&0));
        let created = registry::create_all(&items, describe, &interrupt, session).await;
        if let (Err(_), Some(folder)) = (&created, &folder) {
            folder.remove_created();
        }
        created?;
    }
    let outcome = if args.dry_run { "to be added" } else { "added" };
    let rows: Vec<LineRow> = records
        .iter()
        .map(|record| LineRow::new(record, outcome))
        .collect();
    session.printer.rows(&rows)?;
    let doors = doors(rows.len() as u64);
    match (args.dry_run, &folder) {
        (true, _) => session.printer.say(format!(
            "{name} is valid: {doors} would be added; nothing was changed"
        )),
        (false, None) => session.printer.say(format!(
            "{doors} added; to get their keys: doorctl devices connection-string DOOR --out FILE"
        )),
        (false, Some(folder)) => session.printer.say(format!(
            "{doors} added; their connection strings are in {folder}; keep them secret"
        )),
    }
    Ok(())
}

/// A line of the file, and its outcome.
#[derive(Debug, Serialize)]
struct LineRow {
    line: u64,
    door: String,
    building: String,
    floor: String,
    outcome: &'static str,
}

impl LineRow {
    fn new(record: &DoorRecord, outcome: &'static str) -> Self {
        Self {
            line: record.line,
            door: record.id.to_string(),
            building: record.desired("building"),
            floor: record.desired("floor"),
            outcome,
        }
    }
}

impl Row for LineRow {
    fn titles() -> Vec<&'static str> {
        vec!["line", "door", "building", "floor", "outcome"]
    }
}
