//! Output: data on stdout in the requested format, messages on stderr.

mod table;

use std::cmp::Ordering;
use std::io::{self, IsTerminal as _, Write as _};

use console::{Term, measure_text_width};
use serde::Serialize;
use serde_json::Value;

/// Columns of prose.
const WIDTH: usize = 100;

/// Format of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Aligned columns for people.
    Table,
    /// One JSON document, indented.
    Json,
    /// One JSON document per line.
    Jsonl,
    /// Comma-separated values with a header line.
    Csv,
}

/// The value of `--output` for metrics, which only `status` has.
const PROMETHEUS: &str = "prometheus";

/// Values of `--output`. `wide` is a table that is not fitted to the terminal.
pub(crate) const OUTPUTS: [(&str, Format); 6] = [
    ("table", Format::Table),
    ("wide", Format::Table),
    (PROMETHEUS, Format::Table),
    ("json", Format::Json),
    ("jsonl", Format::Jsonl),
    ("csv", Format::Csv),
];

/// Meaning of a cell, shown as its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Neutral.
    Plain,
    /// As requested.
    Good,
    /// Pending or unknown.
    Doubtful,
    /// Not as requested.
    Bad,
}

/// One field of a table.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    /// The text in CSV.
    pub(crate) text: String,
    /// The text in a table, if it is another.
    shown: Option<String>,
    pub(crate) tone: Tone,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

impl Cell {
    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: text.into(),
            shown: None,
            tone,
        }
    }

    /// The same cell with another text in a table.
    pub(crate) fn shown_as(self, text: impl Into<String>) -> Self {
        Self {
            shown: Some(text.into()),
            ..self
        }
    }

    /// The text in a table.
    pub(crate) fn shown(&self) -> &str {
        self.shown.as_ref().unwrap_or(&self.text)
    }
}

/// A row of a table, a line of CSV or a JSON document.
pub(crate) trait Row: Serialize {
    /// Titles of the cells, as in CSV and JSON (`doorState`); a table shows `DOOR STATE`.
    fn titles() -> Vec<&'static str>;

