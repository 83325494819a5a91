//! Draws tables that fit the terminal.
//!
//! A table that is too wide loses its least important columns, empty ones first. Then its last
//! column wraps at words, then the longest cells are cut. Only a table of very many columns loses
//! columns from the right as well. `-o wide` shows everything.

use comfy_table::{Color, ColumnConstraint, Table, Width, presets};
use console::{Term, measure_text_width, truncate_str};

use super::{Cell, Printer, Tone, printable};

/// Spaces between columns.
const GAP: u16 = 2;

/// A least important column is dropped rather than cells cut to less than this. It is the width
/// of a time, which is cut last.
const MIN_CUT: usize = 19;

/// Width of the last column below which a least important column is dropped.
const MIN_WRAPPED: usize = 12;

/// Width that prose keeps beside cells that can be cut.
const PROSE: usize = 28;

/// Width below which columns are dropped from the right.
const MIN_COLUMN: usize = 8;

/// Narrowest terminal that tables are fitted to.
const MIN_TERMINAL: usize = 20;

/// Width up to which a long cell of a line widens its column for later lines.
const MAX_GROWTH: usize = 43;

/// Lines of a wrapped cell; the rest is cut.
const MAX_LINES: usize = 4;

/// Marks a cut cell.
const CUT: &str = "\u{2026}";

/// Columns for text: those of `COLUMNS`, else of the terminal; `None` without either.
pub(super) fn terminal_width(terminal: &Term) -> Option<usize> {
    let set = std::env::var("COLUMNS").ok();
    let set = set.and_then(|columns| columns.trim().parse().ok());
    let of_terminal = || {
        let size = terminal.size_checked();
        let width = size.map(|(_, columns)| usize::from(columns));
        width.filter(|_| terminal.is_term())
    };
    set.filter(|columns| *columns > 0)
        .or_else(of_terminal)
        .map(|width| width.max(MIN_TERMINAL))
}

/// A drawn table.
pub(crate) struct Drawn {
    pub(crate) text: String,
    /// Titles of the columns that did not fit.
    pub(crate) dropped: Vec<String>,
}

/// What a column needs.
#[derive(Debug, Clone, Copy)]
struct Column {
    /// Width of the widest cell.
    width: usize,
    /// Whether cells are prose, which wraps.
    is_prose: bool,
    is_empty: bool,
    /// Whether cells are names or local times, which are cut last: two doors must not look the
    /// same, and an hour that comes twice differs in the name of its zone.
    is_name: bool,
}

impl Printer {
    /// Draws a table; `least_important` are the titles of the columns to drop, the first one first.
    pub(super) fn table(
        &self,
        titles: &[&str],
        least_important: &[&str],
        rows: impl Iterator<Item = Vec<Cell>>,
    ) -> Drawn {
        let headings = titles.iter().map(|title| heading(title).into()).collect();
        let rows: Vec<Vec<Cell>> = std::iter::once(headings).chain(rows).collect();
        let columns: Vec<Column> = (0..titles.len())
            .map(|at| Column::of(&rows, at, 1))
            .collect();
        let least = least_important.iter();
        let mut least: Vec<usize> = least
            .filter_map(|least| titles.iter().position(|title| title == least))
            .collect();
        // A stable sort: the given order remains.
        least.sort_by_key(|at| !columns[*at].is_empty);
        let widths = layout(&columns, &least, self.width);
        let dropped = titles
            .iter()
            .zip(&widths)
            .filter(|(_, width)| width.is_none());
        Drawn {
            dropped: dropped.map(|(title, _)| heading(title)).collect(),
            text: self.draw(&rows, &columns, &widths),
        }
    }

    /// A line of a table whose later rows are not known yet. `widths` are those so far of the
    /// columns before the last, which is prose.
    pub(crate) fn line<const N: usize>(&self, widths: &mut [usize; N], cells: Vec<Cell>) -> String {
        let rows = [cells];
        let mut columns: Vec<Column> = (0..=N).map(|at| Column::of(&rows, at, 0)).collect();
        for (so_far, column) in widths.iter_mut().zip(&mut columns) {
            *so_far = (*so_far).max(column.width.min(MAX_GROWTH));
            column.width = column.width.max(*so_far);
        }
        columns[N].is_prose = true;
        self.draw(&rows, &columns, &layout(&columns, &[], self.width))
    }

    /// Draws rows in columns of these widths; `None` leaves a column out.
    fn draw(&self, rows: &[Vec<Cell>], columns: &[Column], widths: &[Option<usize>]) -> String {
        let mut table = Table::new();
        table
            .load_preset(presets::NOTHING)
            .set_truncation_indicator(CUT);
        let wrapped = wrapped_column(columns, widths);
        for row in rows {
            let cells = row.iter().zip(widths).enumerate();
            let cells = cells.filter_map(|(at, (cell, width))| {
                let text = printable(cell.shown());
                let text = match (*width)? {
                    _ if Some(at) == wrapped => text,
                    width => truncate_str(&text, width, CUT).into_owned(),
                };
                Some(self.cell(text, cell.tone))
            });
            let mut row: comfy_table::Row = cells.collect::<Vec<_>>().into();
            row.max_height(MAX_LINES);
            table.add_row(row);
        }
        let shown = widths.iter().flatten();
        for (column, width) in table.column_iter_mut().zip(shown) {
            let width = u16::try_from(*width)
                .unwrap_or(u16::MAX)
                .saturating_add(GAP);
            column.set_padding((0, GAP));
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
        }
        match self.colour {
            true => table.enforce_styling(),
            false => table.force_no_tty(),
        };
        table
            .lines()
            .map(|line| format!("{}\n", line.trim_end()))
            .collect()
    }

