//! Rows that arrive in pages: JSON lines and CSV are written with each page, a table or a JSON
//! document after the last.

use std::io;

use serde_json::Value;

use super::{Cell, Format, Printer, csv, document, lines, write};

/// A row whose columns are known at run time only.
#[derive(Debug, Clone)]
pub(crate) struct TableRow {
    /// One cell per title.
    pub(crate) cells: Vec<Cell>,
    /// The row as JSON.
    pub(crate) value: Value,
}

/// Writes rows.
#[derive(Debug)]
pub(crate) struct RowStream<'a> {
    printer: &'a Printer,
    titles: Vec<String>,
    header_written: bool,
    buffered: Vec<TableRow>,
}

impl<'a> RowStream<'a> {
    pub(crate) fn new(printer: &'a Printer, titles: Vec<String>) -> Self {
        Self {
            printer,
            titles,
            header_written: false,
            buffered: Vec::new(),
        }
    }

    /// Whether rows are written as they arrive.
    pub(crate) fn is_streamed(format: Format) -> bool {
        matches!(format, Format::Jsonl | Format::Csv)
    }

    /// Adds rows.
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

    /// Writes what is buffered.
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