    /// The columns of a table.
    fn table_titles() -> Vec<&'static str> {
        Self::titles()
    }

    /// The columns that a narrow terminal does not show, the first one first.
    const LEAST_IMPORTANT: &'static [&'static str] = &[];

    /// The cell with this title; `member` is the member of the row's JSON with the same name.
    fn cell(&self, _title: &str, member: &Value) -> Cell {
        Cell::from(plain(member))
    }

    fn cells(&self) -> Vec<Cell> {
        self.cells_of(&Self::titles())
    }

    fn cells_of(&self, titles: &[&str]) -> Vec<Cell> {
        let members = serde_json::to_value(self).unwrap_or_default();
        let member = |title: &str| members.get(title).unwrap_or(&Value::Null);
        let titles = titles.iter();
        titles
            .map(|title| self.cell(title, member(title)))
            .collect()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Printer {
    format: Format,
    is_prometheus: bool,
    quiet: bool,
    verbose: bool,
    colour: bool,
    /// Columns for a table; `None` is unlimited.
    width: Option<usize>,
}

impl Printer {
    /// `output` is one of [`OUTPUTS`]; `quiet` suppresses all messages except warnings; `verbose`
    /// logs each request and response.
    pub(crate) fn new(output: &str, quiet: bool, verbose: bool) -> Self {
        let known = OUTPUTS.iter().find(|(name, _)| *name == output);
        Self {
            format: known.map_or(Format::Table, |(_, format)| *format),
            is_prometheus: output == PROMETHEUS,
            width: table::terminal_width(&Term::stdout()).filter(|_| output != "wide"),
            quiet,
            verbose,
            colour: wants_colour() && io::stdout().is_terminal(),
        }
    }

    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// `-o prometheus`
    pub(crate) fn is_prometheus(&self) -> bool {
        self.is_prometheus
    }

    /// Whether stderr can show a progress bar.
    pub(crate) fn is_live(&self) -> bool {
        !self.quiet && !self.verbose && io::stderr().is_terminal()
    }

    /// Whether messages may have colours.
    pub(crate) fn stderr_has_colours() -> bool {
        wants_colour() && io::stderr().is_terminal()
    }

    /// Prints a message, unless quiet.
    pub(crate) fn say(&self, text: impl AsRef<str>) {
        if !self.quiet {
            print_message(text.as_ref());
        }
    }

    /// Prints a message with colours; foreign text in it must be [`printable`] already.
    pub(crate) fn say_styled(&self, text: &str) {
        if !self.quiet {
            print_styled_message(text);
        }
    }

    /// Prints a warning, also when quiet.
    #[expect(
        clippy::unused_self,
        reason = "beside `say`, and where a log file would come in"
    )]
    pub(crate) fn warn(&self, text: impl AsRef<str>) {
        print_message(&format!("warning: {}", text.as_ref()));
    }

    pub(crate) fn rows<R: Row>(&self, rows: &[R]) -> io::Result<()> {
        match self.format {
            Format::Table => {
                let titles = R::table_titles();
                let cells = rows.iter().map(|row| row.cells_of(&titles));
                self.print_table(&titles, R::LEAST_IMPORTANT, cells)
            }
            format => write_last(&render(format, rows)?),
        }
    }

    /// Prints a single value as JSON in every format: it has no columns.
    pub(crate) fn document(&self, value: &impl Serialize) -> io::Result<()> {
        match self.format {
            Format::Jsonl => write_last(&lines(std::slice::from_ref(value))?),
            Format::Table | Format::Json | Format::Csv => write_last(&document(value)?),
        }
    }

    /// Prints `text` for a table, else `value`.
    pub(crate) fn text_or(&self, text: &str, value: &impl Serialize) -> io::Result<()> {
        match self.format {
            Format::Table => write_last(&self.fitted(text)),
            _ => self.document(value),
        }
    }

    /// Prints `text` for a table, else the rows.
    pub(crate) fn text_or_rows<R: Row>(&self, text: &str, rows: &[R]) -> io::Result<()> {
        match self.format {
            Format::Table => write_last(&self.fitted(text)),
            _ => self.rows(rows),
        }
    }

    /// Prints lines of text, wrapped at words if a terminal shows them.
    pub(crate) fn print_text(&self, lines: &[String]) -> io::Result<()> {
        write_last(&(self.fitted(&lines.join("\n")) + "\n"))
    }

    /// Lines of prose for a table's place.
    pub(crate) fn prose(&self, text: &str) -> String {
        wrapped_lines(text, self.width.map_or(WIDTH, |width| width.min(WIDTH)))
    }

    fn fitted(&self, text: &str) -> String {
        match self.width {
            Some(width) => wrapped_lines(text, width),
            None => text.to_owned(),
        }
    }

    /// Prints a table, and names the columns that the terminal has no room for.
    pub(crate) fn print_table(
        &self,
        titles: &[&str],
        least_important: &[&str],
        rows: impl Iterator<Item = Vec<Cell>>,
    ) -> io::Result<()> {
        let drawn = self.table(titles, least_important, rows);
        write_last(&drawn.text)?;
        if !drawn.dropped.is_empty() {
            let dropped = drawn.dropped.join(", ");
            self.say(format!("not shown here: {dropped}; all columns: -o wide"));
        }
        Ok(())
    }
}

/// One fact on each line, for a row that is too wide for a table; empty ones are left out.
pub(crate) fn facts<R: Row>(row: &R) -> String {
    let titles = R::titles();
    let width = 2 + titles.iter().map(|title| title.len()).max().unwrap_or(0);
    let facts = titles.into_iter().zip(row.cells());
    facts
        .filter(|(_, fact)| !fact.text.is_empty())
        .map(|(title, fact)| format!("{title:<width$}{}\n", printable(&fact.text)))
        .collect()
}

