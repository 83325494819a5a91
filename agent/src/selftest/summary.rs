//! Results of the self-test.

use std::fmt;

use serde::Serialize;

/// Result of one test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", content = "detail", rename_all = "camelCase")]
pub enum Finding {
    /// It works; what was seen.
    Fine(String),
    /// It does not work; what to do.
    Wrong(String),
    /// Not tested; why.
    Untested(String),
}

/// One row of the summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SummaryRow {
    /// The key of its table, or a name.
    pub what: String,
    pub pin: String,
    #[serde(flatten)]
    pub finding: Finding,
}

/// All results in the order of the test.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub rows: Vec<SummaryRow>,
}

impl Summary {
    pub(super) fn add(&mut self, what: &str, pin: &str, finding: Finding) {
        self.rows.push(SummaryRow {
            what: what.to_owned(),
            pin: pin.to_owned(),
            finding,
        });
    }

    /// Whether anything does not work.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        let wrong = |row: &SummaryRow| matches!(row.finding, Finding::Wrong(_));
        self.rows.iter().any(wrong)
    }

    /// Whether everything was tested and works.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let fine = |row: &SummaryRow| matches!(row.finding, Finding::Fine(_));
        self.rows.iter().all(fine)
    }
}

/// A table for people, one line per row.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: fn(&SummaryRow) -> &str, title: &str| {
            let widths = self.rows.iter().map(|row| column(row).chars().count());
            widths.max().unwrap_or(0).max(title.len())
        };
        let what = width(|row| &row.what, "what");
        let pin = width(|row| &row.pin, "pin");
        writeln!(f, "{:what$}  {:pin$}  result", "what", "pin")?;
        for row in &self.rows {
            let (word, detail) = match &row.finding {
                Finding::Fine(detail) => ("fine", detail),
                Finding::Wrong(detail) => ("WRONG", detail),
                Finding::Untested(detail) => ("untested", detail),
            };
            writeln!(
                f,
                "{:what$}  {:pin$}  {word:<8}  {detail}",
                row.what, row.pin
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_and_the_worst_row_decides() {
        let mut summary = Summary::default();
        summary.add(
            "door",
            "BCM 22",
            Finding::Fine("open and closed seen".to_owned()),
        );
        assert!(summary.is_complete() && !summary.is_wrong());
        summary.add(
            "fire_reset",
            "BCM 5",
            Finding::Untested("skipped".to_owned()),
        );
        assert!(!summary.is_complete() && !summary.is_wrong());
        summary.add("rex", "BCM 6", Finding::Wrong("never moved".to_owned()));
        assert!(summary.is_wrong());
        assert_eq!(
            summary.to_string(),
            "what        pin     result\n\
             door        BCM 22  fine      open and closed seen\n\
             fire_reset  BCM 5   untested  skipped\n\
             rex         BCM 6   WRONG     never moved\n"
        );
    }
}
