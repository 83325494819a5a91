//! `doorctl audit`: who changed or commanded what.

use iothub_protocol::audit::{AuditEntry, AuditFilter};
use iothub_protocol::time;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value;

use crate::cli::record::AuditArgs;
use crate::exit_status::ExitStatus;
use crate::printer::{Cell, Format, Row, Tone, plain};
use crate::session::Session;
use crate::time::on_clock;

pub(super) async fn run(args: &AuditArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    session
        .refuse_unless_door_hub(
            "record who did what",
            "of Azure IoT Hub the portal shows the activity log; what jobs did: doorctl jobs list",
        )
        .await?;
    let since = match &args.since {
        Some(text) => Some(session.since(text).await?),
        None => None,
    };
    let filter = AuditFilter {
        since,
        policy: args.policy.clone(),
        operation: args.operation.clone(),
        target: args.target.clone(),
    };
    let limit = args.limit as usize;
    // One entry more than shown tells whether there are more.
    let mut entries = session.hub.door_hub_audit(&filter, limit + 1).await?;
    let left_out = entries.len() > limit;
    entries.truncate(limit);
    // Oldest first, like a log.
    entries.reverse();
    let printer = &session.printer;
    match printer.format() {
        Format::Json => printer.document(&entries)?,
        Format::Table if entries.is_empty() => {}
        _ => {
            let rows: Vec<AuditLine> = entries
                .iter()
                .map(|entry| AuditLine::new(entry, &session.zone, printer.format()))
                .collect();
            printer.rows(&rows)?;
        }
    }
    if entries.is_empty() {
        printer.say("no entry matches these filters");
    } else if left_out {
        printer.say(format!(
            "the newest {limit}; more: --limit {}",
            limit.saturating_mul(10)
        ));
    }
    Ok(ExitStatus::Success)
}

/// One line of the table or of CSV; JSON contains the hub's entry.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct AuditLine<'a> {
    entry: &'a AuditEntry,
    #[serde(skip)]
    time: String,
}

impl<'a> AuditLine<'a> {
    fn new(entry: &'a AuditEntry, zone: &TimeZone, format: Format) -> Self {
        let time = match format {
            Format::Table => on_clock(&entry.time.to_zoned_datetime(zone.clone())),
            _ => time::format(entry.time),
        };
        Self { entry, time }
    }

    fn result(&self) -> Cell {
        match (self.entry.status, &self.entry.error) {
            (None, _) => Cell::toned("unknown", Tone::Doubtful),
            (Some(status), None) => Cell::toned(status.to_string(), Tone::Good),
            (Some(status), Some(error)) => Cell::toned(format!("{status} {error}"), Tone::Bad),
        }
    }
}

impl Row for AuditLine<'_> {
    const LEAST_IMPORTANT: &'static [&'static str] = &["peer", "detail", "reason"];

    fn titles() -> Vec<&'static str> {
        vec![
            "time",
            "policy",
            "peer",
            "operation",
            "target",
            "result",
            "reason",
            "detail",
        ]
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        match title {
            "time" => Cell::from(&self.time),
            "result" => self.result(),
            _ => Cell::from(plain(member)),
        }
    }
}