/// Formats rows as JSON, JSON lines or CSV; [`Format::Table`] gives CSV.
pub(crate) fn render<R: Row>(format: Format, rows: &[R]) -> io::Result<String> {
    match format {
        Format::Json => document(rows),
        Format::Jsonl => lines(rows),
        Format::Table | Format::Csv => {
            let titles: Vec<String> = R::titles().into_iter().map(str::to_owned).collect();
            let rows = rows
                .iter()
                .map(|row| row.cells().into_iter().map(|cell| cell.text));
            csv(Some(&titles), rows.map(Iterator::collect))
        }
    }
}

fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A JSON value for a person: strings without quotes, other values as JSON.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Orders numbers by value, then other texts; an empty text is the last.
pub(crate) fn compare_values(a: &str, b: &str) -> Ordering {
    let number = |text: &str| text.parse().ok().filter(|number: &f64| number.is_finite());
    let by_number = match (number(a), number(b)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.is_empty().cmp(&b.is_empty()),
    };
    by_number.then_with(|| a.cmp(b))
}

/// Escapes foreign text for one line of a terminal: it cannot move the cursor, start a line or
/// change the text direction.
pub(crate) fn printable(text: &str) -> String {
    escaped(text, is_unprintable)
}

fn escaped(text: &str, is_unprintable: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match is_unprintable(character) {
            true => escaped.extend(character.escape_default()),
            false => escaped.push(character),
        }
    }
    escaped
}

/// Controls (C0, DEL, C1), line and paragraph separators, and direction controls (Unicode UAX 9,
/// section 2).
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Writes to stdout. The caller decides whether a broken pipe is an error.
pub(crate) fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| stdout_error(&error))
}

/// Prints a help text; clap wraps all of it but usage lines and examples.
pub(crate) fn print_help(text: &str, coloured: &str) -> io::Result<()> {
    let is_coloured = wants_colour() && io::stdout().is_terminal();
    let text = if is_coloured { coloured } else { text };
    match table::terminal_width(&Term::stdout()) {
        Some(width) => write(&wrapped_help(text, width)),
        None => write(text),
    }
}

/// Names stdout in an I/O error.
pub(crate) fn stdout_error(error: &io::Error) -> io::Error {
    let message = format!("cannot write to standard output: {error}");
    io::Error::new(error.kind(), message)
}

/// Writes the last output of a command: a broken pipe, as with `| head -1`, does not change the
/// exit status.
fn write_last(text: &str) -> io::Result<()> {
    match write(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Prints lines on stderr and escapes foreign text in them.
pub(crate) fn print_message(text: &str) {
    let is_layout = |character| matches!(character, '\n' | '\t');
    print_styled_message(&escaped(&without_os_number(text), |character| {
        is_unprintable(character) && !is_layout(character)
    }));
}

/// Removes the `(os error 17)` that Rust appends to an error of the system.
pub(crate) fn without_os_number(text: &str) -> String {
    const START: &str = " (os error ";
    let mut parts = text.split(START);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.parse::<i32>().is_ok() => shown.push_str(rest),
            _ => shown.extend([START, part]),
        }
    }
    shown
}

