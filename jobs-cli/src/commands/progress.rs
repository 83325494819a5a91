//! How far a long piece of work has come, on a terminal alone.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::printer::Printer;

/// Less is done before anybody could read of it.
const LONG: usize = 20;

/// A bar on stderr; cheap to clone. It goes when the work is done.
#[derive(Debug, Clone)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar of `all` doors; nothing where it would not be seen, or for few.
    pub(super) fn new(printer: &Printer, what: &'static str, all: usize) -> Self {
        if !printer.is_live() || all <= LONG {
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

    /// So many more are done.
    pub(super) fn done(&self, doors: usize) {
        self.0.inc(u64::try_from(doors).unwrap_or(u64::MAX));
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
