//! Prints events: one line each, or as the format asks.

use iothub_client::HubEvent;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::describe;
use crate::printer::{self, Cell, Format, Printer, Row, printable};
use crate::session::Session;
use crate::time::on_clock;

/// Columns of the table, with their initial widths.
const COLUMNS: [(&str, usize); 3] = [("time", 19), ("door", 12), ("event", 13)];

/// Maximum length of an event's name, in characters: devices choose it.
const MAX_NAME_LEN: usize = 40;

pub(super) struct Screen {
    printer: Printer,
    zone: TimeZone,
    /// Widths so far.
    widths: [usize; COLUMNS.len()],
    /// Whether the titles of CSV are printed.
    titles_printed: bool,
}

impl Screen {
    pub(super) fn new(session: &Session) -> Self {
        Self {
            printer: session.printer.clone(),
            zone: session.zone.clone(),
            widths: COLUMNS.map(|(_, width)| width),
            titles_printed: false,
        }
    }

    /// Prints an event as it arrives.
    pub(super) fn show(&mut self, event: &HubEvent) -> anyhow::Result<()> {
        match self.printer.format() {
            Format::Table => {
                let line = self.line(event);
                printer::write(&line)?;
            }
            Format::Csv => {
                let text = printer::render(Format::Csv, &[EventRow::new(event, &self.zone)])?;
                let without_titles = text.split_once('\n').map_or("", |(_, line)| line);
                printer::write(if self.titles_printed {
                    without_titles
                } else {
                    &text
                })?;
                self.titles_printed = true;
            }
            Format::Json => printer::write(&printer::document(&document(event)?)?)?,
            Format::Jsonl => printer::write(&format!("{}\n", event.document))?,
        }
        Ok(())
    }

    /// Prints all events at once; `left_out` is set when there were more.
    pub(super) fn show_all(&self, events: &[HubEvent], left_out: bool) -> anyhow::Result<()> {
        match self.printer.format() {
            Format::Table if events.is_empty() => {}
            Format::Table => {
                let titles: Vec<&str> = COLUMNS
                    .iter()
                    .map(|(title, _)| *title)
                    .chain(["details"])
                    .collect();
                let rows = events.iter().map(|event| self.cells(event));
                self.printer.print_table(&titles, &[], rows)?;
            }
            Format::Csv => {
                let rows: Vec<EventRow> = events
                    .iter()
                    .map(|event| EventRow::new(event, &self.zone))
                    .collect();
                self.printer.rows(&rows)?;
            }
            Format::Json => {
                let documents: Result<Vec<Document>, _> = events.iter().map(document).collect();
                self.printer.document(&documents?)?;
            }
            Format::Jsonl => {
                let lines = events.iter().map(|event| format!("{}\n", event.document));
                printer::write(&lines.collect::<String>())?;
            }
        }
        if events.is_empty() {
            self.printer.say(
                "no recorded event matches these filters; further back: doorctl events --since 7d",
            );
        } else if left_out {
            self.printer.say(format!(
                "the newest {}; more: --limit {}",
                events.len(),
                events.len().saturating_mul(10)
            ));
        }
        Ok(())
    }

    /// Warns of events that the hub has deleted.
    pub(super) fn warn_of_lost(&self, from: i64, to: i64) {
        let which = match from == to {
            true => format!("event {from} is"),
            false => format!("events {from} to {to} are"),
        };
        self.printer
            .warn(format!("{which} lost: the hub no longer has them"));
    }

    fn line(&mut self, event: &HubEvent) -> String {
        let cells = self.cells(event);
        self.printer.line(&mut self.widths, cells)
    }