/// Prints lines with colours on stderr, wrapped at words if a terminal shows them; foreign text in
/// them must be [`printable`] already.
pub(crate) fn print_styled_message(text: &str) {
    let text = match table::terminal_width(&Term::stderr()) {
        Some(width) => wrapped_lines(text, width),
        None => text.to_owned(),
    };
    // If stderr is closed, the error cannot be reported anywhere.
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// `1 door`, `4 doors`.
pub(crate) fn doors(count: u64) -> String {
    match count {
        1 => "1 door".to_owned(),
        count => format!("{count} doors"),
    }
}

/// The first names, and how many more there are.
pub(crate) fn first_names<T: AsRef<str>>(names: &[T], most: usize) -> String {
    let shown: Vec<&str> = names.iter().take(most).map(AsRef::as_ref).collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A paragraph of a help text in lines of at most [`WIDTH`] columns.
pub(crate) fn wrapped(text: &str) -> String {
    broken(text, WIDTH, false)
}

/// Only what follows `Examples:` has commands to paste.
fn wrapped_help(text: &str, width: usize) -> String {
    let mut has_commands = false;
    let lines = text.split('\n').map(|line| {
        has_commands |= console::strip_ansi_codes(line) == "Examples:";
        broken(line, width, has_commands)
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn wrapped_lines(text: &str, width: usize) -> String {
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| wrapped_to(line, width))
        .collect();
    lines.join("\n")
}

fn wrapped_to(text: &str, width: usize) -> String {
    broken(text, width, true)
}

/// Breaks a line at words, and a word that is wider than a line within it. What goes on is indented
/// like the line. A command that is broken ends with a backslash, so that it can be pasted whole.
/// A command begins the line or follows a colon.
fn broken(text: &str, width: usize, has_commands: bool) -> String {
    if measure_text_width(text) <= width {
        return text.to_owned();
    }
    let indent = &text[..text.len() - text.trim_start_matches(' ').len()];
    let mut lines = vec![indent.to_owned()];
    let mut columns = indent.len();
    let mut before: Option<&str> = None;
    let mut is_command = false;
    for word in text[indent.len()..].split(' ') {
        let mut length = measure_text_width(word);
        let line = lines.last_mut().expect("there is a first line");
        let reserved = if is_command { 2 } else { 0 };
        if before.is_none() || columns + 1 + length + reserved <= width {
            line.push_str(if before.is_none() { "" } else { " " });
            columns += usize::from(before.is_some());
            line.push_str(word);
        } else {
            line.push_str(if is_command { " \\" } else { "" });
            lines.push(format!("{indent}{word}"));
            columns = indent.len();
        }
        let begins = before.is_none_or(|before| before.ends_with(':'));
        is_command = match word {
            "doorctl" | "door-agent" | "door-hub" => begins && has_commands,
            _ => is_command && !word.ends_with([':', ',', ';', ')']),
        };
        before = Some(word);
        while columns + length > width && width > indent.len() {
            let line = lines.last_mut().expect("there is a line");
            let Some((cut, _)) = line.char_indices().nth(width) else {
                break;
            };
            let rest = line.split_off(cut);
            length = measure_text_width(&rest);
            columns = indent.len();
            lines.push(format!("{indent}{rest}"));
        }
        columns += length;
    }
    lines.join("\n")
}

/// Indented JSON.
pub(crate) fn document<T: Serialize + ?Sized>(value: &T) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

fn lines<T: Serialize>(values: &[T]) -> io::Result<String> {
    let mut text = String::new();
    for value in values {
        text += &serde_json::to_string(value)?;
        text.push('\n');
    }
    Ok(text)
}

/// CSV lines, with a header unless it was written before.
fn csv(titles: Option<&[String]>, rows: impl Iterator<Item = Vec<String>>) -> io::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    if let Some(titles) = titles {
        writer.write_record(titles)?;
    }
    for row in rows {
        writer.write_record(&row)?;
    }
    let bytes = writer
        .into_inner()
        .map_err(csv::IntoInnerError::into_error)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// A row whose columns are known at run time only.
#[derive(Debug, Clone)]
pub(crate) struct TableRow {
    /// One cell per title.
    pub(crate) cells: Vec<Cell>,
    /// The row as JSON.
    pub(crate) value: Value,
}

/// Writes rows that arrive in pages: JSON lines and CSV with each page, a table or a JSON document
/// after the last.
#[derive(Debug)]
pub(crate) struct RowStream<'a> {
    printer: &'a Printer,
    titles: Vec<String>,
    least_important: &'static [&'static str],
    header_written: bool,
    buffered: Vec<TableRow>,
}

impl<'a> RowStream<'a> {
    pub(crate) fn new(printer: &'a Printer, titles: Vec<String>) -> Self {
        Self {
            printer,
            titles,
            least_important: &[],
            header_written: false,
            buffered: Vec::new(),
        }
    }

    /// Rows with the columns of `R`.
    pub(crate) fn of<R: Row>(printer: &'a Printer) -> Self {
        let titles = R::titles().into_iter().map(str::to_owned).collect();
        Self {
            least_important: R::LEAST_IMPORTANT,
            ..Self::new(printer, titles)
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
                let least = self.least_important;
                self.printer.print_table(&titles, least, rows)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printer() -> Printer {
        Printer {
            format: Format::Table,
            is_prometheus: false,
            quiet: false,
            verbose: false,
            colour: false,
            width: None,
        }
    }

    #[test]
    fn columns_are_aligned_without_trailing_spaces() {
        let rows = vec![
            vec![Cell::from("lobby-east"), Cell::toned("secured", Tone::Good)],
            vec![Cell::from("b"), Cell::toned("", Tone::Plain)],
        ];
        let text = printer()
            .table(&["door", "isSecured"], &[], rows.into_iter())
            .text;
        assert_eq!(text, "DOOR        IS SECURED\nlobby-east  secured\nb\n");
    }

    #[test]
    fn csv_quotes_where_needed() {
        let text = csv(
            Some(&["a".into()]),
            [vec!["x,\"y\"".to_owned()]].into_iter(),
        )
        .unwrap();
        assert_eq!(text, "a\n\"x,\"\"y\"\"\"\n");
    }

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        assert_eq!(printable("T\u{fc}r\u{1b}[2J\n"), "T\u{fc}r\\u{1b}[2J\\n");
        assert_eq!(
            printable("\u{9b}2J \u{7f} \u{202e}x\u{2066}\u{2028}"),
            "\\u{9b}2J \\u{7f} \\u{202e}x\\u{2066}\\u{2028}"
        );
    }

    #[test]
    fn foreign_text_cannot_forge_a_table_row() {
        let forged = "closed\nb  secured \u{1b}[1A";
        let rows = vec![vec![Cell::from("a"), Cell::from(forged)]];
        let text = printer()
            .table(&["door", "x\u{1b}"], &[], rows.into_iter())
            .text;
        assert_eq!(
            text,
            "DOOR  X\\U{1B}\na     closed\\nb  secured \\u{1b}[1A\n"
        );
        let line = printer().line(&mut [6], vec![Cell::from("a\nb"), Cell::from("c")]);
        assert_eq!(line, "a\\nb    c\n");
        let raw = csv(None, [vec![forged.to_owned()]].into_iter()).unwrap();
        assert_eq!(raw, format!("\"{forged}\"\n"));
    }

    #[test]
    fn a_command_that_is_broken_can_be_pasted_whole() {
        for (line, expected) in [
            (
                "  next: doorctl context add NAME --ca ca.pem",
                "  next: doorctl context add NAME \\\n  --ca ca.pem",
            ),
            (
                "next: doorctl status; to wait for all of them: --deadline",
                "next: doorctl status; to wait for\nall of them: --deadline",
            ),
            (
                "next: doorctl status, which shows it",
                "next: doorctl status, which shows\nit",
            ),
            (
                "next: doorctl context add NAME -v",
                "next: doorctl context add NAME -v",
            ),
            (
                "if it fails, doorctl prints a warning and goes on",
                "if it fails, doorctl prints a\nwarning and goes on",
            ),
            (
                "a word of forty characters is cut within",
                "a word of forty characters is cut\nwithin",
            ),
        ] {
            assert_eq!(wrapped_to(line, 34), expected);
        }
        let long = "doorctl context add NAME --ca ca.pem";
        let help = format!("To assign: {long}\n\nExamples:\n  {long}");
        let expected = "To assign: doorctl context add\nNAME --ca ca.pem\n\nExamples:\n  \
                        doorctl context add NAME --ca \\\n  ca.pem";
        assert_eq!(wrapped_help(&help, 34), expected);
    }

    #[test]
    fn strings_are_plain_and_other_values_are_json() {
        for (value, expected) in [
            (serde_json::json!("x"), "x"),
            (serde_json::json!(null), ""),
            (serde_json::json!({"a": [1]}), r#"{"a":[1]}"#),
        ] {
            assert_eq!(plain(&value), expected);
        }
    }
}
