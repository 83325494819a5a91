//! `doorctl query`: prints all pages, each on arrival where the format allows.

use iothub_client::ItemType;
use iothub_protocol::query::{self, Query, Source, column_names, roots};
use iothub_protocol::twin::Twin;
use jiff::Timestamp;
use serde_json::Value;

use crate::cli::twin::QueryArgs;
use crate::door::DoorRow;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::{Cell, Format, Printer, Row as _, RowStream, TableRow, plain};
use crate::session::Session;

/// Runs the query and prints its rows.
pub(crate) async fn run(args: &QueryArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let query = check(&args.text)?;
    session.warn_of_keyword(&args.text).await?;
    let printer = &session.printer;
    let mut answer = Answer::new(&query, printer, session.hub.now());
    let mut pages = session.hub.query_pages(&args.text)?;
    while let Some(page) = pages.next().await? {
        answer.push(page.item_type, page.items)?;
    }
    answer.finish()?;
    Ok(ExitStatus::Success)
}

/// The output of a query in progress.
struct Answer<'a> {
    printer: &'a Printer,
    now: Timestamp,
    /// Columns that the query names.
    expected: Vec<String>,
    /// Rows that wait for the last page: a table has a column for each key of any row.
    waiting: Vec<Value>,
    rows: Option<Rows<'a>>,
}

/// Rows that are printed on arrival, or that have fixed columns.
enum Rows<'a> {
    /// Twins, printed as doors.
    Doors(RowStream<'a>),
    /// JSON rows with these keys as columns.
    Keyed {
        stream: RowStream<'a>,
        keys: Vec<String>,
        /// Keys that appeared after the columns were fixed.
        strays: Vec<String>,
    },
}

impl<'a> Answer<'a> {
    fn new(query: &Query, printer: &'a Printer, now: Timestamp) -> Self {
        let expected = match query.source {
            _ if !query.items().is_empty() => column_names(query.items()),
            Source::Jobs => columns_of_jobs(),
            Source::Devices | Source::Modules => Vec::new(),
        };
        let mut unique: Vec<String> = Vec::new();
        for name in expected {
            if !unique.contains(&name) {
                unique.push(name);
            }
        }
        Self {
            printer,
            now,
            expected: unique,
            waiting: Vec::new(),
            rows: None,
        }
    }

    /// Adds a page.
    fn push(&mut self, item_type: ItemType, items: Vec<Value>) -> anyhow::Result<()> {
        let printer = self.printer;
        let as_doors = matches!(printer.format(), Format::Table | Format::Csv);
        if self.rows.is_none() && item_type == ItemType::Twin && as_doors {
            self.rows = Some(Rows::Doors(RowStream::of::<DoorRow>(printer)));
        }
        if self.rows.is_none() && RowStream::is_streamed(printer.format()) {
            self.rows = Some(self.keyed(&items));
        }
        match &mut self.rows {
            None => self.waiting.extend(items),
            Some(Rows::Doors(stream)) => stream.push(doors(items, self.now)?)?,
            Some(Rows::Keyed {
                stream,
                keys,
                strays,
            }) => {
                for key in keys_of(&items) {
                    if !keys.contains(key) && !strays.contains(key) {
                        strays.push(key.clone());
                    }
                }
                stream.push(items.into_iter().map(|row| record(keys, row)).collect())?;
            }
        }
        Ok(())
    }

    /// Columns in the order of the query, then the other keys in the order of the rows.
    fn keyed(&self, rows: &[Value]) -> Rows<'a> {
        let mut keys = self.expected.clone();
        for key in keys_of(rows) {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
        Rows::Keyed {
            stream: RowStream::new(self.printer, keys.clone()),
            keys,
            strays: Vec::new(),
        }
    }

    /// Ends the output after the last page.
    fn finish(mut self) -> anyhow::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let rows = match self.rows.take() {
            Some(rows) => rows,
            None => self.keyed(&waiting),
        };
        match rows {
            Rows::Doors(stream) => stream.finish()?,
            Rows::Keyed {
                mut stream,
                keys,
                strays,
            } => {
                stream.push(waiting.into_iter().map(|row| record(&keys, row)).collect())?;
                stream.finish()?;
                if !strays.is_empty() && self.printer.format() == Format::Csv {
                    self.printer.warn(format!(
                        "the output has no column for {}, which the first page did not have; -o \
                         jsonl has all",
                        strays.join(", ")
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The members of a device's record in a job; doors have no modules.
fn columns_of_jobs() -> Vec<String> {
    let members = roots(Source::Jobs).iter().map(|name| (*name).to_owned());
    members.filter(|name| name != "moduleId").collect()
}

fn keys_of(rows: &[Value]) -> impl Iterator<Item = &String> {
    let rows = rows.iter().filter_map(Value::as_object);
    rows.flat_map(|row| row.keys())
}

fn doors(rows: Vec<Value>, now: Timestamp) -> anyhow::Result<Vec<TableRow>> {
    let record = |row: Value| {
        let twin: Twin = serde_json::from_value(row)?;
        Ok(TableRow {
            cells: DoorRow::new(&twin, now).cells(),
            value: Value::Null,
        })
    };
    rows.into_iter().map(record).collect()
}

fn record(keys: &[String], row: Value) -> TableRow {
    let cell = |key: &String| Cell::from(row.get(key).map_or(String::new(), plain));
    TableRow {
        cells: keys.iter().map(cell).collect(),
        value: row,
    }
}

/// Parses the query here, so that a mistake is marked under the text whatever the hub is.
fn check(text: &str) -> anyhow::Result<Query> {
    query::parse(text).map_err(|error| {
        let message = format!("QUERY: {error}\n{}", error.caret(text));
        Failure::new(message.trim_end())
            .next("doorctl query \"SELECT * FROM devices WHERE properties.desired.floor = 3\"")
            .into()
    })
}
