//! `doorctl status --watch`: in place on a terminal; elsewhere each change is added.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use console::Term;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{DoorsSummary, PlaceRow};
use crate::cli::doors::StatusArgs;
use crate::commands::many;
use crate::exit_status::ExitStatus;
use crate::printer::{Cell, Format, Row, RowStream, TableRow};
use crate::session::Session;
use crate::time;

/// Shortest pause between two reads of the doors.
const PAUSE: Duration = Duration::from_secs(2);

/// A pause is at least this many times as long as the read before it, so that a large fleet does
/// not load the hub all the time.
const REST: u32 = 4;

/// A summary and the time of its read.
#[derive(Debug, Serialize)]
struct Watched<T> {
    time: Timestamp,
    #[serde(flatten)]
    what: T,
}

impl Row for Watched<PlaceRow> {
    fn titles() -> Vec<&'static str> {
        let mut titles = vec!["time"];
        titles.extend(PlaceRow::titles());
        titles
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        self.what.cell(title, member)
    }
}

/// Shows the doors until Ctrl-C. An error of the first read ends it, a later one does not.
pub(super) async fn watch(args: &StatusArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let mut rows = RowStream::of::<Watched<PlaceRow>>(&session.printer);
    let mut last: Option<DoorsSummary> = None;
    let mut is_failing = false;
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        let begun = Instant::now();
        let twins = tokio::select! {
            twins = many::select_or_all(&args.target, session) => twins,
            _ = &mut interrupted => return Ok(ExitStatus::Interrupted),
        };
        match twins {
            Ok(twins) => {
                let summary = DoorsSummary::of(&twins);
                show(&summary, last.as_ref(), &mut rows, session)?;
                last = Some(summary);
                is_failing = false;
            }
            Err(error) if last.is_none() => return Err(error),
            Err(error) if !is_failing => {
                session.printer.warn(format!("{error:#}; retrying"));
                is_failing = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = sleep(PAUSE.max(begun.elapsed() * REST)) => {}
            _ = &mut interrupted => return Ok(ExitStatus::Interrupted),
        }
    }
}

fn show(
    summary: &DoorsSummary,
    last: Option<&DoorsSummary>,
    rows: &mut RowStream<'_>,
    session: &Session,
) -> io::Result<()> {
    let printer = &session.printer;
    let now = session.hub.now();
    let is_live = printer.format() == Format::Table
        && io::stdout().is_terminal()
        && io::stderr().is_terminal();
    if last == Some(summary) && !is_live {
        return Ok(());
    }
    match printer.format() {
        Format::Table => {
            if is_live {
                Term::stdout().clear_screen()?;
            }
            let clock = time::on_clock(&now.to_zoned_datetime(session.zone.clone()));
            crate::printer::write(&format!("{clock}\n"))?;
            summary.print_table(session)?;
        }
        Format::Json => {
            let (time, what) = (now, summary);
            crate::printer::write(&crate::printer::document(&Watched { time, what })?)?;
        }
        Format::Jsonl | Format::Csv => {
            let places = summary.places.iter().cloned();
            let places = places.map(|what| Watched { time: now, what });
            let row = |place: Watched<PlaceRow>| {
                let (cells, value) = (place.cells(), serde_json::to_value(&place)?);
                Ok(TableRow { cells, value })
            };
            rows.push(places.map(row).collect::<io::Result<_>>()?)?;
        }
    }
    summary.print_messages(session);
    Ok(())
}
