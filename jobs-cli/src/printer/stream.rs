//! Rows that come a page at a time: lines of JSON and CSV go out with each page, a table or a JSON
//! document waits for the last.

use std::io;

use serde_json::Value;

use super::{Cell, Format, Printer, csv, document, lines, write};

/// A row whose columns are decided while the program runs.
#[derive(Debug, Clone)]
pub(crate) struct TableRow {
    /// The fields, as many as there are titles.
    pub(crate) cells: Vec<Cell>,
    /// The same as JSON.
    pub(crate) value: Value,
}

/// Rows on their way out.
#[derive(Debug)]
pub(crate) struct RowStream<'a> {
    printer: &'a Printer,
    titles: Vec<String>,
    header_written: bool,
    buffered: Vec<TableRow>,
}

impl<'a> RowStream<'a> {
    /// Rows with these titles.
    pub(crate) fn new(printer: &'a Printer, titles: Vec<String>) -> Self {
        Self {
            printer,
            titles,
            header_written: false,
            buffered: Vec::new(),
        }
    }

    /// Whether rows go out as they come.
    pub(crate) fn is_streamed(format: Format) -> bool {
        matches!(format, Format::Jsonl | Format::Csv)
    }

    /// More rows.
    pub(crate) fn push(&mut self, records: Vec<TableRow>) -> io::Result<()> {
        match self.printer.format {
            Format::Jsonl => {
                let values: Vec<Value> = records.into_iter().map(|record| record.value).collect();
                write(&lines(&values)?)
            }
            Format::Csv => {
                let titles = (!std::mem::replace(&mut self.header_written, true))
                    .then_some(&self.titles[..]);
                let texts =
                    |record: TableRow| record.cells.into_iter().map(|cell| cell.text).collect();
                write(&csv(titles, records.into_iter().map(texts))?)
            }
            Format::Table | Format::Json => {
                self.buffered.extend(records);
                Ok(())
            }
        }
    }

    /// There are no more.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        match self.printer.format {
            Format::Jsonl => Ok(()),
            Format::Csv if self.header_written => Ok(()),
            Format::Csv => self.push(Vec::new()),
            Format::Json => {
                let values: Vec<Value> = self
                    .buffered
                    .into_iter()
                    .map(|record| record.value)
                    .collect();
                write(&document(&values)?)
            }
            Format::Table => {
                let titles: Vec<&str> = self.titles.iter().map(String::as_str).collect();
                let rows = self.buffered.into_iter().map(|record| record.cells);
                write(&self.printer.table(&titles, rows))
            }
        }
    }
}
