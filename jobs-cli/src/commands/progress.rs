//! Progress bar of a long operation, on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::printer::Printer;

/// Up to this many doors are done before a bar could be read.
const MAX_WITHOUT_BAR: usize = 20;

/// A bar on stderr; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct WorkProgress(ProgressBar);

impl WorkProgress {
    /// A bar of `all` doors; hidden without a terminal, or for at most [`MAX_WITHOUT_BAR`] doors.
    pub(super) fn new(printer: &Printer, what: &'static str, all: usize) -> Self {
        if !printer.is_live() || all <= MAX_WITHOUT_BAR {
            return Self(ProgressBar::hidden());
        }
        let template = "{msg} [{bar:40.green}] {pos}/{len} doors, {eta} left";
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        let all = u64::try_from(all).ok();
        let bar = ProgressBar::with_draw_target(all, ProgressDrawTarget::stderr());
        Self(bar.with_style(style).with_message(what))
    }

    /// Adds finished doors.
    pub(super) fn done(&self, doors: usize) {
        self.0.inc(u64::try_from(doors).unwrap_or(u64::MAX));
    }

    /// Removes the bar.
    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