    fn cell(&self, text: String, tone: Tone) -> comfy_table::Cell {
        let styled = comfy_table::Cell::new(text);
        let colour = match tone {
            _ if !self.colour => return styled,
            Tone::Plain => return styled,
            Tone::Good => Color::Green,
            Tone::Doubtful => Color::Yellow,
            Tone::Bad => Color::Red,
        };
        styled.fg(colour)
    }
}

impl Column {
    /// The column at an index of the rows; the first `titles` of them are titles.
    fn of(rows: &[Vec<Cell>], at: usize, titles: usize) -> Self {
        let all = || rows.iter().filter_map(|row| row.get(at));
        let cells = || all().skip(titles);
        let width = |cell: &Cell| measure_text_width(&printable(cell.shown()));
        Self {
            width: all().map(width).max().unwrap_or(0),
            // A time is two words, and the state of an offline door is three: `[locked 3h ago]`.
            is_prose: cells().any(|cell| {
                let text = cell.shown();
                text.split_whitespace().nth(2).is_some() && !text.starts_with('[')
            }),
            is_empty: cells().all(|cell| cell.shown().is_empty()),
            is_name: titles == 1
                && rows[0]
                    .get(at)
                    .is_some_and(|title| matches!(title.shown(), "DOOR" | "JOB" | "LOCAL")),
        }
    }
}

/// Widths that fit into `width`; `None` for a dropped column. `least` are the columns to drop, the
/// first one first.
fn layout(columns: &[Column], least: &[usize], width: Option<usize>) -> Vec<Option<usize>> {
    let mut widths: Vec<Option<usize>> = columns.iter().map(|column| Some(column.width)).collect();
    let Some(width) = width else {
        return widths;
    };
    let least = least.iter().map(|at| (*at, MIN_CUT));
    let from_right = (1..columns.len()).rev().map(|at| (at, MIN_COLUMN));
    for (at, least) in least.chain(from_right) {
        let wrapped = wrapped_column(columns, &widths);
        let least_width = |(at, width): (usize, usize)| match () {
            () if Some(at) == wrapped => width.min(MIN_WRAPPED),
            () if columns[at].is_name && least == MIN_CUT => width.min(MAX_GROWTH),
            () => width.min(least),
        };
        if sum(&widths, least_width) <= width {
            break;
        }
        widths[at] = None;
    }
    // Prose gives way first, unless other cells are so long that they can be cut instead.
    if let Some(prose) = wrapped_column(columns, &widths) {
        let beside = |most: usize| {
            let others = sum(&widths, |(at, width)| match at == prose {
                true => 0,
                false if columns[at].is_name => width.min(MAX_GROWTH),
                false => width.min(most),
            });
            width.saturating_sub(others)
        };
        let least = beside(MIN_CUT).clamp(MIN_WRAPPED, PROSE);
        let shown = columns[prose].width.min(beside(usize::MAX).max(least));
        widths[prose] = Some(shown);
    }
    // Then what is longer than a time, then everything but names, then everything.
    for (whole, least, name) in [
        (MIN_CUT, MIN_COLUMN, MAX_GROWTH),
        (0, MIN_COLUMN, MAX_GROWTH),
        (0, 0, 0),
    ] {
        for cap in (1..=width).rev().filter(|cap| *cap >= least) {
            let cut = |(at, width): (usize, usize)| match width <= whole {
                true => width,
                false if columns[at].is_name => width.min(cap.max(name)),
                false => width.min(cap),
            };
            if sum(&widths, cut) <= width {
                let widths = widths.iter().enumerate();
                return widths
                    .map(|(at, width)| width.map(|width| cut((at, width))))
                    .collect();
            }
        }
    }
    widths
}

/// The last column shown, if it is prose.
fn wrapped_column(columns: &[Column], widths: &[Option<usize>]) -> Option<usize> {
    let last = widths.iter().rposition(Option::is_some)?;
    columns[last].is_prose.then_some(last)
}

/// Width of a table, with the width of each column as `of` gives it.
fn sum(widths: &[Option<usize>], of: impl Fn((usize, usize)) -> usize) -> usize {
    let shown = widths.iter().enumerate();
    let shown = shown.filter_map(|(at, width)| Some(of((at, (*width)?)) + usize::from(GAP)));
    shown.sum::<usize>().saturating_sub(usize::from(GAP))
}

/// `doorState` as `DOOR STATE`.
pub(super) fn heading(title: &str) -> String {
    // The words of its cells say that it is a state.
    let title = title
        .strip_prefix("connectionState")
        .map_or(title, |_| "connection");
    let mut heading = String::new();
    for character in printable(title).chars() {
        if character.is_ascii_uppercase() {
            heading.push(' ');
        }
        heading.push(character.to_ascii_uppercase());
    }
    heading
}
