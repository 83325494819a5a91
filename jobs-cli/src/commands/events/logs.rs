//! `doorctl logs`: the events of a door and the calls on it, as one log.

use iothub_client::HubEvent;
use iothub_protocol::audit::{AuditEntry, AuditFilter};
use iothub_protocol::event::{EventFilter, EventRequest};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value;

use super::feed::Feed;
use super::screen::Screen;
use super::{describe, newest};
use crate::cli::record::LogsArgs;
use crate::exit_status::ExitStatus;
use crate::failure::needed_rights;
use crate::printer::{Cell, Format, Row, Tone, plain, printable};
use crate::session::{Session, door};
use crate::time::on_clock;

/// A line of the log.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LogLine {
    time: Timestamp,
    /// `event`, or `call` from the audit log.
    kind: &'static str,
    /// Name of the event, or operation of the call.
    what: String,
    details: String,
    /// The policy of a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip)]
    tone: Tone,
    /// `time` for the format of the output.
    #[serde(skip)]
    shown_time: String,
}

pub(in crate::commands) async fn run(
    args: &LogsArgs,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let id = door(&args.door)?;
    session
        .refuse_unless_door_hub(
            "record what happens at a door",
            format!("there, route events to an Event Hub; how it is now: doorctl why {id}"),
        )
        .await?;
    let since = session.since(&args.since).await?;
    let limit = args.limit as usize;
    let request = EventRequest {
        filter: EventFilter {
            device: Some(id.clone()),
            kinds: Vec::new(),
            since: Some(since),
        },
        after: None,
        follow: false,
    };
    let mut feed = Feed::new(request, session);
    let screen = Screen::new(session);
    let read = newest(&mut feed, |event| !event.repeated, limit, &screen);
    let (events, mut left_out) = read.await?;
    let mut lines: Vec<LogLine> = events
        .iter()
        .map(|event| LogLine::of_event(event, &session.zone))
        .collect();
    let filter = AuditFilter {
        since: Some(since),
        target: Some(id.to_string()),
        ..AuditFilter::default()
    };
    match session.hub.door_hub_audit(&filter, limit + 1).await {
        Ok(calls) => {
            left_out |= calls.len() > limit;
            lines.extend(calls.iter().map(LogLine::of_call));
        }
        Err(error) => {
            let error: anyhow::Error = error.into();
            let Some(rights) = needed_rights(&error) else {
                return Err(error);
            };
            session.printer.warn(format!(
                "the calls on the door are left out: the audit log needs {}",
                rights.replace(',', " and ")
            ));
        }
    }
    lines.sort_by_key(|line| line.time);
    left_out |= lines.len() > limit;
    let lines = lines.split_off(lines.len().saturating_sub(limit));
    if lines.is_empty() {
        // A door that is unknown, rather than quiet?
        session.of_door(&id, session.hub.twin(&id).await).await?;
    }
    print(lines, left_out, session)?;
    Ok(ExitStatus::Success)
}

fn print(mut lines: Vec<LogLine>, left_out: bool, session: &Session) -> anyhow::Result<()> {
    let printer = &session.printer;
    let in_zone = printer.format() == Format::Table;
    for line in &mut lines {
        line.shown_time = match in_zone {
            true => on_clock(&line.time.to_zoned_datetime(session.zone.clone())),
            false => line.time.to_string(),
        };
    }
    if !lines.is_empty() || !in_zone {
        printer.rows(&lines)?;
    }
    if lines.is_empty() {
        printer.say("nothing is recorded since then; further back: --since 7d");
    } else if left_out {
        printer.say(format!(
            "the newest {}; more: --limit {}",
            lines.len(),
            lines.len().saturating_mul(10)
        ));
    }
    Ok(())
}

impl LogLine {
    fn of_event(event: &HubEvent, zone: &TimeZone) -> Self {
        Self {
            time: event.time,
            kind: "event",
            what: printable(describe::name(event)),
            details: describe::details(event, zone),
            by: None,
            tone: describe::tone(event),
            shown_time: String::new(),
        }
    }

    fn of_call(call: &AuditEntry) -> Self {
        let (result, tone) = match (call.status, &call.error) {
            (None, _) => ("unknown".to_owned(), Tone::Doubtful),
            (Some(status), None) => (status.to_string(), Tone::Plain),
            (Some(status), Some(error)) => (format!("{status} {error}"), Tone::Bad),
        };
        let mut details = result;
        if let Some(detail) = &call.detail {
            details += &format!(" {detail}");
        }
        if let Some(reason) = &call.reason {
            details += &format!(" ({reason})");
        }
        Self {
            time: call.time,
            kind: "call",
            what: call.operation.clone(),
            details: printable(&details),
            by: Some(call.policy.clone()),
            tone,
            shown_time: String::new(),
        }
    }
}

impl Row for LogLine {
    const LEAST_IMPORTANT: &'static [&'static str] = &["kind", "by"];

    fn titles() -> Vec<&'static str> {
        vec!["time", "kind", "what", "by", "details"]
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        match title {
            "time" => Cell::from(&self.shown_time),
            "what" => Cell::toned(&self.what, self.tone),
            _ => Cell::from(plain(member)),
        }
    }
}
