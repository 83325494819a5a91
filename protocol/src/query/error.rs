//! Query errors: the position of a mistake, and how to show it.

use std::fmt;

/// Number of characters of a line shown before and after the mistake.
const SHOWN_AROUND: usize = 60;

/// A mistake in a query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct QueryError {
    /// Where the mistake is.
    pub position: Position,
    /// What was found.
    pub message: String,
    /// What was expected there.
    pub expected: Option<String>,
}

/// A position in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Offset in bytes, from 0.
    pub byte: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl QueryError {
    /// The line of `text` (the parsed text) with the mistake, and below it a caret. A long line is
    /// cut to the part around the mistake.
    #[must_use]
    pub fn caret(&self, text: &str) -> String {
        let line = text.lines().nth(self.position.line - 1).unwrap_or_default();
        let before = self.position.column - 1;
        let skipped = before.saturating_sub(SHOWN_AROUND);
        let is_cut = line.chars().nth(before + SHOWN_AROUND).is_some();
        let shown: String = line
            .chars()
            .skip(skipped)
            .take(before - skipped + SHOWN_AROUND)
            .map(printable)
            .collect();
        let (start, end) = (
            if skipped > 0 { "…" } else { "" },
            if is_cut { "…" } else { "" },
        );
        let indent = before - skipped + start.chars().count();
        format!("{start}{shown}{end}\n{:indent$}^", "")
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.expected {
            Some(expected) => write!(f, "; expected {expected}"),
            None => Ok(()),
        }
    }
}

impl Position {
    /// The position after the first `byte` bytes of `text`.
    pub(super) fn of(text: &str, byte: usize) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            byte: before.len(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// Control characters such as tabs are shown as one column, as the caret assumes.
fn printable(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}