    fn cells(&self, event: &HubEvent) -> Vec<Cell> {
        vec![
            on_clock(&event.time.to_zoned_datetime(self.zone.clone())).into(),
            printable(event.device_id.as_deref().unwrap_or("-")).into(),
            Cell::toned(
                describe::shortened(describe::name(event), MAX_NAME_LEN),
                describe::tone(event),
            ),
            describe::details(event, &self.zone).into(),
        ]
    }
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Document {
    Parsed(Value),
    /// The hub's text, when a [`Value`] cannot represent it.
    Raw(Box<RawValue>),
}

fn document(event: &HubEvent) -> serde_json::Result<Document> {
    match serde_json::from_str(&event.document) {
        Ok(value) => Ok(Document::Parsed(value)),
        Err(_) => serde_json::from_str(&event.document).map(Document::Raw),
    }
}

#[derive(Debug, Serialize)]
struct EventRow {
    id: i64,
    time: String,
    kind: String,
    door: String,
    job: String,
    event: String,
    alarm: String,
    details: String,
    repeated: bool,
}

impl EventRow {
    fn new(event: &HubEvent, zone: &TimeZone) -> Self {
        Self {
            id: event.id,
            time: event.time.to_string(),
            kind: event.kind.clone(),
            door: event.device_id.clone().unwrap_or_default(),
            job: event.job_id.clone().unwrap_or_default(),
            event: printable(describe::name(event)),
            alarm: printable(describe::alarm(event).unwrap_or_default()),
            details: describe::details(event, zone),
            repeated: event.repeated,
        }
    }
}

impl Row for EventRow {
    fn titles() -> Vec<&'static str> {
        vec![
            "id", "time", "kind", "door", "job", "event", "alarm", "details", "repeated",
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn screen() -> Screen {
        Screen {
            printer: Printer::new("wide", true, false),
            zone: TimeZone::UTC,
            widths: COLUMNS.map(|(_, width)| width),
            titles_printed: false,
        }
    }

    fn event(door: &str, name: &str) -> HubEvent {
        let document = json!({
            "id": 7, "kind": "telemetry", "time": "2026-11-23T21:00:00Z", "deviceId": door,
            "body": {"kind": name, "a": 1},
        });
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn a_long_event_name_does_not_widen_the_column() {
        let mut screen = screen();
        // A width is 16 bits at most.
        let long = screen.line(&event("east", &"x".repeat(70_000)));
        let shortened = format!("{}...", "x".repeat(MAX_NAME_LEN));
        assert_eq!(
            long,
            format!("2026-11-23 21:00:00  east          {shortened}  a=1\n")
        );
        let door = "d".repeat(128);
        assert!(screen.line(&event(&door, "x")).contains(&door));
        let next = screen.line(&event("east", "alarmRaised"));
        assert_eq!(next.find("a=1"), Some(19 + 2 + 43 + 2 + 43 + 2));
    }

    #[test]
    fn control_characters_are_escaped_in_csv() {
        let document = json!({
            "id": 7, "kind": "telemetry", "time": "2026-11-23T21:00:00Z", "deviceId": "east",
            "body": {"kind": "\u{1b}[2Jx", "alarm": "\u{7}y", "a": "\u{1b}[1A"},
        });
        let event: HubEvent = serde_json::from_value(document).unwrap();
        let row = EventRow::new(&event, &TimeZone::UTC);
        let text = printer::render(Format::Csv, &[row]).unwrap();
        assert!(
            text.contains(r",\u{1b}[2Jx,\u{7}y,\u{7}y a=\u{1b}[1A,false"),
            "{text}"
        );
    }

    #[test]
    fn documents_that_no_value_can_represent_are_printed_unchanged() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for body in [deep.as_str(), "1e999", r#"{"a":"\ud800"}"#, r#"{"a":1}"#] {
            let line = format!(
                r#"{{"id":7,"kind":"telemetry","time":"2026-11-23T21:00:00Z","body":{body}}}"#
            );
            let mut event: HubEvent = serde_json::from_str(&line).unwrap();
            event.document.clone_from(&line);
            let written = serde_json::to_string(&document(&event).unwrap()).unwrap();
            assert_eq!(written, line);
        }
    }
}
